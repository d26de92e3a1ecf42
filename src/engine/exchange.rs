//! Exchanging what the engine was told while it runs: listeners, relay addresses and ports, options
//! and limits.
//!
//! What can fail comes first and changes nothing. Allocations go on through all of it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::control::{Command, Control, Stopped};
use super::listen::{self, ListenError, Listeners, Sockets, Wanted};
use super::listeners::Places;
use super::settings::Settings;
use super::stream::{Admission, Budget, StreamSettings, TlsConfigs};
use super::{StartError, try_relay_address};
use crate::turn::{TooManyAddresses, Transport};

/// Ports below this one are for processes with a capability, which a server that runs has given up.
const UNPRIVILEGED_PORT: u16 = 1024;

/// Why settings are not exchanged. Nothing has changed then.
#[derive(Debug)]
pub enum ExchangeError {
    /// A new listener or relay address cannot be had.
    Start(StartError),
    /// There is no room for the new relay addresses.
    Relay(TooManyAddresses),
    /// An IPv6 wildcard would begin or cease to take IPv4 clients, which only a new socket can.
    DualStack(Transport, SocketAddr),
    /// A new listener has a port in common with one that there is, and the kernel cannot tell their
    /// clients apart.
    Overlap {
        /// The protocol of the new one.
        transport: Transport,
        /// The new one.
        new: SocketAddr,
        /// The one that there is.
        old: SocketAddr,
    },
    /// The server is stopping.
    Stopped(Stopped),
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(StartError::Listen(ListenError {
                transport,
                address,
                error,
                ..
            })) if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(f, "cannot listen on {address}/{transport}: ")?;
                if address.port() < UNPRIVILEGED_PORT {
                    write!(
                        f,
                        "a server that runs has no right to ports below {UNPRIVILEGED_PORT} any \
                         more; restart it, or correct listen.{transport}"
                    )
                } else {
                    write!(
                        f,
                        "not permitted; restart the server, or correct listen.{transport}"
                    )
                }
            }
            Self::Start(error) => error.fmt(f),
            Self::Relay(error) => write!(f, "relay.addresses: {error}; restart it"),
            Self::DualStack(transport, address) => write!(
                f,
                "listen.{transport}: whether {address} takes IPv4 clients too cannot change while \
                 the server runs; restart it"
            ),
            Self::Overlap {
                transport,
                new,
                old,
            } => write!(
                f,
                "listen.{transport}: {new} cannot take the place of this server's own {old} while it \
                 runs; restart it"
            ),
            Self::Stopped(stopped) => stopped.fmt(f),
        }
    }
}

impl std::error::Error for ExchangeError {}

impl From<Stopped> for ExchangeError {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped(stopped)
    }
}

/// A listener of all workers.
#[derive(Clone, Copy, Debug)]
struct Listener {
    wanted: Wanted,
    /// With the port that the kernel chose.
    local: SocketAddr,
    place: usize,
    /// Not configured any more: it serves those who have an allocation, and then goes.
    is_leaving: bool,
}

impl Listener {
    /// Whether both are the same one.
    fn is(&self, other: &Self) -> bool {
        let is_same_kind = self.wanted.transport.is_stream() == other.wanted.transport.is_stream();
        is_same_kind && self.place == other.place
    }
}

/// The listeners that there are.
#[derive(Debug, Default)]
pub(super) struct Registry {
    listeners: Vec<Listener>,
}

impl Registry {
    /// Gives each new listener a place, and each worker its sockets.
    pub(super) fn take_in(
        &mut self,
        bound: Vec<(Wanted, SocketAddr, Sockets)>,
        workers: usize,
    ) -> Vec<Listeners> {
        let mut all: Vec<Listeners> = (0..workers).map(|_| Listeners::default()).collect();
        for (wanted, local, sockets) in bound {
            let place = self.free_place(wanted.transport);
            self.listeners.push(Listener {
                wanted,
                local,
                place,
                is_leaving: false,
            });
            match sockets {
                Sockets::Udp(sockets) => {
                    for (worker, socket) in all.iter_mut().zip(sockets) {
                        worker.udp.push((place, wanted.transport, socket));
                    }
                }
                Sockets::Tcp(sockets) => {
                    for (worker, socket) in all.iter_mut().zip(sockets) {
                        worker.tcp.push((place, socket));
                    }
                }
            }
        }
        all
    }

    fn free_place(&self, transport: Transport) -> usize {
        let like = |it: &&Listener| it.wanted.transport.is_stream() == transport.is_stream();
        let taken = |place: &usize| {
            let mut like = self.listeners.iter().filter(like);
            !like.any(|it| it.place == *place)
        };
        (0..).find(taken).expect("there are fewer listeners")
    }

    fn of(&self, transport: Transport) -> impl Iterator<Item = &Listener> {
        let all = self.listeners.iter();
        all.filter(move |it| it.wanted.transport == transport)
    }

    /// Places of the listeners that take their own protocol only, and which.
    pub(super) fn strict(
        &self,
        wanted: &[Wanted],
        addresses: &[SocketAddr],
    ) -> Vec<(usize, Transport)> {
        let found = wanted.iter().zip(self.find_all(wanted));
        let strict =
            found.filter(|(it, _)| it.transport.is_stream() && addresses.contains(&it.address));
        let placed =
            strict.filter_map(|(it, found)| Some((self.listeners[found?].place, it.transport)));
        placed.collect()
    }

    /// Where clients of a transport are served, those included who only may finish.
    pub(super) fn addresses(&self, transport: Transport) -> Vec<SocketAddr> {
        self.of(transport).map(|it| it.local).collect()
    }

    /// The listener that there is for each that is wanted, by its index, and each for one: port 0 may be
    /// wanted for TCP and for TLS. One for TCP does for TLS as well, and the other way round, because
    /// the socket is the same; who has its own keeps it. One for UDP takes no DTLS.
    fn find_all(&self, wanted: &[Wanted]) -> Vec<Option<usize>> {
        let mut found = vec![None; wanted.len()];
        let same = |a: Transport, b: Transport| a == b;
        let alike = |a: Transport, b: Transport| a.is_stream() && b.is_stream();
        for fits in [same, alike] {
            for (place, wanted) in wanted.iter().enumerate() {
                let is_it = |index: &usize| {
                    let there = &self.listeners[*index].wanted;
                    fits(there.transport, wanted.transport) && there.address == wanted.address
                };
                let mut free = (0..self.listeners.len()).filter(|it| !found.contains(&Some(*it)));
                if found[place].is_none() {
                    found[place] = free.find(is_it);
                }
            }
        }
        found
    }

    /// Has listeners be what is wanted of them now.
    fn rename(&mut self, wanted: &[Wanted]) {
        for (wanted, found) in wanted.iter().zip(self.find_all(wanted)) {
            if let Some(index) = found {
                self.listeners[index].wanted.transport = wanted.transport;
            }
        }
    }

    /// A wildcard and an address of the same port are one socket's or the other's. To the kernel TLS
    /// is TCP.
    fn check_overlap(&self, wanted: &Wanted) -> Result<(), ExchangeError> {
        let new = wanted.address;
        let takes = |wildcard: &Wanted, ip: IpAddr| {
            let is_same_family = wildcard.address.is_ipv4() == ip.is_ipv4();
            let is_wider = wildcard.address.is_ipv6() && wildcard.dual_stack;
            wildcard.address.ip().is_unspecified() && (is_same_family || is_wider)
        };
        let overlaps = |old: &&Listener| {
            let is_same_kind = wanted.transport.is_stream() == old.wanted.transport.is_stream();
            let is_same_port = new.port() != 0 && new.port() == old.local.port();
            let is_same_address = new.ip() == old.local.ip();
            is_same_kind
                && is_same_port
                && (is_same_address
                    || takes(wanted, old.local.ip())
                    || takes(&old.wanted, new.ip()))
        };
        match self.listeners.iter().find(overlaps) {
            None => Ok(()),
            Some(old) => Err(ExchangeError::Overlap {
                transport: wanted.transport,
                new,
                old: old.local,
            }),
        }
    }

    /// What is to be done for these to be the listeners.
    fn plan(&self, wanted: &[Wanted]) -> Result<Plan, ExchangeError> {
        let mut plan = Plan::default();
        let found = self.find_all(wanted);
        for (wanted, found) in wanted.iter().zip(&found) {
            match found.map(|index| &self.listeners[index]) {
                None => plan.new.push(*wanted),
                Some(there) if there.wanted.dual_stack != wanted.dual_stack => {
                    let Wanted {
                        transport, address, ..
                    } = *wanted;
                    return Err(ExchangeError::DualStack(transport, address));
                }
                Some(there) if there.is_leaving => plan.back.push(*there),
                Some(_) => {}
            }
        }
        plan.new
            .iter()
            .try_for_each(|new| self.check_overlap(new))?;
        let others = self.listeners.iter().enumerate();
        let gone = others.filter(|(index, it)| !found.contains(&Some(*index)) && !it.is_leaving);
        plan.gone = gone.map(|(_, it)| *it).collect();
        Ok(plan)
    }
}

/// Which listeners come and go.
#[derive(Debug, Default)]
struct Plan {
    new: Vec<Wanted>,
    /// Those that were to go.
    back: Vec<Listener>,
    gone: Vec<Listener>,
}

fn places(listeners: &[Listener]) -> Places {
    let of = |is_stream| {
        let of = listeners
            .iter()
            .filter(move |it| it.wanted.transport.is_stream() == is_stream);
        of.map(|it| it.place).collect()
    };
    Places {
        udp: of(false),
        tcp: of(true),
    }
}

/// What is exchanged outside of the workers.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Held while settings or listeners are exchanged.
    turn: tokio::sync::Mutex<()>,
    registry: Mutex<Registry>,
    pub(super) admission: Admission,
    budget: Budget,
}

impl Exchange {
    pub(super) fn new(registry: Registry, admission: Admission, budget: Budget) -> Self {
        Self {
            turn: tokio::sync::Mutex::default(),
            registry: Mutex::new(registry),
            admission,
            budget,
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listener as operators see it.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    /// The protocol.
    pub transport: Transport,
    /// With the port that the kernel chose.
    pub address: SocketAddr,
    /// Whether it is not configured any more, and serves those who have an allocation alone.
    pub is_leaving: bool,
}

impl Control {
    /// Every listener.
    pub fn all_listeners(&self) -> Vec<Listening> {
        let registry = self.exchange.registry();
        let listeners = registry.listeners.iter().map(|it| Listening {
            transport: it.wanted.transport,
            address: it.local,
            is_leaving: it.is_leaving,
        });
        listeners.collect()
    }

    /// Where clients of a transport are served now.
    pub fn listeners(&self, transport: Transport) -> Vec<SocketAddr> {
        self.exchange.registry().addresses(transport)
    }

    /// Goes on with other settings; the number of workers and the host's own addresses stay as they
    /// are. Allocations go on: those at a listener, a relay address or a port that is not among the
    /// settings any more, too, and nobody else gets there.
    ///
    /// # Errors
    /// If a new listener or relay address cannot be had, or the server is stopping.
    pub async fn exchange(&self, settings: Settings) -> Result<(), ExchangeError> {
        let _turn = self.exchange.turn.lock().await;
        let wanted = listen::wanted(&settings);
        let plan = self.exchange.registry().plan(&wanted)?;
        for relay in &settings.relay_addresses {
            try_relay_address(relay.bound).map_err(ExchangeError::Start)?;
        }
        let new = self.prepare(&plan.new).await?;
        let open = [&new[..], &plan.back].concat();
        let [udp, dtls] = [Transport::Udp, Transport::Dtls].map(|it| self.listeners(it));
        let udp = [udp, dtls].concat();
        let ports = settings.relay_ports.clone();
        let exchanged = self
            .shared
            .ports
            .exchange(&settings.relay_addresses, ports, &udp);
        if let Err(error) = exchanged {
            self.close(&new).await?;
            return Err(ExchangeError::Relay(error));
        }
        {
            // What listens is no peer. What is closed is one again with the next exchange.
            let mut configured = self.configured.lock().await;
            let [tcp, tls] = [Transport::Tcp, Transport::Tls].map(|it| self.listeners(it));
            configured.listeners = [udp, tcp, tls].concat();
            configured.options = settings.options;
            self.tell(&configured).await?;
        }
        self.exchange.admission.set_limits(&settings.stream);
        let queues = settings.stream.queues_total_bytes;
        self.exchange.budget.set_max(queues);
        let streams = StreamSettings {
            limits: settings.stream,
            tls: settings.tls.map(TlsConfigs::new),
            #[cfg(feature = "dtls")]
            dtls: settings.dtls,
            strict: self
                .exchange
                .registry()
                .strict(&wanted, &settings.strict_listeners),
            proxies: settings.proxy_protocol_from,
            web: settings.web,
        };
        let ask = |reply| Command::SetStreams {
            settings: streams.clone(),
            reply,
        };
        self.ask_all(ask).await?;
        let places = places(&open);
        let ask = |reply| Command::Open {
            places: places.clone(),
            reply,
        };
        self.ask_all(ask).await?;
        self.set_leaving(&plan.back, false);
        self.see_off(&plan.gone).await?;
        self.exchange.registry().rename(&wanted);
        Ok(())
    }

    /// Binds listeners and gives them to the workers, which serve nobody there yet.
    async fn prepare(&self, wanted: &[Wanted]) -> Result<Vec<Listener>, ExchangeError> {
        let workers = self.workers.len();
        let bound = listen::bind(wanted, workers)
            .map_err(|error| ExchangeError::Start(StartError::Listen(error)))?;
        let (new, listeners) = {
            let mut registry = self.exchange.registry();
            let before = registry.listeners.len();
            let listeners = registry.take_in(bound, workers);
            (registry.listeners[before..].to_vec(), listeners)
        };
        for (worker, listeners) in listeners.into_iter().enumerate() {
            let ask = |reply| Command::Prepare { listeners, reply };
            if let Err(error) = self.ask(worker, ask).await? {
                self.close(&new).await?;
                return Err(ExchangeError::Start(StartError::System(error)));
            }
        }
        Ok(new)
    }

    /// TCP listeners go at once: the connections of clients are sockets of their own.
    async fn see_off(&self, gone: &[Listener]) -> Result<(), Stopped> {
        let is_udp = |it: &&Listener| !it.wanted.transport.is_stream();
        let udp: Vec<Listener> = gone.iter().filter(is_udp).copied().collect();
        let tcp: Vec<Listener> = gone.iter().filter(|it| !is_udp(it)).copied().collect();
        self.set_leaving(&udp, true);
        let places = places(&udp).udp;
        let ask = |reply| Command::Leave {
            udp: places.clone(),
            reply,
        };
        self.ask_all(ask).await?;
        self.close(&tcp).await?;
        self.close_unused().await.map(drop)
    }

    /// Whether there are listeners that are to go.
    pub fn has_left_listeners(&self) -> bool {
        let registry = self.exchange.registry();
        registry.listeners.iter().any(|it| it.is_leaving)
    }

    /// Closes the listeners that are to go and that no allocation has any more. Returns how many
    /// are left. To be called now and then while there are any.
    ///
    /// # Errors
    /// If the server is stopping.
    pub async fn close_left_listeners(&self) -> Result<usize, Stopped> {
        let _turn = self.exchange.turn.lock().await;
        self.close_unused().await
    }

    async fn close_unused(&self) -> Result<usize, Stopped> {
        let leaving: Vec<Listener> = {
            let registry = self.exchange.registry();
            let leaving = registry.listeners.iter().filter(|it| it.is_leaving);
            leaving.copied().collect()
        };
        let mut unused = Vec::new();
        for listener in &leaving {
            if !self.is_used(listener.place).await? {
                unused.push(*listener);
            }
        }
        self.close(&unused).await?;
        Ok(leaving.len() - unused.len())
    }

    async fn is_used(&self, udp: usize) -> Result<bool, Stopped> {
        for worker in 0..self.workers.len() {
            let ask = |reply| Command::IsUsed { udp, reply };
            if self.ask(worker, ask).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn close(&self, listeners: &[Listener]) -> Result<(), Stopped> {
        if listeners.is_empty() {
            return Ok(());
        }
        let places = places(listeners);
        let ask = |reply| Command::Close {
            places: places.clone(),
            reply,
        };
        self.ask_all(ask).await?;
        let is_closed = |it: &Listener| listeners.iter().any(|closed| closed.is(it));
        self.exchange
            .registry()
            .listeners
            .retain(|it| !is_closed(it));
        Ok(())
    }

    fn set_leaving(&self, listeners: &[Listener], is_leaving: bool) {
        for it in &mut self.exchange.registry().listeners {
            if listeners.iter().any(|other| other.is(it)) {
                it.is_leaving = is_leaving;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(udp: &[&str], tcp: &[&str]) -> Registry {
        let mut registry = Registry::default();
        for wanted in all(udp, tcp) {
            let none = match wanted.transport {
                Transport::Udp | Transport::Dtls => Sockets::Udp(vec![]),
                Transport::Tcp | Transport::Tls => Sockets::Tcp(vec![]),
            };
            registry.take_in(vec![(wanted, wanted.address, none)], 1);
        }
        registry
    }

    fn all(udp: &[&str], tcp: &[&str]) -> Vec<Wanted> {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        listen::all(&addresses(udp), &addresses(tcp), &[], &[])
    }

    /// RELOAD-05: an address that goes from TCP to TLS keeps its socket, and is strict about what it
    /// is now.
    #[test]
    fn a_listener_becomes_one_for_tls() {
        let (a, b) = ("192.0.2.1:0", "192.0.2.1:1");
        let mut registry = registry(&[a], &[a, b]);
        let [a, b] = [a, b].map(|text| text.parse().unwrap());
        let wanted = listen::all(&[a], &[b], &[a], &[]);
        let plan = registry.plan(&wanted).unwrap();
        assert!(plan.new.is_empty() && plan.back.is_empty() && plan.gone.is_empty());
        assert_eq!(registry.strict(&wanted, &[a]), [(0, Transport::Tls)]);
        registry.rename(&wanted);
        assert_eq!(registry.addresses(Transport::Tls), [a]);
        assert_eq!(registry.addresses(Transport::Tcp), [b]);
        assert_eq!(registry.free_place(Transport::Tls), 2, "places are of both");
    }

    /// RELOAD-05: a port that the kernel chooses is one for each.
    #[test]
    fn port_0_may_be_wanted_twice() {
        let a: SocketAddr = "192.0.2.1:0".parse().unwrap();
        let both = listen::all(&[], &[a], &[a], &[]);
        let [tcp, tls] = both[..] else { panic!() };
        for (there, comes) in [(tcp, tls), (tls, tcp)] {
            let mut registry = Registry::default();
            registry.take_in(vec![(there, a, Sockets::Tcp(vec![]))], 1);
            let plan = registry.plan(&both).unwrap();
            assert_eq!((plan.new, plan.gone.len()), (vec![comes], 0));
            registry.take_in(vec![(comes, a, Sockets::Tcp(vec![]))], 1);
            registry.rename(&both);
            let strict = registry.strict(&both, &[a]);
            assert_eq!(strict.len(), 2);
            assert!(
                strict.contains(&(0, there.transport)) && strict.contains(&(1, comes.transport))
            );
            let plan = registry.plan(&both).unwrap();
            assert!(plan.new.is_empty() && plan.gone.is_empty());
            let plan = registry.plan(&[comes]).unwrap();
            assert_eq!((plan.gone[0].place, plan.gone.len()), (0, 1));
        }
    }

    /// RELOAD-05: by transport and address as configured, and a place is used again.
    #[test]
    fn what_comes_and_what_goes() {
        let (a, b, c) = ("192.0.2.1:0", "192.0.2.1:1", "192.0.2.1:2");
        let mut registry = registry(&[a, b], &[a]);
        let places: Vec<usize> = registry.listeners.iter().map(|it| it.place).collect();
        assert_eq!(places, [0, 1, 0]);
        let plan = registry.plan(&all(&[a, b], &[a])).unwrap();
        assert!(plan.new.is_empty() && plan.back.is_empty() && plan.gone.is_empty());

        let plan = registry.plan(&all(&[b, c], &[a])).unwrap();
        assert_eq!(plan.new, all(&[c], &[]));
        assert_eq!(plan.gone.len(), 1);
        assert_eq!(plan.gone[0].wanted, all(&[a], &[])[0]);
        registry.listeners[0].is_leaving = true;
        let plan = registry.plan(&all(&[b], &[a])).unwrap();
        assert!(plan.gone.is_empty(), "it goes already");
        let plan = registry.plan(&all(&[a, b], &[a])).unwrap();
        assert_eq!((plan.new.len(), plan.back.len()), (0, 1));

        registry.listeners.remove(0);
        assert_eq!(registry.free_place(Transport::Udp), 0);
        assert_eq!(registry.free_place(Transport::Tcp), 1);
    }

    /// RELOAD-05: it is not another process that has the port.
    #[test]
    fn a_wildcard_and_an_address_of_one_port_are_told_apart_by_a_restart() {
        let cases = [
            ("0.0.0.0:3478", "192.0.2.1:3478", true),
            ("192.0.2.1:3478", "0.0.0.0:3478", true),
            ("[::]:3478", "192.0.2.1:3478", true),
            ("[::]:3478", "[2001:db8::1]:3478", true),
            ("0.0.0.0:3478", "[2001:db8::1]:3478", false),
            ("0.0.0.0:3478", "192.0.2.1:3479", false),
            ("192.0.2.1:3478", "192.0.2.2:3478", false),
        ];
        for (old, new, overlaps) in cases {
            let plan = registry(&[old], &[]).plan(&all(&[new], &[]));
            let told = plan.err().map(|error| error.to_string());
            assert_eq!(told.is_some(), overlaps, "{old} and {new}");
            if let Some(told) = told {
                let expected =
                    format!("listen.udp: {new} cannot take the place of this server's own {old}");
                assert!(told.starts_with(&expected), "{told}");
            }
        }
    }

    /// RELOAD-05: whichever of the two is for TLS.
    #[test]
    fn tcp_and_tls_of_one_port_are_one_kind_of_socket() {
        let wildcard: SocketAddr = "0.0.0.0:443".parse().unwrap();
        let address: SocketAddr = "192.0.2.1:443".parse().unwrap();
        let registry = registry(&["0.0.0.0:443"], &["0.0.0.0:443"]);
        let wanted = listen::all(&[wildcard], &[], &[address], &[]);
        let told = registry.plan(&wanted).unwrap_err().to_string();
        let expected = "listen.tls: 192.0.2.1:443 cannot take the place of this server's own \
                        0.0.0.0:443 while it runs; restart it";
        assert_eq!(told, expected);
        let wanted = listen::all(&[wildcard], &[], &[wildcard], &[]);
        assert!(
            registry.plan(&wanted).unwrap().new.is_empty(),
            "it is renamed"
        );
    }

    /// RELOAD-05: each of the two takes its own family.
    #[test]
    fn a_second_wildcard_may_come() {
        let (v4, v6) = ("0.0.0.0:3478", "[::]:3478");
        let plan = registry(&[v4], &[]).plan(&all(&[v4, v6], &[])).unwrap();
        assert_eq!(plan.new.len(), 1);
    }

    /// RELOAD-05: a socket takes IPv4 clients from its beginning or never.
    #[test]
    fn a_wildcard_stays_as_wide_as_it_is() {
        let (v4, v6) = ("0.0.0.0:3478", "[::]:3478");
        for (before, after) in [(&[v6][..], &[v4, v6][..]), (&[v4, v6], &[v6])] {
            let refused = registry(before, &[]).plan(&all(after, &[])).unwrap_err();
            let told = refused.to_string();
            assert!(
                told.starts_with("listen.udp: whether [::]:3478 takes"),
                "{told}"
            );
        }
    }
}
