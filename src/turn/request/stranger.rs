//! Requests of nobody in particular: whether a failed authentication is one too many, and whether
//! an unauthenticated request is answered at all (RFC 8489 §16.1.2).

use std::net::IpAddr;

use super::super::client::Client;
use super::super::counters::DropCause;
use super::super::reject::Reject;
use super::super::server::Server;
use super::super::source::SourcePrefix;
use super::super::time::{Now, Time};
use super::Exchange;
use crate::auth::{AuthFailure, Identity, NonceVerdict};
use crate::turn::limits::LOGGED_USERNAME_MAX;
use crate::wire::{AttributeType, Message};

impl Server {
    /// Counts a failed authentication, and refuses who has failed too often. The password was
    /// checked all the same, so the answer does not tell whether it was right, and its time hardly. Who has
    /// an allocation of that user on this five-tuple has proven to know it.
    pub(super) fn limit_failures(
        &mut self,
        exchange: &Exchange<'_, '_>,
        checked: &Result<Identity, AuthFailure>,
    ) -> Result<(), Reject> {
        let (username, is_right) = match checked {
            Ok(identity) => (&identity.username, true),
            Err(AuthFailure::StaleNonce(identity)) => (&identity.username, true),
            Err(AuthFailure::Expired { username, .. } | AuthFailure::Revoked { username }) => {
                (username, true)
            }
            Err(AuthFailure::UnknownUser { username })
            | Err(AuthFailure::WrongPassword { username }) => (username, false),
            Err(_) => return Ok(()),
        };
        let Some(rates) = self.options.limits.failure_rates() else {
            return Ok(());
        };
        let five_tuple = &exchange.client.five_tuple;
        let is_owner = self.table.find(five_tuple).is_some_and(|allocation| {
            allocation.holds_five_tuple(exchange.now.time) && allocation.owner.username == *username
        });
        if is_owner {
            return Ok(());
        }
        let from = five_tuple.client.ip();
        let now = exchange.now.time;
        if !self.failure_limit.admits(now, rates, from, username) {
            return Err(Reject::TooManyFailures);
        }
        if !is_right {
            self.failure_limit.record(now, rates, from, username);
        }
        Ok(())
    }

    /// Whether a request that is not authenticated is answered, and reported.
    pub(super) fn admits_refusal(&mut self, exchange: &Exchange<'_, '_>, reject: &Reject) -> bool {
        if !self.admits_stranger(exchange.now, &exchange.client, exchange.nonce) {
            return false;
        }
        let is_failure = matches!(
            reject,
            Reject::TooManyFailures
                | Reject::Authentication(
                    AuthFailure::UnknownUser { .. } | AuthFailure::WrongPassword { .. }
                )
        );
        let Some(rates) = self.options.limits.failure_rates() else {
            return true;
        };
        let from = exchange.client.five_tuple.client.ip();
        let admitted = !is_failure
            || self
                .failure_limit
                .admits_reply(exchange.now.time, rates, from);
        if !admitted {
            self.counters.count(DropCause::FailureLimit);
        }
        admitted
    }

    /// Whether a reply goes to a requester who is not authenticated. It always does where the
    /// return path is proven: by a connection, by an allocation, or by a nonce that was sent there.
    /// An old one does not exempt, lest one that was once received be good for ever.
    pub(super) fn admits_stranger(
        &mut self,
        now: Now,
        client: &Client,
        nonce: Option<NonceVerdict>,
    ) -> bool {
        let five_tuple = &client.five_tuple;
        if five_tuple.transport.is_connected() {
            return true;
        }
        let allocation = self.table.find(five_tuple);
        if allocation.is_some_and(|allocation| allocation.holds_five_tuple(now.time)) {
            return true;
        }
        if nonce == Some(NonceVerdict::Good) {
            return true;
        }
        self.admits_reply(now.time, five_tuple.client.ip())
    }

    /// Whether one more reply goes to an address that anybody may have written. For replies that the
    /// host makes, too: a cookie of DTLS is one.
    pub fn admits_reply(&mut self, now: Time, client: IpAddr) -> bool {
        let rate = self.options.limits.reply_rate();
        let source = SourcePrefix::network(client);
        let admitted = self.reply_limit.admits(now, rate, source);
        if !admitted {
            self.counters.count(DropCause::ReplyLimit);
        }
        admitted
    }

    /// What the nonce of a request is worth, if it has one.
    pub(super) fn check_nonce(
        &self,
        now: Now,
        client: &Client,
        message: &Message<'_>,
    ) -> Option<NonceVerdict> {
        let authenticator = &self.options.authenticator;
        authenticator.check_nonce(message, client.five_tuple.client, now.unix_s)
    }
}

/// Whether a request that is not authenticated was sent from the address that it came from.
pub(super) fn is_from_there(exchange: &Exchange<'_, '_>) -> bool {
    exchange.client.five_tuple.transport.is_connected()
        || exchange.nonce == Some(NonceVerdict::Good)
}

/// USERNAME of a request that is not authenticated, for the log.
pub(super) fn claimed_username(message: &Message<'_>) -> Option<Box<str>> {
    let username = message.first(AttributeType::USERNAME)?;
    let username = username.get(..username.len().min(LOGGED_USERNAME_MAX))?;
    Some(String::from_utf8_lossy(username).into())
}
