//! The listeners of HTTP, from their binding to what answers there.

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use secrecy::SecretString;

use crate::admin::api::{Api, Facts, ListenerAddress, RelayFacts};
use crate::admin::{self, CONNECTION_TIME_MAX, Drain, Listener};
use crate::config::{self, Config};
use crate::engine::Engine;
use crate::{log, process};

/// The listeners, bound before rights are given up.
pub(super) struct Http {
    pub(super) page: Option<TcpListener>,
    pub(super) operators: admin::Listeners,
}

impl Http {
    /// Binds what is configured.
    ///
    /// # Errors
    /// If something that was asked for cannot be had.
    pub(super) fn bind(config: &Config) -> Result<Self, Box<dyn Error>> {
        let user = config.server.user.as_deref();
        Ok(Self {
            page: bind_metrics(&config.metrics)?,
            operators: admin::bind(&config.admin, process::becomes(user))?,
        })
    }
}

/// Says where operators are answered.
pub(super) fn tell_operators(operators: &admin::Listeners) {
    if let Some((path, _)) = &operators.unix {
        tracing::info!(socket = %path.display(), "operators are answered");
    }
    if let Some(address) = operators.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok()) {
        tracing::info!(%address, "operators are answered");
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

/// What operators reach.
pub(super) fn api(
    engine: &Engine,
    config: &Config,
    file: Option<&Path>,
    log_level: log::Level,
) -> Arc<Api> {
    let address = |transport| move |&address: &SocketAddr| ListenerAddress { transport, address };
    let udp = engine.udp_addresses().iter().map(address("udp"));
    let tcp = engine.tcp_addresses().iter().map(address("tcp"));
    let relays = config.relay.addresses.iter();
    let relays = relays.map(|&bound| (bound, config.relay.advertised(bound)));
    let facts = Facts {
        started: SystemTime::now(),
        workers: config.server.workers,
        realm: config.realm.clone(),
        listeners: udp.chain(tcp).collect(),
        relay: RelayFacts {
            addresses: relays.collect(),
            ports: config.relay.ports.clone(),
        },
        config_file: file.map(Path::to_owned),
    };
    Arc::new(Api {
        control: engine.control(),
        drain: Drain::new(engine.control()),
        log_level,
        facts,
    })
}

/// Answers operators for as long as the runtime runs.
pub(super) fn serve_operators(
    operators: admin::Listeners,
    api: &Arc<Api>,
    token: Option<SecretString>,
) {
    let router = admin::api::router(Arc::clone(api));
    let serve = |listener: Listener, router| {
        tokio::spawn(async move {
            let served = admin::serve(listener, router, CONNECTION_TIME_MAX);
            let Err(error) = served.await;
            tracing::error!("operators are not answered: {error}");
        });
    };
    if let (Some(listener), Some(token)) = (operators.tcp, token) {
        serve(listener.into(), admin::require_token(router.clone(), token));
    }
    if let Some((_, listener)) = operators.unix {
        serve(listener.into(), router);
    }
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
