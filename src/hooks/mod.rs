//! Hooks: events of the server as signed HTTP POSTs to a receiver of the operator's.
//!
//! [`Hooks::prepare`] opens every file that is needed (certificates, where names are resolved), for
//! there are none later. Everything else is one task of the runtime that started it. It has one
//! request under way at most, and what waits for it is bounded, so a receiver that is slow, hangs
//! or is not there costs events, which are counted, and nothing else.
//!
//! `docs/hooks.md` is for who writes a receiver.

mod client;
mod delivery;
mod event;
mod queue;
mod signature;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use event::{Event, Kind, Who};
pub use queue::{BATCH_EVENTS_MAX, QUEUE_BYTES_MAX, QUEUE_EVENTS_MAX};

use crate::https::{PrepareError, Target};
use crate::metrics::HookEvents;
use client::Client;
use delivery::Delivery;
use queue::Waiting;

/// What is sent where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The receiver: `http:` or `https:`, with a host.
    pub url: Uri,
    /// What the requests are signed with.
    pub secret: SecretString,
    /// Which events are sent.
    pub kinds: Vec<Kind>,
    /// How long a request may take, its connection included.
    pub timeout: Duration,
    /// PEM certificates of authorities; those of the system if there is no file.
    pub ca_file: Option<PathBuf>,
    /// How long everything else takes.
    pub timing: Timing,
}

/// How long things may take. The default is what servers have.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long an event waits for others to go with it.
    pub gather: Duration,
    /// The wait after the first failure, which doubles with every further one.
    pub retry_first: Duration,
    /// The longest wait, unless the receiver asks for more.
    pub retry_longest: Duration,
    /// How long a batch is tried.
    pub give_up: Duration,
    /// How long what is left is sent at the end of the process.
    pub finish: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            gather: Duration::from_secs(1),
            retry_first: Duration::from_secs(1),
            retry_longest: Duration::from_secs(60),
            // A restart, a deployment, a short outage. At the default rate of events the queue
            // holds some minutes more.
            give_up: Duration::from_secs(15 * 60),
            finish: Duration::from_secs(5),
        }
    }
}

impl Settings {
    /// Whom the requests are for.
    pub fn target(&self) -> Target {
        Target {
            url_key: "hooks.url",
            url: self.url.clone(),
            ca_key: "hooks.ca_file",
            ca_file: self.ca_file.clone(),
            timeout: self.timeout,
        }
    }
}

/// Hooks that have every file that they need, and do nothing yet.
#[derive(Debug)]
pub struct Prepared {
    waiting: Arc<Waiting>,
    client: Client,
    timing: Timing,
}

/// Hooks that are sent.
#[derive(Debug)]
pub struct Hooks {
    waiting: Arc<Waiting>,
    task: JoinHandle<()>,
    finish: watch::Sender<bool>,
    timing: Timing,
}

/// Where events are put in.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Waiting>);

impl Hooks {
    /// Reads the files that are needed.
    ///
    /// # Errors
    /// If they are not there, or not usable.
    pub fn prepare(settings: &Settings) -> Result<Prepared, PrepareError> {
        Ok(Prepared {
            waiting: Arc::new(Waiting::new(&settings.kinds)),
            client: Client::new(settings)?,
            timing: settings.timing,
        })
    }

    /// Where events are put in.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.waiting))
    }

    /// Sends what waits, for a bounded time, and ends.
    pub async fn finish(mut self) {
        // The task may have ended by a bug only, and then there is nobody to tell.
        let _ = self.finish.send(true);
        if timeout(self.timing.finish, &mut self.task).await.is_err() {
            self.task.abort();
        }
        let lost = self.waiting.statistics().queued;
        if lost > 0 {
            tracing::warn!(events = lost, "event hooks: not sent before the end");
        }
    }
}

impl Prepared {
    /// Begins to send, in the runtime of the caller.
    pub fn start(self) -> Hooks {
        let (finish, finishing) = watch::channel(false);
        let waiting = Arc::clone(&self.waiting);
        let delivery = Delivery::new(self.waiting, self.client, self.timing, finishing);
        Hooks {
            waiting,
            task: tokio::spawn(delivery.run()),
            finish,
            timing: self.timing,
        }
    }
}

impl Handle {
    /// Takes an event that happened at a moment of Unix time, if it is of a kind that is sent. It
    /// never waits: what does not fit is counted.
    pub fn send(&self, at_unix_ms: u64, event: &Event<'_>) {
        self.0.push(at_unix_ms, event);
    }

    /// Counts events that were lost before they came here.
    pub fn count_lost(&self, events: u64) {
        self.0.count_lost(events);
    }

    /// The numbers so far.
    pub fn statistics(&self) -> HookEvents {
        self.0.statistics()
    }
}
