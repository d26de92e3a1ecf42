//! Requests: one file a method, in the order of its RFC section's clauses. Here is what they have in
//! common: the checks before the method's own, and the reply.

mod allocate;
mod binding;
mod channel_bind;
mod create_permission;
mod nat_discovery;
mod refresh;
mod stranger;

use std::net::SocketAddr;

use super::IpHeader;
use super::allocation::Allocation;
use super::client::Client;
use super::client_policy::is_tunnelled;
use super::counters::DropCause;
use super::data_path::Routed;
use super::event::{AllocationId, Event};
use super::limits::{REPLY_LEN_MAX, UNKNOWN_ATTRIBUTES_MAX};
use super::peer_policy::{PeerRefusal, Reach};
use super::reject::Reject;
use super::server::Server;
use super::time::Now;
use crate::auth::{AuthFailure, Identity, LongTermKey, NonceVerdict, PASSWORD_ALGORITHMS};
use crate::wire::{
    AttributeType, Class, ErrorCode, Family, IntegrityAlgorithm, Malformed, Message,
    MessageBuilder, Method, TransactionId, decode_lifetime, decode_xor_address,
};
use stranger::{claimed_username, is_from_there};

/// A request and what its reply needs of it.
struct Exchange<'m, 'b> {
    now: Now,
    client: Client,
    message: &'m Message<'b>,
    method: Method,
    /// What its nonce is worth, if it has one.
    nonce: Option<NonceVerdict>,
}

/// How a method ends: with a success response of its own making, or a refusal.
type Handled = Result<(), Reject>;

impl Server {
    /// A STUN message from a client (RFC 8489 §6.3).
    pub(super) fn handle_stun(
        &mut self,
        now: Now,
        client: Client,
        ip: IpHeader,
        packet: &[u8],
    ) -> Routed {
        let message = match Message::parse(packet) {
            Ok(message) => message,
            Err(Malformed::Cookie) => {
                self.admit_classic(&client)?;
                return self.handle_classic_binding(now, client, packet);
            }
            Err(_) => return Err(DropCause::Malformed),
        };
        match (message.class(), message.method()) {
            (Class::Indication, Some(Method::Send)) => {
                self.route_send(now.time, &client, ip, &message)
            }
            (Class::Indication, Some(Method::Binding)) => Ok(None),
            (Class::Request, Some(Method::Binding)) => {
                self.counters.count_request(Method::Binding);
                self.admit(&client)?;
                self.handle_binding(now, client, &message);
                Ok(None)
            }
            (
                Class::Request,
                Some(
                    method @ (Method::Allocate
                    | Method::Refresh
                    | Method::CreatePermission
                    | Method::ChannelBind),
                ),
            ) => {
                self.counters.count_request(method);
                self.admit(&client)?;
                let nonce = self.check_nonce(now, &client, &message);
                self.handle_request(&Exchange {
                    now,
                    client,
                    message: &message,
                    method,
                    nonce,
                });
                Ok(None)
            }
            _ => Err(DropCause::Unexpected),
        }
    }

    /// Whether a client's requests are looked at. Data needs no such question: without a request
    /// there is no allocation.
    fn admit(&mut self, client: &Client) -> Result<(), DropCause> {
        self.check_client(client.five_tuple)
            .map_err(|_| DropCause::ClientRefused)
    }

    /// A request that needs credentials: authentication, then unknown attributes, then the method
    /// (RFC 8489 §6.3).
    fn handle_request(&mut self, exchange: &Exchange<'_, '_>) {
        // OAuth is not offered, and a request that tries it cannot authenticate otherwise: the
        // answer of RFC 7635 §7 comes before the challenge.
        if exchange
            .message
            .first(AttributeType::ACCESS_TOKEN)
            .is_some()
        {
            let reject = Reject::UnknownAttributes(vec![AttributeType::ACCESS_TOKEN]);
            return self.refuse(exchange, None, reject);
        }
        let identity = match self.authenticate(exchange) {
            Ok(identity) => identity,
            Err(reject) => return self.handle_unauthenticated(exchange, reject),
        };
        let unknown = self.unknown_attributes(exchange.message);
        let handled = if unknown.is_empty() {
            match exchange.method {
                Method::Allocate => self.handle_allocate(exchange, &identity),
                Method::Refresh => self.handle_refresh(exchange, &identity),
                Method::CreatePermission => self.handle_create_permission(exchange, &identity),
                Method::ChannelBind => self.handle_channel_bind(exchange, &identity),
                Method::Binding | Method::Send | Method::Data => {
                    unreachable!("only requests that need credentials come here")
                }
            }
        } else {
            Err(Reject::UnknownAttributes(unknown))
        };
        if let Err(reject) = handled {
            self.refuse(exchange, Some(&identity), reject);
        }
    }

    fn authenticate(&mut self, exchange: &Exchange<'_, '_>) -> Result<Identity, Reject> {
        let known = self
            .table
            .find(&exchange.client.five_tuple)
            .filter(|allocation| allocation.holds_five_tuple(exchange.now.time))
            .map(Allocation::known_user);
        // The draft has the expiry of a time-limited credential end nothing that lives (§4.2).
        let check_expiry = exchange.method == Method::Allocate;
        let checked = self.options.authenticator.authenticate(
            exchange.message,
            exchange.nonce,
            exchange.now.unix_s,
            known,
            check_expiry,
        );
        let checked = self.revocations.apply(checked, exchange.now.unix_s);
        self.limit_failures(exchange, &checked)?;
        checked.map_err(Reject::Authentication)
    }

    fn handle_unauthenticated(&mut self, exchange: &Exchange<'_, '_>, reject: Reject) {
        // A nonce may run out between an Allocate request and its retransmission, for which some
        // clients would take a 438 as final.
        if let Reject::Authentication(AuthFailure::StaleNonce(identity)) = &reject
            && self.replay_allocate(exchange, identity)
        {
            return;
        }
        self.refuse(exchange, None, reject);
    }

    fn unknown_attributes(&self, message: &Message<'_>) -> Vec<AttributeType> {
        let mut unknown = Vec::new();
        for attribute in message.attributes() {
            let attribute = attribute.attribute_type;
            if !self.options.understands(attribute) && !unknown.contains(&attribute) {
                unknown.push(attribute);
            }
            if unknown.len() == UNKNOWN_ATTRIBUTES_MAX {
                break;
            }
        }
        unknown
    }

    /// The allocation that a request is about, if it is the requester's (RFC 8656 §5).
    fn owned_allocation(
        &mut self,
        exchange: &Exchange<'_, '_>,
        identity: &Identity,
    ) -> Result<&mut Allocation, Reject> {
        let allocation = self
            .table
            .find_mut(&exchange.client.five_tuple)
            .filter(|allocation| allocation.is_live(exchange.now.time))
            .ok_or(Reject::NoAllocation)?;
        if allocation.owner.username != identity.username {
            return Err(Reject::OtherUser);
        }
        Ok(allocation)
    }

    /// Decides on a peer's address, whatever the port: a family that the allocation has no address of
    /// is a 443 before the policy is asked (RFC 8656 §10.2, §12.2).
    fn judge_peer(
        &mut self,
        exchange: &Exchange<'_, '_>,
        identity: &Identity,
        allocation: AllocationId,
        peer: SocketAddr,
    ) -> Result<Reach, Reject> {
        let family = Family::of(peer.ip());
        let has_family = self
            .table
            .get(allocation)
            .is_some_and(|allocation| allocation.live_relay(exchange.now.time, family).is_some());
        if !has_family {
            return Err(Reject::FamilyMismatch);
        }
        match self.peer_gate().check_ip(peer.ip()) {
            Ok(reach) => Ok(reach),
            // An IPv4 address in IPv6 form is no way to an IPv4 peer.
            Err(PeerRefusal::EmbeddedIpv4) if Family::of(peer.ip().to_canonical()) != family => {
                Err(Reject::FamilyMismatch)
            }
            Err(refusal) => Err(self.peer_refused(exchange, identity, peer, refusal)),
        }
    }

    /// Reports a refused peer, and is the refusal of its request.
    fn peer_refused(
        &mut self,
        exchange: &Exchange<'_, '_>,
        identity: &Identity,
        peer: SocketAddr,
        refusal: PeerRefusal,
    ) -> Reject {
        self.counters.count_refused_peer(refusal);
        self.report(Event::PeerRefused {
            five_tuple: exchange.client.five_tuple,
            username: identity.username.clone(),
            peer,
            refusal,
        });
        Reject::PeerRefused(refusal)
    }

    /// Answers a request with an error response, signed if it was authenticated (RFC 8489 §9.2.4).
    fn refuse(&mut self, exchange: &Exchange<'_, '_>, identity: Option<&Identity>, reject: Reject) {
        self.counters.count_refusal(&reject);
        if identity.is_none() && !self.admits_refusal(exchange, &reject) {
            return;
        }
        let code = reject.code();
        // What nobody asked for with credentials goes out small: it would serve reflection.
        let phrase = if identity.is_some() {
            code.phrase()
        } else {
            ""
        };
        let software = identity.and_then(|_| self.software(exchange.method));
        let authenticator = &self.options.authenticator;
        let message = reply(exchange.message, Class::Error, exchange.method, |builder| {
            builder.error_code(code, phrase);
            match &reject {
                Reject::UnknownAttributes(types) => {
                    builder.unknown_attributes(types);
                }
                Reject::Authentication(_) | Reject::TooManyFailures
                    if code != ErrorCode::BadRequest =>
                {
                    let client = exchange.client.five_tuple.client;
                    let nonce = authenticator.nonce(client, exchange.now.unix_s);
                    builder.attribute(AttributeType::REALM, authenticator.realm().as_bytes());
                    builder.attribute(AttributeType::NONCE, &nonce);
                    if authenticator.features().password_algorithms {
                        builder.attribute(AttributeType::PASSWORD_ALGORITHMS, &PASSWORD_ALGORITHMS);
                    }
                }
                _ => {}
            }
            write_software(builder, software);
            identity.map(Signature::of)
        });
        self.reply(exchange.client, exchange.method, Some(code), message);
        match reject {
            Reject::Authentication(AuthFailure::NoCredentials) => self.counters.challenges += 1,
            Reject::PeerRefused(_) => {}
            reject => self.report(Event::RequestRefused {
                five_tuple: exchange.client.five_tuple,
                method: exchange.method,
                username: identity.map_or_else(
                    || claimed_username(exchange.message),
                    |identity| Some(identity.username.clone()),
                ),
                from_there: identity.is_some() || is_from_there(exchange),
                reject,
            }),
        }
    }

    /// Answers an authenticated request with a success response.
    fn succeed(
        &mut self,
        exchange: &Exchange<'_, '_>,
        identity: &Identity,
        write: impl FnOnce(&mut MessageBuilder<'_>),
    ) {
        let software = self.software(exchange.method);
        let message = reply(
            exchange.message,
            Class::Success,
            exchange.method,
            |builder| {
                write(builder);
                write_software(builder, software);
                Some(Signature::of(identity))
            },
        );
        self.reply(exchange.client, exchange.method, None, message);
    }

    /// SOFTWARE goes where RFC 8656 §5 wants it.
    fn software(&self, method: Method) -> Option<&str> {
        match method {
            Method::Allocate | Method::Refresh => self.options.software.as_deref(),
            _ => None,
        }
    }
}

/// The integrity attribute of a reply.
struct Signature<'a> {
    algorithm: IntegrityAlgorithm,
    key: &'a LongTermKey,
}

impl<'a> Signature<'a> {
    const fn of(identity: &'a Identity) -> Self {
        Self {
            algorithm: identity.reply_integrity,
            key: &identity.key,
        }
    }
}

/// Builds the reply to a request: what `write` adds, the integrity that it asks for, and
/// FINGERPRINT if the request had it.
fn reply<'s>(
    request: &Message<'_>,
    class: Class,
    method: Method,
    write: impl FnOnce(&mut MessageBuilder<'_>) -> Option<Signature<'s>>,
) -> Vec<u8> {
    build_reply(
        class,
        method,
        request.transaction_id(),
        request.has_fingerprint(),
        write,
    )
}

fn build_reply<'s>(
    class: Class,
    method: Method,
    transaction_id: TransactionId,
    with_fingerprint: bool,
    write: impl FnOnce(&mut MessageBuilder<'_>) -> Option<Signature<'s>>,
) -> Vec<u8> {
    let mut buffer = [0; REPLY_LEN_MAX];
    let mut builder = MessageBuilder::new(&mut buffer, class, method, transaction_id);
    if let Some(Signature { algorithm, key }) = write(&mut builder) {
        builder.integrity(algorithm, key.as_bytes());
    }
    if with_fingerprint {
        builder.fingerprint();
    }
    let len = builder.finish().expect("the longest reply fits");
    buffer[..len].to_vec()
}

fn write_software(builder: &mut MessageBuilder<'_>, software: Option<&str>) {
    if let Some(software) = software {
        builder.attribute(AttributeType::SOFTWARE, software.as_bytes());
    }
}

/// A peer's transport address in a request.
fn read_peer(message: &Message<'_>, value: &[u8]) -> Result<SocketAddr, Reject> {
    decode_xor_address(value, &message.transaction_id())
        .map_err(|_| Reject::Malformed(AttributeType::XOR_PEER_ADDRESS))
}

/// LIFETIME of a request, in seconds.
fn lifetime(message: &Message<'_>) -> Result<Option<u32>, Reject> {
    let value = message
        .first(AttributeType::LIFETIME)
        .map(decode_lifetime)
        .transpose();
    value.map_err(|_| Reject::Malformed(AttributeType::LIFETIME))
}

/// An address family that a request names; the inner `None` is one that does not exist.
fn family(
    message: &Message<'_>,
    attribute: AttributeType,
) -> Result<Option<Option<Family>>, Reject> {
    let value = message.first(attribute).map(Family::decode).transpose();
    value.map_err(|_| Reject::Malformed(attribute))
}

/// Refuses clients behind 6to4 and Teredo (RFC 8656 §21.4).
fn check_client(client: &Client) -> Result<(), Reject> {
    if is_tunnelled(client.five_tuple.client.ip()) {
        Err(Reject::ClientTunnelled)
    } else {
        Ok(())
    }
}
