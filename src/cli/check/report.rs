//! The result of a check, as a table for people and as JSON for programs.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::data::Echo;
use super::transport::Transport;

/// The result of a check. `Display` is the table: a line a step, a verdict a transport, and the
/// total on the last line.
#[derive(Debug, Serialize)]
pub struct Report {
    url: String,
    works: bool,
    verdict: String,
    /// The address that was checked.
    server: Option<SocketAddr>,
    resolve: Option<Step>,
    transports: Vec<TransportReport>,
}

/// The result over one transport.
#[derive(Debug, Serialize)]
pub(super) struct TransportReport {
    transport: Transport,
    pub(super) works: bool,
    pub(super) verdict: String,
    pub(super) mapped_address: Option<SocketAddr>,
    pub(super) relayed_addresses: Vec<SocketAddr>,
    pub(super) data: Option<Echo>,
    steps: Vec<Step>,
}

/// One line of the table.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    ok: bool,
    step: &'static str,
    #[serde(rename = "ms", serialize_with = "serialize_ms")]
    elapsed: Duration,
    detail: String,
}

impl Report {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            works: false,
            verdict: String::new(),
            server: None,
            resolve: None,
            transports: Vec::new(),
        }
    }

    pub(super) fn resolved(&mut self, step: Step, server: SocketAddr) {
        self.resolve = Some(step);
        self.server = Some(server);
    }

    pub(super) fn unresolved(&mut self, step: Step) {
        self.verdict = format!("the name cannot be resolved: {}", step.detail);
        self.resolve = Some(step);
    }

    pub(super) fn add(&mut self, transport: TransportReport) {
        self.transports.push(transport);
        self.works = self.transports.iter().all(|transport| transport.works);
        self.verdict = self.total();
    }

    /// Whether no step failed.
    pub const fn works(&self) -> bool {
        self.works
    }

    /// One JSON object, on several lines.
    ///
    /// # Panics
    /// Never: every field has a representation in JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("every field has a representation in JSON")
    }

    fn total(&self) -> String {
        let names = |works| {
            let transports = self.transports.iter().filter(|t| t.works == works);
            Vec::from_iter(transports.map(|t| t.transport.name())).join(" and ")
        };
        match (names(true), names(false)) {
            (good, bad) if bad.is_empty() => format!("works over {good}"),
            (good, bad) if good.is_empty() => format!("fails over {bad}"),
            (good, bad) => format!("works over {good}, fails over {bad}"),
        }
    }
}

impl TransportReport {
    pub(super) const fn new(transport: Transport) -> Self {
        Self {
            transport,
            works: false,
            verdict: String::new(),
            mapped_address: None,
            relayed_addresses: Vec::new(),
            data: None,
            steps: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, step: Step) {
        self.steps.push(step);
    }
}

impl Step {
    pub(super) const fn passed(step: &'static str, elapsed: Duration, detail: String) -> Self {
        let ok = true;
        Self {
            ok,
            step,
            elapsed,
            detail,
        }
    }

    pub(super) const fn failed(step: &'static str, elapsed: Duration, detail: String) -> Self {
        let ok = false;
        Self {
            ok,
            step,
            elapsed,
            detail,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.url)?;
        if let Some(step) = &self.resolve {
            writeln!(f, "{step}")?;
        }
        for transport in &self.transports {
            writeln!(f, "\n{}", transport.transport.name())?;
            for step in &transport.steps {
                writeln!(f, "{step}")?;
            }
            writeln!(f, "  {}: {}", word(transport.works), transport.verdict)?;
        }
        write!(f, "\n{}: {}", word(self.works), self.verdict)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            step,
            elapsed,
            detail,
            ..
        } = self;
        let ms = elapsed.as_secs_f64() * 1e3;
        write!(
            f,
            "  {:<4}  {step:<12}  {ms:>7.1} ms  {detail}",
            word(self.ok)
        )
    }
}

const fn word(ok: bool) -> &'static str {
    if ok { "ok" } else { "FAIL" }
}

/// Milliseconds with three decimals: the clock knows no more that means anything.
fn serialize_ms<S: Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(elapsed.as_micros() as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("turn:a.example");
        let ms = Duration::from_millis;
        let server = "203.0.113.9:3478".parse().unwrap();
        report.resolved(
            Step::passed("resolve", ms(12), "203.0.113.9:3478".to_owned()),
            server,
        );
        let mut udp = TransportReport::new(Transport::Udp);
        udp.add(Step::passed(
            "binding",
            Duration::from_micros(20_449),
            "mapped".to_owned(),
        ));
        udp.works = true;
        udp.verdict = "relays data both ways".to_owned();
        report.add(udp);
        let mut tcp = TransportReport::new(Transport::Tcp);
        tcp.add(Step::failed(
            "connect",
            ms(1000),
            "connection refused".to_owned(),
        ));
        tcp.verdict = "nothing listens".to_owned();
        report.add(tcp);
        report
    }

    #[test]
    fn table() {
        let expected = "\
turn:a.example
  ok    resolve          12.0 ms  203.0.113.9:3478

UDP
  ok    binding          20.4 ms  mapped
  ok: relays data both ways

TCP
  FAIL  connect        1000.0 ms  connection refused
  FAIL: nothing listens

FAIL: works over UDP, fails over TCP";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn json() {
        let json: serde_json::Value = serde_json::from_str(&report().to_json()).unwrap();
        assert_eq!(json["works"], false);
        assert_eq!(json["server"], "203.0.113.9:3478");
        assert_eq!(json["transports"][0]["transport"], "udp");
        assert_eq!(json["transports"][0]["steps"][0]["ms"], 20.449);
        assert_eq!(json["transports"][1]["steps"][0]["ok"], false);
    }
}
