//! The numbers of the last hour, for whoever opens the dashboard and has no other memory of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::time::MissedTickBehavior;

use crate::engine::Control;
use crate::metrics::{Metrics, Sample};
use crate::turn::{FailedAuthentication, Limit, Relayed, Transport};
use crate::wire::Family;

/// How often the numbers are remembered.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);

/// Numbers that are remembered: an hour has 360 intervals, and one more end.
pub const SAMPLES_MAX: usize = 361;

/// Numbers that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// What was relayed for all clients.
    pub relayed: Relayed,
    /// Requests that were refused for their credentials or for a limit. A nonce that is too old is
    /// no failure: every client that stays meets it.
    pub failures: u64,
    /// Packets that went nowhere.
    pub drops: u64,
}

impl Totals {
    /// What a sample of all workers sums up to.
    pub fn of(sample: &Sample) -> Self {
        let mut relayed = Relayed::default();
        for &transport in Transport::ALL {
            for family in [Family::V4, Family::V6] {
                let of = sample.protocol.relayed.of(transport, family);
                relayed.packets_to_peers += of.packets_to_peers;
                relayed.bytes_to_peers += of.bytes_to_peers;
                relayed.packets_to_client += of.packets_to_client;
                relayed.bytes_to_client += of.bytes_to_client;
            }
        }
        let failed = FailedAuthentication::ALL.iter();
        let failed = failed.filter(|failure| **failure != FailedAuthentication::StaleNonce);
        let failed: u64 = failed.map(|it| sample.protocol.failed(*it)).sum();
        let limited = Limit::ALL.iter().map(|it| sample.protocol.limited(*it));
        Self {
            relayed,
            failures: failed + limited.sum::<u64>(),
            drops: sample.drops().map(|(_, number)| number).sum(),
        }
    }
}

/// The server at one moment.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: Instant,
    unix_s: u64,
    allocations: u32,
    totals: Totals,
}

/// What happened in the time before a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The moment.
    pub unix_s: u64,
    /// Allocations then.
    pub allocations: u32,
    /// Application data relayed to peers since the moment before.
    pub bits_per_s_to_peers: u64,
    /// Application data relayed to clients since the moment before.
    pub bits_per_s_to_client: u64,
    /// Failures since the moment before.
    pub failures: u64,
    /// Packets that went nowhere since the moment before.
    pub drops: u64,
}

impl Point {
    fn between(earlier: &Moment, later: &Moment) -> Self {
        let time = later.at.duration_since(earlier.at).as_secs_f64();
        let (before, after) = (&earlier.totals, &later.totals);
        let rate = |before: u64, after: u64| {
            (after.saturating_sub(before) as f64 * 8.0 / time.max(1e-3)) as u64
        };
        Self {
            unix_s: later.unix_s,
            allocations: later.allocations,
            bits_per_s_to_peers: rate(before.relayed.bytes_to_peers, after.relayed.bytes_to_peers),
            bits_per_s_to_client: rate(
                before.relayed.bytes_to_client,
                after.relayed.bytes_to_client,
            ),
            // A worker may be seen between two of its numbers, but no number ever falls.
            failures: after.failures.saturating_sub(before.failures),
            drops: after.drops.saturating_sub(before.drops),
        }
    }
}

/// What is remembered: the oldest moment goes when there is no room.
#[derive(Debug, Default)]
struct History(VecDeque<Moment>);

impl History {
    fn push(&mut self, moment: Moment) {
        if self.0.len() == SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(moment);
    }

    fn points(&self) -> Vec<Point> {
        let pairs = self.0.iter().zip(self.0.iter().skip(1));
        pairs
            .map(|(earlier, later)| Point::between(earlier, later))
            .collect()
    }
}

/// The numbers of a server, and those of its last hour.
#[derive(Debug)]
pub struct Statistics {
    metrics: Arc<Metrics>,
    control: Control,
    history: Mutex<History>,
}

impl Statistics {
    /// Of a server, with nothing remembered.
    pub fn new(metrics: Arc<Metrics>, control: Control) -> Self {
        Self {
            metrics,
            control,
            history: Mutex::default(),
        }
    }

    /// Remembers numbers for as long as it is polled.
    pub async fn remember(&self) {
        let mut interval = tokio::time::interval(SAMPLE_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let moment = Moment {
                at: Instant::now(),
                unix_s: unix_s(),
                allocations: self.control.shared().quota.total(),
                totals: Totals::of(&self.metrics.total()),
            };
            let history = self.history.lock();
            history.unwrap_or_else(PoisonError::into_inner).push(moment);
        }
    }

    /// The numbers of all workers, each as of its last second.
    pub fn now(&self) -> Sample {
        self.metrics.total()
    }

    /// Where they come from.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether every worker has published lately.
    pub fn is_well(&self) -> bool {
        self.metrics.is_well()
    }

    /// The last hour, or what there is of it.
    pub fn points(&self) -> Vec<Point> {
        let history = self.history.lock();
        history.unwrap_or_else(PoisonError::into_inner).points()
    }
}

fn unix_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(start: Instant, number: u64) -> Moment {
        Moment {
            at: start + SAMPLE_INTERVAL * number as u32,
            unix_s: 1_000 + 10 * number,
            allocations: number as u32,
            totals: Totals {
                relayed: Relayed {
                    bytes_to_peers: 2_500 * number,
                    bytes_to_client: 1_250_000_000 * number,
                    ..Relayed::default()
                },
                failures: 3 * number,
                drops: number * number,
            },
        }
    }

    #[test]
    fn a_point_is_what_happened_between_two_moments() {
        let (start, mut history) = (Instant::now(), History::default());
        assert!(history.points().is_empty());
        history.push(moment(start, 0));
        assert!(history.points().is_empty(), "nothing to compare with");
        history.push(moment(start, 1));
        history.push(moment(start, 2));
        let point = Point {
            unix_s: 1_020,
            allocations: 2,
            bits_per_s_to_peers: 2_000,
            bits_per_s_to_client: 1_000_000_000,
            failures: 3,
            drops: 3,
        };
        assert_eq!(history.points()[1], point);
    }

    /// DASH-02
    #[test]
    fn an_hour_is_remembered_and_no_more() {
        let (start, mut history) = (Instant::now(), History::default());
        for number in 0..SAMPLES_MAX as u64 {
            history.push(moment(start, number));
        }
        let times = |history: &History| {
            let points = history.points();
            (
                points.len(),
                points[0].unix_s,
                points.last().unwrap().unix_s,
            )
        };
        assert_eq!(times(&history), (360, 1_010, 4_600));
        history.push(moment(start, SAMPLES_MAX as u64));
        assert_eq!(times(&history), (360, 1_020, 4_610));
    }

    #[test]
    fn what_every_client_meets_is_no_failure() {
        let mut sample = Sample::default();
        // Whatever else is counted, the sum has it once.
        for number in sample.protocol.numbers_mut() {
            *number = 1;
        }
        sample.host.not_sent = 5;
        let totals = Totals::of(&sample);
        let kinds = FailedAuthentication::ALL.len() - 1 + Limit::ALL.len();
        assert_eq!(totals.failures, kinds as u64);
        let clients = 2 * Transport::ALL.len() as u64;
        assert_eq!(totals.relayed.bytes_to_client, clients);
        let drops: u64 = sample.drops().map(|(_, number)| number).sum();
        assert_eq!(totals.drops, drops);
        assert!(totals.drops > 5);
    }
}
