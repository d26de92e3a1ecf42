//! Sockets, threads and clocks: the host of the protocol core.
//!
//! One worker is one thread with one [`crate::turn::Server`] shard, its listeners, its relay
//! sockets and its buffers; nothing is shared between workers on the data path. The kernel spreads
//! clients over them (`SO_REUSEPORT`).

mod clock;
mod control;
#[cfg(feature = "dtls")]
mod dtls;
mod event_log;
mod exchange;
mod listen;
mod listeners;
mod notices;
pub mod port_owner;
mod reader;
mod record;
mod relay;
mod settings;
mod stream;
mod tasks;
pub mod udp;
mod worker;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use zeroize::Zeroizing;

pub use control::{Control, Cursor, PAGE_MAX, Page, Stopped};
#[cfg(all(fuzzing, feature = "dtls"))]
pub use dtls::answer_client_hello;
pub use exchange::{ExchangeError, Listening};
pub use listen::{ListenError, RECEIVE_BUFFER};
pub use notices::{NOTICES_MAX, Notice, NoticeSink, Notices, notices};
pub use record::{AllocationDetail, AllocationName, AllocationRecord, Filter};
pub use settings::{Settings, StreamLimits, Web};
#[cfg(fuzzing)]
pub use stream::{OpenedFor, Over, StreamConnection, StreamInput, StreamOpening};

use crate::metrics::{Metrics, Process};
use crate::turn::{PortPool, Server, Shared, Transport};
use control::Configured;
use exchange::{Exchange, Registry};
use listen::Listeners;
use stream::{Admission, Budget, StreamSettings, TlsConfigs};
use worker::Parts;

/// Why an engine does not start.
#[derive(Debug)]
pub enum StartError {
    /// A listener cannot be had.
    Listen(ListenError),
    /// A relay address is none of this host's, or no socket can be had at all.
    RelayAddress {
        /// The address.
        address: IpAddr,
        /// The kernel's reason.
        error: io::Error,
    },
    /// The system refuses a thread or random numbers.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(error) => error.fmt(f),
            Self::RelayAddress { address, error }
                if error.kind() == io::ErrorKind::AddrNotAvailable =>
            {
                write!(
                    f,
                    "relay address {address}: this host does not have it; set relay.addresses to \
                     an address of this host, and relay.external to the one that peers reach it by"
                )
            }
            Self::RelayAddress { address, error } => write!(f, "relay address {address}: {error}"),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

/// Workers that have not ended although they were told to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresponsive(pub Vec<usize>);

impl fmt::Display for Unresponsive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "workers {:?} do not end", self.0)
    }
}

impl std::error::Error for Unresponsive {}

/// Workers, each of which holds the sender for as long as it runs.
#[derive(Debug)]
struct Workers {
    threads: Vec<JoinHandle<()>>,
    running: mpsc::Receiver<Infallible>,
}

impl Workers {
    /// Waits until they have ended, for a bounded time. Those that have not are left alone.
    async fn ended(&mut self, within: Duration) -> Result<(), Unresponsive> {
        // Nothing is ever sent: it is the last sender's end that comes.
        let all = timeout(within, self.running.recv()).await.is_ok();
        let threads = std::mem::take(&mut self.threads);
        let mut left = vec![];
        for (worker, thread) in threads.into_iter().enumerate() {
            if all || thread.is_finished() {
                // A worker that panicked has said so.
                let _ = thread.join();
            } else {
                left.push(worker);
            }
        }
        if left.is_empty() {
            Ok(())
        } else {
            Err(Unresponsive(left))
        }
    }

    /// Waits until they have ended, however long that takes.
    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A server that runs.
#[derive(Debug)]
pub struct Engine {
    workers: Workers,
    heartbeats: Vec<Arc<AtomicU64>>,
    stop: watch::Sender<bool>,
    failed: mpsc::UnboundedReceiver<usize>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    control: Control,
    udp: Vec<SocketAddr>,
    tcp: Vec<SocketAddr>,
    tls: Vec<SocketAddr>,
    dtls: Vec<SocketAddr>,
}

/// A server that has its listeners and no thread yet: the moment to give up what only binding them
/// takes.
#[derive(Debug)]
pub struct Bound {
    settings: Settings,
    process: Process,
    notices: Option<NoticeSink>,
    listeners: Vec<Listeners>,
    registry: Registry,
    strict: Vec<(usize, Transport)>,
    udp: Vec<SocketAddr>,
    tcp: Vec<SocketAddr>,
    tls: Vec<SocketAddr>,
    dtls: Vec<SocketAddr>,
}

impl Engine {
    /// Binds the listeners and starts the workers.
    ///
    /// # Errors
    /// If a listener or a relay address cannot be had, or the system has no thread left.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        Self::bind(settings)?.start()
    }

    /// Binds the listeners.
    ///
    /// # Errors
    /// If a listener or a relay address cannot be had.
    pub fn bind(settings: Settings) -> Result<Bound, StartError> {
        for relay in &settings.relay_addresses {
            try_relay_address(relay.bound)?;
        }
        let wanted = listen::wanted(&settings);
        let bound = listen::bind(&wanted, settings.workers).map_err(StartError::Listen)?;
        let mut registry = Registry::default();
        let listeners = registry.take_in(bound, settings.workers);
        let strict = registry.strict(&wanted, &settings.strict_listeners);
        let [udp, tcp, tls, dtls] = [
            Transport::Udp,
            Transport::Tcp,
            Transport::Tls,
            Transport::Dtls,
        ]
        .map(|transport| registry.addresses(transport));
        Ok(Bound {
            settings,
            process: Process::open(),
            notices: None,
            listeners,
            registry,
            strict,
            udp,
            tcp,
            tls,
            dtls,
        })
    }
}

impl Bound {
    /// Has the workers tell what happens.
    #[must_use]
    pub fn tell(self, sink: NoticeSink) -> Self {
        Self {
            notices: Some(sink),
            ..self
        }
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// If the system has no thread left, or no random numbers.
    pub fn start(self) -> Result<Engine, StartError> {
        let Self {
            settings,
            process,
            notices,
            listeners,
            registry,
            strict,
            udp,
            tcp,
            tls,
            dtls,
        } = self;
        let of_udp = [&udp[..], &dtls].concat();
        let ports = PortPool::new(&settings.relay_addresses, settings.relay_ports, &of_udp);
        let shared = Arc::new(Shared::new(ports));
        let metrics = Metrics::new(settings.workers, Arc::clone(&shared), process);
        let metrics = Arc::new(metrics);
        let configured = Configured {
            options: settings.options,
            listeners: [&of_udp[..], &tcp, &tls].concat(),
            own_networks: settings.own_networks,
        };
        let options = configured.options();
        let (stop, stopped) = watch::channel(false);
        let (fail, failed) = mpsc::unbounded_channel();
        let (run, running) = mpsc::channel(1);
        let (commanders, commands): (Vec<_>, Vec<_>) =
            listeners.iter().map(|_| control::channel()).unzip();
        let admission = Admission::new(&settings.stream);
        let budget = Budget::new(settings.stream.queues_total_bytes);
        let stream = StreamSettings {
            limits: settings.stream,
            tls: settings.tls.map(TlsConfigs::new),
            #[cfg(feature = "dtls")]
            dtls: settings.dtls,
            strict,
            proxies: settings.proxy_protocol_from,
            web: settings.web,
        };
        let exchange = Exchange::new(registry, admission.clone(), budget.clone());
        let mut engine = Engine {
            workers: Workers {
                threads: vec![],
                running,
            },
            heartbeats: vec![],
            stop,
            failed,
            control: Control::new(commanders, Arc::clone(&shared), configured, exchange),
            shared,
            metrics,
            udp,
            tcp,
            tls,
            dtls,
        };
        #[cfg(feature = "dtls")]
        let cookies = dtls::Cookies::new().map_err(StartError::System)?;

        for (index, (listeners, commands)) in listeners.into_iter().zip(commands).enumerate() {
            let mut seed = Zeroizing::new([0; 32]);
            getrandom::fill(seed.as_mut_slice())
                .map_err(|error| StartError::System(error.into()))?;
            let heartbeat = Arc::new(AtomicU64::new(0));
            let (options, shared) = (Arc::clone(&options), Arc::clone(&engine.shared));
            let mut server = Server::new(options, Arc::clone(&shared), *seed);
            server.revoke(Arc::clone(&settings.revocations));
            let parts = Parts {
                index,
                server,
                shared,
                metrics: Arc::clone(&engine.metrics),
                listeners,
                stream: stream.clone(),
                admission: admission.clone(),
                budget: budget.clone(),
                heartbeat: Arc::clone(&heartbeat),
                stop: stopped.clone(),
                commands,
                notices: notices.clone(),
                #[cfg(feature = "dtls")]
                cookies: cookies.clone(),
            };
            let failure = Failure {
                worker: index,
                report: fail.clone(),
                well: false,
                _runs: run.clone(),
            };
            let thread = std::thread::Builder::new().name(format!("worker-{index}"));
            let handle = thread.spawn(move || run_worker(parts, failure));
            engine
                .workers
                .threads
                .push(handle.map_err(StartError::System)?);
            engine.heartbeats.push(heartbeat);
        }
        Ok(engine)
    }
}

impl Engine {
    /// UDP addresses listened on, with the ports that the kernel chose.
    pub fn udp_addresses(&self) -> &[SocketAddr] {
        &self.udp
    }

    /// TCP addresses listened on, likewise.
    pub fn tcp_addresses(&self) -> &[SocketAddr] {
        &self.tcp
    }

    /// TLS addresses listened on, likewise.
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.tls
    }

    /// DTLS addresses listened on, likewise; none in a build without it.
    pub fn dtls_addresses(&self) -> &[SocketAddr] {
        &self.dtls
    }

    /// The way for operators to ask and to tell.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Relay ports, quotas and reservations, to look at.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What the workers count.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Beats of each worker's heart so far: about one a second.
    pub fn heartbeats(&self) -> Vec<u64> {
        self.heartbeats
            .iter()
            .map(|beats| beats.load(Ordering::Relaxed))
            .collect()
    }

    /// Waits until a worker ends that was not told to, and says which.
    pub async fn worker_failed(&mut self) -> Option<usize> {
        self.failed.recv().await
    }

    /// Ends every allocation and stops the workers, and waits for them without blocking the thread:
    /// others take their notices meanwhile.
    ///
    /// # Errors
    /// If a worker has not ended in this time. It may go on, and shares nothing that would be missed.
    pub async fn stop(mut self, within: Duration) -> Result<(), Unresponsive> {
        let _ = self.stop.send(true);
        self.workers.ended(within).await
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        self.workers.join();
    }
}

/// Whether relay sockets can be bound to an address.
fn try_relay_address(address: IpAddr) -> Result<(), StartError> {
    std::net::UdpSocket::bind((address, 0))
        .map(drop)
        .map_err(|error| StartError::RelayAddress { address, error })
}

/// Reports a worker that ends otherwise than well, by a panic too.
struct Failure {
    worker: usize,
    report: mpsc::UnboundedSender<usize>,
    well: bool,
    /// Dropped last, when the worker has told everything.
    _runs: mpsc::Sender<Infallible>,
}

impl Drop for Failure {
    fn drop(&mut self) {
        if !self.well {
            let _ = self.report.send(self.worker);
        }
    }
}

fn run_worker(parts: Parts, mut failure: Failure) {
    match worker::run(parts) {
        Ok(()) => failure.well = true,
        Err(error) => tracing::error!(worker = failure.worker, %error, "worker failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap()
    }

    /// PROC-11: a worker that hangs is left, and named; the end does not wait for it.
    #[test]
    fn a_worker_that_does_not_end_is_left() {
        let (run, running) = mpsc::channel(1);
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (well, stuck) = (run.clone(), run);
        let ends = std::thread::spawn(move || drop(well));
        while !ends.is_finished() {
            std::thread::yield_now();
        }
        let hangs = std::thread::spawn(move || {
            let _ = released.recv();
            drop(stuck);
        });
        let mut workers = Workers {
            threads: vec![ends, hangs],
            running,
        };
        let ended = runtime().block_on(workers.ended(Duration::from_millis(10)));
        let told = ended.unwrap_err();
        assert_eq!(told, Unresponsive(vec![1]));
        assert_eq!(told.to_string(), "workers [1] do not end");
        drop(release);
    }

    /// The time is a bound: workers that end are not waited for any longer.
    #[test]
    fn workers_that_end_are_joined() {
        let (run, running) = mpsc::channel(1);
        let threads = (0..3).map(|_| {
            let run = run.clone();
            std::thread::spawn(move || drop(run))
        });
        let threads = threads.collect();
        drop(run);
        let mut workers = Workers { threads, running };
        assert_eq!(runtime().block_on(workers.ended(Duration::MAX)), Ok(()));
        assert!(workers.threads.is_empty());
    }
}
