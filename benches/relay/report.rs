//! Medians, in lines.

use super::load::{Sample, Scenario};
use super::servers::Kind;
use super::shared::statistics::median;

pub(super) const HEADER: &str = "\
scenario              server       offered/s  delivered/s    loss  server µs  ratio  generator µs  syscalls";

/// The measurements of one server in one scenario.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) samples: Vec<Sample>,
    /// System calls of the server, for each packet delivered.
    pub(super) syscalls: Option<f64>,
}

impl Report {
    /// CPU time of the server for each packet delivered.
    pub(super) fn server_us(&self) -> f64 {
        self.median(|sample| sample.cpu.server_us / sample.delivered as f64)
    }

    fn median(&self, value: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(value).collect())
    }

    /// `reference` is what the ratio is to.
    pub(super) fn line(&self, scenario: &Scenario, server: Kind, reference: f64) -> String {
        let offered = self.median(|sample| sample.sent as f64 / sample.seconds);
        let delivered = self.median(|sample| sample.delivered as f64 / sample.seconds);
        let loss = self.median(|sample| 1.0 - sample.delivered as f64 / sample.sent as f64);
        let generator = self.median(|sample| sample.cpu.generator_us / sample.delivered as f64);
        let syscalls = self.syscalls.map(|count| format!("{count:.3}"));
        format!(
            "{:<21} {:<11} {:>10.0} {:>12.0} {:>6.2}% {:>10.2} {:>6.2} {:>13.2} {:>9}",
            scenario.to_string(),
            server.name(),
            offered,
            delivered,
            loss * 100.0,
            self.server_us(),
            self.server_us() / reference,
            generator,
            syscalls.unwrap_or_default(),
        )
    }
}
