//! The value of every key that is left out, each with its reason.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

/// Clients are shown the realm and hash it into their keys, so it must not depend on the host.
pub const REALM: &str = "turnstone";

/// The port of STUN and TURN (RFC 8656 section 18.6) on every address of both families.
pub const LISTEN: [&str; 2] = ["0.0.0.0:3478", "[::]:3478"];

/// The port of TURN over TLS (RFC 8656 section 18.6), on the same addresses, once there is a
/// certificate.
pub const LISTEN_TLS: [&str; 2] = ["0.0.0.0:5349", "[::]:5349"];

/// Let's Encrypt: free, trusted everywhere, and what most operators mean.
pub const ACME_DIRECTORY: &str = "letsencrypt";

/// The directories that have a name.
pub const ACME_DIRECTORIES: [(&str, &str); 2] = [
    (
        "letsencrypt",
        "https://acme-v02.api.letsencrypt.org/directory",
    ),
    (
        "letsencrypt-staging",
        "https://acme-staging-v02.api.letsencrypt.org/directory",
    ),
];

/// Where the authority of a certificate looks by HTTP (RFC 8555 section 8.3), on every address; the
/// second one where there is no IPv6.
pub const ACME_HTTP_LISTEN: [&str; 2] = ["[::]:80", "0.0.0.0:80"];

/// The dynamic ports, which RFC 8656 section 7.2 tells servers to use.
pub const RELAY_PORTS: RangeInclusive<u16> = 49152..=65535;

/// Between expiry and user identifier in the names of time-limited credentials.
pub const REST_SEPARATOR: char = ':';

/// RFC 8656 section 5: a nonce should expire at least once every hour. A shorter life costs every
/// allocation one more round trip a life.
pub const NONCE_LIFETIME_S: u32 = 3600;

/// A browser makes about two allocations an interface and server, so this is ample for a person
/// and stops one leaked credential from taking all ports.
pub const ALLOCATIONS_PER_USER: u32 = 50;

/// The allocations of an office, a carrier's NAT or a household meet at one address; with 1000 it
/// takes sixteen of them to fill a server.
pub const ALLOCATIONS_PER_ADDRESS: u32 = 1000;

/// What one relay address has ports for, less some room.
pub const ALLOCATIONS_TOTAL: u32 = 16_000;

/// Several high-definition video streams at once, and a data channel that is not in a hurry.
pub const ALLOCATION_KBIT_PER_S: u32 = 50_000;

/// Two allocations at their limit, and a tenth of a common server's link. Shares of the allocations
/// add a quarter at most (`turn::limits`).
pub const USER_KBIT_PER_S: u32 = 100_000;

/// A peer connection needs one permission for each address among the candidates of its one peer or
/// conference server: ten or twenty, and those of a restart for five minutes more. Memory is what
/// more would cost: an allocation with all its permissions and channels has some 14 KB, a full
/// server some 230 MB. With 256 of each it would be 55 KB and 880 MB.
pub const PERMISSIONS_PER_ALLOCATION: u32 = 64;

/// As for permissions, but by address and port; RFC 8656 section 12 has 4096 channel numbers.
pub const CHANNELS_PER_ALLOCATION: u32 = 64;

/// Recommended by RFC 8656 section 7.2. Clients get 600 s unless they ask for more.
pub const MAX_LIFETIME_S: u32 = 3600;

/// RFC 8656 section 7.2: a reserved port is kept for at least 30 s.
pub const RESERVATION_S: u32 = 30;

/// Lets a peer that still sends to a freed port give up before the next client gets the port.
pub const PORT_REST_S: u32 = 30;

/// Ample for the first requests of everybody behind one NAT, and as a reflector not worth the
/// trouble: 18 kB a second.
pub const UNAUTHENTICATED_REPLIES_PER_S: u32 = 200;

/// More than anybody mistypes. It is 14,400 a day for an address and worker, ten times that for a
/// whole network (IPv4 /24, IPv6 /48): no way to find a password that is not in a dictionary.
pub const FAILED_AUTHENTICATIONS_PER_MINUTE: u32 = 10;

/// All TCP clients together: each costs a descriptor and its buffers.
pub const TCP_CONNECTIONS: u32 = 4000;

/// An office or a mobile network can be one address; a person has two or three connections.
pub const TCP_CONNECTIONS_PER_ADDRESS: u32 = 256;

/// A client's first message comes a round trip after its connection, so these are thousands of new
/// clients a second.
pub const TCP_HALF_OPEN: u32 = 512;

/// About two seconds of video at 1 Mbit/s: data older than that is useless to a call.
pub const TCP_SEND_QUEUE_BYTES: u32 = 262_144;

/// A quarter of a thousand clients at their slowest, or all of them when they are a little slow.
pub const TCP_QUEUES_TOTAL_BYTES: u32 = 64 << 20;

/// Time enough for a slow round trip, too short to hold connections cheaply.
pub const TCP_FIRST_MESSAGE_S: u32 = 10;

/// A connection without an allocation serves nobody.
pub const TCP_IDLE_S: u32 = 60;

/// As many as a small web server has at a time. With their buffers they take the quarter of
/// [`TCP_QUEUES_TOTAL_BYTES`] that they may have.
pub const WEB_CONNECTIONS: u32 = 1000;

/// Longer than browsers and web servers keep connections that they do not use.
pub const WEB_IDLE_S: u32 = 600;

/// Only this machine: what is told is no secret, and nobody else's business.
pub const METRICS_LISTEN: &str = "127.0.0.1:9641";

/// Where the credential service is once it has keys: for a back end or a proxy on this machine.
pub const CREDENTIALS_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8478);

/// A day, in seconds: longer than any call.
pub const CREDENTIALS_MAX_TTL_S: u32 = 86_400;

/// The events that hooks tell: all there are.
pub const HOOK_EVENTS: [&str; 4] = [
    "allocation_created",
    "allocation_ended",
    "authentication_failed",
    "credential_revoked",
];

/// Time enough for a receiver that stores what it gets before it answers.
pub const HOOK_TIMEOUT_S: u32 = 10;

/// The SOFTWARE attribute. Without a version, so that a scan does not learn which one to attack.
pub const SOFTWARE: &str = "turnstone";
