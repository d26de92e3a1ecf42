//! The tasks that send: each gathers events into batches, and tries each batch until it is accepted,
//! refused, or has been tried for long enough. One does until the process ends, so that batches come
//! in their order; then others help it, because a receiver that takes its time with every request
//! would not get them all.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::Timing;
use super::client::{Answer, Client};
use super::queue::{BATCH_EVENTS_MAX, Batch, Waiting};

/// Between two lines about failures.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Requests under way at the end of the process.
pub const FINISHING_REQUESTS: usize = 8;

#[derive(Clone)]
pub(super) struct Delivery {
    waiting: Arc<Waiting>,
    client: Arc<Client>,
    timing: Timing,
    /// The process ends: nothing is waited for that could come later.
    finishing: watch::Receiver<bool>,
    report: Arc<Mutex<Report>>,
}

/// What the log was told.
#[derive(Debug, Default)]
struct Report {
    failing: bool,
    next: Option<Instant>,
    lost: u64,
}

impl Delivery {
    pub(super) fn new(
        waiting: Arc<Waiting>,
        client: Client,
        timing: Timing,
        finishing: watch::Receiver<bool>,
    ) -> Self {
        Self {
            waiting,
            client: Arc::new(client),
            timing,
            finishing,
            report: Arc::default(),
        }
    }

    /// Ends when it is told to finish and nothing is left.
    pub(super) async fn run(mut self) {
        // Dropped with this task, and they end with it.
        let mut others = JoinSet::new();
        others.spawn(self.clone().send());
        finishing(&mut self.finishing).await;
        for _ in 1..FINISHING_REQUESTS {
            others.spawn(self.clone().send());
        }
        while others.join_next().await.is_some() {}
    }

    async fn send(mut self) {
        loop {
            tokio::select! {
                () = self.waiting.has(1) => {}
                () = finishing(&mut self.finishing) => {}
            }
            if self.waiting.is_empty() {
                return;
            }
            tokio::select! {
                () = self.waiting.has(BATCH_EVENTS_MAX) => {}
                () = sleep(self.timing.gather) => {}
                () = finishing(&mut self.finishing) => {}
            }
            let batch = self.waiting.take();
            let accepted = self.deliver(&batch).await;
            self.waiting.done(&batch, accepted);
        }
    }

    /// Whether the receiver has accepted it.
    async fn deliver(&mut self, batch: &Batch) -> bool {
        let give_up = Instant::now() + self.timing.give_up;
        let mut failures = 0;
        loop {
            let (why, after) = match self.client.send(batch).await {
                Answer::Accepted => {
                    self.tell_success();
                    return true;
                }
                Answer::Refused(status) => {
                    self.tell(&format!("refused with {status}"), batch.events);
                    return false;
                }
                Answer::Failed(why, after) => (why, after),
            };
            if Instant::now() >= give_up {
                self.tell(&format!("given up: {why}"), batch.events);
                return false;
            }
            self.tell(&why, 0);
            let jitter = getrandom::u32().expect("the system has random numbers");
            let delay = backoff(&self.timing, failures, jitter);
            failures += 1;
            // Whatever the receiver asks for, the last attempt is at the end of the time.
            let next = Instant::now()
                + delay
                    .max(after.unwrap_or_default())
                    .min(self.timing.give_up);
            let was_finishing = *self.finishing.borrow();
            tokio::select! {
                () = sleep_until(next.min(give_up)) => {}
                // At once, and then again as often as the rest of the time allows.
                () = finishing(&mut self.finishing), if !was_finishing => failures = 0,
            }
        }
    }

    /// A line about a failure, at most one a minute unless it is the first.
    fn tell(&self, why: &str, lost: usize) {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.lost += lost as u64;
        let now = Instant::now();
        if report.failing && report.next.is_some_and(|next| now < next) {
            return;
        }
        report.failing = true;
        report.next = Some(now + TOLD_EVERY);
        let numbers = self.waiting.statistics();
        let receiver = self.client.receiver();
        warn!(
            receiver,
            lost = std::mem::take(&mut report.lost),
            queued = numbers.queued,
            dropped_in_all = numbers.dropped,
            "event hooks: {why}"
        );
    }

    fn tell_success(&self) {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut report.failing) {
            let receiver = self.client.receiver();
            let lost = std::mem::take(&mut report.lost);
            let lost = Some(lost).filter(|lost| *lost > 0);
            info!(
                receiver,
                lost, "event hooks: the receiver accepts events again"
            );
        }
    }
}

/// Waits until the process ends. Who could say so is gone when it does, too.
async fn finishing(finishing: &mut watch::Receiver<bool>) {
    let _ = finishing.wait_for(|finishing| *finishing).await;
}

/// The wait after so many failures before: doubled each time up to the longest, and of that a random
/// part from a half to all, so that servers that failed together do not come back together.
fn backoff(timing: &Timing, failures: u32, jitter: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
    let full = timing.retry_first.saturating_mul(factor);
    let half = full.min(timing.retry_longest) / 2;
    half + half.mul_f64(f64::from(jitter) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let timing = Timing::default();
        let range = |failures| {
            let [low, high] = [0, u32::MAX].map(|jitter| backoff(&timing, failures, jitter));
            (low.as_millis(), high.as_millis())
        };
        assert_eq!(range(0), (500, 1000));
        assert_eq!(range(1), (1000, 2000));
        assert_eq!(range(5), (16_000, 32_000));
        for many in [6, 7, 31, 32, 1000] {
            assert_eq!(range(many), (30_000, 60_000));
        }
    }
}
