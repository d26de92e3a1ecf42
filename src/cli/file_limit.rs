//! How many files the process may have open.

use std::net::IpAddr;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// The part of the files that strangers' TCP connections may take where the limits need more files
/// than there are: the others are for allocations.
const TCP_SHARE_OF_FILES: u64 = 4;

/// File descriptors of a server without clients, generously.
pub(super) const FILES_AT_REST: u64 = 256;

/// Asks for as many files as the system lets this process have, and says so if they cannot be
/// enough. Returns how many there are.
pub(super) fn raise_file_limit(config: &Config) -> u64 {
    let wanted = files(config);
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Beyond the maximum is for root only. What a sandbox forbids shows in the limit.
    let _ = set_file_limit(maximum.map(|maximum| maximum.max(wanted)))
        .or_else(|_| set_file_limit(maximum));
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if files < wanted {
        tracing::warn!(
            files,
            wanted,
            tcp_connections = tcp_connections(config, files),
            "the file limit is lower than limits.allocations_total and limits.tcp_connections \
             need, and TCP connections get a quarter of it at most; raise LimitNOFILE (or ulimit -n)"
        );
    }
    files
}

/// TCP connections of a process that may open so many files. Strangers can make connections, and
/// where they could have every file no client would get an allocation.
pub(super) fn tcp_connections(config: &Config, files: u64) -> u32 {
    let configured = config.limits.tcp_connections;
    if files >= self::files(config) {
        return configured;
    }
    let share = u32::try_from(files / TCP_SHARE_OF_FILES).unwrap_or(u32::MAX);
    configured.min(share.max(1))
}

/// Files that a full server has open. A connection takes one, or two if a web server has it, and an
/// allocation one for each family that is relayed.
fn files(config: &Config) -> u64 {
    let addresses = &config.relay.addresses;
    let families = [IpAddr::is_ipv4, IpAddr::is_ipv6];
    let families = families
        .iter()
        .filter(|is| addresses.iter().any(is))
        .count() as u64;
    let sockets = families * u64::from(config.limits.allocations_total);
    let web = match config.web.servers().next() {
        Some(_) => 2 * u64::from(config.web.connections),
        None => 0,
    };
    sockets + u64::from(config.limits.tcp_connections) + web + FILES_AT_REST
}

fn set_file_limit(files: Option<u64>) -> rustix::io::Result<()> {
    let limit = Rlimit {
        current: files,
        maximum: files,
    };
    setrlimit(Resource::Nofile, limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::certificates::Tls;
    use crate::cli::settings::{own_nonce_key, settings};
    use crate::config::{Environment, Host, Sources, load};

    /// SEC-12: strangers' connections leave files for allocations.
    #[test]
    fn scarce_files_cap_tcp_connections() {
        let mut config = load(&Sources::default(), &Host::probe()).unwrap().config;
        config.limits.tcp_connections = 4000;
        let enough = files(&config);
        assert_eq!(tcp_connections(&config, enough), 4000);
        for (files, connections) in [(enough - 1, 4000), (1024, 256), (3, 1)] {
            assert_eq!(tcp_connections(&config, files), connections);
        }
        let key = own_nonce_key();
        let tls = Tls::new(&config).unwrap();
        let settings = settings(&config, &Host::probe(), 1024, &key, &tls).unwrap();
        assert_eq!(settings.stream.connections, 256);
        config.limits.tcp_connections = 100;
        assert_eq!(tcp_connections(&config, 1024), 100);
    }

    /// WEB-03
    #[test]
    fn passing_on_takes_two_files() {
        let mut config = load(&Sources::default(), &Host::probe()).unwrap().config;
        let without = files(&config);
        config.web.connections = 70;
        assert_eq!(files(&config), without);
        config.web.http = Some("127.0.0.1:8080".parse().unwrap());
        assert_eq!(files(&config), without + 140);
    }

    /// An allocation of both families is two sockets.
    #[test]
    fn every_relay_family_takes_files() {
        let host = Host::probe().of_any_machine();
        let files_with = |addresses: &str| {
            let mut environment = Environment::default();
            environment.push("TURNSERVER_RELAY__ADDRESSES", addresses);
            environment.push("TURNSERVER_LIMITS__ALLOCATIONS_TOTAL", "1000");
            environment.push("TURNSERVER_LIMITS__TCP_CONNECTIONS", "100");
            let sources = Sources {
                environment,
                ..Sources::default()
            };
            files(&load(&sources, &host).unwrap().config)
        };
        assert_eq!(files_with("192.0.2.1,192.0.2.2"), 1100 + FILES_AT_REST);
        assert_eq!(files_with("2001:db8::1"), 1100 + FILES_AT_REST);
        assert_eq!(files_with("192.0.2.1,2001:db8::1"), 2100 + FILES_AT_REST);
    }
}
