//! Draining: no new allocations, and the end of the process once the old ones are over.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::to_its_end;
use crate::engine::{Control, Stopped};

/// The longest deadline: a week.
pub const DEADLINE_S_MAX: u32 = 7 * 86_400;

/// How often the last allocation is waited for. It is a moment before the first look, too, in which
/// whoever asked is answered.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// A server that makes no new allocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draining {
    /// Since when.
    pub since: Instant,
    /// When the server ends whatever lives; without one it waits for the last allocation.
    pub deadline: Option<Instant>,
}

/// How draining came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// There is no allocation any more.
    Empty,
    /// The deadline has come.
    Deadline,
}

/// Whether the server drains. Clones are the same.
#[derive(Clone, Debug)]
pub struct Drain {
    control: Control,
    state: Arc<watch::Sender<Option<Draining>>>,
    /// Held until every worker knows the same.
    changing: Arc<Mutex<()>>,
}

impl Drain {
    /// A server that does not.
    pub fn new(control: Control) -> Self {
        Self {
            control,
            state: Arc::new(watch::Sender::new(None)),
            changing: Arc::default(),
        }
    }

    /// What is in force.
    pub fn state(&self) -> Option<Draining> {
        *self.state.borrow()
    }

    /// What is in force, from now on.
    pub fn changes(&self) -> watch::Receiver<Option<Draining>> {
        self.state.subscribe()
    }

    /// From here on no new allocations are made. Asked again, the new deadline counts. It goes on to its
    /// end even if nobody waits for it any more: workers that drain, and nobody who knows, would refuse
    /// allocations for ever.
    ///
    /// # Errors
    /// If the server is stopping.
    pub async fn begin(&self, deadline: Option<Duration>) -> Result<Draining, Stopped> {
        let drain = self.clone();
        to_its_end(async move { drain.begin_all(deadline).await }).await
    }

    async fn begin_all(&self, deadline: Option<Duration>) -> Result<Draining, Stopped> {
        let _changing = self.changing.lock().await;
        self.control.drain(true).await?;
        let now = Instant::now();
        let draining = Draining {
            since: self.state().map_or(now, |draining| draining.since),
            deadline: deadline.map(|deadline| now + deadline),
        };
        self.state.send_replace(Some(draining));
        tracing::warn!(
            allocations = self.control.shared().quota.total(),
            deadline_s = deadline.map(|deadline| deadline.as_secs()),
            "draining: no new allocations"
        );
        Ok(draining)
    }

    /// New allocations are made again. Whether they were not. It goes on to its end likewise.
    ///
    /// # Errors
    /// If the server is stopping.
    pub async fn undo(&self) -> Result<bool, Stopped> {
        let drain = self.clone();
        to_its_end(async move { drain.undo_all().await }).await
    }

    async fn undo_all(&self) -> Result<bool, Stopped> {
        let _changing = self.changing.lock().await;
        self.control.drain(false).await?;
        let was_draining = self.state.send_replace(None).is_some();
        if was_draining {
            tracing::warn!("not draining any more: new allocations are made");
        }
        Ok(was_draining)
    }

    /// Waits until the server has drained. It may be begun and undone any number of times before.
    pub async fn over(&self) -> Over {
        let mut changes = self.state.subscribe();
        loop {
            let draining = *changes.borrow_and_update();
            let Some(Draining { deadline, .. }) = draining else {
                // `self` has the sender.
                let _ = changes.changed().await;
                continue;
            };
            tokio::select! {
                _ = changes.changed() => continue,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            if self.control.shared().quota.total() == 0 {
                return Over::Empty;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Over::Deadline;
            }
        }
    }
}
