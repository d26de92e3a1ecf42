//! Why a TLS handshake fails, in an operator's words.

use std::fmt;

use rustls::{AlertDescription, Error, PeerIncompatible};

/// What rustls said, or that it was not asked.
#[derive(Clone, Debug)]
pub(crate) struct HandshakeFailure(pub(super) Error);

impl fmt::Display for HandshakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Error::AlertReceived(alert) => {
                f.write_str(alert_text(*alert))?;
                write!(f, " (alert {})", snake_case(&format!("{alert:?}")))
            }
            Error::PeerIncompatible(why) => match incompatible_text(why) {
                Some(text) => f.write_str(text),
                None => write!(f, "nothing in common with the client: {why:?}"),
            },
            Error::General(text) if text.contains("certificate") => {
                f.write_str("no certificate for what the client asks for")
            }
            Error::InvalidMessage(why) => write!(f, "that is no TLS: {why:?}"),
            error => error.fmt(f),
        }
    }
}

const fn alert_text(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA => "the client does not trust who signed the certificate",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate => "the client does not accept the certificate",
        AlertDescription::CertificateExpired => "the certificate has expired for the client",
        AlertDescription::CertificateRevoked => "the certificate has been revoked for the client",
        AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure => {
            "nothing in common with the client"
        }
        _ => "the client gave up",
    }
}

const fn incompatible_text(why: &PeerIncompatible) -> Option<&'static str> {
    Some(match why {
        PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::Tls13RequiredForQuic
        | PeerIncompatible::SupportedVersionsExtensionRequired => {
            "the client speaks neither TLS 1.2 nor 1.3"
        }
        PeerIncompatible::NoCipherSuitesInCommon => "no cipher suite in common with the client",
        PeerIncompatible::NoKxGroupsInCommon | PeerIncompatible::NamedGroupsExtensionRequired => {
            "no key exchange group in common with the client"
        }
        PeerIncompatible::NoSignatureSchemesInCommon
        | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => {
            "the client takes no signature that a certificate of this server makes"
        }
        _ => return None,
    })
}

/// `UnknownCA` as the RFCs write it: `unknown_ca`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    let mut last_was_upper = true;
    for c in name.chars() {
        if c.is_ascii_uppercase() && !last_was_upper {
            snake.push('_');
        }
        last_was_upper = c.is_ascii_uppercase();
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_read_what_to_do() {
        for (error, text) in [
            (
                Error::AlertReceived(AlertDescription::UnknownCA),
                "the client does not trust who signed the certificate (alert unknown_ca)",
            ),
            (
                Error::AlertReceived(AlertDescription::InternalError),
                "the client gave up (alert internal_error)",
            ),
            (
                Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
                "no cipher suite in common with the client",
            ),
        ] {
            assert_eq!(HandshakeFailure(error).to_string(), text);
        }
    }
}
