//! Hooks: events of the server as signed HTTP POSTs to a receiver of the operator's.
//!
//! [`Hooks::prepare`] opens every file that is needed (certificates, where names are resolved), for
//! there are none later. Everything else is tasks of the runtime that started it. They have one
//! request under way, or [`FINISHING_REQUESTS`] at the end, and what waits is bounded, so a receiver
//! that is slow, hangs or is not there costs events, which are counted, and nothing else.
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
use tokio::time::{Instant, timeout};

pub use delivery::FINISHING_REQUESTS;
pub use event::{Event, Kind, Who};
pub use queue::{BATCH_EVENTS_MAX, QUEUE_BYTES_MAX, QUEUE_EVENTS_MAX};

use crate::https::{PrepareError, Target};
use crate::metrics::HookEvents;
use client::Client;
use delivery::Delivery;
use queue::Waiting;
use signature::Signer;

/// What is sent where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The receiver: `http:` or `https:`, with a host.
    pub url: Uri,
    /// What the requests are signed with.
    pub secret: SecretString,
    /// Which events are sent.
    pub kinds: Vec<Kind>,
    /// Allocations at most: so many more events can wait, because they all may end at once.
    pub allocations: u32,
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
    /// How long it is sent without the receiver accepting any of it.
    pub finish_in_vain: Duration,
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
            // Less than service managers wait (TimeoutStopSec, terminationGracePeriodSeconds).
            finish: Duration::from_secs(15),
            finish_in_vain: Duration::from_secs(5),
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
    handle: Handle,
    task: JoinHandle<()>,
    finish: watch::Sender<bool>,
    timing: Timing,
}

/// Where events are put in.
#[derive(Clone, Debug)]
pub struct Handle {
    waiting: Arc<Waiting>,
    signer: Signer,
}

impl Hooks {
    /// Reads the files that are needed.
    ///
    /// # Errors
    /// If they are not there, or not usable.
    pub fn prepare(settings: &Settings) -> Result<Prepared, PrepareError> {
        Ok(Prepared {
            waiting: Arc::new(Waiting::new(&settings.kinds, settings.allocations)),
            client: Client::new(settings)?,
            timing: settings.timing,
        })
    }

    /// Where events are put in.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Sends what waits, for a bounded time, and ends.
    pub async fn finish(mut self) {
        // The task may have ended by a bug only, and then there is nobody to tell.
        let _ = self.finish.send(true);
        let end = Instant::now() + self.timing.finish;
        loop {
            let before = self.handle.statistics().sent;
            let left = end.saturating_duration_since(Instant::now());
            let patience = left.min(self.timing.finish_in_vain);
            if timeout(patience, &mut self.task).await.is_ok() {
                break;
            }
            if Instant::now() >= end || self.handle.statistics().sent == before {
                self.task.abort();
                break;
            }
        }
        let lost = self.handle.statistics().queued;
        if lost > 0 {
            tracing::warn!(events = lost, "event hooks: not sent before the end");
        }
    }
}

impl Prepared {
    /// Begins to send, in the runtime of the caller.
    pub fn start(self) -> Hooks {
        let (finish, finishing) = watch::channel(false);
        let handle = Handle {
            waiting: Arc::clone(&self.waiting),
            signer: self.client.signer(),
        };
        let delivery = Delivery::new(self.waiting, self.client, self.timing, finishing);
        Hooks {
            handle,
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
        self.waiting.push(at_unix_ms, event);
    }

    /// Counts events that were lost before they came here.
    pub fn count_lost(&self, events: u64) {
        self.waiting.count_lost(events);
    }

    /// Signs with another secret from the next request on.
    pub fn replace_secret(&self, secret: SecretString) {
        self.signer.replace(secret);
    }

    /// The numbers so far.
    pub fn statistics(&self) -> HookEvents {
        self.waiting.statistics()
    }
}
