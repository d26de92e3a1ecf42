//! What happens, read from the fuzzer's bytes: one byte says what, the next ones say how.

use std::net::SocketAddr;

use arbitrary::Unstructured;
use turnstone::auth::userhash;
use turnstone::turn::{Client, FiveTuple, IpHeader, Link, RelayFailure, Transport};
use turnstone::wire::{
    AttributeType as A, Class, IcmpAttribute, MessageBuilder, Method, TransactionId,
};

use crate::host::{UNIX_ORIGIN_S, address, alice, bob};
use crate::message::{Account, REALM, Reply, Scheme, UDP, build, channel_data, sign};

pub(crate) enum Operation {
    Packet {
        client: u8,
        ip: IpHeader,
        packet: Packet,
    },
    /// A peer's datagram to one of the bound sockets.
    Peer {
        socket: u8,
        peer: Peer,
        len: usize,
        ip: IpHeader,
    },
    Icmp {
        socket: u8,
        peer: Peer,
        icmp: IcmpAttribute,
    },
    /// On one of the sockets that were asked for.
    Report {
        which: u8,
        outcome: Result<(), RelayFailure>,
    },
    /// On one that is closed by now.
    LateReport {
        which: u8,
        outcome: Result<(), RelayFailure>,
    },
    Disconnect {
        client: u8,
    },
    Pass {
        ms: u64,
    },
    ShutDown,
}

pub(crate) enum Packet {
    Request {
        method: Method,
        credentials: Credentials,
        parts: Vec<Part>,
        behind: Vec<Part>,
        fingerprint: bool,
    },
    /// Whatever is no request.
    Other {
        class: Class,
        method: Method,
        parts: Vec<Part>,
    },
    ChannelData {
        number: u16,
        len: usize,
        cut: u8,
    },
    Raw(Vec<u8>),
    /// What somebody sent some time ago, with some bits flipped.
    Again {
        back: u8,
        at: u16,
        flip: u8,
    },
}

#[derive(Clone, Copy)]
pub(crate) struct Credentials {
    account: u8,
    scheme: Scheme,
    fault: Fault,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    No,
    /// There are none.
    Absent,
    Password,
    Realm,
    /// The nonce of another client.
    ForeignNonce,
    OddNonce,
    /// USERNAME, REALM and NONCE without integrity.
    Unsigned,
    /// None: the name is given as USERHASH.
    Userhash,
}

/// One attribute.
pub(crate) enum Part {
    Number(A, u32),
    Peer(Peer),
    Data(usize),
    EvenPort(u8),
    Token(u8),
    Raw(u16, Vec<u8>),
}

/// One of the cast, or a relayed address that somebody has.
#[derive(Clone, Copy)]
pub(crate) struct Peer(u8);

const PEERS: [&str; 38] = [
    "9.9.9.1:5000",
    "9.9.9.2:5000",
    "9.9.9.1:5001",
    "[2606:4700::1]:5000",
    "[2606:4700::2]:5000",
    "9.9.9.3:5000",
    "9.9.9.4:0",
    "127.0.0.1:5000",
    "10.0.0.5:50000",
    "203.0.113.10:50001",
    "192.0.2.15:50000",
    "192.0.2.15:3478",
    "[::ffff:9.9.9.1]:5000",
    "[64:ff9b::7f00:1]:5000",
    "0.0.0.0:5000",
    "169.254.169.254:80",
    "224.0.0.1:5000",
    "255.255.255.255:5000",
    "100.100.100.200:80",
    "100.64.0.1:5000",
    "192.168.0.1:5000",
    "198.18.0.1:5000",
    "198.51.100.1:1001",
    "[::]:5000",
    "[::1]:5000",
    "[fe80::1]:5000",
    "[fd00::1]:5000",
    "[ff02::1]:5000",
    "[2002:7f00:1::]:5000",
    "[2001::1]:5000",
    "[::7f00:1]:5000",
    "[64:ff9b::909:901]:5000",
    // What the lists have a word about.
    "10.0.0.1:5000",
    "10.0.0.1:5002",
    "9.9.9.3:5001",
    "9.9.9.4:5000",
    "10.0.0.5:50006",
    "203.0.113.10:50005",
];

const CLIENTS: [(Transport, &str, &str); 6] = [
    (Transport::Udp, "198.51.100.1:1001", "192.0.2.15:3478"),
    (Transport::Tcp, "198.51.100.2:1002", "192.0.2.15:3478"),
    (
        Transport::Udp,
        "[2001:db8:7::3]:1003",
        "[2001:db8::15]:3478",
    ),
    (Transport::Tcp, "198.51.100.1:1001", "192.0.2.15:3478"),
    (Transport::Udp, "198.51.100.1:1005", "192.0.2.15:3478"),
    (Transport::Udp, "198.51.100.6:1006", "192.0.2.15:3478"),
];

const METHODS: [Method; 8] = [
    Method::Allocate,
    Method::CreatePermission,
    Method::ChannelBind,
    Method::Refresh,
    Method::Send,
    Method::Binding,
    Method::Data,
    Method::Allocate,
];

pub(crate) fn byte(input: &mut Unstructured<'_>) -> u8 {
    input.arbitrary().unwrap_or(0)
}

fn word(input: &mut Unstructured<'_>) -> u16 {
    u16::from_be_bytes([byte(input), byte(input)])
}

/// Small lengths as they are, and some at the edges of what fits.
fn length(input: &mut Unstructured<'_>) -> usize {
    const LONG: [usize; 8] = [1200, 1472, 8_000, 65_455, 65_471, 65_499, 65_507, 65_527];
    match byte(input) {
        short @ 0..=239 => usize::from(short),
        long => LONG[usize::from(long) % LONG.len()],
    }
}

fn ip_header(input: &mut Unstructured<'_>) -> IpHeader {
    let byte = byte(input);
    let ttl = [None, Some(64), Some(1), Some(0)][usize::from(byte & 3)];
    IpHeader {
        ttl,
        tos: byte & !3,
    }
}

fn outcome(input: &mut Unstructured<'_>) -> Result<(), RelayFailure> {
    match byte(input) % 4 {
        0 | 1 => Ok(()),
        2 => Err(RelayFailure::AddressInUse),
        _ => Err(RelayFailure::Unavailable),
    }
}

fn bytes(input: &mut Unstructured<'_>) -> Vec<u8> {
    let len = usize::from(byte(input)).min(input.len());
    input.bytes(len).unwrap_or_default().to_vec()
}

impl Operation {
    pub(crate) fn read(input: &mut Unstructured<'_>) -> Self {
        match byte(input) % 16 {
            what @ 0..=8 => Self::Packet {
                client: byte(input),
                ip: ip_header(input),
                packet: Packet::read(what, input),
            },
            9 | 10 => Self::Peer {
                socket: byte(input),
                peer: Peer(byte(input)),
                len: length(input),
                ip: ip_header(input),
            },
            11 => Self::Icmp {
                socket: byte(input),
                peer: Peer(byte(input)),
                icmp: IcmpAttribute {
                    icmp_type: byte(input) % 16,
                    icmp_code: byte(input) % 8,
                    error_data: u32::from(byte(input)),
                },
            },
            12 => Self::Report {
                which: byte(input),
                outcome: outcome(input),
            },
            13 => Self::LateReport {
                which: byte(input),
                outcome: outcome(input),
            },
            14 => match byte(input) {
                255 => Self::ShutDown,
                client => Self::Disconnect { client },
            },
            _ => {
                const PAUSES: [u64; 8] =
                    [1, 1_000, 29_999, 30_000, 299_999, 300_000, 599_999, 600_000];
                let ms = match byte(input) {
                    short @ 0..=15 => PAUSES[usize::from(short % 8)] * u64::from(1 + short / 8),
                    long => u64::from(long) * u64::from(long) * 100,
                };
                Self::Pass { ms }
            }
        }
    }
}

impl Packet {
    fn read(what: u8, input: &mut Unstructured<'_>) -> Self {
        match what {
            0..=3 => {
                let head = byte(input);
                Self::Request {
                    method: METHODS[usize::from(head % 8)],
                    fingerprint: head & 0x80 != 0,
                    credentials: Credentials::read(input),
                    parts: Part::list(input),
                    behind: if head & 0x40 == 0 {
                        Vec::new()
                    } else {
                        Part::list(input)
                    },
                }
            }
            4 => {
                let head = byte(input);
                let class = [Class::Indication, Class::Success, Class::Error];
                Self::Other {
                    class: class[usize::from(head / 64) % 3],
                    method: if head.is_multiple_of(2) {
                        Method::Send
                    } else {
                        METHODS[usize::from(head / 2 % 8)]
                    },
                    parts: Part::list(input),
                }
            }
            5 | 6 => Self::ChannelData {
                number: channel(input),
                len: length(input),
                cut: byte(input) % 16,
            },
            7 => Self::Raw(bytes(input)),
            _ => Self::Again {
                back: byte(input),
                at: word(input),
                flip: byte(input),
            },
        }
    }
}

impl Credentials {
    fn read(input: &mut Unstructured<'_>) -> Self {
        const SCHEMES: [Scheme; 4] = [
            Scheme::Old,
            Scheme::Md5Sha1,
            Scheme::Md5Sha256,
            Scheme::Sha256,
        ];
        let (who, how) = (byte(input), byte(input));
        let fault = match how / 4 {
            1 => Fault::Absent,
            2 => Fault::Password,
            3 => Fault::Realm,
            4 => Fault::ForeignNonce,
            5 => Fault::OddNonce,
            6 => Fault::Unsigned,
            7 | 8 => Fault::Userhash,
            _ => Fault::No,
        };
        Self {
            account: who,
            scheme: SCHEMES[usize::from(how % 4)],
            fault,
        }
    }

    fn account(self) -> Account {
        let timed = |seconds: u64| format!("{}:carol", UNIX_ORIGIN_S + seconds);
        match self.account % 6 {
            0 => alice(),
            1 => bob(),
            2 => Account::rest("north", &timed(40_000)),
            3 => Account::rest("logen", &timed(2_000)),
            4 => Account::new("mallory", "guess"),
            _ => Account::rest("south", &timed(40_000)),
        }
    }
}

/// Whoever can authenticate, in whatever way.
pub(crate) fn accounts() -> impl Iterator<Item = Account> {
    let credentials = |account| Credentials {
        account,
        scheme: Scheme::Old,
        fault: Fault::No,
    };
    (0..4).map(move |account| credentials(account).account())
}

fn channel(input: &mut Unstructured<'_>) -> u16 {
    const NUMBERS: [u16; 8] = [
        0x4000, 0x4001, 0x4002, 0x4FFF, 0x5000, 0x3FFF, 0x4FFE, 0x4100,
    ];
    NUMBERS[usize::from(byte(input)) % NUMBERS.len()]
}

impl Part {
    /// Bytes that it takes at the most, data apart.
    fn size(&self) -> usize {
        match self {
            Self::Raw(_, value) => value.len() + 8,
            _ => 24,
        }
    }

    fn list(input: &mut Unstructured<'_>) -> Vec<Self> {
        (0..byte(input) % 8).map(|_| Self::read(input)).collect()
    }

    fn read(input: &mut Unstructured<'_>) -> Self {
        const LIFETIMES: [u32; 8] = [0, 600, 601, 3600, 3601, 1, u32::MAX, 1200];
        match byte(input) % 16 {
            0 => Self::Number(A::REQUESTED_TRANSPORT, UDP),
            1 => Self::Number(
                A::LIFETIME,
                LIFETIMES[usize::from(byte(input)) % LIFETIMES.len()],
            ),
            2 => Self::Number(
                A::REQUESTED_ADDRESS_FAMILY,
                u32::from(byte(input) % 4) << 24,
            ),
            3 => Self::Number(
                A::ADDITIONAL_ADDRESS_FAMILY,
                u32::from(byte(input) % 4) << 24,
            ),
            4 => Self::EvenPort(byte(input)),
            5 => Self::Token(byte(input)),
            6..=8 => Self::Peer(Peer(byte(input))),
            9 => Self::Number(A::CHANNEL_NUMBER, u32::from(channel(input)) << 16),
            10 | 11 => Self::Data(length(input)),
            12 => Self::Raw(A::DONT_FRAGMENT.0, Vec::new()),
            13 => Self::Number(A::REQUESTED_TRANSPORT, u32::from(byte(input)) << 24),
            14 => Self::Raw(A::SOFTWARE.0, bytes(input)),
            _ => Self::Raw(word(input), bytes(input)),
        }
    }
}

/// The clients, what they learned and what they sent.
pub(crate) struct Cast {
    nonces: [Option<Vec<u8>>; CLIENTS.len()],
    tokens: Vec<Vec<u8>>,
    pub(crate) relayed: Vec<SocketAddr>,
    history: Vec<(u8, Vec<u8>)>,
    next_id: u32,
}

impl Cast {
    pub(crate) fn new() -> Self {
        Self {
            nonces: Default::default(),
            tokens: Vec::new(),
            relayed: Vec::new(),
            history: Vec::new(),
            next_id: 0,
        }
    }

    pub(crate) fn client(&self, client: u8) -> Client {
        let index = usize::from(client) % CLIENTS.len();
        let (transport, client, server) = CLIENTS[index];
        let (client, server) = (address(client), address(server));
        Client {
            five_tuple: FiveTuple {
                transport,
                client,
                server,
            },
            link: Link(index as u32),
        }
    }

    pub(crate) fn peer(&self, Peer(peer): Peer) -> SocketAddr {
        let peer = usize::from(peer);
        match self.relayed.len() {
            count @ 1.. if peer >= 64 => self.relayed[count - 1 - peer % count],
            _ => address(PEERS[peer % PEERS.len()]),
        }
    }

    fn id(&mut self) -> TransactionId {
        self.next_id += 1;
        let mut id = [7; 12];
        id[8..].copy_from_slice(&self.next_id.to_be_bytes());
        TransactionId(id)
    }

    /// A request without credentials, if `packet` needs a nonce that the client does not have.
    pub(crate) fn challenge(&mut self, client: u8, packet: &Packet) -> Option<Vec<u8>> {
        let Packet::Request { credentials, .. } = packet else {
            return None;
        };
        let knows = self.nonces[usize::from(client) % CLIENTS.len()].is_some();
        if knows || credentials.fault == Fault::Absent {
            return None;
        }
        Some(build(Class::Request, Method::Allocate, self.id(), |_| {}))
    }

    /// Keeps what a reply tells.
    pub(crate) fn learn(&mut self, client: u8, reply: &Reply) {
        if let Some(nonce) = reply.attribute(A::NONCE) {
            self.nonces[usize::from(client) % CLIENTS.len()] = Some(nonce);
        }
        self.tokens.extend(reply.token());
    }

    pub(crate) fn sent(&mut self, client: u8, mut bytes: Vec<u8>) {
        bytes.shrink_to_fit();
        self.history.push((client, bytes));
    }

    /// Whether a client has sent a request with this id.
    pub(crate) fn has_sent(&self, to: &Client, id: &TransactionId) -> bool {
        self.history
            .iter()
            .any(|(client, bytes)| self.client(*client) == *to && bytes.get(8..20) == Some(&id.0))
    }

    pub(crate) fn bytes(&mut self, client: u8, packet: Packet) -> Vec<u8> {
        let id = self.id();
        match packet {
            Packet::Request {
                method,
                credentials,
                parts,
                behind,
                fingerprint,
            } => {
                build(Class::Request, method, id, |builder| {
                    // Nothing works without it, and leaving it out is a part of its own.
                    if method == Method::Allocate && parts.is_empty() {
                        builder.u32(A::REQUESTED_TRANSPORT, UDP);
                    }
                    self.write(builder, &parts, 4_000);
                    self.write_credentials(builder, client, credentials);
                    self.write(builder, &behind, 4_000);
                    if fingerprint {
                        builder.fingerprint();
                    }
                })
            }
            Packet::Other {
                class,
                method,
                parts,
            } => build(class, method, id, |builder| {
                self.write(builder, &parts, 65_528)
            }),
            Packet::ChannelData { number, len, cut } => {
                let is_stream = self.client(client).five_tuple.transport.is_stream();
                let mut message = channel_data(number, &vec![cut; len], is_stream);
                // Most of them whole.
                message.truncate(
                    message.len() - usize::from(cut.saturating_sub(8)).min(message.len()),
                );
                message
            }
            Packet::Raw(bytes) => bytes,
            Packet::Again { back, at, flip } => {
                let count = self.history.len();
                let Some(index) = (count.max(1) - 1).checked_sub(usize::from(back) % count.max(1))
                else {
                    return Vec::new();
                };
                let Some((_, bytes)) = self.history.get(index) else {
                    return Vec::new();
                };
                let mut bytes = bytes.clone();
                let len = bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(usize::from(at) % len) {
                    *byte ^= flip;
                }
                bytes
            }
        }
    }

    /// `room` is what all parts together may take.
    fn write(&self, builder: &mut MessageBuilder<'_>, parts: &[Part], mut room: usize) {
        room = room.saturating_sub(parts.iter().map(Part::size).sum());
        for part in parts {
            match part {
                Part::Number(attribute, value) => builder.u32(*attribute, *value),
                Part::Peer(peer) => builder.xor_address(A::XOR_PEER_ADDRESS, self.peer(*peer)),
                Part::Data(len) => {
                    let len = (*len).min(room);
                    room -= len;
                    builder.attribute(A::DATA, &vec![0xDA; len])
                }
                Part::EvenPort(bits) => builder.attribute(A::EVEN_PORT, &[*bits]),
                Part::Token(which) => {
                    let known = self
                        .tokens
                        .get(usize::from(*which) % self.tokens.len().max(1));
                    let made = [*which; 8];
                    let token = known.map_or(&made[..], Vec::as_slice);
                    builder.attribute(A::RESERVATION_TOKEN, token)
                }
                Part::Raw(attribute, value) => builder.attribute(A(*attribute), value),
            };
        }
    }

    fn write_credentials(&self, builder: &mut MessageBuilder<'_>, client: u8, with: Credentials) {
        let mut account = with.account();
        let own = usize::from(client) % CLIENTS.len();
        let nonce = match with.fault {
            Fault::ForeignNonce => self.nonces[(own + 1) % CLIENTS.len()].clone(),
            Fault::OddNonce => Some(b"obMatJos2AAABcdefghijklmnop".to_vec()),
            _ => self.nonces[own].clone(),
        };
        let nonce = nonce.unwrap_or_default();
        match with.fault {
            Fault::Absent => {}
            Fault::Password => {
                account.password.push('?');
                sign(builder, &account, &nonce, with.scheme);
            }
            Fault::Realm | Fault::Unsigned => {
                builder
                    .attribute(A::USERNAME, account.username.as_bytes())
                    .attribute(A::REALM, b"elsewhere")
                    .attribute(A::NONCE, &nonce);
                if with.fault == Fault::Realm {
                    let key = account.key(with.scheme.password());
                    builder.integrity(with.scheme.request_integrity(), key.as_bytes());
                }
            }
            Fault::Userhash => {
                let key = account.key(with.scheme.password());
                builder
                    .attribute(A::USERHASH, &userhash(&account.username, REALM))
                    .attribute(A::REALM, REALM.as_bytes())
                    .attribute(A::NONCE, &nonce);
                if with.scheme != Scheme::Old {
                    builder
                        .attribute(
                            A::PASSWORD_ALGORITHMS,
                            &turnstone::auth::PASSWORD_ALGORITHMS,
                        )
                        .u32(A::PASSWORD_ALGORITHM, (with.scheme.password() as u32) << 16);
                }
                builder.integrity(with.scheme.request_integrity(), key.as_bytes());
            }
            Fault::No | Fault::ForeignNonce | Fault::OddNonce => {
                sign(builder, &account, &nonce, with.scheme);
            }
        }
    }
}
