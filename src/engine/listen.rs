//! Binding the listeners, each once a worker.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use super::port_owner;
use super::settings::Settings;
use super::udp::sys::{BufferSizes, ListenerOptions, UdpSocket};
use crate::turn::Transport;

/// Bytes of a UDP listener's receive buffer: a tenth of a second of 1200-byte packets at 40 kpps.
/// Without a privilege the system's `net.core.rmem_max` is the most there is.
pub const RECEIVE_BUFFER: usize = 4 << 20;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Listeners for one worker, each with its place there.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// With what is spoken there.
    pub(super) udp: Vec<(usize, Transport, UdpSocket)>,
    pub(super) tcp: Vec<(usize, TcpListener)>,
}

/// An address that is to be listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) transport: Transport,
    /// Port 0 is one that the kernel chooses.
    pub(super) address: SocketAddr,
    /// Whether an IPv6 wildcard takes IPv4 clients as well.
    pub(super) dual_stack: bool,
}

/// The sockets of one address, one a worker.
#[derive(Debug)]
pub(super) enum Sockets {
    Udp(Vec<UdpSocket>),
    Tcp(Vec<TcpListener>),
}

/// Everything that is to be listened on.
pub(super) fn wanted(settings: &Settings) -> Vec<Wanted> {
    all(
        &settings.udp,
        &settings.tcp,
        &settings.tls_listeners,
        settings.dtls_listeners(),
    )
}

/// Likewise, by what is spoken there.
pub(super) fn all(
    udp: &[SocketAddr],
    tcp: &[SocketAddr],
    tls: &[SocketAddr],
    dtls: &[SocketAddr],
) -> Vec<Wanted> {
    // To the kernel there are two kinds.
    let datagrams = [udp, dtls].concat();
    let streams = [tcp, tls].concat();
    let of = |transport, addresses: &[SocketAddr], all: &[SocketAddr]| {
        let wanted = |&address: &SocketAddr| Wanted {
            transport,
            address,
            dual_stack: !has_v4_twin(address, all),
        };
        addresses.iter().map(wanted).collect::<Vec<_>>()
    };
    [
        of(Transport::Udp, udp, &datagrams),
        of(Transport::Tcp, tcp, &streams),
        of(Transport::Tls, tls, &streams),
        of(Transport::Dtls, dtls, &datagrams),
    ]
    .concat()
}

/// A listener that cannot be had, and why.
#[derive(Debug)]
pub struct ListenError {
    /// The protocol.
    pub transport: Transport,
    /// The address.
    pub address: SocketAddr,
    /// The kernel's reason.
    pub error: io::Error,
    /// Who has the port, where that can be seen.
    pub owner: Option<port_owner::Owner>,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            transport,
            address,
            error,
            owner,
        } = self;
        write!(f, "cannot listen on {address}/{transport}: ")?;
        match (error.kind(), owner) {
            (io::ErrorKind::AddrInUse, Some(owner)) => {
                write!(
                    f,
                    "the port is in use by {owner}; stop it, or set listen.{transport}"
                )?;
                if *transport != Transport::Udp && [80, 443].contains(&address.port()) {
                    f.write_str(
                        "; a web server can listen on 127.0.0.1, and have its clients passed on to it \
                         ([web])",
                    )?;
                }
                Ok(())
            }
            (io::ErrorKind::AddrInUse, None) => write!(
                f,
                "the port is in use by another process, perhaps coturn or a second turnstone; \
                 stop it, or set listen.{transport}"
            ),
            (io::ErrorKind::AddrNotAvailable, _) => {
                write!(
                    f,
                    "this host does not have the address; correct listen.{transport}"
                )
            }
            (io::ErrorKind::PermissionDenied, _) => write!(
                f,
                "not permitted; ports below 1024 need CAP_NET_BIND_SERVICE, or set \
                 listen.{transport}"
            ),
            _ => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ListenError {}

/// Binds every address once a worker; the kernel spreads clients over them. Port 0 becomes the
/// same port for all workers. What this host has no IPv6 for is left out.
pub(super) fn bind(
    wanted: &[Wanted],
    workers: usize,
) -> Result<Vec<(Wanted, SocketAddr, Sockets)>, ListenError> {
    // Sharing the port would hide a server that has it already.
    for &it in wanted.iter().filter(|it| it.address.port() != 0) {
        probe(it).or_else(|error| skip_missing_v6(it, error))?;
    }
    let mut all = Vec::new();
    for &it in wanted {
        let bound = match it.transport {
            Transport::Udp | Transport::Dtls => bind_udp(it, workers),
            Transport::Tcp | Transport::Tls => bind_tcp(it, workers),
        };
        match bound {
            Ok((local, sockets)) => all.push((it, local, sockets)),
            Err(error) => skip_missing_v6(it, error)?,
        }
    }
    Ok(all)
}

/// Binds an address alone, and gives it back.
fn probe(wanted: Wanted) -> io::Result<()> {
    let Wanted {
        address,
        dual_stack,
        ..
    } = wanted;
    match wanted.transport {
        Transport::Udp | Transport::Dtls => drop(UdpSocket::listener(
            address,
            &udp_options(dual_stack, false),
        )?),
        Transport::Tcp | Transport::Tls => drop(tcp_listener(address, dual_stack, false)?),
    }
    Ok(())
}

const fn udp_options(dual_stack: bool, reuse_port: bool) -> ListenerOptions {
    let buffers = BufferSizes {
        receive: Some(RECEIVE_BUFFER),
        send: Some(RECEIVE_BUFFER),
    };
    ListenerOptions {
        reuse_port,
        only_v6: !dual_stack,
        buffers,
    }
}

/// Whether another listener takes the IPv4 clients of an IPv6 wildcard.
fn has_v4_twin(address: SocketAddr, all: &[SocketAddr]) -> bool {
    let twin = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
    address.is_ipv6() && all.contains(&twin)
}

fn bind_udp(wanted: Wanted, workers: usize) -> io::Result<(SocketAddr, Sockets)> {
    let mut address = wanted.address;
    let mut sockets = Vec::new();
    for _ in 0..workers {
        // Among the ports that are free for one who shares are those of other servers that share.
        let choose = address.port() == 0;
        let socket = UdpSocket::listener(address, &udp_options(wanted.dual_stack, !choose))?;
        if choose {
            socket.share_port()?;
        }
        address.set_port(socket.local_addr().port());
        sockets.push(socket);
    }
    Ok((address, Sockets::Udp(sockets)))
}

fn bind_tcp(wanted: Wanted, workers: usize) -> io::Result<(SocketAddr, Sockets)> {
    let mut address = wanted.address;
    let mut sockets = Vec::new();
    for _ in 0..workers {
        let listener = tcp_listener(address, wanted.dual_stack, true)?;
        address.set_port(listener.local_addr()?.port());
        sockets.push(listener);
    }
    Ok((address, Sockets::Tcp(sockets)))
}

fn tcp_listener(
    address: SocketAddr,
    dual_stack: bool,
    reuse_port: bool,
) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!dual_stack)?;
    }
    // A restart must not wait for the last server's closed connections.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The default configuration listens on both families, and a host without IPv6 is no reason not to
/// start.
fn skip_missing_v6(wanted: Wanted, error: io::Error) -> Result<(), ListenError> {
    let Wanted {
        transport, address, ..
    } = wanted;
    let no_v6 = error.raw_os_error() == Some(libc::EAFNOSUPPORT)
        || error.kind() == io::ErrorKind::AddrNotAvailable;
    if no_v6 && address.is_ipv6() && address.ip().is_unspecified() {
        tracing::warn!(%address, %transport, "not listening: this host has no IPv6");
        return Ok(());
    }
    let owner = (error.kind() == io::ErrorKind::AddrInUse)
        .then(|| port_owner::find(transport, address))
        .flatten();
    Err(ListenError {
        transport,
        address,
        error,
        owner,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody stops their web server for a relay.
    #[test]
    fn a_web_server_on_the_port_can_share_it() {
        let told = |transport, address: &str| {
            let owner = port_owner::Owner {
                name: "nginx".to_owned(),
                pid: 7,
            };
            let error = ListenError {
                transport,
                address: address.parse().unwrap(),
                error: io::ErrorKind::AddrInUse.into(),
                owner: Some(owner),
            };
            error.to_string().contains("([web])")
        };
        assert!(told(Transport::Tls, "0.0.0.0:443") && told(Transport::Tcp, "[::]:80"));
        assert!(!told(Transport::Tcp, "0.0.0.0:3478") && !told(Transport::Udp, "0.0.0.0:443"));
    }
}
