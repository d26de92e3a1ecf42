//! How a worker begins, lives and ends: the runtime, the waits of its thread, and the clock.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tracing::debug;

use super::{BATCH_SLOTS, Left, Traffic, Worker};
use crate::engine::clock;
use crate::engine::control::{self, Commands};
#[cfg(feature = "dtls")]
use crate::engine::dtls::{Cookies, Dtls};
use crate::engine::event_log::EventLog;
use crate::engine::listen::Listeners;
use crate::engine::listeners::{self, Doors};
use crate::engine::notices::NoticeSink;
use crate::engine::relay::{Outbox, RelaySockets};
use crate::engine::stream::{Admission, Budget, StreamSettings, Streams};
use crate::engine::tasks::Tasks;
use crate::engine::udp::sys::{Batch, EpollSet, Events, SendQueue, WatchedSet};
use crate::metrics::{Metrics, TickDelays};
use crate::turn::{Server, Shared};

/// Sockets that one round looks at.
const EVENTS_PER_ROUND: usize = 256;

/// What a worker is started with.
pub(in crate::engine) struct Parts {
    pub(in crate::engine) index: usize,
    pub(in crate::engine) server: Server,
    pub(in crate::engine) shared: Arc<Shared>,
    pub(in crate::engine) metrics: Arc<Metrics>,
    pub(in crate::engine) listeners: Listeners,
    pub(in crate::engine) stream: StreamSettings,
    pub(in crate::engine) admission: Admission,
    pub(in crate::engine) budget: Budget,
    /// Counts up as long as the worker is well.
    pub(in crate::engine) heartbeat: Arc<AtomicU64>,
    pub(in crate::engine) stop: watch::Receiver<bool>,
    pub(in crate::engine) commands: Commands,
    /// Who is told of events beside the log.
    pub(in crate::engine) notices: Option<NoticeSink>,
    /// Which all workers make alike.
    #[cfg(feature = "dtls")]
    pub(in crate::engine) cookies: Cookies,
}

/// Runs a worker until it is told to stop.
///
/// # Errors
/// If the runtime or the epoll set fails, or a task panics, which leaves the worker useless.
pub(in crate::engine) fn run(parts: Parts) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, serve(parts))
}

async fn serve(parts: Parts) -> io::Result<()> {
    let (worker, outside) = Worker::begin(parts)?;
    live(&worker, outside).await
}

/// How a worker that runs is told, and tells, what it should and does.
struct Outside {
    heartbeat: Arc<AtomicU64>,
    stop: watch::Receiver<bool>,
    commands: Commands,
}

/// Until it is told to stop, or cannot go on.
async fn live(worker: &Rc<RefCell<Worker>>, outside: Outside) -> io::Result<()> {
    let Outside {
        heartbeat,
        mut stop,
        commands,
    } = outside;
    let (set, tasks) = {
        let worker = worker.borrow();
        (Rc::clone(&worker.set), worker.tasks.clone())
    };
    tokio::select! {
        result = receive_datagrams(worker, &set) => result,
        () = keep_time(worker, &heartbeat) => Ok(()),
        () = control::obey(worker, commands) => Ok(()),
        () = tasks.panicked() => Err(io::Error::other("the task of a connection panicked")),
        _ = stop.wait_for(|stop| *stop) => {
            worker.borrow_mut().shut_down();
            Ok(())
        }
    }
}

/// One round after another; the runtime's other tasks run in between.
async fn receive_datagrams(worker: &RefCell<Worker>, set: &WatchedSet) -> io::Result<()> {
    let mut events = Events::new(EVENTS_PER_ROUND);
    loop {
        let ready = set.ready(&mut events).await?;
        let left = worker.borrow_mut().round(&events);
        match left {
            // The next wait is the others' turn.
            Left::Nothing => ready.all_done(),
            Left::Something => tokio::task::yield_now().await,
        }
    }
}

/// Ends what is over, once a second.
async fn keep_time(worker: &RefCell<Worker>, heartbeat: &AtomicU64) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let due = second.tick().await;
        let mut worker = worker.borrow_mut();
        worker.tick_delays.count(due.elapsed());
        worker.tick();
        worker.publish();
        heartbeat.fetch_add(1, Ordering::Relaxed);
    }
}

impl Worker {
    /// Makes a worker, whose listeners are open.
    fn begin(parts: Parts) -> io::Result<(Rc<RefCell<Self>>, Outside)> {
        let set = EpollSet::new()?;
        let mut doors = Doors::default();
        let places = parts.listeners.places();
        doors.prepare(&set, parts.listeners)?;
        let worker = Rc::new(RefCell::new(Self {
            index: parts.index,
            server: parts.server,
            shared: parts.shared,
            doors,
            relays: RelaySockets::default(),
            set: Rc::new(WatchedSet::new(set)?),
            batch: Batch::new(BATCH_SLOTS),
            origins: Vec::with_capacity(BATCH_SLOTS),
            to_peers: Outbox::new(BATCH_SLOTS),
            to_clients: SendQueue::new(BATCH_SLOTS),
            to_stream: Vec::with_capacity(BATCH_SLOTS),
            streams: Streams::new(parts.stream, parts.admission, parts.budget),
            #[cfg(feature = "dtls")]
            dtls: Dtls::new(parts.cookies),
            log: EventLog::new(parts.index),
            tasks: Tasks::default(),
            notices: parts.notices,
            traffic: Traffic::default(),
            tick_delays: TickDelays::default(),
            metrics: parts.metrics,
        }));
        listeners::open(&worker, &places);
        let outside = Outside {
            heartbeat: parts.heartbeat,
            stop: parts.stop,
            commands: parts.commands,
        };
        Ok((worker, outside))
    }

    /// A final line for every allocation, and for what was lost.
    fn shut_down(&mut self) {
        let now = clock::now();
        self.server.shut_down(now.time);
        self.act(now);
        self.write_events();
        #[cfg(feature = "dtls")]
        self.shut_down_dtls();
        let unsent = self.traffic.unsent;
        let streams = &mut self.streams;
        for connection in streams.connections.iter_mut() {
            connection.close();
        }
        debug!(
            dropped = %self.server.counters(),
            unsent,
            stream_drops = streams.losses.slow.frames,
            budget_drops = streams.losses.memory.frames,
            connections_refused = %streams.refusals,
            connections_ended = %streams.endings,
            "worker stopped"
        );
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio::task::LocalSet;

    use super::*;
    use crate::auth::{Authenticator, Credentials, NonceKey};
    use crate::metrics::Process;
    use crate::turn::{ClientPolicy, Limits, Options, PeerPolicy, PortPool};

    /// A worker without listeners, and who stops it and commands it.
    fn parts() -> (Parts, watch::Sender<bool>, mpsc::Sender<control::Command>) {
        let credentials = Credentials::new("example.org", ':').unwrap();
        let key = NonceKey::from_secret("as a test wants it");
        let options = Options {
            clients: ClientPolicy::default(),
            authenticator: Authenticator::new(Arc::new(credentials), vec![key], 3600),
            limits: Limits::default(),
            peers: PeerPolicy::default(),
            software: None,
            classic_stun: false,
            dont_fragment: true,
        };
        let stream = StreamSettings::closed();
        let shared = Arc::new(Shared::new(PortPool::new(&[], 49152..=65535, &[])));
        let process = Process::open();
        let (stop, stopped) = watch::channel(false);
        let (commander, commands) = control::channel();
        let parts = Parts {
            index: 0,
            server: Server::new(Arc::new(options), Arc::clone(&shared), [7; 32]),
            metrics: Arc::new(Metrics::new(1, Arc::clone(&shared), process)),
            shared,
            listeners: Listeners::default(),
            admission: Admission::new(&stream.limits),
            stream,
            budget: Budget::new(0),
            heartbeat: Arc::default(),
            stop: stopped,
            commands,
            notices: None,
            #[cfg(feature = "dtls")]
            cookies: Cookies::new().unwrap(),
        };
        (parts, stop, commander)
    }

    /// Has a worker live, with a task beside its own.
    fn live_with(task: impl Future<Output = ()> + 'static) -> io::Result<()> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        let (parts, stop, _commander) = parts();
        LocalSet::new().block_on(&runtime, async {
            let (worker, outside) = Worker::begin(parts)?;
            let stopper = stop.clone();
            worker.borrow().tasks.start(async move {
                task.await;
                stopper.send(true).unwrap();
            });
            live(&worker, outside).await
        })
    }

    /// PROC-13: its state may be half changed.
    #[test]
    fn a_panic_in_the_task_of_a_connection_ends_the_worker() {
        assert!(live_with(async {}).is_ok(), "it is told to stop");
        let panicked = live_with(async { panic!("as a test wants it") });
        let told = panicked.unwrap_err().to_string();
        assert_eq!(told, "the task of a connection panicked");
    }
}
