//! Binding (RFC 8489 §6.3, §12), on every transport and without credentials.

use super::super::client::Client;
use super::super::counters::DropCause;
use super::super::data_path::Routed;
use super::super::server::Server;
use super::super::time::Now;
use super::reply;
use crate::turn::Transport;
use crate::wire::{
    AttributeType, Class, ClassicRequest, ErrorCode, Message, MessageBuilder, Method,
};

/// Bytes of the longest reply to a client of RFC 3489.
const CLASSIC_REPLY_LEN_MAX: usize = 64;

impl Server {
    /// Tells the client its address. Credentials are not looked at, and nothing is sent that the
    /// client did not ask for: 32 bytes for 20.
    pub(super) fn handle_binding(&mut self, now: Now, client: Client, request: &Message<'_>) {
        let nonce = self.check_nonce(now, &client, request);
        if !self.admits_stranger(now, &client, nonce) {
            return;
        }
        let unknown = self.unknown_attributes(request);
        let class = if unknown.is_empty() {
            Class::Success
        } else {
            Class::Error
        };
        let message = reply(request, class, Method::Binding, |builder| {
            if unknown.is_empty() {
                let mapped = client.five_tuple.client;
                builder.xor_address(AttributeType::XOR_MAPPED_ADDRESS, mapped);
            } else {
                builder
                    .error_code(ErrorCode::UnknownAttribute, "")
                    .unknown_attributes(&unknown);
            }
            None
        });
        let error = (!unknown.is_empty()).then_some(ErrorCode::UnknownAttribute);
        self.reply(client, Method::Binding, error, message);
    }

    /// Lets a message without the magic cookie in: where the operator wants clients of RFC 3489 served
    /// over UDP, and over DTLS, to be refused.
    pub(super) fn admit_classic(&mut self, client: &Client) -> Result<(), DropCause> {
        match client.five_tuple.transport {
            Transport::Udp if self.options.classic_stun => self.admit(client),
            Transport::Dtls => self.admit(client),
            Transport::Udp | Transport::Tcp | Transport::Tls => Err(DropCause::Malformed),
        }
    }

    /// A Binding request without the magic cookie (RFC 8489 §12), which over DTLS no client has reason to
    /// send: that is answered with an error (§11).
    pub(super) fn handle_classic_binding(
        &mut self,
        now: Now,
        client: Client,
        packet: &[u8],
    ) -> Routed {
        let request = ClassicRequest::parse(packet).ok_or(DropCause::Malformed)?;
        self.counters.count_request(Method::Binding);
        if !self.admits_stranger(now, &client, None) {
            return Ok(None);
        }
        let error = match client.five_tuple.transport {
            Transport::Dtls => Some(ErrorCode::ServerError),
            _ => request.unsupported.map(|_| ErrorCode::UnknownAttribute),
        };
        let class = error.map_or(Class::Success, |_| Class::Error);
        let mut buffer = [0; CLASSIC_REPLY_LEN_MAX];
        let mut builder =
            MessageBuilder::classic_binding(&mut buffer, class, request.transaction_id);
        match (error, request.unsupported) {
            (None, _) => builder.address(AttributeType::MAPPED_ADDRESS, client.five_tuple.client),
            // RFC 3489 §11.2.10 has an even number of types, the last one repeated.
            (Some(ErrorCode::UnknownAttribute), Some(attribute)) => builder
                .error_code(ErrorCode::UnknownAttribute, "")
                .unknown_attributes(&[attribute, attribute]),
            (Some(error), _) => builder.error_code(error, ""),
        };
        let len = builder.finish().expect("the longest reply fits");
        self.reply(client, Method::Binding, error, buffer[..len].to_vec());
        Ok(None)
    }
}
