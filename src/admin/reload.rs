//! The way from who asks for a reload to who does it.

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::engine::Stopped;

/// Requests that wait. Who asks beyond that waits too.
const WAITING_MAX: usize = 4;

/// What a reload has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// The keys with another value than before, which is in force.
    pub changed: Vec<&'static str>,
    /// The keys with another value than the server was started with, which needs a restart.
    pub restart_needed: Vec<&'static str>,
    /// What is allowed and likely to be a mistake.
    pub warnings: Vec<String>,
}

/// What becomes of a request: why nothing was reloaded, if it was not.
pub type Outcome = Result<Reloaded, Vec<String>>;

/// A request, and where its outcome goes.
pub type Request = oneshot::Sender<Outcome>;

/// Asks for reloads. Clones are the same.
#[derive(Clone, Debug)]
pub struct ReloadDesk(mpsc::Sender<Request>);

impl ReloadDesk {
    /// The desk, and what comes in there.
    pub fn new() -> (Self, mpsc::Receiver<Request>) {
        let (sender, requests) = mpsc::channel(WAITING_MAX);
        (Self(sender), requests)
    }

    /// Has the configuration be read again.
    ///
    /// # Errors
    /// If the server is stopping.
    pub async fn ask(&self) -> Result<Outcome, Stopped> {
        let (reply, outcome) = oneshot::channel();
        self.0.send(reply).await.map_err(|_| Stopped)?;
        outcome.await.map_err(|_| Stopped)
    }
}
