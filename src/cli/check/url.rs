//! The URL of a server (RFC 7064, RFC 7065), and the bare `host:port` that people type instead.

use std::str::FromStr;

use super::UsageError;
use super::transport::Transport;

/// The port of a URL without one, and that of one with TLS (RFC 8489 §18.6).
pub(super) const DEFAULT_PORT: u16 = 3478;
const DEFAULT_TLS_PORT: u16 = 5349;

/// What the server is to be tested for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// Binding alone
    Stun,
    /// Everything
    Turn,
}

/// A server to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) scheme: Scheme,
    /// A name or an address; an IPv6 address without its brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// `None` where the URL leaves it open.
    pub(super) transport: Option<Transport>,
}

impl Target {
    /// The transports to check, in order.
    pub(super) fn transports(&self) -> Vec<Transport> {
        self.transport
            .map_or_else(|| vec![Transport::Udp, Transport::Tcp], |one| vec![one])
    }
}

impl FromStr for Target {
    type Err = UsageError;

    /// Other than RFC 7064, a `stun:` URL may name a transport: many STUN servers have UDP alone.
    fn from_str(url: &str) -> Result<Self, UsageError> {
        // Nothing below prints a password that somebody took for a part of the URL.
        if url.contains('@') {
            let message =
                "a URL holds no user; give --user and --password, or --static-auth-secret";
            return Err(UsageError(message.to_owned()));
        }
        let (scheme, is_tls, rest) = split_scheme(url)?;
        if rest.starts_with("//") {
            let rest = rest.trim_start_matches('/');
            let name = if is_tls { "turns" } else { "turn" };
            let message = format!("{url}: no slashes in such a URL; write {name}:{rest}");
            return Err(UsageError(message));
        }
        let (authority, query) = match rest.split_once('?') {
            Some((authority, query)) => (authority, Some(query)),
            None => (rest, None),
        };
        let transport = query.map(|query| parse_query(url, query)).transpose()?;
        let transport = match (is_tls, transport) {
            (false, transport) => transport,
            (true, None | Some(Transport::Tcp | Transport::Tls)) => Some(Transport::Tls),
            (true, Some(Transport::Udp)) => {
                return Err(UsageError(format!(
                    "{url}: that is DTLS, which this check does not speak, and no browser; leave transport=udp out to \
                     check TLS, and try DTLS with \"turnutils_uclient -S\" of coturn"
                )));
            }
        };
        let default_port = if is_tls {
            DEFAULT_TLS_PORT
        } else {
            DEFAULT_PORT
        };
        let (host, port) = parse_authority(url, authority)?;
        let port = port.unwrap_or(default_port);
        Ok(Self {
            scheme,
            host,
            port,
            transport,
        })
    }
}

/// Takes the scheme off: what it is for, and whether over TLS. A bare `host:port` looks like one, so
/// only known schemes count.
fn split_scheme(url: &str) -> Result<(Scheme, bool, &str), UsageError> {
    let Some((scheme, rest)) = url.split_once(':') else {
        return Ok((Scheme::Turn, false, url));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "turn" => Ok((Scheme::Turn, false, rest)),
        "stun" => Ok((Scheme::Stun, false, rest)),
        "turns" => Ok((Scheme::Turn, true, rest)),
        "stuns" => Ok((Scheme::Stun, true, rest)),
        _ if rest.starts_with("//") => Err(UsageError(format!(
            "{url}: {scheme} is another protocol; write turn:{}",
            rest.trim_start_matches('/')
                .split('/')
                .next()
                .unwrap_or_default()
        ))),
        _ => Ok((Scheme::Turn, false, url)),
    }
}

fn parse_query(url: &str, query: &str) -> Result<Transport, UsageError> {
    match query.to_ascii_lowercase().as_str() {
        "transport=udp" => Ok(Transport::Udp),
        "transport=tcp" => Ok(Transport::Tcp),
        _ => Err(UsageError(format!(
            "{url}: after the question mark comes transport=udp or transport=tcp"
        ))),
    }
}

/// The host and the port, if there is one.
fn parse_authority(url: &str, authority: &str) -> Result<(String, Option<u16>), UsageError> {
    let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
        bracketed
            .split_once(']')
            .ok_or_else(|| UsageError(format!("{url}: the bracket of the address is open")))?
    } else if authority.matches(':').count() > 1 {
        let message = format!("{url}: an IPv6 address stands in brackets, as in turn:[::1]");
        return Err(UsageError(message));
    } else {
        authority.split_at(authority.find(':').unwrap_or(authority.len()))
    };
    let is_plain = |c: char| c.is_alphanumeric() || "-._:%".contains(c);
    if host.is_empty() || !host.chars().all(is_plain) {
        return Err(UsageError(format!(
            "{url}: a host name is missing or wrong"
        )));
    }
    if port.is_empty() {
        return Ok((host.to_owned(), None));
    }
    port.strip_prefix(':')
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .filter(|&port| port != 0)
        .map(|port| (host.to_owned(), Some(port)))
        .ok_or_else(|| UsageError(format!("{url}: the port is a number from 1 to 65535")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> (Scheme, String, u16, Option<Transport>) {
        let target: Target = url.parse().unwrap();
        (target.scheme, target.host, target.port, target.transport)
    }

    #[test]
    fn forms_of_a_url() {
        use Scheme::{Stun, Turn};
        let cases = [
            ("turn:a.example", Turn, "a.example", 3478, None),
            ("TURN:a.example:1", Turn, "a.example", 1, None),
            ("stun:192.0.2.1", Stun, "192.0.2.1", 3478, None),
            ("a.example", Turn, "a.example", 3478, None),
            ("a.example:5000", Turn, "a.example", 5000, None),
            ("turn", Turn, "turn", 3478, None),
            ("[::1]", Turn, "::1", 3478, None),
            ("turn:[2001:db8::7]:65535", Turn, "2001:db8::7", 65535, None),
            ("turn:[fe80::1%eth0]", Turn, "fe80::1%eth0", 3478, None),
            (
                "turn:a?transport=udp",
                Turn,
                "a",
                3478,
                Some(Transport::Udp),
            ),
            ("turn:a:9?transport=TCP", Turn, "a", 9, Some(Transport::Tcp)),
            ("turns:a", Turn, "a", 5349, Some(Transport::Tls)),
            ("TURNS:a:443", Turn, "a", 443, Some(Transport::Tls)),
            ("stuns:[::1]", Stun, "::1", 5349, Some(Transport::Tls)),
            (
                "turns:a?transport=tcp",
                Turn,
                "a",
                5349,
                Some(Transport::Tls),
            ),
            (
                "stun:a?transport=udp",
                Stun,
                "a",
                3478,
                Some(Transport::Udp),
            ),
        ];
        for (url, scheme, host, port, transport) in cases {
            assert_eq!(
                parse(url),
                (scheme, host.to_owned(), port, transport),
                "{url}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cases = [
            ("turns:a.example?transport=udp", "DTLS"),
            ("turns://a.example", "write turns:a.example"),
            ("turn://a.example", "write turn:a.example"),
            (
                "http://a.example",
                "http is another protocol; write turn:a.example",
            ),
            ("HTTPS://a:8/b", "write turn:a:8"),
            ("turn:::1", "brackets"),
            ("::1", "brackets"),
            ("turn:[::1", "bracket"),
            ("turn:", "host name"),
            ("", "host name"),
            ("turn:a b", "host name"),
            ("turn:a:", "port"),
            ("turn:a:0", "port"),
            ("turn:a:65536", "port"),
            ("turn:a:+1", "port"),
            ("turn:[::1]1", "port"),
            ("turn:a?transport=sctp", "transport=udp or"),
            ("turn:a?", "transport=udp or"),
            ("turn:bob:pw@a", "--password"),
        ];
        for (url, expected) in cases {
            let error = url.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(expected), "{url:?}: {error}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_not_printed() {
        for scheme in ["turn:", "turn://", "turns:", "https://", ""] {
            let url = format!("{scheme}bob:hunter2@a");
            let error = url.parse::<Target>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{url}");
        }
    }

    #[test]
    fn an_open_transport_means_both() {
        let both = "a".parse::<Target>().unwrap().transports();
        assert_eq!(both, [Transport::Udp, Transport::Tcp]);
        let one = "turn:a?transport=tcp".parse::<Target>().unwrap();
        assert_eq!(one.transports(), [Transport::Tcp]);
    }
}
