//! What operators ask of the workers, as messages that these answer between two rounds.
//!
//! A question about many allocations is answered in steps of a bounded size, and other tasks of the
//! worker run in between: packets never wait for an operator.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::clock;
use super::exchange::Exchange;
use super::listen::Listeners;
use super::listeners::{self, Places};
use super::record::{AllocationDetail, AllocationName, AllocationRecord, Filter};
use super::stream::StreamSettings;
use super::worker::{PLACES_PER_STEP, Worker};
use crate::auth::Revocations;
use crate::turn::{AllocationId, AllocationView, CloseReason, Options, Shared};

/// Questions that wait for one worker. Who asks beyond that waits too.
const WAITING_MAX: usize = 16;

/// Allocations of one page at most.
pub const PAGE_MAX: usize = 1000;

/// The workers have ended, and with them everything that could be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server is stopping")
    }
}

impl std::error::Error for Stopped {}

/// Where a list goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The worker whose turn it is.
    pub worker: usize,
    /// The place of its next allocation.
    pub slot: u32,
}

/// A part of a list.
#[derive(Debug)]
pub struct Page {
    /// In the order of workers and places.
    pub records: Vec<AllocationRecord>,
    /// Where it goes on, if it does.
    pub next: Option<Cursor>,
}

/// What one worker is asked for.
pub(super) enum Command {
    List {
        filter: Filter,
        slot: u32,
        limit: usize,
        reply: oneshot::Sender<(Vec<AllocationRecord>, Option<u32>)>,
    },
    Show {
        id: AllocationId,
        reply: oneshot::Sender<Option<Box<AllocationDetail>>>,
    },
    End {
        id: AllocationId,
        reason: CloseReason,
        reply: oneshot::Sender<bool>,
    },
    EndAll {
        filter: Filter,
        reason: CloseReason,
        reply: oneshot::Sender<usize>,
    },
    Revoke {
        revocations: Arc<Revocations>,
        reply: oneshot::Sender<usize>,
    },
    Drain {
        is_draining: bool,
        reply: oneshot::Sender<()>,
    },
    Reconfigure {
        options: Arc<Options>,
        reply: oneshot::Sender<()>,
    },
    SetStreams {
        settings: StreamSettings,
        reply: oneshot::Sender<()>,
    },
    /// Have listeners, which serve nobody yet.
    Prepare {
        listeners: Listeners,
        reply: oneshot::Sender<io::Result<()>>,
    },
    /// Have listeners serve whoever comes.
    Open {
        places: Places,
        reply: oneshot::Sender<()>,
    },
    /// Have UDP listeners serve only who has an allocation.
    Leave {
        udp: Vec<usize>,
        reply: oneshot::Sender<()>,
    },
    /// Whether an allocation has a UDP listener.
    IsUsed {
        udp: usize,
        reply: oneshot::Sender<bool>,
    },
    Close {
        places: Places,
        reply: oneshot::Sender<()>,
    },
}

pub(super) type Commands = mpsc::Receiver<Command>;

/// The way from one worker's task to its commands.
pub(super) fn channel() -> (mpsc::Sender<Command>, Commands) {
    mpsc::channel(WAITING_MAX)
}

/// The operator's end of all workers. Clones are the same.
#[derive(Clone)]
pub struct Control {
    pub(super) workers: Arc<[mpsc::Sender<Command>]>,
    pub(super) shared: Arc<Shared>,
    pub(super) configured: Arc<Mutex<Configured>>,
    pub(super) exchange: Arc<Exchange>,
}

/// What the workers work with: what the operator decided, and what the engine adds to the peer
/// policy. Who changes it holds the lock until every worker has it, so that the last change is the
/// last everywhere.
#[derive(Debug)]
pub(super) struct Configured {
    pub(super) options: Options,
    pub(super) listeners: Vec<SocketAddr>,
    /// What the host takes for its own.
    pub(super) own_networks: Vec<IpNet>,
}

impl Configured {
    /// All of it, as the core wants it.
    pub(super) fn options(&self) -> Arc<Options> {
        let mut options = self.options.clone();
        let of_listeners = self.listeners.iter().map(SocketAddr::ip);
        let of_listeners = of_listeners.filter(|ip| !ip.is_unspecified());
        options.peers.listeners.clone_from(&self.listeners);
        options.peers.own = of_listeners.map(IpNet::from).collect();
        options.peers.own.extend_from_slice(&self.own_networks);
        Arc::new(options)
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    pub(super) fn new(
        workers: Vec<mpsc::Sender<Command>>,
        shared: Arc<Shared>,
        configured: Configured,
        exchange: Exchange,
    ) -> Self {
        Self {
            workers: workers.into(),
            shared,
            configured: Arc::new(Mutex::new(configured)),
            exchange: Arc::new(exchange),
        }
    }

    /// Relay ports, quotas and reservations, to look at.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Open TCP connections of clients.
    pub fn tcp_connections(&self) -> u32 {
        self.exchange.admission.open()
    }

    /// Allocations from a place on, at most `limit` and at most [`PAGE_MAX`].
    ///
    /// # Errors
    /// If the server is stopping.
    pub async fn list(&self, filter: &Filter, from: Cursor, limit: usize) -> Result<Page, Stopped> {
        let limit = limit.min(PAGE_MAX);
        let mut page = Page {
            records: Vec::new(),
            next: None,
        };
        let mut slot = from.slot;
        for worker in from.worker..self.workers.len() {
            if page.records.len() >= limit {
                page.next = Some(Cursor { worker, slot });
                break;
            }
            let limit = limit - page.records.len();
            let filter = filter.clone();
            let ask = |reply| Command::List {
                filter,
                slot,
                limit,
                reply,
            };
            let (records, next) = self.ask(worker, ask).await?;
            page.records.extend(records);
            if let Some(slot) = next {
                page.next = Some(Cursor { worker, slot });
                break;
            }
            slot = 0;
        }
        Ok(page)
    }

    /// Everything about one allocation, if it lives.
    ///
    /// # Errors
    /// If the server is stopping.
    pub async fn show(&self, name: AllocationName) -> Result<Option<AllocationDetail>, Stopped> {
        if name.worker >= self.workers.len() {
            return Ok(None);
        }
        let ask = |reply| Command::Show { id: name.id, reply };
        let detail = self.ask(name.worker, ask).await?;
        Ok(detail.map(|detail| *detail))
    }

    /// Ends one allocation; whether it lived.
    ///
    /// # Errors
    /// If the server is stopping.
    pub async fn end(&self, name: AllocationName, reason: CloseReason) -> Result<bool, Stopped> {
        if name.worker >= self.workers.len() {
            return Ok(false);
        }
        let ask = |reply| Command::End {
            id: name.id,
            reason,
            reply,
        };
        self.ask(name.worker, ask).await
    }

    /// Ends all allocations that match, and says how many.
    ///
    /// # Errors
    /// If the server is stopping.
    pub async fn end_all(&self, filter: &Filter, reason: CloseReason) -> Result<usize, Stopped> {
        let ask = |reply| Command::EndAll {
            filter: filter.clone(),
            reason,
            reply,
        };
        Ok(self.ask_all(ask).await?.into_iter().sum())
    }

    /// Has every worker refuse these credentials and no others, and end what they hold. Says how many
    /// allocations that were. Who keeps the set that was in force before until this returns has it
    /// freed on its own thread, and not on a worker.
    ///
    /// # Errors
    /// If the server is stopping.
    pub async fn revoke(&self, revocations: &Arc<Revocations>) -> Result<usize, Stopped> {
        let ask = |reply| Command::Revoke {
            revocations: Arc::clone(revocations),
            reply,
        };
        Ok(self.ask_all(ask).await?.into_iter().sum())
    }

    /// From here on no new allocations are made, or they are again.
    ///
    /// # Errors
    /// If the server is stopping.
    pub async fn drain(&self, is_draining: bool) -> Result<(), Stopped> {
        let ask = |reply| Command::Drain { is_draining, reply };
        self.ask_all(ask).await.map(drop)
    }

    /// Gives every worker other options, in which the server's own addresses are filled in. Once this
    /// returns, none uses the old ones.
    ///
    /// # Errors
    /// If the server is stopping.
    pub async fn reconfigure(&self, options: Options) -> Result<(), Stopped> {
        let mut configured = self.configured.lock().await;
        configured.options = options;
        self.tell(&configured).await
    }

    /// Has other networks be the host's own; whether they are others.
    ///
    /// # Errors
    /// If the server is stopping.
    pub async fn set_own_networks(&self, networks: Vec<IpNet>) -> Result<bool, Stopped> {
        let mut configured = self.configured.lock().await;
        if configured.own_networks == networks {
            return Ok(false);
        }
        configured.own_networks = networks;
        self.tell(&configured).await?;
        Ok(true)
    }

    /// Gives every worker what is configured.
    pub(super) async fn tell(&self, configured: &Configured) -> Result<(), Stopped> {
        let options = configured.options();
        let ask = |reply| Command::Reconfigure {
            options: Arc::clone(&options),
            reply,
        };
        self.ask_all(ask).await.map(drop)
    }

    /// Asks one worker after the other.
    pub(super) async fn ask_all<T>(
        &self,
        command: impl Fn(oneshot::Sender<T>) -> Command,
    ) -> Result<Vec<T>, Stopped> {
        let mut answers = Vec::with_capacity(self.workers.len());
        for worker in 0..self.workers.len() {
            answers.push(self.ask(worker, &command).await?);
        }
        Ok(answers)
    }

    pub(super) async fn ask<T>(
        &self,
        worker: usize,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        let sent = self.workers[worker].send(command(reply)).await;
        sent.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}

/// Does what operators ask of a worker, for as long as they can ask.
pub(super) async fn obey(worker: &Rc<RefCell<Worker>>, mut commands: Commands) {
    while let Some(command) = commands.recv().await {
        // Whoever asked may have gone, and then the answer is nobody's.
        match command {
            Command::List {
                filter,
                slot,
                limit,
                reply,
            } => {
                let _ = reply.send(list(worker, &filter, slot, limit).await);
            }
            Command::Show { id, reply } => {
                let _ = reply.send(worker.borrow().show(id).map(Box::new));
            }
            Command::End { id, reason, reply } => {
                let _ = reply.send(worker.borrow_mut().end(id, reason));
            }
            Command::EndAll {
                filter,
                reason,
                reply,
            } => {
                let ended = end_all(worker, |view| filter.matches(view), reason).await;
                let _ = reply.send(ended);
            }
            Command::Revoke { revocations, reply } => {
                let _ = reply.send(revoke(worker, revocations).await);
            }
            Command::Drain { is_draining, reply } => {
                let mut worker = worker.borrow_mut();
                worker.server.set_draining(is_draining);
                worker.publish();
                let _ = reply.send(());
            }
            Command::Reconfigure { options, reply } => {
                worker.borrow_mut().server.reconfigure(options);
                let _ = reply.send(());
            }
            Command::SetStreams { settings, reply } => {
                worker.borrow_mut().streams.settings = settings;
                let _ = reply.send(());
            }
            Command::Prepare { listeners, reply } => {
                let _ = reply.send(worker.borrow_mut().prepare(listeners));
            }
            Command::Open { places, reply } => {
                listeners::open(worker, &places);
                let _ = reply.send(());
            }
            Command::Leave { udp, reply } => {
                listeners::leave(worker, &udp);
                let _ = reply.send(());
            }
            Command::IsUsed { udp, reply } => {
                let _ = reply.send(listeners::is_used(worker, udp).await);
            }
            Command::Close { places, reply } => {
                listeners::close(worker, &places).await;
                let _ = reply.send(());
            }
        }
    }
    // Without operators the worker goes on.
    std::future::pending().await
}

async fn list(
    worker: &RefCell<Worker>,
    filter: &Filter,
    from: u32,
    limit: usize,
) -> (Vec<AllocationRecord>, Option<u32>) {
    let (mut records, mut next) = (Vec::new(), Some(from));
    while let Some(slot) = next {
        {
            let worker = worker.borrow();
            let (views, following) =
                worker
                    .server
                    .inspect_slots(clock::time(), slot, PLACES_PER_STEP);
            next = following;
            for view in views.filter(|view| filter.matches(view)) {
                if records.len() == limit {
                    return (records, Some(view.id().slot));
                }
                records.push(worker.record(&view));
            }
        }
        tokio::task::yield_now().await;
    }
    (records, None)
}

/// Nobody comes in with a revoked credential any more before those who are in are looked for.
async fn revoke(worker: &RefCell<Worker>, revocations: Arc<Revocations>) -> usize {
    worker.borrow_mut().server.revoke(Arc::clone(&revocations));
    let now_unix_s = clock::unix_s();
    let is_revoked = |view: &AllocationView<'_>| {
        !view.is_pending() && revocations.cover(view.user(), view.username(), now_unix_s)
    };
    end_all(worker, is_revoked, CloseReason::Revoked).await
}

async fn end_all(
    worker: &RefCell<Worker>,
    is_meant: impl Fn(&AllocationView<'_>) -> bool,
    reason: CloseReason,
) -> usize {
    let (mut ended, mut next) = (0, Some(0));
    while let Some(slot) = next {
        {
            let mut worker = worker.borrow_mut();
            let (views, following) =
                worker
                    .server
                    .inspect_slots(clock::time(), slot, PLACES_PER_STEP);
            next = following;
            let matching = views.filter(|view| is_meant(view));
            let ids: Vec<AllocationId> = matching.map(|view| view.id()).collect();
            for id in ids {
                ended += usize::from(worker.end(id, reason));
            }
        }
        tokio::task::yield_now().await;
    }
    ended
}
