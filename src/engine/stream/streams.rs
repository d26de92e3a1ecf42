//! What a worker has for all of its streams.

use std::net::IpAddr;
use std::rc::Rc;

use ipnet::IpNet;
#[cfg(feature = "dtls")]
use openssl::ssl::SslContext;
use tokio::sync::Semaphore;

use super::admission::Admission;
use super::alpn::TlsConfigs;
use super::budget::Budget;
use super::connection::Connections;
use super::ending::Endings;
use super::opening::Accepts;
use super::queue::Losses;
use super::tls::Workbench;
use crate::engine::settings::{StreamLimits, Web};
use crate::metrics::{self, TLS_HANDSHAKES};
use crate::turn::Transport;

/// Bytes that are read from a stream at a time.
pub(super) const BUFFER: usize = 16 * 1024;

/// Bytes that are read at a time from a stream without an allocation: 200 requests take as long as the
/// private key of a handshake.
pub(super) const STRANGER_BUFFER: usize = 4 * 1024;

/// Connections without an allocation that are read from before datagrams are again. The private key of a
/// handshake takes a tenth of a millisecond (ECDSA) to one (RSA).
const STRANGERS_PER_ROUND: usize = 4;

/// What listeners and connections are told, which can change while the server runs.
#[derive(Clone, Debug)]
pub(in crate::engine) struct StreamSettings {
    pub(in crate::engine) limits: StreamLimits,
    /// For the connections that come from here on.
    pub(in crate::engine) tls: Option<TlsConfigs>,
    /// Likewise for sessions of DTLS.
    #[cfg(feature = "dtls")]
    pub(in crate::engine) dtls: Option<SslContext>,
    /// Places of the listeners that take one protocol only, and which.
    pub(in crate::engine) strict: Vec<(usize, Transport)>,
    /// From where a PROXY protocol header is believed.
    pub(in crate::engine) proxies: Vec<IpNet>,
    pub(in crate::engine) web: Web,
}

/// Connections, the buffers that they share, and what was counted.
pub(in crate::engine) struct Streams {
    pub(in crate::engine) connections: Connections,
    pub(in crate::engine) settings: StreamSettings,
    pub(in crate::engine) admission: Admission,
    pub(in crate::engine) budget: Budget,
    /// What was read.
    pub(super) buffer: Box<[u8]>,
    /// The plaintext of it.
    pub(super) plain: Vec<u8>,
    pub(super) workbench: Workbench,
    /// For connections without an allocation: a crowd of handshakes or requests must not hold up calls.
    pub(super) turns: Rc<Semaphore>,
    /// Connections that were let in.
    pub(in crate::engine) accepted: u64,
    /// Connections that were not.
    pub(in crate::engine) refusals: Endings,
    pub(in crate::engine) endings: Endings,
    pub(in crate::engine) ended_by_client: u64,
    /// Frames that were lost.
    pub(in crate::engine) losses: Losses,
    /// Of those that were lost to the memory of all, how many have been told.
    pub(super) memory_losses_told: u64,
    pub(in crate::engine) handshakes: [u64; TLS_HANDSHAKES.len()],
    pub(in crate::engine) web: metrics::Web,
}

impl Streams {
    pub(in crate::engine) fn new(
        settings: StreamSettings,
        admission: Admission,
        budget: Budget,
    ) -> Self {
        Self {
            connections: Connections::default(),
            settings,
            admission,
            budget,
            buffer: vec![0; BUFFER].into(),
            plain: Vec::with_capacity(2 * BUFFER),
            workbench: Workbench::default(),
            turns: Rc::new(Semaphore::new(STRANGERS_PER_ROUND)),
            accepted: 0,
            refusals: Endings::default(),
            endings: Endings::default(),
            ended_by_client: 0,
            losses: Losses::default(),
            memory_losses_told: 0,
            handshakes: [0; TLS_HANDSHAKES.len()],
            web: metrics::Web::default(),
        }
    }

    /// What the listener at a place takes.
    pub(super) fn accepts(&self, place: usize) -> Accepts {
        let StreamSettings {
            strict, tls, web, ..
        } = &self.settings;
        let only = strict.iter().find(|(strict, _)| *strict == place);
        let only = only.map(|(_, transport)| *transport);
        Accepts::new(only, tls.is_some(), web)
    }

    /// Whether somebody speaks for others.
    pub(super) fn is_proxy(&self, address: IpAddr) -> bool {
        let mut proxies = self.settings.proxies.iter();
        proxies.any(|network| network.contains(&address))
    }

    /// Has the frames told that were lost to the memory of all since they last were; `tell` says
    /// whether it did, and if not they are told with the next ones.
    pub(in crate::engine) fn tell_memory_losses(&mut self, tell: impl FnOnce(u64) -> bool) {
        let lost = self.losses.memory.frames;
        let untold = lost - self.memory_losses_told;
        if untold > 0 && tell(untold) {
            self.memory_losses_told = lost;
        }
    }
}

/// What a connection needs to begin TLS, and where it counts.
pub(super) struct TlsHost<'a> {
    pub(super) configs: Option<&'a TlsConfigs>,
    /// Who may get it instead.
    pub(super) web: &'a Web,
    pub(super) workbench: &'a Workbench,
    pub(super) budget: &'a Budget,
    pub(super) handshakes: &'a mut [u64; TLS_HANDSHAKES.len()],
}

#[cfg(test)]
impl StreamSettings {
    /// Nobody is let in.
    pub(in crate::engine) fn closed() -> Self {
        Self {
            limits: StreamLimits {
                connections: 0,
                connections_per_address: 0,
                half_open: 0,
                send_queue_bytes: 0,
                queues_total_bytes: 0,
                first_message_s: 0,
                idle_s: 0,
            },
            tls: None,
            #[cfg(feature = "dtls")]
            dtls: None,
            strict: vec![],
            proxies: vec![],
            web: Web::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::stream::queue::Dropped;

    fn streams() -> Streams {
        let settings = StreamSettings {
            strict: vec![(3, Transport::Tls)],
            proxies: vec!["192.0.2.0/24".parse().unwrap()],
            ..StreamSettings::closed()
        };
        let admission = Admission::new(&settings.limits);
        Streams::new(settings, admission, Budget::new(0))
    }

    /// SEC-18: a line that the limit of lines keeps back takes no number along.
    #[test]
    fn lost_frames_are_told_once_there_is_a_line_for_them() {
        let mut streams = streams();
        let mut told = Vec::new();
        for (lost, has_line) in [(2, true), (3, false), (0, false), (4, true), (0, true)] {
            for _ in 0..lost {
                streams.losses.memory += Dropped::one(9);
            }
            streams.tell_memory_losses(|frames| {
                told.push((frames, has_line));
                has_line
            });
        }
        assert_eq!(told, [(2, true), (3, false), (3, false), (7, true)]);
    }

    /// PROXY-03
    #[test]
    fn proxies_are_those_of_the_networks() {
        let streams = streams();
        let is_proxy = |ip: &str| streams.is_proxy(ip.parse().unwrap());
        assert!(is_proxy("192.0.2.255") && !is_proxy("192.0.3.0") && !is_proxy("::ffff:192.0.2.1"));
    }

    #[test]
    fn a_listener_is_strict_by_its_place() {
        let streams = streams();
        assert!(streams.accepts(2).plain && !streams.accepts(3).plain);
    }
}
