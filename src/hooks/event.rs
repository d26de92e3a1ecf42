//! What is sent, and how it looks as JSON.

use std::fmt::Display;
use std::net::SocketAddr;

use serde::{Serialize, Serializer};

use crate::turn::{self, FiveTuple, Reject, Transport, Usage};

/// Which event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An allocation lives.
    AllocationCreated,
    /// It ended.
    AllocationEnded,
    /// A client that has proven its address did not prove who it is.
    AuthenticationFailed,
    /// The operator revoked a credential.
    CredentialRevoked,
}

impl Kind {
    /// All.
    pub const ALL: [Self; 4] = [
        Self::AllocationCreated,
        Self::AllocationEnded,
        Self::AuthenticationFailed,
        Self::CredentialRevoked,
    ];

    /// The name in JSON and in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AllocationCreated => "allocation_created",
            Self::AllocationEnded => "allocation_ended",
            Self::AuthenticationFailed => "authentication_failed",
            Self::CredentialRevoked => "credential_revoked",
        }
    }

    /// Whether those decide how often it happens who may not use the server.
    pub(super) const fn is_of_strangers(self) -> bool {
        matches!(self, Self::AuthenticationFailed)
    }
}

/// Something that happened.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// [`Kind::AllocationCreated`]
    AllocationCreated {
        /// Its name, as in the log.
        allocation: Box<str>,
        /// USERNAME.
        username: &'a str,
        /// Whose it is.
        #[serde(flatten)]
        who: Who,
        /// Its relayed transport addresses.
        relayed: Vec<SocketAddr>,
        /// Seconds granted.
        lifetime_s: u32,
    },
    /// [`Kind::AllocationEnded`]
    AllocationEnded {
        /// Its name, as in the log.
        allocation: Box<str>,
        /// USERNAME.
        username: &'a str,
        /// Whose it was.
        #[serde(flatten)]
        who: Who,
        /// Its relayed transport addresses.
        relayed: Vec<SocketAddr>,
        /// The name of the reason.
        reason: &'static str,
        /// How long it lived.
        duration_ms: u64,
        /// What it relayed.
        #[serde(serialize_with = "as_usage")]
        usage: Usage,
    },
    /// [`Kind::AuthenticationFailed`]
    AuthenticationFailed {
        /// USERNAME, as it was claimed.
        username: Option<&'a str>,
        /// Who it was.
        #[serde(flatten)]
        who: Who,
        /// What was asked for.
        method: &'static str,
        /// The error code of the reply.
        code: u16,
        /// The reason as the log has it.
        #[serde(serialize_with = "as_text")]
        reason: &'a Reject,
    },
    /// [`Kind::CredentialRevoked`]
    CredentialRevoked {
        /// The user that was revoked, with every credential.
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a str>,
        /// Or the one USERNAME.
        #[serde(skip_serializing_if = "Option::is_none")]
        username: Option<&'a str>,
        /// Unix time at which the revocation ends, if it does.
        until_unix_s: Option<u64>,
        /// Allocations that were ended.
        ended: u64,
    },
}

/// A five-tuple.
#[derive(Debug, Serialize)]
pub struct Who {
    client: SocketAddr,
    #[serde(serialize_with = "as_text")]
    transport: Transport,
    server: SocketAddr,
}

impl From<&FiveTuple> for Who {
    fn from(five_tuple: &FiveTuple) -> Self {
        Self {
            client: five_tuple.client,
            transport: five_tuple.transport,
            server: five_tuple.server,
        }
    }
}

impl<'a> Event<'a> {
    /// What of a worker's events is sent.
    pub fn of_worker(worker: usize, event: &'a turn::Event) -> Option<Self> {
        Some(match event {
            turn::Event::AllocationCreated {
                id,
                five_tuple,
                username,
                relayed,
                lifetime_s,
            } => Self::AllocationCreated {
                allocation: format!("{worker:x}-{id}").into(),
                username,
                who: five_tuple.into(),
                relayed: relayed.iter().flatten().copied().collect(),
                lifetime_s: *lifetime_s,
            },
            turn::Event::AllocationClosed {
                id,
                five_tuple,
                username,
                relayed,
                reason,
                duration,
                usage,
            } => Self::AllocationEnded {
                allocation: format!("{worker:x}-{id}").into(),
                username,
                who: five_tuple.into(),
                relayed: relayed.iter().flatten().copied().collect(),
                reason: reason.name(),
                duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
                usage: *usage,
            },
            turn::Event::RequestRefused {
                five_tuple,
                method,
                username,
                reject,
                from_there: true,
            } if matches!(reject, Reject::Authentication(_) | Reject::TooManyFailures) => {
                Self::AuthenticationFailed {
                    username: username.as_deref(),
                    who: five_tuple.into(),
                    method: method.name(),
                    code: reject.code().number(),
                    reason: reject,
                }
            }
            _ => return None,
        })
    }

    /// Which it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::AllocationCreated { .. } => Kind::AllocationCreated,
            Self::AllocationEnded { .. } => Kind::AllocationEnded,
            Self::AuthenticationFailed { .. } => Kind::AuthenticationFailed,
            Self::CredentialRevoked { .. } => Kind::CredentialRevoked,
        }
    }

    /// The JSON object, with a name that no other event has.
    pub(super) fn to_json(&self, id: &str, at_unix_ms: u64) -> Box<str> {
        #[derive(Serialize)]
        struct Envelope<'a, 'b> {
            id: &'a str,
            at_unix_ms: u64,
            #[serde(flatten)]
            event: &'a Event<'b>,
        }
        let envelope = Envelope {
            id,
            at_unix_ms,
            event: self,
        };
        let json = serde_json::to_string(&envelope);
        json.expect("every field has a JSON form").into()
    }
}

fn as_text<S: Serializer>(value: &impl Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

fn as_usage<S: Serializer>(usage: &Usage, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map([
        ("packets_to_peers", usage.packets_to_peers),
        ("bytes_to_peers", usage.bytes_to_peers),
        ("packets_to_client", usage.packets_to_client),
        ("bytes_to_client", usage.bytes_to_client),
        ("dropped_to_client", usage.dropped_to_client),
        ("limited_to_peers", usage.limited_to_peers),
        ("limited_to_client", usage.limited_to_client),
        ("peers", u64::from(usage.peers)),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn value(event: &Event<'_>) -> Value {
        serde_json::from_str(&event.to_json("p-1", 1_700_000_000_123)).unwrap()
    }

    /// HOOK-01
    #[test]
    fn every_kind_is_named_in_its_json() {
        let revoked = Event::CredentialRevoked {
            user: None,
            username: Some("mal\"lory\n"),
            until_unix_s: Some(1_700_003_600),
            ended: 3,
        };
        let expected = json!({
            "event": "credential_revoked", "id": "p-1", "at_unix_ms": 1_700_000_000_123_u64,
            "username": "mal\"lory\n", "until_unix_s": 1_700_003_600, "ended": 3,
        });
        assert_eq!(value(&revoked), expected);
        assert_eq!(revoked.kind().name(), "credential_revoked");

        let five_tuple = FiveTuple {
            transport: Transport::Tcp,
            client: "[2001:db8::1]:1000".parse().unwrap(),
            server: "192.0.2.2:3478".parse().unwrap(),
        };
        let refused = turn::Event::RequestRefused {
            five_tuple,
            method: crate::wire::Method::Allocate,
            username: Some("mallory".into()),
            from_there: true,
            reject: Reject::TooManyFailures,
        };
        let refused = Event::of_worker(0, &refused).unwrap();
        let expected = json!({
            "event": "authentication_failed", "id": "p-1", "at_unix_ms": 1_700_000_000_123_u64,
            "username": "mallory", "client": "[2001:db8::1]:1000", "transport": "tcp",
            "server": "192.0.2.2:3478", "method": "Allocate", "code": 401,
            "reason": "too many failed authentications",
        });
        assert_eq!(value(&refused), expected);
    }
}
