//! What operators ask of the workers, as messages that these answer between two rounds.
//!
//! A question about many allocations is answered in steps of a bounded size, and other tasks of the
//! worker run in between: packets never wait for an operator.

use std::cell::RefCell;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::clock;
use super::record::{AllocationDetail, AllocationName, AllocationRecord, Filter};
use super::stream::Admission;
use super::worker::Worker;
use crate::auth::Revocations;
use crate::turn::{AllocationId, AllocationView, CloseReason, Options, PeerPolicy, Shared};

/// Questions that wait for one worker. Who asks beyond that waits too.
const WAITING_MAX: usize = 16;

/// Places of allocations that a worker looks at before it goes on relaying.
const PLACES_PER_STEP: u32 = 256;

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
}

pub(super) type Commands = mpsc::Receiver<Command>;

/// The way from one worker's task to its commands.
pub(super) fn channel() -> (mpsc::Sender<Command>, Commands) {
    mpsc::channel(WAITING_MAX)
}

/// The operator's end of all workers. Clones are the same.
#[derive(Clone)]
pub struct Control {
    workers: Arc<[mpsc::Sender<Command>]>,
    shared: Arc<Shared>,
    admission: Admission,
    addresses: Arc<OwnAddresses>,
}

/// What no peer may be, whatever the policy says: the listeners, and the host's addresses.
#[derive(Debug)]
pub(super) struct OwnAddresses {
    pub(super) listeners: Vec<SocketAddr>,
    pub(super) own: Vec<IpAddr>,
}

impl OwnAddresses {
    /// Fills them in, which only the engine can.
    pub(super) fn fill_in(&self, peers: &mut PeerPolicy) {
        peers.listeners.clone_from(&self.listeners);
        peers.own.clone_from(&self.own);
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
        admission: Admission,
        addresses: OwnAddresses,
    ) -> Self {
        Self {
            workers: workers.into(),
            shared,
            admission,
            addresses: Arc::new(addresses),
        }
    }

    /// Relay ports, quotas and reservations, to look at.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Open TCP connections of clients.
    pub fn tcp_connections(&self) -> u32 {
        self.admission.open()
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
        let mut ended = 0;
        for worker in 0..self.workers.len() {
            let filter = filter.clone();
            let ask = |reply| Command::EndAll {
                filter,
                reason,
                reply,
            };
            ended += self.ask(worker, ask).await?;
        }
        Ok(ended)
    }

    /// Has every worker refuse these credentials and no others, and end what they hold. Says how many
    /// allocations that were. Who keeps the set that was in force before until this returns has it
    /// freed on its own thread, and not on a worker.
    ///
    /// # Errors
    /// If the server is stopping.
    pub async fn revoke(&self, revocations: &Arc<Revocations>) -> Result<usize, Stopped> {
        let mut ended = 0;
        for worker in 0..self.workers.len() {
            let revocations = Arc::clone(revocations);
            let ask = |reply| Command::Revoke { revocations, reply };
            ended += self.ask(worker, ask).await?;
        }
        Ok(ended)
    }

    /// From here on no new allocations are made, or they are again.
    ///
    /// # Errors
    /// If the server is stopping.
    pub async fn drain(&self, is_draining: bool) -> Result<(), Stopped> {
        for worker in 0..self.workers.len() {
            let ask = |reply| Command::Drain { is_draining, reply };
            self.ask(worker, ask).await?;
        }
        Ok(())
    }

    /// Gives every worker other options, in which the server's own addresses are filled in. Once this
    /// returns, none uses the old ones.
    ///
    /// # Errors
    /// If the server is stopping.
    pub async fn reconfigure(&self, mut options: Options) -> Result<(), Stopped> {
        self.addresses.fill_in(&mut options.peers);
        let options = Arc::new(options);
        for worker in 0..self.workers.len() {
            let options = Arc::clone(&options);
            let ask = |reply| Command::Reconfigure { options, reply };
            self.ask(worker, ask).await?;
        }
        Ok(())
    }

    async fn ask<T>(
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
pub(super) async fn obey(worker: &RefCell<Worker>, mut commands: Commands) {
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
