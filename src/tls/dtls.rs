//! The OpenSSL context of a server of TURN over DTLS (RFC 7350).

use std::sync::Arc;

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    AlpnError, NameType, SniError, SslAlert, SslContext, SslMethod, SslOptions, SslRef,
    SslSessionCacheMode, SslVerifyMode, SslVersion, select_next_proto,
};
use openssl::x509::X509;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certificates::Certificates;
use super::server::ConfigError;

/// Forward secrecy and AES-GCM, and no others (RFC 9325 §4.2): AES-128-GCM is what RFC 7350 §3 asks for.
/// All of them have records of the same shortest length, which the engine relies on.
const CIPHERS: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:\
    ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";

/// What key exchange is made with. OpenSSL takes a millisecond for one by P-384, which nobody needs.
const GROUPS: &str = "X25519:P-256";

/// The application protocols of RFC 7443, as they are sent.
const ALPN: &[u8] = b"\x09stun.turn\x12stun.nat-discovery";

/// What is put in the one cookie that OpenSSL makes, which nobody sees.
const NO_COOKIE: u8 = 0;

/// What the workers make sessions of DTLS with: certificates are exchanged behind it.
///
/// DTLS 1.2 (OpenSSL has no other that is in use); no client certificates, renegotiation, compression or
/// resumption: there is no table of sessions to fill, and no ticket to keep a key for.
///
/// A session takes a ClientHello only behind a HelloVerifyRequest, whose cookie the caller has verified:
/// OpenSSL is told that every cookie is right.
///
/// # Errors
/// If OpenSSL refuses any of it.
pub fn dtls_context(certificates: &Arc<Certificates>) -> Result<SslContext, ConfigError> {
    build(Arc::clone(certificates)).map_err(ConfigError::Dtls)
}

fn build(certificates: Arc<Certificates>) -> Result<SslContext, ErrorStack> {
    let mut builder = SslContext::builder(SslMethod::dtls_server())?;
    builder.set_min_proto_version(Some(SslVersion::DTLS1_2))?;
    builder.set_max_proto_version(Some(SslVersion::DTLS1_2))?;
    builder.set_options(
        SslOptions::COOKIE_EXCHANGE
            | SslOptions::NO_QUERY_MTU
            | SslOptions::NO_RENEGOTIATION
            | SslOptions::NO_COMPRESSION
            | SslOptions::NO_TICKET
            | SslOptions::CIPHER_SERVER_PREFERENCE,
    );
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_cipher_list(CIPHERS)?;
    builder.set_groups_list(GROUPS)?;
    builder.set_cookie_generate_cb(|_, cookie| {
        let made = cookie.first_mut().map(|first| *first = NO_COOKIE);
        Ok(usize::from(made.is_some()))
    });
    builder.set_cookie_verify_cb(|_, _| true);
    // Who offers others only is served as well (RFC 7443 asks for no refusal).
    builder.set_alpn_select_callback(|_, offered| {
        select_next_proto(ALPN, offered).ok_or(AlpnError::NOACK)
    });
    builder.set_servername_callback(move |ssl: &mut SslRef, alert: &mut SslAlert| {
        let name = ssl.servername(NameType::HOST_NAME).map(str::to_owned);
        match show(&certificates, name.as_deref(), ssl) {
            // Saying that the name was used is what RFC 6066 §3 wants, and what pion does not take.
            Ok(true) => Err(SniError::NOACK),
            Ok(false) | Err(_) => {
                *alert = SslAlert::INTERNAL_ERROR;
                Err(SniError::ALERT_FATAL)
            }
        }
    });
    Ok(builder.build())
}

/// Has a session show what is for a name, of each kind of key one. Whether there is anything.
fn show(
    certificates: &Certificates,
    name: Option<&str>,
    ssl: &mut SslRef,
) -> Result<bool, ErrorStack> {
    let chosen = certificates.best_for(name);
    for pair in &chosen {
        if let Some(pair) = pair.openssl() {
            pair.show(ssl)?;
        }
    }
    Ok(!chosen.is_empty())
}

/// A pair as OpenSSL has it.
pub(super) struct OpensslPair {
    own: X509,
    /// What leads from it to its authority.
    others: Vec<X509>,
    key: PKey<Private>,
}

impl OpensslPair {
    /// What rustls has taken already.
    ///
    /// # Errors
    /// If OpenSSL does not take it.
    pub(super) fn from_der(
        chain: &[CertificateDer<'_>],
        key: &PrivateKeyDer<'_>,
    ) -> Result<Self, ErrorStack> {
        let (own, others) = chain.split_first().ok_or_else(ErrorStack::get)?;
        let others = others.iter().map(|der| X509::from_der(der));
        Ok(Self {
            own: X509::from_der(own)?,
            others: others.collect::<Result<_, _>>()?,
            key: PKey::private_key_from_der(key.secret_der())?,
        })
    }

    fn show(&self, ssl: &mut SslRef) -> Result<(), ErrorStack> {
        ssl.set_certificate(&self.own)?;
        ssl.set_private_key(&self.key)?;
        for other in &self.others {
            ssl.add_chain_cert(other.clone())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Authority;
    use super::*;

    /// TLS-03: of each kind of key one, of those that fit best, in the operator's order.
    #[test]
    fn the_best_of_each_kind_is_shown() {
        let authority = Authority::new();
        let ecdsa = |name| authority.issue(&[name]).pair();
        let rsa = |name| {
            let made = authority.issue_of(&rcgen::PKCS_RSA_SHA256, &[name], -1, 90);
            made.pair()
        };
        let pairs = [
            ecdsa("first.example.org"),
            ecdsa("*.example.org"),
            ecdsa("turn.example.org"),
            ecdsa("turn.example.org"),
            rsa("turn.example.org"),
        ];
        let certificates = Certificates::new(pairs.to_vec());
        for (name, expected) in [
            (Some("turn.example.org"), &[2, 4][..]),
            (Some("other.example.org"), &[1]),
            (Some("example.net"), &[0, 4]),
            (None, &[0, 4]),
        ] {
            let chosen = certificates.best_for(name);
            let expected: Vec<_> = expected.iter().map(|&at| &pairs[at]).collect();
            let is_same = |(one, other): (&Arc<_>, &&Arc<_>)| Arc::ptr_eq(one, other);
            assert_eq!(chosen.len(), expected.len(), "{name:?}");
            assert!(chosen.iter().zip(&expected).all(is_same), "{name:?}");
        }
    }
}
