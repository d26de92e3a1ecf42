//! The order of the start, and what is done until the end: signals, systemd, reload and drain.

use std::error::Error;
use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use secrecy::SecretString;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::field::{DisplayValue, display};

use super::acme;
use super::certificates::{Tls, put_in_force};
use super::drain_status;
use super::file_limit::raise_file_limit;
use super::hooks;
use super::http::{self, Http};
use super::output;
use super::own_networks::{self, OwnNetworks};
use super::reloader::{Parts, Reloader};
use super::revoked::Revoked;
use super::settings::{own_nonce_key, settings};
use super::signals::{Signals, Wish};
use crate::admin::api::InForce;
use crate::admin::reload::{self, ReloadDesk};
use crate::admin::{Drain, Over, RevocationBook};
use crate::auth::NonceKey;
use crate::config::{Config, Host, SecretSource, Sources};
use crate::engine::{Control, Engine, Settings};
use crate::log;
use crate::process::{self, Openings};

/// Items of a configured list that a log line shows.
const SHOWN_MAX: usize = 8;

/// How long workers may take to end their allocations: a worker that hangs must not keep the process,
/// which its supervisor starts again. With the time of hooks and files it is less than TimeoutStopSec.
const WORKERS_END_MAX: Duration = Duration::from_secs(5);

/// How long threads may take to end that read and write files: a disk may never answer.
const FILES_END_MAX: Duration = Duration::from_secs(1);

/// How often it is looked whether listeners that are to go can.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How late a look at the workers' hearts is on a busy machine.
const LOOK_LATE_MAX: Duration = Duration::from_secs(1);

/// What a server is made of.
pub(super) struct Plan {
    pub(super) config: Config,
    /// Where its secrets come from.
    pub(super) secrets: Vec<SecretSource>,
    /// What the configuration was read from, to read it again.
    pub(super) sources: Sources,
    /// The files among the sources.
    pub(super) files: Vec<PathBuf>,
    pub(super) host: Host,
    /// The secret of a server that was given none.
    pub(super) kept_secret: Option<SecretString>,
}

/// Runs a server until SIGTERM or SIGINT, or until it is drained. `when_ready` is called once clients
/// are served.
pub(super) fn serve(
    plan: Plan,
    log: &mut log::Output,
    when_ready: impl FnOnce(&Config),
) -> ExitCode {
    let config = &plan.config;
    if config.peers.allow_loopback {
        tracing::warn!("peers.allow_loopback is on: clients can reach this machine's own services");
    }
    let files = raise_file_limit(config);
    let own_nonce_key = own_nonce_key();
    let (tls, settings) = match prepare(config, &plan.host, files, &own_nonce_key) {
        Ok(prepared) => prepared,
        Err((error, code)) => {
            tracing::error!("{error}");
            return code;
        }
    };
    // Before anybody can know that there is a process to stop.
    let (runtime, signals) = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let networks = open_own_networks(&runtime, &plan.host);
    let started = {
        let _context = runtime.enter();
        start(settings, &plan, log)
    };
    let Started {
        engine,
        http,
        revocations,
        hooks,
        acme,
    } = match started {
        Ok(started) => started,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    put_in_force(
        &tls.certificates,
        engine.metrics(),
        config.tls.pairs.clone(),
    );
    if let Some(acme) = &acme {
        acme.put_in_force(&tls.certificates, engine.metrics());
    }
    tell_serving(config, &plan.secrets, &engine, &http);
    http.tell(config);
    when_ready(config);
    let file = plan.sources.file.as_deref();
    let service = http.credentials_address();
    let (reload_desk, requests) = ReloadDesk::new();
    let (in_force, reloaded) = watch::channel(InForce::from(config));
    let told = http::Told {
        file,
        credentials: service,
        revocations: Arc::clone(&revocations),
        reload: reload_desk,
        in_force: reloaded,
        log_level: log.level(),
        certificates: Arc::clone(&tls.certificates),
    };
    let api = http::api(&engine, config, told);
    let certificates = Arc::clone(&tls.certificates);
    let mut parts = Parts {
        sources: Arc::new(plan.sources),
        host: plan.host,
        kept_secret: plan.kept_secret,
        own_nonce_key,
        control: engine.control(),
        level: log.level(),
        desk: None,
        tls,
        token: None,
        issued: acme.as_ref().map(acme::Configured::file),
        hooks: None,
        reloads: Arc::clone(engine.metrics()),
        in_force,
    };
    let config = plan.config;
    let code = runtime.block_on(async {
        let hooks = hooks.map(|hooks| hooks.start(engine.metrics()));
        if let Some(acme) = acme {
            acme.start(&certificates, engine.metrics());
        }
        parts.hooks = hooks.as_ref().map(hooks::Running::handle);
        let http::Serving { page, desk, token } = http.serve(&engine, &api, &config);
        (parts.desk, parts.token) = (desk, token);
        let reloader = Arc::new(Reloader::new(parts, config));
        let drain = api.drain.clone();
        let code = wait(engine, page, drain, signals, networks, reloader, requests).await;
        tokio::join!(revocations.finish(), async {
            if let Some(hooks) = hooks {
                hooks.finish().await;
            }
        });
        code
    });
    runtime.shutdown_timeout(FILES_END_MAX);
    code
}

/// What the engine is told, TLS included; or the error and how the process ends with it.
fn prepare(
    config: &Config,
    host: &Host,
    files: u64,
    own_nonce_key: &NonceKey,
) -> Result<(Tls, Settings), (Box<dyn Error>, ExitCode)> {
    let tls = Tls::new(config).map_err(|error| (error.into(), ExitCode::FAILURE))?;
    let settings = settings(config, host, files, own_nonce_key, &tls)
        .map_err(|error| (error.into(), ExitCode::from(super::BAD_CONFIGURATION)))?;
    Ok((tls, settings))
}

/// The runtime of the main thread, and the signals that come to it.
fn runtime() -> Result<(Runtime, Signals), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let signals = {
        let _context = runtime.enter();
        Signals::new()
    };
    let signals = signals.map_err(|error| format!("cannot wait for signals: {error}"))?;
    Ok((runtime, signals))
}

/// The way to watch what the host takes for its own, and a warning if that is not known.
fn open_own_networks(runtime: &Runtime, host: &Host) -> Option<OwnNetworks> {
    let networks = {
        let _context = runtime.enter();
        OwnNetworks::open()
    };
    let unknown = host.unknown_networks.clone();
    if let Some(error) = unknown.or_else(|| networks.as_ref().err().map(ToString::to_string)) {
        tracing::warn!(
            "this machine's own addresses are not known ({error}), so its services may be peers: \
             allow AF_NETLINK, or put the addresses into peers.deny"
        );
    }
    networks.ok()
}

/// The line that an operator compares with what was meant.
fn tell_serving(config: &Config, secrets: &[SecretSource], engine: &Engine, http: &Http) {
    let external = config.relay.external.iter().map(|(_, outside)| outside);
    let (low, high) = (config.relay.ports.start(), config.relay.ports.end());
    let places = |key: &str| {
        let of_key = secrets.iter().filter(|secret| secret.key == key);
        shown(of_key.map(|secret| &secret.place))
    };
    tracing::info!(
        udp = %output::list(engine.udp_addresses()),
        tcp = %output::list(engine.tcp_addresses()),
        tls = shown(engine.tls_addresses()),
        dtls = shown(engine.dtls_addresses()),
        relay = %output::list(&config.relay.addresses),
        external = shown(external),
        ports = %format_args!("{low}-{high}"),
        secret = places("auth.static_auth_secret"),
        nonce_secret = places("auth.nonce_secret"),
        users = Some(config.auth.users.len()).filter(|users| *users > 0),
        peers.allow = shown(&config.peers.allow),
        clients.allow = shown(&config.clients.allow),
        proxies = shown(&config.listen.proxy_protocol_from),
        web.https = config.web.https.map(display),
        web.http = config.web.http.map(display),
        metrics = http.page_address().map(display),
        workers = config.server.workers,
        realm = config.realm,
        "serving"
    );
}

/// A list that may be long, for one line; `None` if it is empty.
fn shown<T: Display>(items: impl IntoIterator<Item = T>) -> Option<DisplayValue<String>> {
    let mut items = items.into_iter();
    let first: Vec<T> = items.by_ref().take(SHOWN_MAX).collect();
    let mut text = output::list(&first);
    match items.count() {
        0 => {}
        more => text = format!("{text} and {more} more"),
    }
    (!first.is_empty()).then(|| display(text))
}

/// A server that runs, and the way of operators to it.
struct Started {
    engine: Engine,
    http: Http,
    revocations: Arc<RevocationBook>,
    hooks: Option<hooks::Configured>,
    acme: Option<acme::Configured>,
}

/// Binds the listeners, gives up every right that was needed for them, and starts the workers.
fn start(
    mut settings: Settings,
    plan: &Plan,
    log: &mut log::Output,
) -> Result<Started, Box<dyn Error>> {
    let config = &plan.config;
    let user = config.server.user.as_deref();
    let owner = process::becomes(user);
    let revoked = Revoked::of_earlier_runs(owner)?;
    settings.revocations = revoked.in_force();
    let mut bound = Engine::bind(settings)?;
    let (hooks, sink) = hooks::prepare(config)?.unzip();
    if let Some(sink) = sink {
        bound = bound.tell(sink);
    }
    let http = Http::bind(config, owner)?;
    let acme = acme::prepare(config, owner)?;
    let own = acme.as_ref().map(acme::Configured::directory);
    let writable: Vec<_> = revoked.directory().into_iter().chain(own).collect();
    let ports = config.web.ports.iter().copied();
    let ports = ports.chain(hooks.iter().map(|hooks| hooks.port));
    let connect_ports: Vec<u16> = ports.chain(acme.iter().map(|acme| acme.port)).collect();
    let openings = Openings {
        readable: &plan.files,
        writable: &writable,
        connect_ports: &connect_ports,
    };
    let confinement = process::confine(user, openings)?;
    for warning in confinement.warnings() {
        tracing::warn!("{warning}");
    }
    tracing::info!("confined: {confinement}");
    // Its thread is the second one.
    log.detach(config.limits.allocations_total);
    let engine = bound.start()?;
    let told = hooks.as_ref().map(hooks::Configured::revoked);
    let revocations = revoked.into_book(engine.control(), told);
    let book = Arc::clone(&revocations);
    engine.metrics().watch_revocations(move || book.unsaved());
    Ok(Started {
        engine,
        http,
        revocations,
        hooks,
        acme,
    })
}

async fn wait(
    mut engine: Engine,
    page: Option<JoinHandle<()>>,
    drain: Drain,
    mut signals: Signals,
    networks: Option<OwnNetworks>,
    reloader: Arc<Reloader>,
    requests: mpsc::Receiver<reload::Request>,
) -> ExitCode {
    notify(&[NotifyState::Ready, NotifyState::Status("Serving")]);
    let mut watchdog = Watchdog::new();
    let control = engine.control();
    // Tasks of their own: a worker that does not answer must not keep SIGTERM waiting.
    let reload_signal = Arc::new(Notify::new());
    let keeper = reloader.keeper();
    tokio::spawn(reload_when_asked(
        reloader,
        Arc::clone(&reload_signal),
        requests,
    ));
    let certificates_signal = Arc::new(Notify::new());
    tokio::spawn(keeper.keep(Arc::clone(&certificates_signal)));
    if let Some(networks) = networks {
        tokio::spawn(own_networks::follow(networks, control.clone()));
    }
    tokio::spawn(drain_status::tell(drain.clone(), control.clone()));
    let leaving = close_left_listeners(&control);
    tokio::pin!(leaving);
    let code = loop {
        tokio::select! {
            wish = signals.next() => match wish {
                Wish::Stop(name) => {
                    tracing::info!(signal = name, "stopping");
                    break ExitCode::SUCCESS;
                }
                // One that comes during a reload is one more, and so are several.
                Wish::Reload => reload_signal.notify_one(),
                Wish::Certificates => certificates_signal.notify_one(),
                Wish::Drain => begin_draining(&drain),
            },
            () = &mut leaving => {}
            over = drain.over() => {
                match over {
                    Over::Empty => tracing::info!("drained: the last allocation has ended; stopping"),
                    Over::Deadline => tracing::warn!("the deadline of draining has come; stopping"),
                }
                break ExitCode::SUCCESS;
            }
            Some(worker) = engine.worker_failed() => {
                tracing::error!(worker, "a worker ended, and the server with it");
                break ExitCode::FAILURE;
            }
            late = watchdog.due() => watchdog.report(&engine.heartbeats(), late),
        }
    };
    notify(&[NotifyState::Stopping]);
    if let Some(page) = page {
        // Nobody is to be told that a server is ready which stops.
        page.abort();
        let _ = page.await;
    }
    match engine.stop(WORKERS_END_MAX).await {
        Ok(()) => code,
        Err(unresponsive) => {
            tracing::error!("{unresponsive}; the server ends without them");
            ExitCode::FAILURE
        }
    }
}

/// Reloads whenever a signal or an operator asks for it.
async fn reload_when_asked(
    reloader: Arc<Reloader>,
    signal: Arc<Notify>,
    mut requests: mpsc::Receiver<reload::Request>,
) {
    loop {
        tokio::select! {
            () = signal.notified() => {
                // The log has it.
                let _ = reloader.reload_and_tell().await;
            }
            Some(reply) = requests.recv() => {
                // Whoever asked may have gone.
                let _ = reply.send(reloader.reload_and_tell().await);
            }
        }
    }
}

/// Has the server end with its last allocation.
fn begin_draining(drain: &Drain) {
    if drain.state().is_some() {
        tracing::info!("draining already");
        return;
    }
    let drain = drain.clone();
    // A server that is stopping makes none anyway.
    tokio::spawn(async move { drain.begin(None).await });
}

/// Closes listeners that are to go once nobody has them, for ever.
async fn close_left_listeners(control: &Control) {
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if control.has_left_listeners() {
            // A server that is stopping closes them anyway.
            let _ = control.close_left_listeners().await;
        }
    }
}

/// Tells systemd that the workers are well, as long as every one of them is.
struct Watchdog {
    interval: Option<tokio::time::Interval>,
    hearts: Hearts,
}

impl Watchdog {
    fn new() -> Self {
        match sd_notify::watchdog_enabled() {
            Some(timeout) => Self::every(timeout),
            None => Self {
                interval: None,
                hearts: Hearts::default(),
            },
        }
    }

    /// One whose life is to be shown within every such time.
    fn every(timeout: Duration) -> Self {
        // A worker's heart beats once a second: asking more often would see no beat.
        let period = (timeout / 2).max(Duration::from_millis(2500));
        let mut interval = tokio::time::interval(period);
        // Looks that were missed must not follow each other at once: no heart beats between them.
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            interval: Some(interval),
            hearts: Hearts::default(),
        }
    }

    /// Waits for the next look, and says how late it is.
    async fn due(&mut self) -> Duration {
        match &mut self.interval {
            Some(interval) => interval.tick().await.elapsed(),
            None => std::future::pending().await,
        }
    }

    fn report(&mut self, beats: &[u64], late: Duration) {
        if self.hearts.are_well(beats, late) {
            notify(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("a worker does not respond");
        }
    }
}

/// The hearts of all workers, as they were at the last look.
#[derive(Debug, Default)]
struct Hearts {
    last: Vec<u64>,
    was_late: bool,
}

impl Hearts {
    /// Whether every heart has beaten since the last look. A look that comes late tells that the whole
    /// process stood still (a suspended machine, a debugger), and says nothing about workers; the next
    /// one does, late or not.
    fn are_well(&mut self, beats: &[u64], late: Duration) -> bool {
        let have_beaten =
            self.last.is_empty() || beats.iter().zip(&self.last).all(|(now, then)| now > then);
        let is_excused = late > LOOK_LATE_MAX && !self.was_late;
        self.was_late = late > LOOK_LATE_MAX;
        self.last = beats.to_vec();
        have_beaten || is_excused
    }
}

/// Without systemd nobody listens, which is no failure.
pub(super) fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("cannot notify systemd: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PROC-12: a process that stood still accuses nobody, once; a worker that hangs is found all the
    /// same.
    #[test]
    fn a_stall_is_no_worker_that_hangs() {
        let (in_time, late) = (Duration::from_millis(20), Duration::from_secs(12));
        let mut hearts = Hearts::default();
        assert!(hearts.are_well(&[1, 1], in_time));
        assert!(hearts.are_well(&[3, 4], in_time));
        assert!(hearts.are_well(&[3, 4], late), "no heart beats in a stall");
        assert!(hearts.are_well(&[5, 6], in_time));
        assert!(!hearts.are_well(&[6, 6], in_time), "the second hangs");
        assert!(hearts.are_well(&[7, 6], late));
        assert!(!hearts.are_well(&[8, 6], late), "excused once");
        assert!(!hearts.are_well(&[9, 6], in_time));
        assert!(hearts.are_well(&[10, 7], in_time), "it is back");
    }

    /// PROC-12: looks that a stall has kept from coming are one.
    #[test]
    fn missed_looks_are_one() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _context = runtime.enter();
        let interval = Watchdog::every(Duration::from_secs(5)).interval;
        let interval = interval.unwrap();
        assert_eq!(interval.missed_tick_behavior(), MissedTickBehavior::Delay);
        assert_eq!(interval.period(), Duration::from_millis(2500));
    }

    #[test]
    fn long_lists_are_cut() {
        let text = |count: usize| shown(0..count).map(|it| it.to_string());
        assert_eq!(text(0), None);
        assert_eq!(text(8).unwrap(), "0, 1, 2, 3, 4, 5, 6, 7");
        assert_eq!(text(10).unwrap(), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
    }
}
