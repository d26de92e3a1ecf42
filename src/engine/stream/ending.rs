//! Why the server refuses a connection or ends one, and how often it did.

use std::fmt;

use crate::metrics::TCP_ENDINGS;

macro_rules! endings {
    ($($ending:ident, $name:literal, $text:literal;)*) => {
        /// Why a connection is refused or ended, other than by its client.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Ending {
            $(#[doc = $text] $ending,)*
        }

        impl Ending {
            const ALL: &[Self] = &[$(Self::$ending,)*];

            /// The name in counters.
            const fn name(self) -> &'static str {
                match self {
                    $(Self::$ending => $name,)*
                }
            }
        }

        impl fmt::Display for Ending {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$ending => $text,)*
                })
            }
        }
    };
}

endings! {
    ConnectionLimit, "connection_limit", "limits.tcp_connections reached";
    AddressLimit, "address_limit", "limits.tcp_connections_per_address reached";
    HalfOpenLimit, "half_open_limit", "limits.tcp_half_open reached";
    MemoryLimit, "memory_limit", "limits.tcp_queues_total_bytes reached";
    NoFirstMessage, "no_first_message", "no valid message within limits.tcp_first_message_s";
    NoAllocation, "no_allocation", "no allocation for limits.tcp_idle_s";
    FrameTooLong, "frame_too_long", "a frame or TLS record without an allocation that is longer than requests are";
    NotTurn, "not_turn", "neither STUN nor ChannelData on the stream";
    NotTls, "not_tls", "no TLS, where listen.strict takes nothing else";
    NoCertificate, "no_certificate", "TLS for TURN, and tls.cert is not set";
    HelloTooLong, "hello_too_long", "a TLS ClientHello that is longer than they are";
    TlsHandshake, "tls_handshake", "the TLS handshake failed";
    TlsBroken, "tls_broken", "TLS that is out of step, was given up by an alert, or has used its key up";
    ProxyUntrusted, "proxy_untrusted", "a PROXY protocol header from an address that is not in listen.proxy_protocol_from";
    ProxyMissing, "proxy_missing", "no PROXY protocol header from an address in listen.proxy_protocol_from";
    ProxyBroken, "proxy_broken", "a PROXY protocol header that is broken, too long, the second one, or of a connection that there is";
    ClientRefused, "client_refused", "clients.allow or clients.deny, for the client that a proxy speaks for";
    Replaced, "replaced", "another DTLS session is in its place";
    ListenerClosed, "listener_closed", "its listener for DTLS is closed";
    PassedOn, "passed_on", "passed on to a web server";
    NotPassedOn, "not_passed_on", "for a web server that does not have it";
}

impl Ending {
    /// Whether it is a limit of the server, which its operator may want to raise.
    pub(crate) const fn is_limit(self) -> bool {
        matches!(
            self,
            Self::ConnectionLimit | Self::AddressLimit | Self::HalfOpenLimit | Self::MemoryLimit
        )
    }
}

/// How many connections ended so.
#[derive(Debug, Default)]
pub(crate) struct Endings([u64; TCP_ENDINGS.len()]);

impl Endings {
    pub(crate) const fn count(&mut self, ending: Ending) {
        self.0[ending as usize] += 1;
    }

    /// By [`TCP_ENDINGS`].
    pub(crate) const fn numbers(&self) -> [u64; TCP_ENDINGS.len()] {
        self.0
    }
}

impl fmt::Display for Endings {
    /// `name=number` for every one that occurred.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for ending in Ending::ALL {
            let count = self.0[*ending as usize];
            if count > 0 {
                write!(f, "{separator}{}={count}", ending.name())?;
                separator = " ";
            }
        }
        if separator.is_empty() {
            f.write_str("none")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_name_endings_alike() {
        let names = Ending::ALL.iter().map(|ending| ending.name());
        assert!(names.eq(TCP_ENDINGS));
    }

    #[test]
    fn what_occurred_is_told() {
        let mut endings = Endings::default();
        assert_eq!(endings.to_string(), "none");
        endings.count(Ending::NotTurn);
        endings.count(Ending::HalfOpenLimit);
        endings.count(Ending::NotTurn);
        assert_eq!(endings.to_string(), "half_open_limit=1 not_turn=2");
    }
}
