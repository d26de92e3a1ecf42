//! Authorities and certificates for tests.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SignatureAlgorithm,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use time::{Duration, OffsetDateTime};

use super::pair::{Files, Pair, Stamp};

pub(crate) const DAY_S: i64 = 86_400;

/// 2026-01-01, by which certificates here are valid or not.
pub(crate) const NOW_UNIX_S: i64 = 1_767_225_600;

/// Who issues certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A pair as its files hold it.
pub(crate) struct Made {
    pub(crate) cert: String,
    pub(crate) key: String,
}

fn params(names: &[&str], from_days: i64, until_days: i64) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    let now = OffsetDateTime::from_unix_timestamp(NOW_UNIX_S).unwrap();
    params.not_before = now + Duration::days(from_days);
    params.not_after = now + Duration::days(until_days);
    params
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = params(&[], -1000, 1000);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "an authority");
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// In its time, for these names, with the authority's own certificate behind it.
    pub(crate) fn issue(&self, names: &[&str]) -> Made {
        self.issue_of(&rcgen::PKCS_ECDSA_P256_SHA256, names, -1, 90)
    }

    pub(crate) fn issue_of(
        &self,
        kind: &'static SignatureAlgorithm,
        names: &[&str],
        from_days: i64,
        until_days: i64,
    ) -> Made {
        let key = KeyPair::generate_for(kind).unwrap();
        let mut params = params(names, from_days, until_days);
        let name = names.first().copied().unwrap_or("nobody");
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let cert = params.signed_by(&key, &self.0).unwrap();
        Made {
            cert: format!("{}{}", cert.pem(), self.0.pem()),
            key: key.serialize_pem(),
        }
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }
}

pub(crate) fn self_signed(names: &[&str]) -> Made {
    self_signed_as(IsCa::NoCa, names)
}

pub(crate) fn self_signed_as(is_ca: IsCa, names: &[&str]) -> Made {
    let key = KeyPair::generate().unwrap();
    let mut params = params(names, -1, 90);
    params.is_ca = is_ca;
    let cert = params.self_signed(&key).unwrap();
    Made {
        cert: cert.pem(),
        key: key.serialize_pem(),
    }
}

impl Made {
    /// Writes both files, as tools that renew do: whole new ones in the place of the old.
    pub(crate) fn write(&self, files: &Files) {
        for (path, text) in [(&files.cert, &self.cert), (&files.key, &self.key)] {
            let new = path.with_extension("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, path).unwrap();
        }
    }

    pub(crate) fn pair(&self) -> Arc<Pair> {
        let files = Files {
            cert: "cert.pem".into(),
            key: "key.pem".into(),
        };
        let stamp = Stamp::of(&files);
        let pair = Pair::from_pem(files, stamp, self.cert.as_bytes(), self.key.as_bytes());
        Arc::new(pair.unwrap())
    }

    /// The server's certificate, and that of the authority.
    pub(crate) fn split(&self) -> (String, String) {
        let end = "-----END CERTIFICATE-----\n";
        let (own, above) = self.cert.split_at(self.cert.find(end).unwrap() + end.len());
        (own.to_owned(), above.to_owned())
    }

    pub(crate) fn with_chain(&self, cert: &str) -> Self {
        Self {
            cert: cert.to_owned(),
            key: self.key.clone(),
        }
    }
}

/// Verifies signatures of handshakes, and not whether a certificate is for whom was asked for:
/// clients here ask for names that a server does not have.
#[derive(Debug)]
struct Signatures(RootCertStore, Arc<CryptoProvider>);

pub(crate) fn verifier(
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Signatures(roots, provider))
}

impl ServerCertVerifier for Signatures {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = rustls::server::ParsedCertificate::try_from(own)?;
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW_UNIX_S as u64));
        let algorithms = rustls::crypto::aws_lc_rs::default_provider();
        let algorithms = algorithms.signature_verification_algorithms.all;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &parsed, &self.0, above, now, algorithms,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.1.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.1.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.1.signature_verification_algorithms.supported_schemes()
    }
}
