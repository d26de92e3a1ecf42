//! A client whose network loses nothing: what it asks for is answered before it goes on.

use std::net::SocketAddr;

use turnstone::turn::{Client, FiveTuple, IpHeader, Link, Transport};
use turnstone::wire::{AttributeType, Class, Message, MessageBuilder, Method, TransactionId};

use crate::host::{Host, Sent, address, alice};
use crate::message::{
    Account, REALM, Reply, Scheme, UDP, build, channel_data, send_indication, sign,
};

pub(crate) const SERVER: &str = "192.0.2.15:3478";
pub(crate) const SERVER_V6: &str = "[2001:db8::15]:3478";

pub(crate) struct TestClient {
    pub(crate) at: Client,
    pub(crate) account: Account,
    pub(crate) scheme: Scheme,
    pub(crate) nonce: Option<Vec<u8>>,
    pub(crate) ip: IpHeader,
    next_id: u32,
}

/// The answer to a request with credentials. It was looked at already: right method, id and
/// receiver, and an integrity attribute that verifies unless it is one of the answers that have
/// none.
pub(crate) struct Answer(pub(crate) Reply);

impl Answer {
    /// A success response.
    pub(crate) fn success(self) -> Reply {
        assert_eq!(self.0.code(), None);
        assert_eq!(self.0.class(), Class::Success);
        self.0
    }

    /// An error response.
    pub(crate) fn error(self, code: u16) -> Reply {
        assert_eq!(self.0.code(), Some(code));
        assert_eq!(self.0.class(), Class::Error);
        self.0
    }
}

impl TestClient {
    /// alice on UDP.
    pub(crate) fn udp(from: &str) -> Self {
        Self::new(Transport::Udp, from)
    }

    /// alice on TCP.
    pub(crate) fn tcp(from: &str) -> Self {
        Self::new(Transport::Tcp, from)
    }

    /// alice on DTLS.
    pub(crate) fn dtls(from: &str) -> Self {
        Self::new(Transport::Dtls, from)
    }

    fn new(transport: Transport, from: &str) -> Self {
        let client = address(from);
        let server = address(if client.is_ipv4() { SERVER } else { SERVER_V6 });
        let five_tuple = FiveTuple {
            transport,
            client,
            server,
        };
        Self {
            at: Client {
                five_tuple,
                link: Link(u32::from(client.port())),
            },
            account: alice(),
            scheme: Scheme::Old,
            nonce: None,
            ip: IpHeader::default(),
            next_id: 0,
        }
    }

    pub(crate) fn by(mut self, account: Account) -> Self {
        self.account = account;
        self
    }

    pub(crate) fn with(mut self, scheme: Scheme) -> Self {
        self.scheme = scheme;
        self
    }

    /// A transaction id that this client had never before.
    pub(crate) fn id(&mut self) -> TransactionId {
        self.next_id += 1;
        let mut id = [0; 12];
        id[..2].copy_from_slice(&self.at.five_tuple.client.port().to_be_bytes());
        id[8..].copy_from_slice(&self.next_id.to_be_bytes());
        TransactionId(id)
    }

    /// A request without credentials.
    pub(crate) fn bare(
        &mut self,
        method: Method,
        write: impl FnOnce(&mut MessageBuilder<'_>),
    ) -> Vec<u8> {
        build(Class::Request, method, self.id(), write)
    }

    /// A request with credentials.
    pub(crate) fn signed(
        &mut self,
        method: Method,
        write: impl FnOnce(&mut MessageBuilder<'_>),
    ) -> Vec<u8> {
        let nonce = self.nonce.clone().expect("a nonce was learned");
        build(Class::Request, method, self.id(), |builder| {
            write(builder);
            sign(builder, &self.account, &nonce, self.scheme);
        })
    }

    /// Sends a packet that is not to be relayed and returns the reply, if there is one.
    pub(crate) fn exchange(&self, host: &mut Host, packet: &[u8]) -> Option<Reply> {
        let sent = host.client_packet(self.at, self.ip, packet);
        assert_eq!(sent, None);
        let reply = host.only_reply()?;
        assert_eq!(reply.to, self.at, "TUP-06, MSG-11");
        let request = Message::parse(packet).expect("only requests are answered");
        assert_eq!(request.class(), Class::Request, "MSG-12");
        assert_eq!(reply.message().method(), request.method(), "MSG-10");
        assert_eq!(reply.id(), request.transaction_id(), "MSG-10");
        assert_eq!(
            reply.message().has_fingerprint(),
            request.has_fingerprint(),
            "FP-04"
        );
        Some(reply)
    }

    /// Asks without credentials, and keeps the nonce of the challenge.
    pub(crate) fn challenge(&mut self, host: &mut Host, method: Method) -> Reply {
        let packet = self.bare(method, |builder| {
            builder.u32(AttributeType::REQUESTED_TRANSPORT, UDP);
        });
        let reply = self.exchange(host, &packet).expect("a challenge");
        assert_eq!(reply.code(), Some(401));
        self.learn(&reply);
        reply
    }

    /// Keeps the nonce of a 401 or 438.
    pub(crate) fn learn(&mut self, reply: &Reply) {
        let realm = reply.attribute(AttributeType::REALM);
        assert_eq!(realm.as_deref(), Some(REALM.as_bytes()), "AUTH-02");
        self.nonce = reply.attribute(AttributeType::NONCE);
        assert!(self.nonce.is_some(), "AUTH-02");
    }

    /// Sends a request as it is, and checks the answer.
    pub(crate) fn repeat(&self, host: &mut Host, packet: &[u8]) -> Answer {
        let reply = self.exchange(host, packet).expect("an answer");
        self.check(&reply);
        Answer(reply)
    }

    /// AUTH-20, AUTH-21: an authenticated request's answer is signed, and tells no credentials.
    fn check(&self, reply: &Reply) {
        use AttributeType as A;
        let has = |attribute| reply.attribute(attribute).is_some();
        assert!(!has(A::USERNAME) && !has(A::USERHASH), "AUTH-02, AUTH-08");
        assert!(!has(A::MAPPED_ADDRESS), "BIND-07");
        if matches!(reply.code(), Some(401 | 438)) {
            assert!(!reply.message().has_integrity());
            assert!(has(A::REALM) && has(A::NONCE));
        } else {
            let signed = reply.is_signed_for(&self.account, self.scheme);
            assert!(signed, "{:?} is signed", reply.message());
            assert!(!has(A::REALM) && !has(A::NONCE) && !has(A::PASSWORD_ALGORITHMS));
        }
    }

    /// Sends a request with credentials, having asked for a challenge if there was none yet.
    pub(crate) fn request(
        &mut self,
        host: &mut Host,
        method: Method,
        write: impl FnOnce(&mut MessageBuilder<'_>),
    ) -> Answer {
        if self.nonce.is_none() {
            self.challenge(host, method);
        }
        let packet = self.signed(method, write);
        self.repeat(host, &packet)
    }

    pub(crate) fn allocate_with(
        &mut self,
        host: &mut Host,
        write: impl FnOnce(&mut MessageBuilder<'_>),
    ) -> Answer {
        self.request(host, Method::Allocate, |builder| {
            builder.u32(AttributeType::REQUESTED_TRANSPORT, UDP);
            write(builder);
        })
    }

    /// An IPv4 allocation of the default lifetime; returns its relayed address.
    pub(crate) fn allocate(&mut self, host: &mut Host) -> SocketAddr {
        let relayed = self.allocate_with(host, |_| {}).success().relayed();
        assert_eq!(relayed.len(), 1);
        relayed[0]
    }

    /// An allocation of both families; returns its relayed addresses, IPv4 first.
    pub(crate) fn allocate_dual(&mut self, host: &mut Host) -> [SocketAddr; 2] {
        let reply = self.allocate_with(host, |builder| {
            builder.u32(AttributeType::ADDITIONAL_ADDRESS_FAMILY, 2 << 24);
        });
        reply.success().relayed().try_into().expect("two addresses")
    }

    pub(crate) fn refresh(&mut self, host: &mut Host, lifetime: u32) -> Answer {
        self.request(host, Method::Refresh, |builder| {
            builder.u32(AttributeType::LIFETIME, lifetime);
        })
    }

    pub(crate) fn permit(&mut self, host: &mut Host, peers: &[SocketAddr]) -> Answer {
        self.request(host, Method::CreatePermission, |builder| {
            for peer in peers {
                builder.xor_address(AttributeType::XOR_PEER_ADDRESS, *peer);
            }
        })
    }

    pub(crate) fn bind(&mut self, host: &mut Host, number: u16, peer: SocketAddr) -> Answer {
        self.request(host, Method::ChannelBind, |builder| {
            builder
                .u32(AttributeType::CHANNEL_NUMBER, u32::from(number) << 16)
                .xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
        })
    }

    /// Whether the allocation of this five-tuple is there, by the letter of RFC 8656 §5.
    pub(crate) fn has_allocation(&mut self, host: &mut Host) -> bool {
        let answer = self.request(host, Method::CreatePermission, |_| {});
        match answer.0.code() {
            Some(400) => true,
            Some(437) => false,
            other => panic!("{other:?}"),
        }
    }

    /// A Send indication.
    pub(crate) fn send(&mut self, host: &mut Host, peer: SocketAddr, data: &[u8]) -> Option<Sent> {
        let packet = send_indication(self.id(), peer, data);
        self.data(host, &packet)
    }

    /// A ChannelData message.
    pub(crate) fn send_on(&self, host: &mut Host, number: u16, data: &[u8]) -> Option<Sent> {
        let pad = self.at.five_tuple.transport.is_stream();
        let packet = channel_data(number, data, pad);
        self.data(host, &packet)
    }

    /// A packet that is never answered (MSG-12).
    pub(crate) fn data(&self, host: &mut Host, packet: &[u8]) -> Option<Sent> {
        let sent = host.client_packet(self.at, self.ip, packet);
        assert!(host.replies.is_empty(), "MSG-12");
        sent
    }
}
