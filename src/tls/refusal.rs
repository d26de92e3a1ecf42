//! Why clients refuse a certificate, whomever they trust and whatever name they ask for.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, Error, OtherError, RootCertStore};

/// What is wrong with a chain in itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The server's own is an authority's.
    OfAuthority,
    /// One was signed by a certificate that is no authority's.
    ByNoAuthority,
    /// There are more authorities than one of them permits.
    PathLength,
    /// It has names that one of its authorities must not sign.
    NameConstraints,
    /// It is not for servers.
    Purpose,
    /// It is of X.509 version 1 or 2.
    Version,
    /// Its time ends before it begins.
    Period,
    /// It is not written as certificates are.
    Encoding,
    /// A signature does not verify.
    Signature,
    /// A signature or a key is of a kind that clients do not verify.
    Algorithm,
    /// It demands something that clients do not know.
    CriticalExtension,
    /// What the library calls it, of what has no words here.
    Other(String),
}

impl Refusal {
    /// What a client's error means.
    pub fn of(error: &CertificateError) -> Self {
        use CertificateError as E;
        match error {
            // With a time beside it, it is about a clock.
            E::Expired => Self::Period,
            E::BadEncoding => Self::Encoding,
            E::BadSignature => Self::Signature,
            E::UnsupportedSignatureAlgorithmContext { .. }
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Self::Algorithm,
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => Self::Purpose,
            E::UnhandledCriticalExtension => Self::CriticalExtension,
            E::Other(OtherError(error)) => Self::of_other(&**error),
            error => Self::Other(error.to_string()),
        }
    }

    /// What has no name of its own in `rustls` is said by the library beneath it.
    fn of_other(error: &(dyn std::error::Error + 'static)) -> Self {
        use webpki::Error as E;
        match error.downcast_ref() {
            Some(E::CaUsedAsEndEntity) => Self::OfAuthority,
            Some(E::EndEntityUsedAsCa) => Self::ByNoAuthority,
            Some(E::PathLenConstraintViolated) => Self::PathLength,
            Some(E::NameConstraintViolation) => Self::NameConstraints,
            Some(E::EmptyEkuExtension) => Self::Purpose,
            Some(E::UnsupportedCertVersion) => Self::Version,
            Some(E::UnsupportedCriticalExtension) => Self::CriticalExtension,
            Some(
                E::ExtensionValueInvalid
                | E::InvalidSerialNumber
                | E::MalformedDnsIdentifier
                | E::MalformedExtensions
                | E::MalformedNameConstraint
                | E::SignatureAlgorithmMismatch,
            ) => Self::Encoding,
            _ => Self::Other(error.to_string()),
        }
    }

    /// What a client would say that trusts the last certificate of a chain, at a time.
    pub(super) fn of_chain(chain: &[CertificateDer<'static>], unix_s: u64) -> Option<Self> {
        use CertificateError as E;
        let error = verify(chain, unix_s).err()?;
        match error {
            // Who is asked for, by whom, and when, is not the chain's business.
            Error::InvalidCertificate(
                E::UnknownIssuer
                | E::ExpiredContext { .. }
                | E::NotValidYetContext { .. }
                | E::NotValidForName
                | E::NotValidForNameContext { .. },
            ) => None,
            Error::InvalidCertificate(error) => Some(Self::of(&error)),
            error => Some(Self::Other(error.to_string())),
        }
    }

    /// What it is, to be read after the name of the chain.
    pub fn what(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::OfAuthority => {
                "begins with the certificate of an authority (CA:TRUE), which clients refuse as a \
                 server's even if they trust it"
            }
            Self::ByNoAuthority => {
                "has a certificate that was signed by one that is no authority's (CA:FALSE)"
            }
            Self::PathLength => "has more authorities than one of them permits (pathlen)",
            Self::NameConstraints => {
                "has names that one of its authorities must not sign (name constraints)"
            }
            Self::Purpose => "is not for servers (extended key usage without serverAuth)",
            Self::Version => "has a certificate of X.509 version 1 or 2, and clients take 3 only",
            Self::Period => "has a certificate whose time ends before it begins",
            Self::Encoding => "has a certificate that is not written as X.509 demands",
            Self::Signature => {
                "has a signature that does not verify (another key's, or of RSA below 2048 bits)"
            }
            Self::Algorithm => {
                "has a signature or a key of a kind that clients do not take, as SHA-1 is"
            }
            Self::CriticalExtension => "has a critical extension that clients do not know",
            Self::Other(error) => {
                return Cow::Owned(format!("holds a certificate that cannot be used ({error})"));
            }
        })
    }

    /// What to do about it.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::OfAuthority => {
                "have an authority sign one for the server (docs/tls.md); openssl req -x509 makes an \
                 authority's, unless told -addext basicConstraints=critical,CA:FALSE"
            }
            Self::ByNoAuthority => {
                "sign with a certificate that has basicConstraints CA:TRUE, and give clients that one"
            }
            Self::PathLength | Self::NameConstraints => {
                "look at the authorities' with openssl x509 -text, and have one issued that they permit"
            }
            Self::Purpose => "have one issued with extendedKeyUsage=serverAuth, or without any",
            Self::Version => {
                "have one issued with the server's names: openssl x509 -req needs -extfile with \
                 subjectAltName=DNS:NAME"
            }
            Self::Period => "have one issued with the dates the right way round",
            Self::Signature => {
                "use the chain that came with the certificate, the key that belongs to it, and RSA of \
                 2048 bits or more"
            }
            Self::Algorithm => {
                "have one issued with SHA-256 and an ECDSA P-256 or RSA key, by an authority that has \
                 such, too"
            }
            Self::CriticalExtension | Self::Encoding | Self::Other(_) => {
                "look at it with openssl x509 -text, and have another one issued"
            }
        }
    }
}

fn verify(chain: &[CertificateDer<'static>], unix_s: u64) -> Result<(), Error> {
    let (Some((own, above)), Some(last)) = (chain.split_first(), chain.last()) else {
        return Ok(());
    };
    let mut roots = RootCertStore::empty();
    roots.add(last.clone())?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build();
    let verifier = verifier.expect("there is a root, and no revocation lists");
    let anybody = ServerName::from(IpAddr::from(Ipv4Addr::UNSPECIFIED));
    let now = UnixTime::since_unix_epoch(Duration::from_secs(unix_s));
    let verified = verifier.verify_server_cert(own, above, &anybody, &[], now);
    verified.map(drop)
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType,
        ExtendedKeyUsagePurpose as Purpose, GeneralSubtree, IsCa, KeyPair, NameConstraints,
    };
    use rustls::pki_types::pem::PemObject;

    use super::*;

    type Issuer = CertifiedIssuer<'static, KeyPair>;

    /// 2027-01-01.
    const NOW_UNIX_S: u64 = 1_798_761_600;

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(vec!["turn.example.org".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    fn authority(change: impl FnOnce(&mut CertificateParams), by: Option<&Issuer>) -> Issuer {
        let mut params = params("an authority");
        if by.is_some() {
            params
                .distinguished_name
                .push(DnType::CommonName, "one below");
        }
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        match by {
            Some(by) => CertifiedIssuer::signed_by(params, key, by).unwrap(),
            None => CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    /// What is made of a server's certificate by an authority that may be below others.
    fn found(
        change: impl FnOnce(&mut CertificateParams),
        by: &Issuer,
        above: &[&Issuer],
    ) -> Option<Refusal> {
        let mut params = params("a server");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, by).unwrap().der().clone();
        let above = above.iter().map(|issuer| issuer.der().clone());
        let chain = Vec::from_iter([own].into_iter().chain(above));
        Refusal::of_chain(&chain, NOW_UNIX_S)
    }

    #[test]
    fn what_every_client_refuses_is_found_in_the_chain() {
        let root = authority(|_| (), None);
        let between = authority(|_| (), Some(&root));
        assert_eq!(found(|_| (), &root, &[&root]), None);
        assert_eq!(found(|_| (), &between, &[&between]), None);
        assert_eq!(found(|_| (), &between, &[&between, &root]), None);
        let own = |change: fn(&mut CertificateParams)| found(change, &root, &[&root]);
        assert_eq!(
            own(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            Some(Refusal::OfAuthority)
        );
        assert_eq!(
            own(|params| params.extended_key_usages = vec![Purpose::ClientAuth]),
            Some(Refusal::Purpose)
        );
        assert_eq!(
            own(|params| params.extended_key_usages = vec![Purpose::ServerAuth]),
            None
        );
        assert_eq!(
            own(|params| {
                std::mem::swap(&mut params.not_before, &mut params.not_after);
            }),
            Some(Refusal::Period)
        );
        let mut unknown = CustomExtension::from_oid_content(&[2, 5, 29, 99], vec![5, 0]);
        unknown.set_criticality(true);
        let refusal = found(
            move |params| params.custom_extensions = vec![unknown],
            &root,
            &[&root],
        );
        assert_eq!(refusal, Some(Refusal::CriticalExtension));
    }

    #[test]
    fn what_authorities_may_not_do_is_found() {
        let root = authority(|_| (), None);
        let plain = authority(|params| params.is_ca = IsCa::ExplicitNoCa, Some(&root));
        assert_eq!(
            found(|_| (), &plain, &[&plain, &root]),
            Some(Refusal::ByNoAuthority)
        );
        let last = |params: &mut CertificateParams| {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        };
        let last = authority(last, Some(&root));
        let too_deep = authority(
            |params| {
                params
                    .distinguished_name
                    .push(DnType::CommonName, "one too many");
            },
            Some(&last),
        );
        assert_eq!(
            found(|_| (), &too_deep, &[&too_deep, &last, &root]),
            Some(Refusal::PathLength)
        );
        let of_others = |params: &mut CertificateParams| {
            params.name_constraints = Some(NameConstraints {
                permitted_subtrees: vec![GeneralSubtree::DnsName("example.net".to_owned())],
                excluded_subtrees: vec![],
            });
        };
        let of_others = authority(of_others, Some(&root));
        assert_eq!(
            found(|_| (), &of_others, &[&of_others, &root]),
            Some(Refusal::NameConstraints)
        );
        let other_key = authority(|_| (), None);
        assert_eq!(
            found(|_| (), &root, &[&other_key]),
            Some(Refusal::Signature)
        );
    }

    /// Made by OpenSSL, since rcgen makes neither.
    #[test]
    fn what_is_too_old_is_found() {
        for (file, expected) in [
            ("v1.crt", Refusal::Version),
            ("sha1.crt", Refusal::Algorithm),
        ] {
            let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls/");
            let chain = CertificateDer::pem_file_iter(format!("{directory}{file}")).unwrap();
            let chain: Vec<_> = chain.map(Result::unwrap).collect();
            assert_eq!(
                Refusal::of_chain(&chain, NOW_UNIX_S),
                Some(expected),
                "{file}"
            );
        }
    }

    #[test]
    fn what_has_no_words_is_said_as_the_library_says_it() {
        let found = Refusal::of(&CertificateError::Revoked);
        assert!(found.what().contains("cannot be used (Revoked)"));
        let deep = OtherError(Arc::new(webpki::Error::MaximumPathDepthExceeded));
        let found = Refusal::of(&CertificateError::Other(deep));
        let name = "cannot be used (MaximumPathDepthExceeded)";
        assert!(found.what().contains(name), "{}", found.what());
        assert!(found.remedy().contains("openssl x509 -text"));
    }

    #[test]
    fn what_is_not_written_as_it_should_be_is_found() {
        let root = authority(|_| (), None);
        let broken = CertificateDer::from(root.der()[..100].to_vec());
        let refusal = Refusal::of_chain(&[broken], NOW_UNIX_S);
        assert_eq!(refusal, Some(Refusal::Encoding));
        assert_eq!(Refusal::of_chain(&[], NOW_UNIX_S), None);
    }
}
