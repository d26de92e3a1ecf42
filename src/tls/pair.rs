//! A certificate chain with its key, as PEM files hold them.

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureAlgorithm, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

#[cfg(feature = "dtls")]
use super::dtls::OpensslPair;
use super::names::{self, Fit};
use super::refusal::Refusal;

/// Certificates that a chain may have. Public ones have two or three, and clients give up at ten.
const CHAIN_MAX: usize = 10;

/// Where a pair is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate of the server first, then those that lead to its authority.
    pub cert: PathBuf,
    /// The private key, which may be in the same file.
    pub key: PathBuf,
}

impl Files {
    /// The file of a part.
    pub fn path(&self, part: Part) -> &Path {
        match part {
            Part::Certificate => &self.cert,
            Part::Key => &self.key,
        }
    }
}

/// One of the two files of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The chain.
    Certificate,
    /// The private key.
    Key,
}

/// What tells one state of a pair's files from another. That a file is not there is one too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp([Option<FileStamp>; 2]);

/// Which file it is, how long, and when it was written; a change of its rights is one of ctime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    inode: (u64, u64),
    len: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Stamp {
    /// Of the files as they are now, links followed.
    pub fn of(files: &Files) -> Self {
        Self([&files.cert, &files.key].map(|path| {
            let it = fs::metadata(path).ok()?;
            Some(FileStamp {
                inode: (it.dev(), it.ino()),
                len: it.size(),
                mtime: (it.mtime(), it.mtime_nsec()),
                ctime: (it.ctime(), it.ctime_nsec()),
            })
        }))
    }
}

/// Why a pair cannot be used. No text quotes a key.
#[derive(Debug, PartialEq, Eq)]
pub struct PairError {
    /// The file that is to blame.
    pub part: Part,
    /// What is wrong with it, to be read after its name.
    pub what: String,
    /// What the operator should do.
    pub remedy: &'static str,
    /// Whether the file could not be read at all.
    pub is_unreadable: bool,
}

impl PairError {
    fn new(part: Part, what: impl Into<String>, remedy: &'static str) -> Self {
        Self {
            part,
            what: what.into(),
            remedy,
            is_unreadable: false,
        }
    }
}

impl PairError {
    /// A file that could not be read.
    pub fn unreadable(part: Part, error: &io::Error) -> Self {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "let the user of the server read it, and the way to it: chgrp to the group of that \
                 user (of the unit turnstone; turnstone doctor says which) and chmod 640; a server that \
                 runs reads only where its files were at the start"
            }
            io::ErrorKind::InvalidInput => "name a regular file of PEM",
            _ => "check the path, and that the user of the server may read it",
        };
        Self {
            is_unreadable: true,
            ..Self::new(part, format!("cannot be read ({error})"), remedy)
        }
    }
}

impl fmt::Display for PairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// What does not keep a pair from use, and is likely to keep clients away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Its time is over.
    Expired,
    /// Its time has not begun.
    NotYetValid,
    /// It has no name that a client could compare.
    NoNames,
    /// A certificate of the chain is not that of the issuer of the one before it.
    BrokenChain,
    /// Nothing leads from it to an authority, and it is not its own.
    Alone,
    /// It is its own issuer.
    SelfSigned,
    /// Its key is of a curve that some browsers do not verify.
    Curve,
    /// OpenSSL, which speaks DTLS, cannot read it or its key.
    #[cfg(feature = "dtls")]
    NotForDtls,
    /// It is wrong in itself, so that no trust helps.
    Refused(Refusal),
}

impl Flaw {
    /// What it is, to be read after the file's name.
    pub fn what(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Expired => "has expired, so clients refuse it",
            Self::NotYetValid => "is not valid yet, so clients refuse it",
            Self::NoNames => "has no subject alternative name, so browsers refuse it",
            Self::BrokenChain => "holds certificates of which one is not that of the next issuer",
            Self::Alone => "holds one certificate and none of those between it and its authority",
            Self::SelfSigned => "is self-signed, so browsers refuse it",
            Self::Curve => "has a key of the curve P-521, so many browsers refuse it",
            #[cfg(feature = "dtls")]
            Self::NotForDtls => {
                "cannot be read by OpenSSL, so clients of listen.dtls do not get it"
            }
            Self::Refused(refusal) => return refusal.what(),
        })
    }

    /// What to do about it.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Expired => "renew it, and look why that was not done by itself",
            Self::NotYetValid => "check the clock of this machine (timedatectl)",
            Self::NoNames => "have it issued with the name of this server (subjectAltName)",
            Self::BrokenChain => "put the server's first, then the one of its issuer, and so on",
            Self::Alone => {
                "use the whole chain (certbot: fullchain.pem); of an authority of your own append its \
                 certificate"
            }
            Self::SelfSigned => {
                "get one from an authority (tls.acme does it at no cost), or sign it with one of your \
                 own that the clients know (docs/tls.md)"
            }
            Self::Curve => {
                "have it issued for a key of P-256 (openssl genpkey -algorithm EC -pkeyopt \
                 ec_paramgen_curve:P-256)"
            }
            #[cfg(feature = "dtls")]
            Self::NotForDtls => "have it issued for an ECDSA key of P-256, or an RSA key",
            Self::Refused(refusal) => refusal.remedy(),
        }
    }
}

/// A certificate chain with the key that belongs to it.
pub struct Pair {
    files: Files,
    stamp: Stamp,
    certified: Arc<CertifiedKey>,
    #[cfg(feature = "dtls")]
    openssl: Option<OpensslPair>,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    not_before_unix_s: i64,
    not_after_unix_s: i64,
    chain_flaw: Option<Flaw>,
}

impl Pair {
    /// Checks what was read from files, which were as `stamp` says before.
    ///
    /// # Errors
    /// What is wrong with either file, the certificate first.
    pub fn from_pem(
        files: Files,
        stamp: Stamp,
        cert: &[u8],
        key: &[u8],
    ) -> Result<Self, PairError> {
        let [cert, key] = [cert, key].map(without_mark);
        let chain = chain(cert)?;
        let facts = Facts::of(&chain)?;
        let key = private_key(key)?;
        let others = chain[1..].to_vec();
        #[cfg(feature = "dtls")]
        let openssl = OpensslPair::from_der(&chain, &key).ok();
        let certified =
            CertifiedKey::from_der(chain, key.clone_key(), &aws_lc_rs::default_provider());
        let certified = certified.map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => mismatch(others, &key),
            error => PairError::new(
                Part::Key,
                format!("holds a key that cannot be used ({error})"),
                "use ECDSA P-256, P-384 or RSA of 2048 to 8192 bits",
            ),
        })?;
        Ok(Self {
            files,
            stamp,
            certified: Arc::new(certified),
            #[cfg(feature = "dtls")]
            openssl,
            names: facts.names,
            addresses: facts.addresses,
            not_before_unix_s: facts.not_before_unix_s,
            not_after_unix_s: facts.not_after_unix_s,
            chain_flaw: facts.chain_flaw,
        })
    }

    /// Where it was read.
    pub const fn files(&self) -> &Files {
        &self.files
    }

    /// What its files were when it was read.
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// What a handshake needs.
    pub(super) const fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// What a handshake of DTLS needs, unless OpenSSL cannot read the key: 3.0 knows Ed25519 in one of
    /// two forms alone.
    #[cfg(feature = "dtls")]
    pub(super) const fn openssl(&self) -> Option<&OpensslPair> {
        self.openssl.as_ref()
    }

    /// The domain names that it is for, in lower case, wildcards among them.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The addresses that it is for.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The beginning of its time, in Unix seconds.
    pub const fn not_before_unix_s(&self) -> i64 {
        self.not_before_unix_s
    }

    /// The end of its time, in Unix seconds.
    pub const fn not_after_unix_s(&self) -> i64 {
        self.not_after_unix_s
    }

    /// Whole days until then; negative when it has expired.
    pub const fn days_left(&self, now_unix_s: i64) -> i64 {
        (self.not_after_unix_s - now_unix_s).div_euclid(86_400)
    }

    /// Whether its time is over.
    pub const fn is_expired(&self, now_unix_s: i64) -> bool {
        now_unix_s > self.not_after_unix_s
    }

    /// "ECDSA", "RSA" or "Ed25519".
    pub fn algorithm(&self) -> &'static str {
        match self.certified.key.algorithm() {
            SignatureAlgorithm::ECDSA => "ECDSA",
            SignatureAlgorithm::RSA => "RSA",
            SignatureAlgorithm::ED25519 => "Ed25519",
            _ => "another",
        }
    }

    /// Certificates in the chain.
    pub fn chain_len(&self) -> usize {
        self.certified.cert.len()
    }

    /// What is likely to keep clients away.
    pub fn flaws(&self, now_unix_s: i64) -> Vec<Flaw> {
        let in_time = match now_unix_s {
            now if self.is_expired(now) => Some(Flaw::Expired),
            now if now < self.not_before_unix_s => Some(Flaw::NotYetValid),
            _ => None,
        };
        let has_names = !self.names.is_empty() || !self.addresses.is_empty();
        let nameless = (!has_names).then_some(Flaw::NoNames);
        // What is out of its time is refused for that alone, so it is looked at within.
        let then = now_unix_s.min(self.not_after_unix_s);
        let then = u64::try_from(then.max(self.not_before_unix_s)).unwrap_or(0);
        let refused = Refusal::of_chain(&self.certified.cert, then).map(Flaw::Refused);
        let schemes = [SignatureScheme::ECDSA_NISTP521_SHA512];
        let is_p521 = self.certified.key.choose_scheme(&schemes).is_some();
        let curve = is_p521.then_some(Flaw::Curve);
        #[cfg(feature = "dtls")]
        let unread = self.openssl.is_none().then_some(Flaw::NotForDtls);
        #[cfg(not(feature = "dtls"))]
        let unread = None;
        let flaws = [
            in_time,
            nameless,
            self.chain_flaw.clone(),
            curve,
            unread,
            refused,
        ];
        flaws.into_iter().flatten().collect()
    }

    /// How well it fits a name.
    pub(super) fn fit(&self, name: &str) -> Option<Fit> {
        let fits = self.names.iter().filter_map(|own| names::fit(own, name));
        fits.max()
    }

    /// Whether it is for a name.
    pub fn covers(&self, name: &str) -> bool {
        self.fit(name).is_some()
    }
}

impl PartialEq for Pair {
    /// Whether clients and operators see the same: there is one key to a certificate.
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files && self.certified.cert == other.certified.cert
    }
}

impl Eq for Pair {}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("files", &self.files)
            .field("names", &self.names)
            .field("not_after_unix_s", &self.not_after_unix_s)
            .finish_non_exhaustive()
    }
}

/// Without the byte order mark that some editors put in front, which hides the first line.
fn without_mark(pem: &[u8]) -> &[u8] {
    pem.strip_prefix(b"\xef\xbb\xbf").unwrap_or(pem)
}

/// Why a key is not that of the first certificate of a file, `others` being those after it.
fn mismatch(others: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'static>) -> PairError {
    let fits = |certificate: CertificateDer<'static>| {
        let (chain, key) = (vec![certificate], key.clone_key());
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).is_ok()
    };
    match others.into_iter().any(fits) {
        true => PairError::new(
            Part::Certificate,
            "begins with another certificate than that of the key",
            "put the server's certificate first, then the one of its issuer, and so on (certbot: \
             fullchain.pem)",
        ),
        false => PairError::new(
            Part::Key,
            "is not the key of the certificate",
            "name the key that the certificate was requested with",
        ),
    }
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PairError> {
    const REMEDY: &str =
        "name a PEM file with the certificate and its chain (certbot: fullchain.pem)";
    let broken = |what: String| PairError::new(Part::Certificate, what, REMEDY);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| broken(format!("is not valid PEM ({})", plain(&error))))?;
    if chain.is_empty() {
        let holds_key = PrivateKeyDer::from_pem_slice(pem).is_ok();
        let what = match holds_key {
            true => "holds a private key and no certificate",
            false => "holds no certificate",
        };
        return Err(broken(what.to_owned()));
    }
    if chain.len() > CHAIN_MAX {
        let what = format!("holds more than {CHAIN_MAX} certificates");
        let remedy = "keep the server's and those between it and its authority";
        return Err(PairError::new(Part::Certificate, what, remedy));
    }
    Ok(chain)
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, PairError> {
    let error = match PrivateKeyDer::from_pem_slice(pem) {
        // The older form of OpenSSL says so in a header.
        Ok(_) | Err(_) if is_encrypted(pem) => {
            return Err(PairError::new(
                Part::Key,
                "is encrypted with a passphrase, which nobody could type at each start",
                "write it without one: openssl pkey -in KEY -out NEW-KEY, and chmod 600",
            ));
        }
        Ok(key) => return Ok(key),
        Err(error) => error,
    };
    let what = match error {
        PemError::NoItemsFound => "holds no private key".to_owned(),
        error => format!("is not valid PEM ({})", plain(&error)),
    };
    let remedy = "name a PEM file with the private key (certbot: privkey.pem)";
    Err(PairError::new(Part::Key, what, remedy))
}

fn is_encrypted(pem: &[u8]) -> bool {
    let has = |text: &[u8]| pem.windows(text.len()).any(|window| window == text);
    has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED")
}

/// What is wrong with PEM, without a byte of it: it may be a key.
const fn plain(error: &PemError) -> &'static str {
    match error {
        PemError::MissingSectionEnd { .. } => "an END line is missing",
        PemError::IllegalSectionStart { .. } => "a BEGIN line is broken",
        PemError::Base64Decode(_) => "its text is not base64",
        PemError::NoItemsFound => "it is empty",
        PemError::SectionTooLarge => "it is too large",
        _ => "it cannot be read",
    }
}

/// What a chain says of itself.
struct Facts {
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    not_before_unix_s: i64,
    not_after_unix_s: i64,
    chain_flaw: Option<Flaw>,
}

impl Facts {
    fn of(chain: &[CertificateDer<'static>]) -> Result<Self, PairError> {
        let parsed: Result<Vec<X509Certificate<'_>>, PairError> = chain.iter().map(parse).collect();
        let parsed = parsed?;
        let (Some(own), Some(own_der)) = (parsed.first(), chain.first()) else {
            unreachable!("the chain is not empty")
        };
        // What it is to clients is decided by the library that they would use.
        ParsedCertificate::try_from(own_der).map_err(refused)?;
        let (names, addresses) = subjects(own)?;
        let pairs = parsed.iter().zip(parsed.iter().skip(1));
        let in_order = pairs
            .into_iter()
            .all(|(one, next)| one.issuer() == next.subject());
        let is_own_issuer = own.issuer() == own.subject();
        Ok(Self {
            names,
            addresses,
            not_before_unix_s: own.validity().not_before.timestamp(),
            not_after_unix_s: own.validity().not_after.timestamp(),
            chain_flaw: match parsed.len() {
                1 if is_own_issuer => Some(Flaw::SelfSigned),
                1 => Some(Flaw::Alone),
                _ if !in_order => Some(Flaw::BrokenChain),
                _ => None,
            },
        })
    }
}

fn refused(error: Error) -> PairError {
    match error {
        Error::InvalidCertificate(error) => not_used(&Refusal::of(&error)),
        error => unusable(&error),
    }
}

fn unusable(error: &dyn fmt::Display) -> PairError {
    not_used(&Refusal::Other(error.to_string()))
}

fn not_used(refusal: &Refusal) -> PairError {
    PairError::new(Part::Certificate, refusal.what(), refusal.remedy())
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, PairError> {
    let parsed = X509Certificate::from_der(der);
    parsed.map(|(_, it)| it).map_err(|error| unusable(&error))
}

/// The names and the addresses that a certificate is for.
fn subjects(own: &X509Certificate<'_>) -> Result<(Vec<String>, Vec<IpAddr>), PairError> {
    let subjects = own.subject_alternative_name();
    let subjects = subjects.map_err(|error| unusable(&error))?;
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    let subjects = subjects.map_or(&[][..], |subjects| &subjects.value.general_names);
    for subject in subjects {
        match subject {
            GeneralName::DNSName(name) => names.push(name.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
            _ => {}
        }
    }
    Ok((names, addresses))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).into());
    let v6 = || <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).into());
    v4.or_else(|_| v6()).ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, IsCa};

    use super::super::testing::{Authority, DAY_S, Made, NOW_UNIX_S, self_signed, self_signed_as};
    use super::*;

    fn error(cert: &str, key: &str) -> PairError {
        let files = Files {
            cert: "cert.pem".into(),
            key: "key.pem".into(),
        };
        let stamp = Stamp::of(&files);
        Pair::from_pem(files, stamp, cert.as_bytes(), key.as_bytes()).unwrap_err()
    }

    #[test]
    fn every_kind_of_key_that_clients_verify() {
        let authority = Authority::new();
        for (kind, name) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, "ECDSA"),
            (&rcgen::PKCS_ECDSA_P384_SHA384, "ECDSA"),
            (&rcgen::PKCS_ED25519, "Ed25519"),
            (&rcgen::PKCS_RSA_SHA256, "RSA"),
        ] {
            let made = authority.issue_of(kind, &["turn.example.org"], -1, 90);
            let pair = made.pair();
            assert_eq!(pair.algorithm(), name);
            assert_eq!(pair.names(), ["turn.example.org"]);
            let flaws = pair.flaws(NOW_UNIX_S);
            // OpenSSL 3.0 does not read the Ed25519 keys of some programs.
            #[cfg(feature = "dtls")]
            let flaws: Vec<Flaw> = flaws
                .into_iter()
                .filter(|it| *it != Flaw::NotForDtls || name != "Ed25519")
                .collect();
            assert_eq!(flaws, [], "{name}");
            assert_eq!(pair.chain_len(), 2);
        }
    }

    /// SEC1, PKCS#1 and parameters in front, as OpenSSL writes them.
    #[test]
    fn every_form_of_key_file() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls/");
        let read = |name: &str| fs::read(format!("{directory}{name}")).unwrap();
        for (cert, key) in [
            ("ec.crt", "ec-sec1.key"),
            ("ec.crt", "ec-pkcs8.key"),
            ("rsa.crt", "rsa-pkcs1.key"),
            ("rsa.crt", "rsa-pkcs8.key"),
        ] {
            let files = Files {
                cert: cert.into(),
                key: key.into(),
            };
            let stamp = Stamp::of(&files);
            let pair = Pair::from_pem(files, stamp, &read(cert), &read(key));
            assert!(pair.is_ok(), "{key}: {pair:?}");
        }
        let cert = String::from_utf8(read("ec.crt")).unwrap();
        for key in ["ec-encrypted.key", "ec-encrypted-pkcs8.key"] {
            let key = String::from_utf8(read(key)).unwrap();
            let found = error(&cert, &key);
            assert_eq!(found.part, Part::Key);
            assert!(found.what.contains("passphrase"), "{found}");
            assert!(found.remedy.contains("openssl pkey"), "{found}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_pair_names_the_file() {
        let authority = Authority::new();
        let made = authority.issue(&["turn.example.org"]);
        let other = authority.issue(&["turn.example.org"]);
        let half = &made.cert[..made.cert.len() / 3];
        let broken = made.key.replace('M', "!");
        let long = made.cert.repeat(6);
        for (cert, key, part, what) in [
            ("", &*made.key, Part::Certificate, "holds no certificate"),
            (
                &*made.key,
                &made.key,
                Part::Certificate,
                "holds a private key and no certificate",
            ),
            (half, &made.key, Part::Certificate, "an END line is missing"),
            (&long, &made.key, Part::Certificate, "more than 10"),
            (&made.cert, "", Part::Key, "holds no private key"),
            (&made.cert, &made.cert, Part::Key, "holds no private key"),
            (&made.cert, &broken, Part::Key, "not valid PEM"),
            (
                &made.cert,
                &other.key,
                Part::Key,
                "is not the key of the certificate",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                &made.key,
                Part::Certificate,
                "cannot be used",
            ),
        ] {
            let found = error(cert, key);
            assert_eq!(found.part, part, "{found}");
            assert!(found.what.contains(what), "{what}: {found}");
            assert!(
                !found.to_string().contains("MI"),
                "a key is quoted: {found}"
            );
        }
    }

    /// A chain the wrong way round: the key is the right one.
    #[test]
    fn the_servers_certificate_is_first() {
        let made = Authority::new().issue(&["turn.example.org"]);
        let (own, above) = made.split();
        let found = error(&format!("{above}{own}"), &made.key);
        assert_eq!(found.part, Part::Certificate);
        assert_eq!(
            found.what,
            "begins with another certificate than that of the key"
        );
        assert!(
            found
                .remedy
                .starts_with("put the server's certificate first")
        );
    }

    #[test]
    fn a_byte_order_mark_hides_nothing() {
        let made = Authority::new().issue(&["turn.example.org"]);
        let marked = Made {
            cert: format!("\u{feff}{}", made.cert),
            key: format!("\u{feff}{}", made.key),
        };
        let pair = marked.pair();
        assert_eq!((pair.chain_len(), pair.names()), (2, made.pair().names()));
    }

    /// Chromium has no signatures of it.
    #[test]
    fn a_curve_that_browsers_lack_is_a_flaw() {
        let authority = Authority::new();
        let made = authority.issue_of(&rcgen::PKCS_ECDSA_P521_SHA512, &["a.example"], -1, 90);
        assert_eq!(made.pair().flaws(NOW_UNIX_S), [Flaw::Curve]);
    }

    #[test]
    fn both_in_one_file() {
        let made = Authority::new().issue(&["turn.example.org"]);
        let both = format!("{}{}", made.key, made.cert);
        let files = Files {
            cert: "both.pem".into(),
            key: "both.pem".into(),
        };
        let stamp = Stamp::of(&files);
        Pair::from_pem(files, stamp, both.as_bytes(), both.as_bytes()).unwrap();
    }

    #[test]
    fn days_and_flaws() {
        let authority = Authority::new();
        let made = authority.issue_of(&rcgen::PKCS_ECDSA_P256_SHA256, &["a.example"], 0, 20);
        let pair = made.pair();
        let end = pair.not_after_unix_s();
        assert_eq!(end, NOW_UNIX_S + 20 * DAY_S);
        assert_eq!(pair.days_left(NOW_UNIX_S), 20);
        assert_eq!(pair.days_left(NOW_UNIX_S + 1), 19);
        assert_eq!((pair.days_left(end), pair.days_left(end + 1)), (0, -1));
        assert_eq!(pair.flaws(end), []);
        assert_eq!(pair.flaws(end + 1), [Flaw::Expired]);
        assert_eq!(pair.flaws(NOW_UNIX_S - 1), [Flaw::NotYetValid]);
        let nameless = authority.issue(&[]).pair();
        assert_eq!(nameless.flaws(NOW_UNIX_S), [Flaw::NoNames]);
    }

    #[test]
    fn chains() {
        let authority = Authority::new();
        let made = authority.issue(&["a.example"]);
        let flaws = |cert: &str| made.with_chain(cert).pair().flaws(NOW_UNIX_S);
        let (own, above) = made.split();
        assert_eq!(flaws(&own), [Flaw::Alone]);
        assert_eq!(flaws(&format!("{own}{above}")), []);
        let stranger = authority.issue(&["b.example"]).split().0;
        assert_eq!(flaws(&format!("{own}{stranger}")), [Flaw::BrokenChain]);
        let own_issuer = self_signed(&["a.example"]);
        assert_eq!(own_issuer.pair().flaws(NOW_UNIX_S), [Flaw::SelfSigned]);
    }

    #[test]
    fn what_clients_refuse_whatever_they_trust() {
        let of_authority = Flaw::Refused(Refusal::OfAuthority);
        let made = self_signed_as(IsCa::Ca(BasicConstraints::Unconstrained), &["a.example"]);
        let pair = made.pair();
        let end = pair.not_after_unix_s();
        let flaws = [Flaw::SelfSigned, of_authority.clone()];
        assert_eq!(pair.flaws(NOW_UNIX_S), flaws);
        assert_eq!(
            pair.flaws(end + 1),
            [Flaw::Expired, Flaw::SelfSigned, of_authority]
        );
        let authority = Authority::new();
        let backwards = authority.issue_of(&rcgen::PKCS_ECDSA_P256_SHA256, &["a.example"], 2, 1);
        let flaws = backwards.pair().flaws(NOW_UNIX_S);
        assert!(flaws.contains(&Flaw::Refused(Refusal::Period)), "{flaws:?}");
        let old = include_str!("../../tests/data/tls/v1.crt");
        let found = error(old, &made.key);
        assert_eq!(found.what, Refusal::Version.what());
        assert_eq!(found.remedy, Refusal::Version.remedy());
    }

    #[test]
    fn addresses_are_read_too() {
        let made = Authority::new().issue(&["203.0.113.10", "2001:db8::10", "A.example"]);
        let pair = made.pair();
        assert_eq!(pair.names(), ["a.example"]);
        let addresses = ["203.0.113.10", "2001:db8::10"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert_eq!(pair.addresses(), addresses);
    }

    #[test]
    fn another_file_or_state_of_it_is_another_stamp() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let files = Files {
            cert: path("cert"),
            key: path("key"),
        };
        let nothing = Stamp::of(&files);
        fs::write(path("cert"), "1").unwrap();
        let one = Stamp::of(&files);
        assert_ne!(nothing, one);
        assert_eq!(one, Stamp::of(&files));
        fs::write(path("new"), "1").unwrap();
        fs::rename(path("new"), path("cert")).unwrap();
        let replaced = Stamp::of(&files);
        assert_ne!(one, replaced);
        fs::rename(path("cert"), path("one")).unwrap();
        std::os::unix::fs::symlink("one", path("cert")).unwrap();
        fs::write(path("two"), "1").unwrap();
        let linked = Stamp::of(&files);
        std::os::unix::fs::symlink("two", path("link")).unwrap();
        fs::rename(path("link"), path("cert")).unwrap();
        assert_ne!(linked, Stamp::of(&files));
    }
}
