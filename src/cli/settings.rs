//! From a configuration to what the engine and the core are told.

use std::sync::Arc;

use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::certificates::Tls;
use super::file_limit::connections;
use crate::auth::{Authenticator, CredentialError, Credentials, NonceKey};
use crate::config::{Config, Credential, Host};
use crate::engine::{Settings, StreamLimits, Web};
use crate::turn::{ClientPolicy, Limits, Options, PeerPolicy, RelayAddress};

/// The key of nonces where none is configured: one for the life of the process, so that a reload
/// leaves nonces good.
pub(super) fn own_nonce_key() -> NonceKey {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(key.as_mut_slice()).expect("the system has random numbers");
    NonceKey::new(*key)
}

/// What the engine is told, where the process may open so many files.
///
/// # Errors
/// If the realm or a user cannot be what the profile of strings permits.
pub(super) fn settings(
    config: &Config,
    host: &Host,
    files: u64,
    own_nonce_key: &NonceKey,
    tls: &Tls,
) -> Result<Settings, CredentialError> {
    let relay_addresses = config.relay.addresses.iter();
    let relay_addresses = relay_addresses
        .map(|&bound| RelayAddress {
            bound,
            advertised: config.relay.advertised(bound),
        })
        .collect();
    let connections = connections(config, files);
    Ok(Settings {
        udp: config.listen.udp.clone(),
        tcp: config.listen.tcp.clone(),
        tls_listeners: config.listen.tls.clone(),
        strict_listeners: config.listen.strict.clone(),
        // Without a certificate every handshake would fail.
        tls: config.tls.is_on().then(|| Arc::clone(&tls.config)),
        #[cfg(feature = "dtls")]
        dtls_listeners: config.listen.dtls.clone(),
        #[cfg(feature = "dtls")]
        dtls: config.tls.is_on().then(|| tls.dtls.clone()),
        workers: config.server.workers,
        relay_addresses,
        relay_ports: config.relay.ports.clone(),
        own_networks: host.local_networks.clone(),
        options: options(config, own_nonce_key)?,
        revocations: Arc::default(),
        stream: StreamLimits {
            connections: connections.tcp,
            connections_per_address: config.limits.tcp_connections_per_address,
            half_open: config.limits.tcp_half_open,
            send_queue_bytes: config.limits.tcp_send_queue_bytes as usize,
            queues_total_bytes: config.limits.tcp_queues_total_bytes as usize,
            first_message_s: config.limits.tcp_first_message_s,
            idle_s: config.limits.tcp_idle_s,
        },
        proxy_protocol_from: config.listen.proxy_protocol_from.clone(),
        web: Web {
            https: config.web.https,
            names: config.web.names.clone(),
            http: config.web.http,
            proxy_protocol: config.web.proxy_protocol,
            connections: connections.web,
            idle_s: config.web.idle_s,
        },
    })
}

/// What the core is told.
fn options(config: &Config, own_nonce_key: &NonceKey) -> Result<Options, CredentialError> {
    let software = config.server.software.as_str();
    Ok(Options {
        clients: ClientPolicy {
            allow: config.clients.allow.clone(),
            deny: config.clients.deny.clone(),
        },
        authenticator: authenticator(config, own_nonce_key)?,
        limits: limits(config),
        peers: PeerPolicy {
            allow: config.peers.allow.clone(),
            deny: config.peers.deny.clone(),
            allow_loopback: config.peers.allow_loopback,
            ..PeerPolicy::default()
        },
        software: (!software.is_empty()).then(|| software.into()),
        classic_stun: config.listen.classic_stun,
        dont_fragment: config.relay.dont_fragment,
    })
}

fn limits(config: &Config) -> Limits {
    Limits {
        allocations_per_user: config.limits.allocations_per_user,
        allocations_per_address: config.limits.allocations_per_address,
        allocations_total: config.limits.allocations_total,
        allocation_kbit_per_s: config.limits.allocation_kbit_per_s,
        user_kbit_per_s: config.limits.user_kbit_per_s,
        permissions_per_allocation: config.limits.permissions_per_allocation,
        channels_per_allocation: config.limits.channels_per_allocation,
        max_lifetime_s: config.limits.max_lifetime_s,
        port_rest_s: config.limits.port_rest_s,
        reservation_s: config.limits.reservation_s,
        unauthenticated_replies_per_s: share_of_worker(
            config.limits.unauthenticated_replies_per_s,
            config.server.workers,
        ),
        failed_authentications_per_minute: config.limits.failed_authentications_per_minute,
        ..Limits::default()
    }
}

/// What one of the workers may do of what all of them may. A flood comes from many ports, and so to
/// every worker. 0 stays no limit, and anything else is one at least.
fn share_of_worker(per_s: u32, workers: usize) -> u32 {
    per_s.div_ceil(u32::try_from(workers).unwrap_or(u32::MAX).max(1))
}

fn authenticator(
    config: &Config,
    own_nonce_key: &NonceKey,
) -> Result<Authenticator, CredentialError> {
    let mut credentials = Credentials::new(&config.realm, config.auth.rest_separator)?;
    for secret in &config.auth.static_auth_secrets {
        credentials.add_secret(secret.clone());
    }
    for (name, credential) in &config.auth.users {
        match credential {
            Credential::Plain(password) => credentials.add_user(name, password)?,
            Credential::Md5Key(key) => credentials.add_user_key(name, *key.expose())?,
        }
    }
    let mut nonce_keys: Vec<NonceKey> = config
        .auth
        .nonce_secrets
        .iter()
        .map(|secret| NonceKey::from_secret(secret.expose_secret()))
        .collect();
    if nonce_keys.is_empty() {
        nonce_keys.push(own_nonce_key.clone());
    }
    Ok(Authenticator::new(
        Arc::new(credentials),
        nonce_keys,
        config.auth.nonce_lifetime_s,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn the_defaults_are_those_of_the_core() {
        let host = Host::probe();
        let mut config = load(&Sources::default(), &host).unwrap().config;
        config.server.workers = 1;
        assert_eq!(limits(&config), Limits::default());
    }

    /// SEC-09: the operator's number is that of the server, however many workers it has.
    #[test]
    fn workers_share_the_replies_to_strangers() {
        for (configured, workers, of_each) in [
            (200, 1, 200),
            (200, 2, 100),
            (200, 3, 67),
            (1, 8, 1),
            (0, 8, 0),
        ] {
            assert_eq!(share_of_worker(configured, workers), of_each);
        }
        let mut config = load(&Sources::default(), &Host::probe()).unwrap().config;
        config.server.workers = 4;
        assert_eq!(limits(&config).unauthenticated_replies_per_s, 50);
    }
}
