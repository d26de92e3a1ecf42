//! What the server counts, for whoever watches it: one table of metrics, and the numbers of the
//! workers as Prometheus reads them (OpenMetrics).
//!
//! A worker counts in plain numbers of its own ([`Sample`]) and copies them once a second to where
//! others may look ([`Metrics`]). A scrape sums those copies; it asks no worker. No label is of a
//! client's choosing, so the number of time series is fixed.

mod acme;
mod block;
mod certificates;
mod collector;
mod http;
mod process;
mod reloads;
mod sample;
mod table;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

pub use acme::{Acme, AcmeState};
pub use certificates::Certificates;
pub use http::{HttpRequests, HttpService};
pub use process::Process;
pub use reloads::Reloads;
pub use sample::{
    BatchSizes, Dtls, Host, Sample, TCP_ENDINGS, TLS_HANDSHAKES, TickDelays, WEB_FAILURES,
    WEB_KINDS, Web,
};
pub use table::{Definition, Kind, TABLE};

use crate::turn::Shared;
use block::Block;

/// How old the numbers of a worker may be before it does not count as well: it publishes once a
/// second, and a busy machine may be late.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(5);

/// What became of the events that hooks are to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookEvents {
    /// Accepted by the receiver.
    pub sent: u64,
    /// Given up, or refused by the receiver for good.
    pub failed: u64,
    /// Never queued, because there was no room.
    pub dropped: u64,
    /// Waiting or under way.
    pub queued: u64,
}

/// Whom a scrape asks for what others count; nobody, and so nothing, until one is named.
struct Asked<T>(OnceLock<Box<dyn Fn() -> T + Send + Sync>>);

impl<T: Default> Asked<T> {
    const fn nobody() -> Self {
        Self(OnceLock::new())
    }

    /// Names who is asked. Once; later calls change nothing.
    fn name(&self, ask: impl Fn() -> T + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(ask));
    }

    fn ask(&self) -> T {
        self.0.get().map(|ask| ask()).unwrap_or_default()
    }
}

impl<T> fmt::Debug for Asked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asked")
    }
}

/// All numbers of a server.
#[derive(Debug)]
pub struct Metrics {
    blocks: Box<[Block]>,
    shared: Arc<Shared>,
    process: Process,
    reloads: Reloads,
    certificates: Certificates,
    http: HttpRequests,
    hooks: Asked<HookEvents>,
    acme: Acme,
    /// Changes of revocations that a restart would undo.
    unsaved: Asked<u64>,
    start: Instant,
    started: SystemTime,
}

impl Metrics {
    /// The metrics of a server that starts now.
    pub fn new(workers: usize, shared: Arc<Shared>, process: Process) -> Self {
        let started = SystemTime::now();
        Self {
            blocks: (0..workers).map(|_| Block::new()).collect(),
            shared,
            process,
            reloads: Reloads::new(started),
            certificates: Certificates::default(),
            http: HttpRequests::default(),
            hooks: Asked::nobody(),
            acme: Acme::default(),
            unsaved: Asked::nobody(),
            start: Instant::now(),
            started,
        }
    }

    /// Replaces the numbers of a worker, which is well.
    ///
    /// # Panics
    /// If there is no such worker.
    pub fn publish(&self, worker: usize, sample: Sample) {
        self.blocks[worker].publish(sample, self.start.elapsed());
    }

    /// The numbers of all workers, each as of its last second.
    pub fn total(&self) -> Sample {
        let mut total = Sample::default();
        for block in &self.blocks {
            block.add_to(&mut total);
        }
        total
    }

    /// The numbers of each worker.
    fn of_each(&self) -> impl Iterator<Item = Sample> {
        self.blocks.iter().map(|block| {
            let mut sample = Sample::default();
            block.add_to(&mut sample);
            sample
        })
    }

    /// How old the numbers of each worker are.
    fn ages(&self) -> impl Iterator<Item = Duration> {
        let now = self.start.elapsed();
        let published = self.blocks.iter().map(Block::published);
        published.map(move |at| now.saturating_sub(at))
    }

    /// Whether every worker has published lately.
    pub fn is_well(&self) -> bool {
        self.ages().all(|age| age <= HEARTBEAT_MAX)
    }

    /// Whether any worker refuses new allocations because it is told to.
    pub fn is_draining(&self) -> bool {
        self.total().host.draining > 0
    }

    /// What happened to the configuration.
    pub const fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// What became of the certificates.
    pub const fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// What requests over HTTP came to.
    pub const fn http(&self) -> &HttpRequests {
        &self.http
    }

    /// Has every scrape ask what became of hooks' events. Once; later calls change nothing.
    pub fn watch_hooks(&self, ask: impl Fn() -> HookEvents + Send + Sync + 'static) {
        self.hooks.name(ask);
    }

    fn hook_events(&self) -> HookEvents {
        self.hooks.ask()
    }

    /// What became of orders for certificates.
    pub const fn acme(&self) -> &Acme {
        &self.acme
    }

    /// Has every scrape ask how many changes of revocations are not kept. Once, likewise.
    pub fn watch_revocations(&self, ask: impl Fn() -> u64 + Send + Sync + 'static) {
        self.unsaved.name(ask);
    }

    fn unsaved_revocations(&self) -> u64 {
        self.unsaved.ask()
    }

    /// Everything as OpenMetrics text.
    pub fn to_text(self: &Arc<Self>) -> String {
        collector::text(Arc::clone(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::PortPool;

    /// The metrics of so many workers that have counted nothing.
    pub(super) fn metrics(workers: usize) -> Arc<Metrics> {
        let ports = PortPool::new(&[], 50_000..=50_009, &[]);
        let shared = Arc::new(Shared::new(ports));
        Arc::new(Metrics::new(workers, shared, Process::open()))
    }

    #[test]
    fn a_worker_that_publishes_no_more_shows() {
        let metrics = metrics(2);
        assert!(metrics.is_well(), "a second has not passed");
        let late = HEARTBEAT_MAX + Duration::from_millis(1);
        let mut past = Arc::into_inner(metrics).unwrap();
        past.start = Instant::now().checked_sub(late).unwrap();
        assert!(!past.is_well());
        past.publish(0, Sample::default());
        assert!(!past.is_well(), "the other one does not");
        past.publish(1, Sample::default());
        assert!(past.is_well());
    }

    #[test]
    fn numbers_of_workers_are_summed_and_replaced() {
        let metrics = metrics(3);
        let mut sample = Sample::default();
        sample.host.not_sent = 5;
        sample.protocol.challenges = 7;
        for worker in [0, 2, 2] {
            metrics.publish(worker, sample);
        }
        let total = metrics.total();
        assert_eq!((total.host.not_sent, total.protocol.challenges), (10, 14));
        let each: Vec<u64> = metrics.of_each().map(|it| it.host.not_sent).collect();
        assert_eq!(each, [5, 0, 5]);
        assert!(!metrics.is_draining());
        sample.host.draining = 1;
        metrics.publish(1, sample);
        assert!(metrics.is_draining());
    }
}
