//! Reading the configuration again while the server serves.

use std::fmt;
use std::sync::Arc;

use sd_notify::NotifyState;
use secrecy::SecretString;
use tokio::sync::Mutex;

use super::serve::notify;
use super::{file_limit, http, settings};
use crate::admin::credentials::Desk;
use crate::auth::NonceKey;
use crate::config::{self, Config, Host, Sources, When};
use crate::engine::Control;
use crate::log;
use crate::metrics::Metrics;

/// What a reload has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The keys with another value than before, which is in force.
    pub(super) changed: Vec<&'static str>,
    /// The keys with another value than the server was started with, which needs a restart.
    pub(super) restart_needed: Vec<&'static str>,
    /// What is allowed and likely to be a mistake.
    pub(super) warnings: Vec<String>,
}

/// Why nothing was reloaded, line by line. No line holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problems(pub(super) Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Problems {}

/// What a configuration is made of beside its sources, and who has to know of a new one.
pub(super) struct Parts {
    pub(super) sources: Sources,
    pub(super) host: Host,
    /// The secret of a server that was given none.
    pub(super) kept_secret: Option<SecretString>,
    pub(super) own_nonce_key: NonceKey,
    pub(super) control: Control,
    pub(super) level: log::Level,
    /// The credential service, if there is one.
    pub(super) desk: Option<Desk>,
    /// Where reloads are counted.
    pub(super) reloads: Arc<Metrics>,
}

/// Reloads, one at a time.
pub(super) struct Reloader {
    parts: Parts,
    /// What is in force.
    config: Mutex<Config>,
}

impl Reloader {
    pub(super) fn new(parts: Parts, config: Config) -> Self {
        Self {
            parts,
            config: Mutex::new(config),
        }
    }

    /// Reads the sources again and has what changed come into force. Allocations go on.
    ///
    /// # Errors
    /// Every problem of the configuration, or what cannot be had. Then nothing has changed.
    pub(super) async fn reload(&self) -> Result<Outcome, Problems> {
        let Parts {
            sources,
            host,
            kept_secret,
            own_nonce_key,
            control,
            level,
            desk,
            reloads: _,
        } = &self.parts;
        let mut config = self.config.lock().await;
        let host = host.again();
        let loaded = config::load(sources, &host)
            .map_err(|problems| Problems(problems.iter().map(ToString::to_string).collect()))?;
        let mut new = loaded.config;
        if new.auth.is_empty() {
            let kept = kept_secret.clone().ok_or_else(no_credentials)?;
            new.auth.static_auth_secrets.push(kept);
        }
        let differences = config::differences(&config, &new);
        let (restart, changed): (Vec<_>, Vec<_>) = differences
            .into_iter()
            .partition(|(_, when)| *when == When::Restart);
        let new = new.kept_from(&config);
        if !changed.is_empty() {
            let files = file_limit::raise_file_limit(&new);
            let settings = settings::settings(&new, &host, files, own_nonce_key)
                .map_err(|error| Problems(vec![error.to_string()]))?;
            let exchanged = control.exchange(settings).await;
            exchanged.map_err(|error| Problems(vec![error.to_string()]))?;
            level.set(new.log.level);
            if let (Some(desk), Some(issuer)) = (desk, http::issuer(&new)) {
                desk.replace(issuer, new.credentials.keys.clone());
            }
            *config = new;
        }
        let keys = |differences: Vec<(&'static str, When)>| {
            let keys = differences.into_iter().map(|(key, _)| key);
            keys.collect()
        };
        Ok(Outcome {
            changed: keys(changed),
            restart_needed: keys(restart),
            warnings: loaded.warnings.iter().map(ToString::to_string).collect(),
        })
    }

    /// Reloads for somebody who reads the log, and for systemd.
    pub(super) async fn reload_and_tell(&self) {
        let mut reloading = vec![NotifyState::Reloading];
        reloading.extend(NotifyState::monotonic_usec_now());
        notify(&reloading);
        match self.reload().await {
            Ok(outcome) => {
                self.parts.reloads.reloads().count_success();
                tell(&outcome);
            }
            Err(Problems(problems)) => {
                self.parts.reloads.reloads().count_failure();
                for problem in problems {
                    tracing::error!("{problem}");
                }
                tracing::error!("configuration not reloaded: the server goes on as it was");
            }
        }
        notify(&[NotifyState::Ready]);
    }
}

fn tell(outcome: &Outcome) {
    for warning in &outcome.warnings {
        tracing::warn!("{warning}");
    }
    if !outcome.restart_needed.is_empty() {
        let keys = outcome.restart_needed.join(", ");
        tracing::warn!(keys, "changed, and in force after a restart");
    }
    if outcome.changed.is_empty() {
        tracing::info!("configuration reloaded: nothing else has changed");
    } else {
        let changed = outcome.changed.join(", ");
        tracing::info!(changed, "configuration reloaded");
    }
}

/// A secret is made before the process is confined, and announced to who starts it.
fn no_credentials() -> Problems {
    let what = "auth: no secret or user is configured any more, and one is made at the start only; \
                configure auth.static_auth_secret or auth.users, or restart";
    Problems(vec![what.to_owned()])
}
