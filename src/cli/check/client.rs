//! A TURN client on one five-tuple: transactions with their retransmissions (RFC 8489 §6.2), the
//! long-term credentials (§9.2) and the requests of RFC 8656.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::clock::Reading;
use super::credentials::Credentials;
use super::failure::{Failure, Refusal};
use super::transport::Link;
use crate::auth::LongTermKey;
use crate::wire::{
    AttributeType, ChannelData, ChannelNumber, Class, Family, IntegrityAlgorithm, Message,
    MessageBuilder, Method, RequestedTransport, TransactionId, decode_address, decode_error_code,
    decode_lifetime, decode_xor_address, verify_integrity,
};

/// Time to the first retransmission, which doubles: what libwebrtc takes. RFC 8489 §6.2.1 has
/// 500 ms, and lets clients that know better go lower.
const RTO: Duration = Duration::from_millis(250);

/// Datagrams other than STUN after which waiting for a STUN reply is pointless.
const JUNK_MAX: usize = 3;

/// Bytes of the longest request: user name, realm and nonce at their limits, and a few more.
const REQUEST_MAX: usize = 3072;

/// The longest REALM and NONCE, in bytes (RFC 8489 §14.9, §14.10).
const CHALLENGE_VALUE_MAX: usize = 763;

/// ALTERNATE-SERVER, RFC 8489 §14.15, which turnstone itself never sends.
const ALTERNATE_SERVER: AttributeType = AttributeType(0x8023);

/// Adds the attributes of a request.
type Attributes<'a> = &'a dyn Fn(&mut MessageBuilder<'_>);

/// A client with a socket of its own.
#[derive(Debug)]
pub(super) struct Client<'c> {
    pub(super) link: Link,
    /// No request waits longer than to this.
    pub(super) deadline: Instant,
    session: Option<Session<'c>>,
    clock: Option<Reading>,
}

/// What the server's challenge and our credentials make together.
#[derive(Debug)]
struct Session<'c> {
    credentials: &'c Credentials,
    realm: String,
    nonce: Vec<u8>,
    key: LongTermKey,
}

/// An allocation that the server made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allocation {
    pub(super) relayed_address: SocketAddr,
    pub(super) lifetime_s: u32,
}

impl<'c> Client<'c> {
    /// Takes a connected socket. No request waits longer than to `deadline`.
    pub(super) const fn new(link: Link, deadline: Instant) -> Self {
        Self {
            link,
            deadline,
            session: None,
            clock: None,
        }
    }

    /// The server's clock at the challenge, if the nonce told it.
    pub(super) const fn clock(&self) -> Option<Reading> {
        self.clock
    }

    /// The address under which the server sees this client.
    pub(super) fn binding(&mut self, deadline: Instant) -> Result<SocketAddr, Failure> {
        let deadline = deadline.min(self.deadline);
        let reply = self.exchange(Method::Binding, &|_| {}, deadline)?;
        let reply = self.settle(reply)?;
        // A server that knows RFC 3489 alone sends the plain form.
        match reply.message().first(AttributeType::MAPPED_ADDRESS) {
            Some(value) if !reply.has(AttributeType::XOR_MAPPED_ADDRESS) => {
                decode_address(value).map_err(|_| reply.bad(AttributeType::MAPPED_ADDRESS))
            }
            _ => reply.xor_address(AttributeType::XOR_MAPPED_ADDRESS),
        }
    }

    /// Asks for an allocation without credentials, takes the challenge, and returns the realm.
    pub(super) fn challenge(&mut self, credentials: &'c Credentials) -> Result<String, Failure> {
        let reply = self.exchange(Method::Allocate, &requested_transport, self.deadline)?;
        match reply.error_code()? {
            None => {
                // Nothing may stay behind on somebody's server; the verdict is the same anyhow.
                let _ = self.delete();
                Err(Failure::OpenRelay)
            }
            Some((401, _)) => {
                let session = Session::from_challenge(&reply, credentials)?;
                let realm = session.realm.clone();
                self.clock = Reading::of(&session.nonce);
                self.session = Some(session);
                Ok(realm)
            }
            Some(_) => self.settle(reply).map(|_| String::new()),
        }
    }

    /// Asks for an allocation; `family` `None` leaves it to the server, which means IPv4.
    pub(super) fn allocate(&mut self, family: Option<Family>) -> Result<Allocation, Failure> {
        let reply = self.request(Method::Allocate, &|builder| {
            requested_transport(builder);
            if let Some(family) = family {
                let value = [family as u8, 0, 0, 0];
                builder.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &value);
            }
        })?;
        reply.xor_address(AttributeType::XOR_MAPPED_ADDRESS)?;
        let relayed_address = reply.xor_address(AttributeType::XOR_RELAYED_ADDRESS)?;
        if relayed_address.ip().is_unspecified() || relayed_address.port() == 0 {
            return Err(reply.bad(AttributeType::XOR_RELAYED_ADDRESS));
        }
        Ok(Allocation {
            relayed_address,
            lifetime_s: reply.lifetime_s()?,
        })
    }

    /// Permits a peer to send to the allocation.
    pub(super) fn create_permission(&mut self, peer: SocketAddr) -> Result<(), Failure> {
        self.request(Method::CreatePermission, &|builder| {
            builder.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
        })
        .map(drop)
    }

    /// Binds a channel to a peer.
    pub(super) fn channel_bind(
        &mut self,
        number: ChannelNumber,
        peer: SocketAddr,
    ) -> Result<(), Failure> {
        self.request(Method::ChannelBind, &|builder| {
            builder
                .u32(AttributeType::CHANNEL_NUMBER, u32::from(number.get()) << 16)
                .xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
        })
        .map(drop)
    }

    /// Deletes the allocation.
    pub(super) fn delete(&mut self) -> Result<(), Failure> {
        let reply = self.request(Method::Refresh, &|builder| {
            builder.u32(AttributeType::LIFETIME, 0);
        })?;
        match reply.lifetime_s()? {
            0 => Ok(()),
            lifetime_s => Err(Failure::NotDeleted { lifetime_s }),
        }
    }

    /// A transaction whose reply counts only if it is a success and rightly signed. A stale nonce
    /// is replaced once.
    fn request(&mut self, method: Method, attributes: Attributes<'_>) -> Result<Reply, Failure> {
        let reply = self.exchange(method, attributes, self.deadline)?;
        if let Some(session) = &mut self.session
            && matches!(reply.error_code(), Ok(Some((438, _))))
        {
            *session = Session::from_challenge(&reply, session.credentials)?;
            let reply = self.exchange(method, attributes, self.deadline)?;
            return self.settle(reply);
        }
        self.settle(reply)
    }

    /// Turns error responses and responses without proof into failures.
    fn settle(&self, reply: Reply) -> Result<Reply, Failure> {
        let method = reply.method;
        let message = reply.message();
        let integrity = message.integrity(IntegrityAlgorithm::Sha1);
        let proven = self.session.as_ref().is_none_or(|session| {
            verify_integrity(&message, IntegrityAlgorithm::Sha1, session.key.as_bytes())
        });
        if let Some((code, phrase)) = reply.error_code()? {
            // A server that does not accept the credentials has no key to sign with.
            let may_be_unsigned = matches!(code, 401 | 438);
            let alternate = message.first(ALTERNATE_SERVER);
            let realm = message.first(AttributeType::REALM);
            let other_realm = self.session.as_ref().zip(realm);
            let other_realm =
                other_realm.filter(|(session, realm)| session.realm.as_bytes() != *realm);
            return Err(Failure::Refused(Refusal {
                method,
                code,
                phrase: printable(phrase.as_bytes()),
                lacks_integrity: !proven && !may_be_unsigned,
                other_realm: other_realm.map(|(_, realm)| printable(realm)),
                alternate: alternate.and_then(|value| decode_address(value).ok()),
            }));
        }
        match integrity {
            _ if proven => Ok(reply),
            None => Err(Failure::Unsigned { method }),
            Some(_) => Err(Failure::WronglySigned { method }),
        }
    }

    /// Sends a request, again and again on UDP, until its reply is there.
    fn exchange(
        &mut self,
        method: Method,
        attributes: Attributes<'_>,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        let id = random_id();
        let request = self.build(method, id, attributes);
        let started = Instant::now();
        let (mut rto, mut junk) = (RTO, Vec::new());
        loop {
            self.link.send(&request)?;
            let resend = if self.link.is_stream() {
                deadline
            } else {
                deadline.min(Instant::now() + rto)
            };
            rto *= 2;
            while let Some(packet) = self.link.receive(resend)? {
                match Reply::of(packet, method, id) {
                    Ok(Some(reply)) => return Ok(reply),
                    Ok(None) => {}
                    Err(failure) => {
                        junk.push(failure);
                        if junk.len() == JUNK_MAX || self.link.is_stream() {
                            return Err(junk.swap_remove(0));
                        }
                    }
                }
            }
            if Instant::now() >= deadline {
                let waited = started.elapsed();
                return Err(junk.pop().unwrap_or(Failure::Silence { method, waited }));
            }
        }
    }

    fn build(&self, method: Method, id: TransactionId, attributes: Attributes<'_>) -> Vec<u8> {
        let mut buffer = vec![0; REQUEST_MAX];
        let mut builder = MessageBuilder::new(&mut buffer, Class::Request, method, id);
        attributes(&mut builder);
        if let Some(session) = &self.session {
            let username = session.credentials.username();
            builder
                .attribute(AttributeType::USERNAME, username.as_bytes())
                .attribute(AttributeType::REALM, session.realm.as_bytes())
                .attribute(AttributeType::NONCE, &session.nonce)
                .integrity(IntegrityAlgorithm::Sha1, session.key.as_bytes());
        }
        let len = builder.finish().expect("every value has a limit");
        buffer.truncate(len);
        buffer
    }
}

impl<'c> Session<'c> {
    /// Reads a 401 or 438 response.
    fn from_challenge(reply: &Reply, credentials: &'c Credentials) -> Result<Self, Failure> {
        let message = reply.message();
        let value = |attribute| {
            message
                .first(attribute)
                .filter(|value| (1..=CHALLENGE_VALUE_MAX).contains(&value.len()))
                .ok_or_else(|| reply.bad(attribute))
        };
        let realm = std::str::from_utf8(value(AttributeType::REALM)?)
            .map_err(|_| reply.bad(AttributeType::REALM))?;
        Ok(Self {
            credentials,
            realm: realm.to_owned(),
            nonce: value(AttributeType::NONCE)?.to_vec(),
            key: credentials.key(realm),
        })
    }
}

/// A well-formed response to a request of ours.
struct Reply {
    bytes: Vec<u8>,
    method: Method,
}

impl Reply {
    /// The packet, if it is the response to this transaction; `None` if it is some other message.
    fn of(bytes: Vec<u8>, method: Method, id: TransactionId) -> Result<Option<Self>, Failure> {
        let message = match Message::parse(&bytes) {
            Ok(message) => message,
            // Data of an earlier step may be late.
            Err(_) if ChannelData::parse(&bytes).is_some() => return Ok(None),
            Err(malformed) => return Err(Failure::malformed(malformed, &bytes)),
        };
        if message.transaction_id() != id {
            return Ok(None);
        }
        let is_response = matches!(message.class(), Class::Success | Class::Error);
        if !is_response || message.method() != Some(method) {
            let what = "an echo of the request, or a reply to another".to_owned();
            return Err(Failure::NotStun(what));
        }
        Ok(Some(Self { bytes, method }))
    }

    fn message(&self) -> Message<'_> {
        Message::parse(&self.bytes).expect("was parsed when it was received")
    }

    fn has(&self, attribute: AttributeType) -> bool {
        self.message().first(attribute).is_some()
    }

    fn bad(&self, attribute: AttributeType) -> Failure {
        let method = self.method;
        Failure::BadReply { method, attribute }
    }

    /// `None` for a success response.
    fn error_code(&self) -> Result<Option<(u16, &str)>, Failure> {
        let message = self.message();
        if message.class() == Class::Success {
            return Ok(None);
        }
        let attribute = AttributeType::ERROR_CODE;
        let value = message
            .first(attribute)
            .ok_or_else(|| self.bad(attribute))?;
        let error = decode_error_code(value).map_err(|_| self.bad(attribute))?;
        Ok(Some(error))
    }

    fn xor_address(&self, attribute: AttributeType) -> Result<SocketAddr, Failure> {
        let message = self.message();
        message
            .first(attribute)
            .and_then(|value| decode_xor_address(value, &message.transaction_id()).ok())
            .ok_or_else(|| self.bad(attribute))
    }

    fn lifetime_s(&self) -> Result<u32, Failure> {
        let attribute = AttributeType::LIFETIME;
        self.message()
            .first(attribute)
            .and_then(|value| decode_lifetime(value).ok())
            .ok_or_else(|| self.bad(attribute))
    }
}

fn requested_transport(builder: &mut MessageBuilder<'_>) {
    let value = [RequestedTransport::UDP.0, 0, 0, 0];
    builder.attribute(AttributeType::REQUESTED_TRANSPORT, &value);
}

/// Random bytes, for transaction ids and to tell this run's data from another's.
pub(super) fn random_id() -> TransactionId {
    let mut id = [0; 12];
    getrandom::fill(&mut id).expect("the system has a random source");
    TransactionId(id)
}

/// What a server wrote, made harmless for a terminal and not longer than a line. Some servers count
/// padding into the length.
pub(super) fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.trim_end_matches('\0')
        .chars()
        .take(60)
        .flat_map(char::escape_debug)
        .collect()
}
