//! What hooks are told: the configuration, and what happens in the workers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::admin::RevokedNotice;
use crate::config::Config;
use crate::engine::{NoticeSink, Notices, notices};
use crate::hooks::{Event, Handle, Hooks, Kind, Prepared, Settings, Timing};
use crate::https::PrepareError;
use crate::metrics::Metrics;

/// Revocations that wait to be told. Whoever revokes beyond that waits too.
const REVOKED_MAX: usize = 64;

/// Hooks that are configured, before the rights of the process are given up.
pub(super) struct Configured {
    prepared: Prepared,
    notices: Notices,
    tell_revoked: mpsc::Sender<RevokedNotice>,
    revoked: mpsc::Receiver<RevokedNotice>,
    /// The receiver's port.
    pub(super) port: u16,
}

/// Hooks that are sent.
pub(super) struct Running {
    hooks: Hooks,
    forwarder: JoinHandle<()>,
    end: oneshot::Sender<()>,
}

/// Opens what hooks need, if they are configured, and the way for workers to tell them.
///
/// # Errors
/// If a file is not usable.
pub(super) fn prepare(config: &Config) -> Result<Option<(Configured, NoticeSink)>, PrepareError> {
    let Some(settings) = settings(config) else {
        return Ok(None);
    };
    let port = settings.target().port();
    let prepared = Hooks::prepare(&settings)?;
    let (sink, notices) = notices(config.limits.allocations_total);
    let (tell_revoked, revoked) = mpsc::channel(REVOKED_MAX);
    let configured = Configured {
        prepared,
        notices,
        tell_revoked,
        revoked,
        port,
    };
    Ok(Some((configured, sink)))
}

impl Configured {
    /// Where revocations are told.
    pub(super) fn revoked(&self) -> mpsc::Sender<RevokedNotice> {
        self.tell_revoked.clone()
    }

    /// Begins to send, in the runtime of the caller.
    pub(super) fn start(self, metrics: &Metrics) -> Running {
        let hooks = self.prepared.start();
        let handle = hooks.handle();
        metrics.watch_hooks(move || handle.statistics());
        let (end, ending) = oneshot::channel();
        let forwarding = forward(self.notices, self.revoked, ending, hooks.handle());
        Running {
            forwarder: tokio::spawn(forwarding),
            hooks,
            end,
        }
    }
}

impl Running {
    /// What a reload changes.
    pub(super) fn handle(&self) -> Handle {
        self.hooks.handle()
    }

    /// Sends what waits, for a bounded time. What workers tell from now on is not sent: those that have
    /// not ended hang.
    pub(super) async fn finish(self) {
        let _ = self.end.send(());
        // Not by a panic, unless there is a bug.
        let _ = self.forwarder.await;
        self.hooks.finish().await;
    }
}

/// Passes on what the workers tell, until the end or for as long as there are any.
async fn forward(
    mut notices: Notices,
    mut revoked: mpsc::Receiver<RevokedNotice>,
    mut ending: oneshot::Receiver<()>,
    hooks: Handle,
) {
    let mut is_ending = false;
    loop {
        let notice = tokio::select! {
            notice = notices.next() => notice,
            _ = &mut ending, if !is_ending => {
                is_ending = true;
                notices.close();
                continue;
            }
            Some(revoked) = revoked.recv() => {
                tell_revoked(&revoked, &hooks);
                continue;
            }
        };
        let Some(notice) = notice else {
            break;
        };
        if let Some(event) = Event::of_worker(notice.worker, &notice.event) {
            hooks.send(notice.at_unix_ms, &event);
        }
        match notices.take_lost() {
            0 => {}
            lost => hooks.count_lost(lost),
        }
    }
    // Those that the workers carried out before they ended.
    revoked.close();
    while let Some(revoked) = revoked.recv().await {
        tell_revoked(&revoked, &hooks);
    }
}

fn tell_revoked(revoked: &RevokedNotice, hooks: &Handle) {
    let RevokedNotice { revocation, ended } = revoked;
    let name = Some(revocation.name.as_str());
    let event = Event::CredentialRevoked {
        user: name.filter(|_| revocation.is_user),
        username: name.filter(|_| !revocation.is_user),
        until_unix_s: revocation.until_unix_s,
        ended: *ended as u64,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let at_unix_ms = now.map_or(0, |now| now.as_millis() as u64);
    hooks.send(at_unix_ms, &event);
}

fn settings(config: &Config) -> Option<Settings> {
    let hooks = &config.hooks;
    let kinds = Kind::ALL.into_iter();
    Some(Settings {
        url: hooks.url.as_ref()?.expose().clone(),
        secret: hooks.secret.clone()?,
        kinds: kinds
            .filter(|kind| hooks.events.contains(&kind.name()))
            .collect(),
        allocations: config.limits.allocations_total,
        timeout: Duration::from_secs(hooks.timeout_s.into()),
        ca_file: hooks.ca_file.clone(),
        timing: Timing::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Revocation;
    use crate::config::defaults;

    /// PROC-11, HOOK-06: a worker that hangs still could tell something, and is not waited for; a
    /// revocation that was carried out is told.
    #[test]
    fn the_end_does_not_wait_for_a_worker_that_hangs() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let settings = Settings {
                url: "http://127.0.0.1:1/".parse().unwrap(),
                secret: "a-secret".into(),
                kinds: Kind::ALL.to_vec(),
                allocations: 0,
                timeout: Duration::from_secs(1),
                ca_file: None,
                timing: Timing::default(),
            };
            let hooks = Hooks::prepare(&settings).unwrap().start();
            let (of_the_worker, notices) = notices(0);
            let (tell_revoked, revoked) = mpsc::channel(REVOKED_MAX);
            let (end, ending) = oneshot::channel();
            let revocation = Revocation {
                is_user: true,
                name: "alice".to_owned(),
                until_unix_s: None,
            };
            let notice = RevokedNotice {
                revocation,
                ended: 1,
            };
            tell_revoked.send(notice).await.unwrap();
            end.send(()).unwrap();
            forward(notices, revoked, ending, hooks.handle()).await;
            assert_eq!(hooks.handle().statistics().queued, 1);
            drop(of_the_worker);
        });
    }

    #[test]
    fn the_configuration_knows_every_event() {
        assert_eq!(Kind::ALL.map(Kind::name), defaults::HOOK_EVENTS);
    }
}
