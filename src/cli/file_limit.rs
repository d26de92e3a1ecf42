//! How many files the process may have open.

use std::net::IpAddr;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// The part of the files that strangers' TCP connections may take where the limits need more files
/// than there are, those that web servers have among them: the others are for allocations.
const TCP_SHARE_OF_FILES: u64 = 4;

/// Files of a connection that a web server has: the client's and the server's.
const FILES_PASSED_ON: u64 = 2;

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
        let Connections { tcp, web } = connections(config, files);
        tracing::warn!(
            files,
            wanted,
            tcp_connections = tcp,
            web_connections = web,
            "the file limit is lower than limits.allocations_total, limits.tcp_connections and \
             web.connections need, and TCP connections get a quarter of it at most; raise \
             LimitNOFILE (or ulimit -n)"
        );
    }
    files
}

/// Connections of a process that may open so many files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connections {
    /// Those of TURN clients.
    pub(super) tcp: u32,
    /// Those that web servers have.
    pub(super) web: u32,
}

/// Strangers can make connections, and where they could have every file no client would get an
/// allocation. Of what they may have web servers' connections take half at most, unless the others
/// need less.
pub(super) fn connections(config: &Config, files: u64) -> Connections {
    let (tcp, web) = (config.limits.tcp_connections, config.web.connections);
    if files >= self::files(config) {
        return Connections { tcp, web };
    }
    let at_most = |configured: u32, files: u64| {
        let files = u32::try_from(files).unwrap_or(u32::MAX);
        configured.min(files.max(1))
    };
    let share = files / TCP_SHARE_OF_FILES;
    let tcp = at_most(tcp, share - (share / 2).min(files_passed_on(config)));
    let web = at_most(web, share.saturating_sub(tcp.into()) / FILES_PASSED_ON);
    Connections { tcp, web }
}

/// Files of all the connections that web servers may have.
fn files_passed_on(config: &Config) -> u64 {
    match config.web.servers().next() {
        Some(_) => FILES_PASSED_ON * u64::from(config.web.connections),
        None => 0,
    }
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
    let connections = u64::from(config.limits.tcp_connections) + files_passed_on(config);
    sockets + connections + FILES_AT_REST
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

    /// SEC-12, WEB-03: strangers' connections leave files for allocations, and those that a web server
    /// has are such, with two files each.
    #[test]
    fn scarce_files_cap_tcp_connections() {
        let mut config = load(&Sources::default(), &Host::probe()).unwrap().config;
        config.limits.tcp_connections = 4000;
        config.web.connections = 1000;
        let cap = |config: &Config, files| {
            let Connections { tcp, web } = connections(config, files);
            (tcp, web)
        };
        let enough = files(&config);
        for (files, tcp) in [(enough, 4000), (enough - 1, 4000), (1024, 256), (3, 1)] {
            assert_eq!(cap(&config, files).0, tcp, "{files}");
        }
        config.limits.tcp_connections = 100;
        assert_eq!(cap(&config, 1024).0, 100);

        config.limits.tcp_connections = 4000;
        config.web.http = Some("127.0.0.1:8080".parse().unwrap());
        assert_eq!(cap(&config, files(&config)), (4000, 1000));
        for (files, expected) in [(1024, (128, 64)), (512, (64, 32)), (3, (1, 1))] {
            assert_eq!(cap(&config, files), expected, "{files}");
        }
        let key = own_nonce_key();
        let tls = Tls::new(&config).unwrap();
        let settings = settings(&config, &Host::probe(), 1024, &key, &tls).unwrap();
        let told = (settings.stream.connections, settings.web.connections);
        assert_eq!(told, (128, 64), "the engine is told");
        // What the one does not need is the other's.
        config.limits.tcp_connections = 100;
        assert_eq!(cap(&config, 1024), (100, 78));
        config.limits.tcp_connections = 4000;
        config.web.connections = 10;
        assert_eq!(cap(&config, 1024), (236, 10));
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
