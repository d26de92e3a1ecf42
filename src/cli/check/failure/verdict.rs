//! The likely cause of a failure in words, and what to do about it.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustls::AlertDescription;

use super::{Answer, Failure, name, seconds};
use crate::cli::check::credentials::Credentials;
use crate::cli::check::login::Diagnosis;
use crate::cli::check::tls::Tls;
use crate::cli::check::transport::{Link, Transport};
use crate::wire::Method;

/// What a verdict depends on besides the failure.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli::check) struct Context<'a> {
    pub(in crate::cli::check) transport: Transport,
    pub(in crate::cli::check) server: SocketAddr,
    /// `None` but for TLS.
    pub(in crate::cli::check) tls: Option<&'a Tls>,
    pub(in crate::cli::check) credentials: Option<&'a Credentials>,
    /// Whether the server has answered anything so far.
    pub(in crate::cli::check) answered: bool,
    /// What is behind a 401, if that was found out.
    pub(in crate::cli::check) diagnosis: Option<Diagnosis>,
    /// How far the server's clock is ahead of ours, in seconds, if it told.
    pub(in crate::cli::check) ahead_s: Option<i64>,
    /// Whether a socket outside the server reached the relayed address; `None` if it was not tried.
    pub(in crate::cli::check) outside_works: Option<bool>,
    /// Whether one allocation reached the other; `None` if it was not tried.
    pub(in crate::cli::check) hairpin_works: Option<bool>,
}

impl Context<'_> {
    /// One more connection to the server, or socket.
    pub(in crate::cli::check) fn open(&self, deadline: Instant) -> Result<Link, Failure> {
        let mut link = Link::open(self.transport, self.server, deadline)?;
        if let Some(tls) = self.tls {
            link.shake_hands(tls, deadline)?;
        }
        Ok(link)
    }
}

impl Failure {
    /// The verdict on a server that never said anything.
    pub(in crate::cli::check) fn no_answer(context: &Context<'_>, waited: Duration) -> String {
        let waited = seconds(waited);
        let port = context.server.port();
        match context.transport {
            Transport::Udp => format!(
                "no answer over UDP within {waited}: firewall, wrong port, or no server; open \
                 {port}/udp on the way to it, and see that it listens there and serves this \
                 network (turnstone: clients.allow, clients.deny)"
            ),
            Transport::Tcp => format!(
                "connected over TCP, but no answer within {waited}: no STUN server, or one that \
                 waits for TLS"
            ),
            Transport::Tls => format!(
                "TLS works, but nothing answers inside it within {waited}: it is that of another \
                 service, or of a proxy without a TURN server behind it"
            ),
        }
    }

    /// The likely cause, and what to do about it.
    pub(in crate::cli::check) fn verdict(&self, context: &Context<'_>) -> String {
        if let Some(verdict) = self.no_contact(context) {
            return verdict;
        }
        match self {
            Self::TimeUp => "the time is up; give it more with --timeout".to_owned(),
            Self::IsTls => format!(
                "the port speaks TLS: check turns:HOST:{}, or give the port without TLS",
                context.server.port()
            ),
            Self::HandshakeTimeout { .. }
            | Self::HandshakeClosed
            | Self::NoTls(_)
            | Self::Alert(_)
            | Self::NothingInCommon(_)
            | Self::Tls(_) => self.tls_verdict(context),
            Self::Distrusted(distrust) => distrust.verdict(),
            Self::Http(_) => "a web server answers: wrong port, or a proxy in the way".to_owned(),
            Self::NotStun(_) => format!(
                "something answers over {}, but it is no STUN server: wrong port?",
                context.transport.name()
            ),
            Self::OpenRelay => {
                "an open relay: the server relays for anybody; configure credentials on it (coturn: \
                 lt-cred-mech or use-auth-secret)"
                    .to_owned()
            }
            Self::Unsigned { .. } => {
                format!("{self}, so anybody could have sent it; clients drop it")
            }
            Self::WronglySigned { .. } => {
                format!("{self}: the server, or somebody else who answers, has another password")
            }
            Self::Refused(refusal) => refusal.verdict(context),
            Self::PrivateRelay { .. }
            | Self::ClosedRelay { .. }
            | Self::NoWayOut { .. }
            | Self::DataLost { .. }
            | Self::WrongSource { .. } => self.relay_verdict(context),
            Self::NotDeleted { .. } => {
                "the server keeps allocations that a client deletes".to_owned()
            }
            // BadReply; the others are above.
            _ => format!("{self}: the server breaks the protocol"),
        }
    }

    /// The likely cause where nobody answered.
    fn no_contact(&self, context: &Context<'_>) -> Option<String> {
        let server = context.server;
        let (ip, port) = (server.ip(), server.port());
        Some(match self {
            Self::ConnectionRefused => format!(
                "TCP connection refused: {ip} is up, but nothing listens on port {port}, or a \
                 firewall rejects it"
            ),
            Self::PortUnreachable => format!(
                "{ip} is up, but nothing listens on UDP port {port}, or a firewall rejects it \
                 (ICMP port unreachable)"
            ),
            Self::Unreachable(_) if server.is_ipv6() => format!(
                "no way to {ip}: this network has no IPv6, the machine is off, or a firewall \
                 rejects port {port}; where the name has an IPv4 address too, try --ipv4"
            ),
            Self::Unreachable(_) => format!(
                "no way to {ip}: no route, the machine is off, or a firewall rejects port {port}"
            ),
            Self::ConnectTimeout { waited } => format!(
                "no answer over TCP within {}: firewall, wrong port, or no server; open {port}/tcp \
                 on the way to it",
                seconds(*waited)
            ),
            Self::Closed if context.answered => {
                "the server closed the connection in the middle: it was restarted, or a proxy or \
                 firewall cut it"
                    .to_owned()
            }
            Self::Closed if context.transport == Transport::Tls => {
                "TLS works, but the server closed the connection: TLS of another service, a proxy \
                 without a TURN server behind it, or a server that refuses this client (turnstone: \
                 clients.allow, clients.deny, limits.tcp_connections)"
                    .to_owned()
            }
            Self::Closed => "the server closed the connection: no STUN server, one that waits for \
                             TLS, a proxy without one behind it, or one that refuses this client \
                             (turnstone: clients.allow, clients.deny, limits.tcp_connections)"
                .to_owned(),
            Self::Io(error) if error.kind() == ErrorKind::PermissionDenied => {
                "this machine's own firewall lets nothing out to the server".to_owned()
            }
            Self::Io(error) => format!("the socket failed: {error}"),
            Self::Silence {
                method: Method::Binding,
                ..
            } if context.answered => "the server does not answer Binding requests".to_owned(),
            Self::Silence { method, .. } if context.answered => format!(
                "the server answers, but not to {}: packets get lost, or it cannot do that",
                method.name()
            ),
            Self::Silence { waited, .. } => Self::no_answer(context, *waited),
            _ => return None,
        })
    }

    /// The likely cause where there is no TLS.
    fn tls_verdict(&self, context: &Context<'_>) -> String {
        let port = context.server.port();
        match self {
            Self::HandshakeTimeout { .. } | Self::HandshakeClosed if context.answered => format!(
                "the server took one connection over TLS, and of the next it is said: {self}; a limit \
                 of connections (turnstone: limits.tcp_connections_per_address, \
                 limits.tcp_connections), or a balancer with several servers, one of which is down"
            ),
            Self::HandshakeTimeout { waited } => format!(
                "connected, but no answer to TLS within {}, nor to plain STUN: a firewall that lets \
                 no TLS through, a server that is stuck, or something else that listens on port \
                 {port}",
                seconds(*waited)
            ),
            Self::HandshakeClosed => format!(
                "connected, but the server closes port {port} instead of TLS, and answers no plain \
                 STUN either: it has no certificate (turnstone: tls.cert, tls.key; coturn: cert, \
                 pkey), a proxy without a server behind it, or one that refuses this client \
                 (turnstone: clients.allow, clients.deny, limits.tcp_connections)"
            ),
            Self::NoTls(Answer::Stun) => format!(
                "a STUN server answers on port {port}, but without TLS: it has no certificate \
                 (turnstone: tls.cert, tls.key; coturn: cert, pkey, without no-tls), or TLS is \
                 on another port; the URL without it is turn:HOST:{port}?transport=tcp"
            ),
            Self::NoTls(Answer::Http(_)) => format!(
                "a web server without TLS answers on port {port}: wrong port, or a proxy in the way"
            ),
            Self::NoTls(Answer::Other(_)) => {
                format!("something answers on port {port}, but it speaks no TLS: wrong port?")
            }
            Self::Alert(AlertDescription::UnrecognisedName) => {
                "the server has no certificate for this name: use a URL with one of its names, or \
                 give it another certificate (turnstone: tls.additional)"
                    .to_owned()
            }
            Self::Alert(AlertDescription::NoApplicationProtocol) => format!(
                "another service has port {port}: it wants an application protocol (ALPN), and browsers \
                 offer none for TURN"
            ),
            Self::Alert(AlertDescription::ProtocolVersion) | Self::NothingInCommon(_) => {
                "no version of TLS or cipher in common: browsers want TLS 1.2 or 1.3 with ECDHE and \
                 AES-GCM or ChaCha20, and this server is older, or was told otherwise (coturn: \
                 no-tlsv1_2, cipher-list)"
                    .to_owned()
            }
            Self::Alert(AlertDescription::CertificateRequired) => {
                "the server wants a certificate of the client, and no browser has one for it: have it \
                 ask for none"
                    .to_owned()
            }
            Self::Alert(AlertDescription::HandshakeFailure) => {
                "the server refuses the handshake: no cipher or signature in common, a certificate \
                 that it cannot use, or it wants one of the client"
                    .to_owned()
            }
            Self::Alert(alert) => format!("the server refuses TLS with {}", name(*alert)),
            _ => format!("TLS is broken ({self}): a proxy or firewall in the way, or a faulty server"),
        }
    }

    /// The likely cause where the relayed address is of no use.
    fn relay_verdict(&self, context: &Context<'_>) -> String {
        let server = context.server.ip();
        match self {
            Self::PrivateRelay { relayed_address } => format!(
                "the relayed address {} is not public, though the server's is: clients outside \
                 cannot reach it; tell the server its public address (turnstone: relay.external; \
                 coturn: external-ip)",
                relayed_address.ip()
            ),
            Self::ClosedRelay {
                relayed_address,
                refused,
            } => {
                let ports = "(turnstone: relay.ports; coturn: min-port to max-port; by default \
                             49152-65535/udp)";
                let external = "(turnstone: relay.external; coturn: external-ip)";
                let seen = if *refused {
                    format!("ICMP refuses what is sent to {relayed_address}, the relayed address")
                } else {
                    format!("nothing from here arrives at {relayed_address}, the relayed address")
                };
                let cause = if relayed_address.ip() == server {
                    format!(
                        ": a firewall closes the server's relay ports; open them {ports}, unless it \
                         is this network that lets no UDP out to them"
                    )
                } else {
                    format!(
                        ", which is not the server's address {server}: the address that clients \
                         are told may be wrong {external}, or a firewall closes the relay ports \
                         {ports}"
                    )
                };
                let inside = match context.hairpin_works {
                    Some(true) => "; two clients of this server do reach each other",
                    _ => "",
                };
                format!("{seen}{cause}{inside}")
            }
            Self::NoWayOut { peer } => format!(
                "what the relay sends to {peer} here does not arrive, though the way in is open: a \
                 firewall of the server lets no UDP out, or sends it from another address"
            ),
            Self::WrongSource { .. } => "a NAT between the server and its own relayed addresses \
                                         changes where packets come from"
                .to_owned(),
            // DataLost
            _ => match context.outside_works {
                Some(true) => "the server relays to outside, but not between two of its own \
                               clients: its NAT does not let it reach its own external address \
                               (turnstone does without that; coturn: external-ip as PUBLIC/PRIVATE)"
                    .to_owned(),
                Some(false) => "nor do two clients of this server reach each other".to_owned(),
                None => "the server takes data, but none comes back from its relayed address: a \
                      firewall closes its relay ports (turnstone: relay.ports; coturn: min-port to \
                      max-port), or its NAT does not let it reach its own external address"
                    .to_owned(),
            },
        }
    }
}
