//! A peer outside the server: whether what it sends reaches the relayed address, and what the relay
//! sends reaches it.
//!
//! Two allocations of one server reach each other inside it, through no firewall. Real peers do not.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::client::{Client, random_id};
use super::data::Source;
use super::failure::Failure;
use super::transport::{Link, Transport};
use crate::wire::TransactionId;

/// How long a packet is repeated, each way, before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// Time to the first repetition, which doubles.
const REPEAT: Duration = Duration::from_millis(250);

/// How it went.
pub(super) enum Outcome {
    /// Both ways work.
    Open,
    /// It could not be tried, and why.
    Untried(String),
    Failed(Failure),
}

/// This machine as the server sees it over UDP; `None` where no UDP goes there and back.
///
/// Many networks that need TCP let no UDP out at all, and some show another address for it.
pub(super) fn own_ip(server: SocketAddr, deadline: Instant) -> Option<IpAddr> {
    let deadline = until(deadline);
    let link = Link::open(Transport::Udp, server, deadline).ok()?;
    let mapped_address = Client::new(link, deadline).binding(deadline).ok()?;
    Some(mapped_address.ip())
}

/// Sends from a socket here to the relayed address of `near`, and back. `own_ip` is this machine as
/// the server sees it over UDP.
pub(super) fn knock(
    near: &mut Client<'_>,
    server: IpAddr,
    relayed_address: SocketAddr,
    own_ip: Option<IpAddr>,
    deadline: Instant,
) -> Outcome {
    let relay = relayed_address.ip();
    let Some(own_ip) = own_ip else {
        return untried("no UDP between here and the server");
    };
    // Its packets to itself meet no firewall, and it may rightly refuse them.
    if own_ip == server || own_ip == relay || near.link.local_ip() == Some(server) {
        return untried("this machine is the server: run it elsewhere, too");
    }
    if own_ip.is_ipv4() != relay.is_ipv4() {
        return untried("the relayed address is of another family");
    }
    // No packet of the relay may have gone out before: it would open a firewall for answers.
    match near.create_permission(SocketAddr::new(own_ip, 9)) {
        Ok(()) => {}
        Err(Failure::Refused(refusal)) => {
            return Outcome::Untried(format!("the server refuses {own_ip} as a peer: {refusal}"));
        }
        Err(failure) => return Outcome::Failed(failure),
    }
    let peer = match open(relayed_address) {
        Ok(peer) => peer,
        Err(error) => return Outcome::Untried(format!("no way to the relayed address: {error}")),
    };
    knock_and_answer(near, &peer, relayed_address, deadline).unwrap_or_else(Outcome::Failed)
}

fn untried(why: &str) -> Outcome {
    Outcome::Untried(why.to_owned())
}

/// A connected socket, which hears of ICMP errors.
fn open(relayed_address: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match relayed_address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(relayed_address)?;
    Ok(socket)
}

fn knock_and_answer(
    near: &mut Client<'_>,
    peer: &UdpSocket,
    relayed_address: SocketAddr,
    deadline: Instant,
) -> Result<Outcome, Failure> {
    let TransactionId(tag) = random_id();
    let closed = |refused| Failure::ClosedRelay {
        relayed_address,
        refused,
    };
    let mut blocked = None;
    let arrived = repeat(deadline, |until| {
        // An error is ICMP's answer to the packet before, or this machine's own refusal.
        match peer.send(&tag) {
            Ok(_) => {}
            Err(error) if is_icmp(&error) => return Err(closed(true)),
            Err(error) => blocked = Some(error),
        }
        while let Some((source, data)) = near.receive_data(until)? {
            match source {
                Source::Peer(address) if data == tag => return Ok(Some(address)),
                _ => {}
            }
        }
        Ok(None)
    })?;
    let address = match (arrived, blocked) {
        (Some(address), _) => address,
        (None, Some(error)) => {
            return Ok(Outcome::Untried(format!(
                "no way out of this machine: {error}"
            )));
        }
        (None, None) => return Err(closed(false)),
    };

    let TransactionId(answer) = random_id();
    let mut buffer = [0; 64];
    repeat(deadline, |until| {
        near.send_indication(address, &answer)?;
        let wait = until.saturating_duration_since(Instant::now());
        // Zero would be no timeout at all.
        peer.set_read_timeout(Some(wait.max(Duration::from_millis(1))))
            .map_err(Failure::from_io)?;
        let len = peer.recv(&mut buffer).unwrap_or(0);
        Ok((buffer[..len] == answer).then_some(()))
    })?
    .map(|()| Outcome::Open)
    .ok_or(Failure::NoWayOut { peer: address })
}

fn is_icmp(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(
        error.kind(),
        ConnectionRefused | HostUnreachable | NetworkUnreachable
    )
}

/// When the patience is at its end: the steps that follow need most of the time.
fn until(deadline: Instant) -> Instant {
    let now = Instant::now();
    now + PATIENCE.min(deadline.saturating_duration_since(now) / 3)
}

/// Repeats a packet until it has arrived, or the patience is at its end.
fn repeat<T>(
    deadline: Instant,
    mut send: impl FnMut(Instant) -> Result<Option<T>, Failure>,
) -> Result<Option<T>, Failure> {
    let deadline = until(deadline);
    let mut pause = REPEAT;
    while Instant::now() < deadline {
        if let Some(arrived) = send(deadline.min(Instant::now() + pause))? {
            return Ok(Some(arrived));
        }
        pause *= 2;
    }
    Ok(None)
}
