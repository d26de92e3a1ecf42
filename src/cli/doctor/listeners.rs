//! Every listener that the configuration asks for: those of clients, and those of HTTP.

use std::fmt;
use std::net::SocketAddr;

use crate::config::Config;
use crate::turn::Transport;

/// Where the server listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listener {
    /// The key that names it.
    pub(super) key: &'static str,
    /// As the kernel sees it: TLS is TCP.
    pub(super) transport: Transport,
    pub(super) address: SocketAddr,
    /// Whether it is one of those that take clients.
    pub(super) is_for_clients: bool,
    /// Whether the server does not start without it.
    pub(super) is_needed: bool,
}

/// All of them; port 0 is one that the kernel chooses.
pub(super) fn all(config: &Config) -> Vec<Listener> {
    let clients = |key, transport, addresses: &[SocketAddr]| {
        let listener = move |&address| Listener {
            key,
            transport,
            address,
            is_for_clients: true,
            is_needed: true,
        };
        addresses.iter().map(listener).collect::<Vec<_>>()
    };
    let mut all = clients("listen.udp", Transport::Udp, &config.listen.udp);
    all.extend(clients("listen.tcp", Transport::Tcp, &config.listen.tcp));
    all.extend(clients("listen.tls", Transport::Tcp, &config.listen.tls));
    all.extend(clients("listen.dtls", Transport::Udp, &config.listen.dtls));
    let metrics = &config.metrics;
    let http = [
        ("metrics.listen", metrics.listen, !metrics.is_default),
        ("admin.listen", config.admin.listen, true),
        ("credentials.listen", config.credentials.listen, true),
        (
            "tls.acme.http_listen",
            config.tls.acme.http_listener(),
            true,
        ),
    ];
    all.extend(http.into_iter().filter_map(|(key, address, is_needed)| {
        Some(Listener {
            key,
            transport: Transport::Tcp,
            address: address?,
            is_for_clients: false,
            is_needed,
        })
    }));
    all
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.transport)?;
        if !self.is_for_clients {
            write!(f, " ({})", self.key)?;
        }
        Ok(())
    }
}
