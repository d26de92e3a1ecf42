//! Certificates that prove to an authority who is behind a name (RFC 8737).

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

/// The application protocol of an authority that looks whether a name is ours, which it offers alone.
pub const ALPN_ACME: &[u8] = b"acme-tls/1";

/// For each name that is looked for, what is shown. Mostly there is none.
#[derive(Default)]
pub struct Challenges(ArcSwap<Vec<(String, Arc<CertifiedKey>)>>);

impl Challenges {
    /// Shows a certificate, in DER with its key in PKCS #8, to an authority that asks for this name.
    ///
    /// # Errors
    /// If the key is none.
    pub fn add(&self, name: &str, cert: Vec<u8>, key: Vec<u8>) -> Result<(), rustls::Error> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
        let cert = vec![CertificateDer::from(cert)];
        // Not checked against each other: a critical extension that is for authorities alone is in the
        // way of that.
        let key = aws_lc_rs::sign::any_supported_type(&key)?;
        let certified = Arc::new(CertifiedKey::new(cert, key));
        self.0.rcu(|all| {
            let mut all = Vec::clone(all);
            all.push((name.to_ascii_lowercase(), Arc::clone(&certified)));
            all
        });
        Ok(())
    }

    /// Shows none any more.
    pub fn clear(&self) {
        self.0.store(Arc::default());
    }

    /// Whether a client is an authority that looks: it offers its protocol and no other. Who offers
    /// others besides may agree on one of those, and is a client like any other.
    pub(super) fn is_asked(client: &ClientHello<'_>) -> bool {
        let offered = client.alpn().into_iter().flatten();
        offered.eq([ALPN_ACME])
    }

    /// What such a client gets, if anything.
    pub(super) fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let name = name?;
        let all = self.0.load();
        let found = all.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, certified)| Arc::clone(certified))
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0.load();
        f.debug_list()
            .entries(all.iter().map(|(name, _)| name))
            .finish()
    }
}
