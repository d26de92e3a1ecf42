//! The clients of the bench: many five-tuples on one socket, and the TURN requests that give each
//! an allocation.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use turnstone::auth::{LongTermKey, PasswordAlgorithm};
use turnstone::engine::udp::sys::{
    Batch, BufferSizes, HeaderFields, ListenerOptions, UdpSocket, send_one,
};
use turnstone::wire::{
    AttributeType, Class, IntegrityAlgorithm, Message, MessageBuilder, Method, TransactionId,
    decode_error_code, decode_xor_address,
};

pub(super) const REALM: &str = "bench.example";
pub(super) const USER: &str = "bench";
pub(super) const PASSWORD: &str = "a-password-of-the-bench";

/// The channel of every allocation.
pub(super) const CHANNEL: u16 = 0x4000;

/// The address of all peers.
const PEER: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 2);

/// Permissions end after five minutes, allocations of some servers after ten.
const REFRESH_AFTER: Duration = Duration::from_secs(120);

const RETRY_AFTER: Duration = Duration::from_millis(250);
const TRIES: usize = 20;

/// Adds the attributes of a request.
type Attributes<'a> = &'a dyn Fn(&mut MessageBuilder<'_>);

/// Clients with one allocation each at one server, and their peer.
///
/// A client is an address of 127.0.0.0/8, all with the port of one wildcard socket: to the server
/// they are as many five-tuples, and the generator can send for all of them in one system call.
pub(super) struct Fleet {
    pub(super) server: SocketAddr,
    pub(super) clients: UdpSocket,
    pub(super) peer: UdpSocket,
    pub(super) allocations: Vec<Allocation>,
    refreshed: Instant,
}

/// One client.
pub(super) struct Allocation {
    pub(super) client: IpAddr,
    pub(super) relayed: SocketAddr,
    nonce: Vec<u8>,
}

impl Fleet {
    /// Makes `count` allocations, each with a permission and a channel.
    pub(super) fn allocate(server: SocketAddr, count: usize) -> io::Result<Self> {
        let mut fleet = Self::new(server)?;
        for number in 0..count {
            let [high, low] = (number as u16).to_be_bytes();
            let client = Ipv4Addr::new(127, 10, high, low).into();
            let allocation = fleet.one(client)?;
            fleet.allocations.push(allocation);
        }
        Ok(fleet)
    }

    fn new(server: SocketAddr) -> io::Result<Self> {
        let buffers = BufferSizes {
            receive: Some(8 << 20),
            send: Some(8 << 20),
        };
        let options = ListenerOptions {
            buffers,
            ..ListenerOptions::default()
        };
        Ok(Self {
            server,
            clients: UdpSocket::listener((Ipv4Addr::UNSPECIFIED, 0).into(), &options)?,
            peer: UdpSocket::relay((PEER, 0).into(), buffers)?,
            allocations: Vec::new(),
            refreshed: Instant::now(),
        })
    }

    fn one(&self, client: IpAddr) -> io::Result<Allocation> {
        let transport = |builder: &mut MessageBuilder<'_>| {
            builder
                .u32(AttributeType::REQUESTED_TRANSPORT, 17 << 24)
                .u32(AttributeType::LIFETIME, 3600);
        };
        let challenge = self.exchange(client, Method::Allocate, None, &transport)?;
        let mut nonce = nonce(&challenge)?;
        let reply = self.request(client, Method::Allocate, &mut nonce, &transport)?;
        let message = Message::parse(&reply).map_err(|_| bad("malformed reply"))?;
        let relayed = message
            .first(AttributeType::XOR_RELAYED_ADDRESS)
            .and_then(|value| decode_xor_address(value, &message.transaction_id()).ok())
            .ok_or_else(|| bad("a reply without XOR-RELAYED-ADDRESS"))?;
        self.bind(client, &mut nonce)?;
        Ok(Allocation {
            client,
            relayed,
            nonce,
        })
    }

    /// Binds the channel, which makes the permission too.
    fn bind(&self, client: IpAddr, nonce: &mut Vec<u8>) -> io::Result<()> {
        self.request(client, Method::ChannelBind, nonce, &|builder| {
            builder
                .u32(AttributeType::CHANNEL_NUMBER, u32::from(CHANNEL) << 16)
                .xor_address(AttributeType::XOR_PEER_ADDRESS, self.peer.local_addr());
        })
        .map(drop)
    }

    /// Keeps everything alive, if it is time.
    pub(super) fn refresh(&mut self) -> io::Result<()> {
        if self.refreshed.elapsed() < REFRESH_AFTER {
            return Ok(());
        }
        let mut allocations = std::mem::take(&mut self.allocations);
        for allocation in &mut allocations {
            let Allocation { client, nonce, .. } = allocation;
            self.request(*client, Method::Refresh, nonce, &|builder| {
                builder.u32(AttributeType::LIFETIME, 3600);
            })?;
            self.bind(*client, nonce)?;
        }
        self.allocations = allocations;
        self.refreshed = Instant::now();
        Ok(())
    }

    /// An authenticated request that must succeed; a stale nonce is replaced once.
    fn request(
        &self,
        client: IpAddr,
        method: Method,
        nonce: &mut Vec<u8>,
        attributes: Attributes<'_>,
    ) -> io::Result<Vec<u8>> {
        for _ in 0..2 {
            let reply = self.exchange(client, method, Some(nonce), attributes)?;
            match error_code(&reply)? {
                None => return Ok(reply),
                Some(438) => *nonce = self::nonce(&reply)?,
                Some(code) => return Err(bad(&format!("{method:?} refused with {code}"))),
            }
        }
        Err(bad("a fresh nonce is stale"))
    }

    fn exchange(
        &self,
        client: IpAddr,
        method: Method,
        nonce: Option<&[u8]>,
        attributes: Attributes<'_>,
    ) -> io::Result<Vec<u8>> {
        let mut id = TransactionId([0; 12]);
        getrandom::fill(&mut id.0).map_err(io::Error::other)?;
        let mut buffer = [0; 1024];
        let mut builder = MessageBuilder::new(&mut buffer, Class::Request, method, id);
        attributes(&mut builder);
        if let Some(nonce) = nonce {
            let md5 = PasswordAlgorithm::Md5;
            let key = LongTermKey::derive(md5, USER.as_bytes(), REALM, PASSWORD);
            builder
                .attribute(AttributeType::USERNAME, USER.as_bytes())
                .attribute(AttributeType::REALM, REALM.as_bytes())
                .attribute(AttributeType::NONCE, nonce)
                .integrity(IntegrityAlgorithm::Sha1, key.as_bytes());
        }
        let len = builder.finish().expect("a short request");
        let fields = HeaderFields {
            source: Some(client),
            ..HeaderFields::default()
        };
        let mut batch = Batch::new(8);
        for _ in 0..TRIES {
            send_one(&self.clients, &buffer[..len], self.server, &fields)?;
            if let Some(reply) = self.await_reply(&mut batch, id)? {
                return Ok(reply);
            }
        }
        Err(bad(&format!("no answer to {method:?}")))
    }

    fn await_reply(&self, batch: &mut Batch, id: TransactionId) -> io::Result<Option<Vec<u8>>> {
        let started = Instant::now();
        while started.elapsed() < RETRY_AFTER {
            batch.clear();
            if batch.receive(&self.clients)? == 0 {
                thread::sleep(Duration::from_micros(20));
            }
            for slot in 0..batch.len() {
                let packet = batch.payload(slot);
                let message = Message::parse(packet);
                if message.is_ok_and(|message| message.transaction_id() == id) {
                    return Ok(Some(packet.to_vec()));
                }
            }
        }
        Ok(None)
    }
}

/// Waits until a server answers.
pub(super) fn wait_until_up(server: SocketAddr) -> io::Result<()> {
    let client = Ipv4Addr::new(127, 10, 255, 255).into();
    Fleet::new(server)?
        .exchange(client, Method::Binding, None, &|_| {})
        .map(drop)
}

fn error_code(reply: &[u8]) -> io::Result<Option<u16>> {
    let message = Message::parse(reply).map_err(|_| bad("malformed reply"))?;
    if message.class() == Class::Success {
        return Ok(None);
    }
    let value = message.first(AttributeType::ERROR_CODE);
    let code = value.and_then(|value| decode_error_code(value).ok());
    code.map(|(code, _)| Some(code))
        .ok_or_else(|| bad("an error without ERROR-CODE"))
}

fn nonce(challenge: &[u8]) -> io::Result<Vec<u8>> {
    let message = Message::parse(challenge).map_err(|_| bad("malformed challenge"))?;
    let nonce = message.first(AttributeType::NONCE);
    nonce
        .map(<[u8]>::to_vec)
        .ok_or_else(|| bad("a challenge without NONCE"))
}

fn bad(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}
