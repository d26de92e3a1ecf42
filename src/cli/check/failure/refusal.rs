//! Error responses: what each code means to a client that did everything right, and the setting
//! that is behind it.

use std::fmt;
use std::net::SocketAddr;

use super::Context;
use crate::cli::check::login::wrong_credentials;
use crate::wire::Method;

/// An error response.
#[derive(Debug)]
pub(in crate::cli::check) struct Refusal {
    pub(in crate::cli::check) method: Method,
    pub(in crate::cli::check) code: u16,
    pub(in crate::cli::check) phrase: String,
    /// Whether it should have been signed and was not, or not rightly.
    pub(in crate::cli::check) lacks_integrity: bool,
    /// REALM, where it is another one than before.
    pub(in crate::cli::check) other_realm: Option<String>,
    /// ALTERNATE-SERVER (RFC 8489 §14.15).
    pub(in crate::cli::check) alternate: Option<SocketAddr>,
}

impl Refusal {
    /// The likely cause, and what to do about it.
    pub(super) fn verdict(&self, context: &Context<'_>) -> String {
        match (self.code, self.method) {
            (300, _) => self.alternate.map_or_else(
                || "the server sends clients to another one, and does not say which".to_owned(),
                |other| format!("the server sends clients to {other}; check that one"),
            ),
            (401, _) => self.other_realm.as_ref().map_or_else(
                || wrong_credentials(context),
                |realm| {
                    format!(
                        "the server names another realm, \"{realm}\", in its second answer: \
                         several servers with different settings behind one address (realm)"
                    )
                },
            ),
            _ => meaning(self.code, self.method).map_or_else(
                || format!("the server refuses {}: {self}", self.method.name()),
                str::to_owned,
            ),
        }
    }
}

/// What the codes mean that say everything themselves.
const fn meaning(code: u16, method: Method) -> Option<&'static str> {
    Some(match (code, method) {
        (403, Method::CreatePermission | Method::ChannelBind) => {
            "the server refuses its own relayed address as a peer: allocations work, but two \
             clients on this server cannot reach each other through it (turnstone: peers.allow, \
             peers.deny; coturn: allowed-peer-ip, denied-peer-ip)"
        }
        (403, _) => {
            "the server is being drained and makes no new allocations (turnstone drain, which \
             turnstone drain --undo ends; coturn after SIGUSR1), or it refuses this client by its \
             address"
        }
        (437, Method::Allocate) => {
            "the server holds an allocation on this socket's address already, left by an earlier \
             client; try again, or wait until it expires"
        }
        (437, _) => {
            "the server does not know the allocation that it made a moment ago: it was restarted, \
             or a balancer spreads packets over several servers"
        }
        (438, _) => {
            "the server calls its own fresh nonce stale: several servers behind one address that \
             do not share a key (turnstone: auth.nonce_secret; coturn: stateless-nonce-secret), or \
             a NAT that changes the client's port"
        }
        (440, _) => {
            "the server has no relay address of either family (turnstone: relay.addresses; coturn: \
             relay-ip)"
        }
        (441, _) => {
            "the server takes the allocation for another user's: another client behind the same \
             NAT port, or a balancer in between"
        }
        (442, _) => "the server relays no UDP to peers (coturn: no-udp-relay)",
        (486, _) => {
            "the user, or this client's address, has as many allocations as the server permits; \
             raise the quota (turnstone: limits.allocations_per_user, \
             limits.allocations_per_address; coturn: user-quota, total-quota), or wait until the \
             old ones expire"
        }
        (508, _) => {
            "the server has no relay port or no capacity left; give it more ports (turnstone: \
             relay.ports, limits.allocations_total; coturn: min-port, max-port), or wait until \
             old allocations expire"
        }
        _ => return None,
    })
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.phrase.is_empty() {
            write!(f, " {}", self.phrase)?;
        }
        if self.lacks_integrity {
            f.write_str(" (without valid MESSAGE-INTEGRITY)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys that a text names after "turnstone:", up to a semicolon or a bracket.
    fn keys(text: &str) -> impl Iterator<Item = &str> {
        let lists = text.split("turnstone: ").skip(1);
        lists.flat_map(|list| list.split([';', ')']).next().unwrap().split(", "))
    }

    #[test]
    fn every_key_that_a_verdict_names_exists() {
        let example = include_str!("../../../../turnserver.toml.example");
        let sources = concat!(
            include_str!("verdict.rs"),
            include_str!("../login.rs"),
            include_str!("../outside.rs"),
            include_str!("../tls.rs")
        );
        let unfolded = sources.replace("\\\n", "");
        let unfolded = unfolded.split_whitespace().collect::<Vec<_>>().join(" ");
        let codes = [403, 437, 438, 440, 441, 442, 486, 508];
        let meanings = codes.map(|code| meaning(code, Method::Allocate).unwrap());
        let mut found = 0;
        for text in meanings.into_iter().chain([unfolded.as_str()]) {
            for key in keys(text) {
                let (section, name) = key.split_once('.').unwrap_or_else(|| panic!("{key:?}"));
                let section = format!("\n[{section}]\n");
                let (_, keys) = example
                    .split_once(section.as_str())
                    .unwrap_or_else(|| panic!("{key:?}"));
                let keys = keys.split("\n[").next().unwrap();
                let is_there = ["\n#", "\n# e.g. "]
                    .iter()
                    .any(|start| keys.contains(&format!("{start}{name} = ")));
                assert!(is_there, "{key} is no key");
                found += 1;
            }
        }
        assert!(found >= 10, "{found}");
    }

    #[test]
    fn own_relayed_address_is_another_refusal_than_the_client() {
        let peer = meaning(403, Method::CreatePermission).unwrap();
        let client = meaning(403, Method::Allocate).unwrap();
        assert!(peer.contains("as a peer") && client.contains("refuses this client"));
        assert_eq!(meaning(599, Method::Allocate), None);
    }
}
