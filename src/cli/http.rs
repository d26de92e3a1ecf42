//! The listeners of HTTP, from their binding to what answers there.

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin::api::{Api, Facts, InForce};
use crate::admin::credentials::{Desk, Issuer};
use crate::admin::reload::ReloadDesk;
use crate::admin::{self, CONNECTION_TIME_MAX, Drain, Listener, RevocationBook, Statistics, Token};
use crate::config::{self, Config};
use crate::engine::Engine;
use crate::log;
use crate::metrics::{HttpService, Metrics};
use crate::tls::Certificates;

/// What is served, as far as others have to know.
pub(super) struct Serving {
    /// The task of the metrics' page.
    pub(super) page: Option<JoinHandle<()>>,
    /// The credential service, which reloads change.
    pub(super) desk: Option<Desk>,
    /// The operators' token, which reloads change.
    pub(super) token: Option<Token>,
}

/// The listeners, bound before rights are given up.
pub(super) struct Http {
    page: Option<TcpListener>,
    operators: admin::Listeners,
    credentials: Option<TcpListener>,
}

impl Http {
    /// Binds what is configured. `owner` is the user and group that the process becomes, if any.
    ///
    /// # Errors
    /// If something that was asked for cannot be had.
    pub(super) fn bind(config: &Config, owner: Option<(u32, u32)>) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            page: bind_metrics(&config.metrics)?,
            operators: admin::bind(&config.admin, owner)?,
            credentials: admin::credentials::bind(&config.credentials)?,
        })
    }

    /// Where metrics are served.
    pub(super) fn page_address(&self) -> Option<SocketAddr> {
        self.page.as_ref()?.local_addr().ok()
    }

    /// Where credentials are issued.
    pub(super) fn credentials_address(&self) -> Option<SocketAddr> {
        self.credentials.as_ref()?.local_addr().ok()
    }

    /// Says where operators and programs are answered.
    pub(super) fn tell(&self, config: &Config) {
        if let Some((path, _)) = &self.operators.unix {
            tracing::info!(socket = %path.display(), "operators are answered");
        }
        let tcp = self.operators.tcp.as_ref();
        if let Some(address) = tcp.and_then(|tcp| tcp.local_addr().ok()) {
            tracing::info!(%address, "operators are answered");
        }
        if let Some(address) = self.credentials_address() {
            tracing::info!(%address, keys = config.credentials.keys.len(), "credentials are issued");
        }
    }

    /// Answers for as long as the runtime runs, in which it must be called.
    pub(super) fn serve(self, engine: &Engine, api: &Arc<Api>, config: &Config) -> Serving {
        let metrics = engine.metrics();
        let token = config.admin.token.clone().map(Token::new);
        serve_operators(self.operators, api, token.clone(), metrics);
        let desk = self
            .credentials
            .map(|listener| serve_credentials(listener, config, metrics));
        Serving {
            page: self.page.map(|listener| serve_metrics(listener, metrics)),
            desk,
            token,
        }
    }
}

/// Binds the page of the metrics. Where nobody asked for it, it is not worth a start.
fn bind_metrics(metrics: &config::Metrics) -> Result<Option<TcpListener>, String> {
    let Some(address) = metrics.listen else {
        return Ok(None);
    };
    let error = match TcpListener::bind(address) {
        Ok(listener) => return Ok(Some(listener)),
        Err(error) => error,
    };
    let told = format!(
        "cannot serve metrics on {address}: {error}; set metrics.listen to another address, or to \
         \"\" for none"
    );
    if metrics.is_default {
        tracing::warn!("{told}");
        Ok(None)
    } else {
        Err(told)
    }
}

/// What operators reach beside the workers.
pub(super) struct Told<'a> {
    /// The configuration file.
    pub(super) file: Option<&'a Path>,
    /// Where credentials are issued.
    pub(super) credentials: Option<SocketAddr>,
    pub(super) revocations: Arc<RevocationBook>,
    pub(super) reload: ReloadDesk,
    pub(super) in_force: watch::Receiver<InForce>,
    pub(super) log_level: log::Level,
    pub(super) certificates: Arc<Certificates>,
}

/// What operators reach.
pub(super) fn api(engine: &Engine, config: &Config, told: Told<'_>) -> Arc<Api> {
    let Told {
        file,
        credentials,
        revocations,
        reload,
        in_force,
        log_level,
        certificates,
    } = told;
    let facts = Facts {
        started: SystemTime::now(),
        workers: config.server.workers,
        credentials,
        config_file: file.map(Path::to_owned),
    };
    let statistics = Statistics::new(Arc::clone(engine.metrics()), engine.control());
    Arc::new(Api {
        control: engine.control(),
        drain: Drain::new(engine.control()),
        revocations,
        reload,
        log_level,
        certificates,
        statistics: Arc::new(statistics),
        facts,
        in_force,
    })
}

/// Answers operators for as long as the runtime runs.
fn serve_operators(
    operators: admin::Listeners,
    api: &Arc<Api>,
    token: Option<Token>,
    metrics: &Arc<Metrics>,
) {
    let statistics = Arc::clone(&api.statistics);
    tokio::spawn(async move { statistics.remember().await });
    let router = admin::api::router(Arc::clone(api));
    let serve = |listener: Listener, router| {
        tokio::spawn(async move {
            let served = admin::serve(listener, router, CONNECTION_TIME_MAX);
            let Err(error) = served.await;
            tracing::error!("operators are not answered: {error}");
        });
    };
    if let (Some(listener), Some(token)) = (operators.tcp, token) {
        let router = admin::require_token(router.clone(), token);
        let router = router.merge(admin::dashboard());
        let router = admin::counted(router, HttpService::Admin, Arc::clone(metrics));
        serve(listener.into(), router);
    }
    if let Some((_, listener)) = operators.unix {
        let router = admin::require_same_origin(router);
        let router = router.merge(admin::dashboard());
        let router = admin::counted(router, HttpService::Admin, Arc::clone(metrics));
        serve(listener.into(), router);
    }
}

/// Serves the page of the metrics.
fn serve_metrics(listener: TcpListener, metrics: &Arc<Metrics>) -> JoinHandle<()> {
    let router = admin::metrics_page(Arc::clone(metrics));
    tokio::spawn(async move {
        let Err(error) = admin::serve(listener, router, CONNECTION_TIME_MAX).await;
        tracing::error!("metrics are not served: {error}");
    })
}

/// Issues credentials for as long as the runtime runs.
fn serve_credentials(listener: TcpListener, config: &Config, metrics: &Arc<Metrics>) -> Desk {
    let desk = Desk::new(issuer(config), config.credentials.keys.clone());
    let router = admin::counted(desk.router(), HttpService::Credentials, Arc::clone(metrics));
    tokio::spawn(async move {
        let Err(error) = admin::serve(listener, router, CONNECTION_TIME_MAX).await;
        tracing::error!("credentials are not issued: {error}");
    });
    desk
}

/// What credentials are issued with, unless the server has fixed users alone.
pub(super) fn issuer(config: &Config) -> Option<Issuer> {
    Some(Issuer {
        secret: config.auth.issuing_secret()?.into(),
        separator: config.auth.rest_separator,
        uris: config.credentials.uris.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page that nobody asked for is not worth a start; one that was asked for must be had.
    #[test]
    fn a_taken_port_is_a_warning_at_the_default_only() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let mut metrics = config::Metrics {
            listen: Some(address),
            is_default: true,
        };
        assert!(bind_metrics(&metrics).unwrap().is_none());
        metrics.is_default = false;
        let told = bind_metrics(&metrics).unwrap_err();
        assert!(
            told.contains(&format!("cannot serve metrics on {address}")),
            "{told}"
        );
        drop(taken);
        let page = bind_metrics(&metrics).unwrap().unwrap();
        assert_eq!(page.local_addr().unwrap(), address);
        metrics.listen = None;
        assert!(bind_metrics(&metrics).unwrap().is_none());
    }
}
