//! Reading the configuration again while the server serves.

use std::path::PathBuf;
use std::sync::Arc;

use sd_notify::NotifyState;
use secrecy::SecretString;
use tokio::sync::{Mutex, watch};

use super::certificates::{Keeper, Tls, newest, put_in_force};
use super::serve::notify;
use super::{acme, file_limit, http, settings};
use crate::admin::Token;
use crate::admin::api::InForce;
use crate::admin::credentials::Desk;
use crate::admin::reload::{self, Reloaded};
use crate::auth::NonceKey;
use crate::config::{self, Config, Host, Loaded, Sources, When};
use crate::engine::Control;
use crate::hooks::Handle;
use crate::log;
use crate::metrics::Metrics;

/// What a configuration is made of beside its sources, and who has to know of a new one.
pub(super) struct Parts {
    pub(super) sources: Arc<Sources>,
    pub(super) host: Host,
    /// The secret of a server that was given none.
    pub(super) kept_secret: Option<SecretString>,
    pub(super) own_nonce_key: NonceKey,
    pub(super) control: Control,
    pub(super) level: log::Level,
    /// The credential service, if there is one.
    pub(super) desk: Option<Desk>,
    pub(super) tls: Tls,
    /// What operators who come by TCP have to know.
    pub(super) token: Option<Token>,
    /// The file of the certificate that is of no file of the configuration.
    pub(super) issued: Option<PathBuf>,
    /// Event hooks, if there are any.
    pub(super) hooks: Option<Handle>,
    /// Where reloads are counted.
    pub(super) reloads: Arc<Metrics>,
    /// Where operators see what is in force.
    pub(super) in_force: watch::Sender<InForce>,
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

    /// Who looks after the certificates between reloads.
    pub(super) fn keeper(&self) -> Keeper {
        let Parts {
            tls,
            issued,
            reloads,
            ..
        } = &self.parts;
        let certificates = Arc::clone(&tls.certificates);
        Keeper::new(certificates, Arc::clone(reloads), issued.clone())
    }

    /// Reads the sources again and has what changed come into force. Allocations go on.
    ///
    /// # Errors
    /// Every problem of the configuration, or what cannot be had, without a secret in it. Then nothing
    /// has changed.
    async fn reload(&self) -> reload::Outcome {
        let Parts {
            sources,
            host,
            kept_secret,
            own_nonce_key,
            control,
            level,
            desk,
            tls,
            token,
            issued,
            hooks,
            reloads,
            in_force,
        } = &self.parts;
        let mut config = self.config.lock().await;
        // They may have been replaced since.
        config.tls.pairs = acme::configured(&tls.certificates, issued.as_deref());
        let host = host.again();
        let loaded = load(Arc::clone(sources), host.clone()).await?;
        let mut new = loaded.config;
        if new.auth.is_empty() {
            let kept = kept_secret.clone().ok_or_else(no_credentials)?;
            new.auth.static_auth_secrets.push(kept);
        }
        let mut restart = config::differences(&config, &new);
        restart.retain(|(_, when)| *when == When::Restart);
        let new = new.kept_from(&config);
        let changed = config::differences(&config, &new);
        if !changed.is_empty() {
            let files = file_limit::raise_file_limit(&new);
            let settings = settings::settings(&new, &host, files, own_nonce_key, tls)
                .map_err(|error| vec![error.to_string()])?;
            let exchanged = control.exchange(settings).await;
            exchanged.map_err(|error| vec![error.to_string()])?;
            let in_use = tls.certificates.pairs();
            let mut pairs = newest(&new.tls.pairs, &config.tls.pairs, &in_use);
            pairs.extend(acme::issued(&tls.certificates, issued.as_deref()));
            put_in_force(&tls.certificates, reloads, pairs);
            if new.log.level != config.log.level {
                // Otherwise what an operator has set stays.
                level.set(new.log.level);
            }
            if let Some(desk) = desk {
                desk.replace(http::issuer(&new), new.credentials.keys.clone());
            }
            if let (Some(token), Some(new)) = (token, &new.admin.token) {
                token.replace(new.clone());
            }
            if let (Some(hooks), Some(secret)) = (hooks, &new.hooks.secret) {
                hooks.replace_secret(secret.clone());
            }
            in_force.send_replace(InForce::from(&new));
            *config = new;
        }
        let keys = |differences: Vec<(&'static str, When)>| {
            let keys = differences.into_iter().map(|(key, _)| key);
            keys.collect()
        };
        Ok(Reloaded {
            changed: keys(changed),
            restart_needed: keys(restart),
            warnings: loaded.warnings.iter().map(ToString::to_string).collect(),
        })
    }

    /// Reloads for somebody who reads the log, and for systemd.
    pub(super) async fn reload_and_tell(&self) -> reload::Outcome {
        let mut reloading = vec![NotifyState::Reloading];
        reloading.extend(NotifyState::monotonic_usec_now());
        notify(&reloading);
        let outcome = self.reload().await;
        match &outcome {
            Ok(outcome) => {
                self.parts.reloads.reloads().count_success();
                tell(outcome);
            }
            Err(problems) => {
                self.parts.reloads.reloads().count_failure();
                for problem in problems {
                    tracing::error!("{problem}");
                }
                tracing::error!("configuration not reloaded: the server goes on as it was");
            }
        }
        notify(&[NotifyState::Ready]);
        outcome
    }
}

/// Loads beside the runtime: with many users it takes a while, and a file may never be read.
async fn load(sources: Arc<Sources>, host: Host) -> Result<Loaded, Vec<String>> {
    let loading = tokio::task::spawn_blocking(move || config::load(&sources, &host));
    let loaded = loading.await.map_err(|error| vec![error.to_string()])?;
    loaded.map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn tell(outcome: &Reloaded) {
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
fn no_credentials() -> Vec<String> {
    let what = "auth: no secret or user is configured any more, and one is made at the start only; \
                configure auth.static_auth_secret or auth.users, or restart";
    vec![what.to_owned()]
}
