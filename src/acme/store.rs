//! What outlives the process: the account, the certificate with its key, and when orders were made.
//!
//! The files are named after what they are for: another authority has another account, and other
//! names have another certificate.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use instant_acme::AccountCredentials;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::schedule::ATTEMPTS_PER_HOUR;
use crate::state::Directory;
use crate::tls::{Files, Pair, Stamp};

/// Bytes of a file at most: a chain of ten certificates has less than a tenth.
const FILE_LEN_MAX: u64 = 1 << 20;

/// Bytes of the hash in names.
const HASH_LEN: usize = 4;

#[derive(Debug)]
pub(super) struct Store {
    directory: Directory,
    account: String,
    certificate: String,
    attempts: String,
    domains: Vec<String>,
}

/// An account with an authority.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeptAccount {
    /// Where the authority may write to, as it was last told.
    pub(super) email: Option<String>,
    pub(super) credentials: AccountCredentials,
}

/// What earlier attempts leave to be heeded.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attempts {
    /// When the last accounts or orders were asked for.
    pub(super) unix_s: Vec<u64>,
    /// Until when the authority wants to be left alone.
    #[serde(default)]
    pub(super) not_before_unix_s: u64,
}

impl Store {
    pub(super) fn new(directory: Directory, authority: &str, domains: &[String]) -> Self {
        let mut sorted = domains.to_vec();
        sorted.sort();
        let of_account = hash(&[authority]);
        let of_domains = hash(&[authority, &sorted.join(",")]);
        let first = domains.first().map_or("", String::as_str);
        Self {
            directory,
            account: format!("account-{of_account}.json"),
            certificate: format!("{first}-{of_domains}.pem"),
            attempts: format!("attempts-{of_domains}.json"),
            domains: domains.to_vec(),
        }
    }

    pub(super) const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Where the certificate is, with its key in the same file.
    pub(super) fn certificate_path(&self) -> PathBuf {
        self.directory.path(&self.certificate)
    }

    /// The account, if there is one.
    ///
    /// # Errors
    /// Of the file system: there may be one.
    pub(super) fn account(&self) -> io::Result<Option<KeptAccount>> {
        let parse = |bytes: &[u8]| serde_json::from_slice(bytes).map_err(|it| it.to_string());
        self.usable(&self.account, "account", parse)
    }

    pub(super) fn keep_account(&self, account: &KeptAccount) -> io::Result<()> {
        let text = zeroize::Zeroizing::new(serde_json::to_vec(account)?);
        self.directory.replace(&self.account, &text)
    }

    /// An account that the authority does not know.
    pub(super) fn forget_account(&self, why: &str) {
        self.set_aside(&self.account, "account", why);
    }

    /// The certificate, if there is one that can be used, or could: it may have expired.
    ///
    /// # Errors
    /// Of the file system: there may be one.
    pub(super) fn certificate(&self) -> io::Result<Option<Arc<Pair>>> {
        let check = |bytes: &[u8]| self.check(bytes).map(Arc::new);
        self.usable(&self.certificate, "certificate", check)
    }

    /// What a file holds. One that is broken is set aside; one that cannot be read just now is not.
    fn usable<T>(
        &self,
        name: &str,
        what: &str,
        parse: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> io::Result<Option<T>> {
        let parsed = match self.directory.read(name, FILE_LEN_MAX) {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => parse(&bytes),
            Err(error) if error.kind() == ErrorKind::InvalidData => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        match parsed {
            Ok(parsed) => Ok(Some(parsed)),
            Err(why) => {
                self.set_aside(name, what, &why);
                Ok(None)
            }
        }
    }

    /// What came from an authority, with its key, if it can be used.
    ///
    /// # Errors
    /// Why not, to be read after what it is.
    pub(super) fn check(&self, pem: &[u8]) -> Result<Pair, String> {
        let path = self.certificate_path();
        let files = Files {
            cert: path.clone(),
            key: path,
        };
        let stamp = Stamp::of(&files);
        let pair = Pair::from_pem(files, stamp, pem, pem).map_err(|error| error.what)?;
        match self.domains.iter().find(|domain| !pair.covers(domain)) {
            Some(domain) => Err(format!("is not for {domain}")),
            None => Ok(pair),
        }
    }

    /// Keeps a certificate with its key, and returns it as it is kept.
    pub(super) fn keep_certificate(&self, pem: &[u8]) -> io::Result<Arc<Pair>> {
        self.directory.replace(&self.certificate, pem)?;
        self.check(pem).map(Arc::new).map_err(io::Error::other)
    }

    /// Those of the last processes too.
    pub(super) fn attempts(&self) -> Attempts {
        let read = self.directory.read(&self.attempts, FILE_LEN_MAX);
        // They bound orders, and are good for nothing else: one that is lost is one order more.
        let bytes = read.ok().flatten().unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Adds one.
    pub(super) fn note_attempt(&self, unix_s: u64) -> io::Result<()> {
        let mut attempts = self.attempts();
        attempts.unix_s.push(unix_s);
        let surplus = attempts.unix_s.len().saturating_sub(ATTEMPTS_PER_HOUR);
        attempts.unix_s.drain(..surplus);
        self.keep_attempts(&attempts)
    }

    /// Takes one back of which the authority knows nothing.
    pub(super) fn forget_attempt(&self, unix_s: u64) -> io::Result<()> {
        let mut attempts = self.attempts();
        attempts.unix_s.retain(|at| *at != unix_s);
        self.keep_attempts(&attempts)
    }

    /// Remembers until when the authority wants to be left alone.
    pub(super) fn note_not_before(&self, unix_s: u64) -> io::Result<()> {
        let attempts = Attempts {
            not_before_unix_s: unix_s,
            ..self.attempts()
        };
        self.keep_attempts(&attempts)
    }

    fn keep_attempts(&self, attempts: &Attempts) -> io::Result<()> {
        let text = serde_json::to_vec(attempts)?;
        self.directory.replace(&self.attempts, &text)
    }

    fn set_aside(&self, name: &str, what: &str, why: &str) {
        let path = self.directory.path(name);
        let path = path.display();
        match self.directory.set_aside(name) {
            Ok(aside) => tracing::warn!(
                "ACME: the {what} in {path} cannot be used ({why}); it is now {}, and a new one is \
                 asked for",
                aside.display()
            ),
            Err(error) => tracing::warn!(
                "ACME: the {what} in {path} cannot be used ({why}), nor be set aside ({error}); \
                 remove it"
            ),
        }
    }
}

fn hash(parts: &[&str]) -> String {
    let digest = Sha256::digest(parts.join("\n"));
    digest[..HASH_LEN]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tls::testing::{Authority, Made};

    const CA: &str = "https://ca.example/directory";

    fn store(home: &tempfile::TempDir, authority: &str, domains: &[&str]) -> Store {
        let directory = Directory::open(home.path().join("acme"), None).unwrap();
        let domains: Vec<String> = domains.iter().map(|&it| it.to_owned()).collect();
        Store::new(directory, authority, &domains)
    }

    fn pem(made: &Made) -> Vec<u8> {
        format!("{}{}", made.key, made.cert).into_bytes()
    }

    /// ACME-02: what is kept is found again, by who asks for the same.
    #[test]
    fn a_certificate_is_kept_for_its_names_and_authority() {
        let home = tempfile::tempdir().unwrap();
        let names = ["a.example.org", "b.example.org"];
        let kept = store(&home, CA, &names);
        assert!(kept.certificate().unwrap().is_none());
        let made = Authority::new().issue(&names);
        let pair = kept.keep_certificate(&pem(&made)).unwrap();
        assert_eq!(kept.certificate().unwrap().unwrap(), pair);
        let file = kept.certificate_path();
        assert!(
            file.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("a.example.org-")
        );
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o7777, 0o600);
        for other in [
            store(&home, "https://other.example/", &names),
            store(&home, CA, &names[..1]),
        ] {
            assert!(other.certificate().unwrap().is_none());
        }
    }

    /// ACME-02: what is broken is neither used nor lost.
    #[test]
    fn what_is_broken_is_set_aside() {
        let home = tempfile::tempdir().unwrap();
        let store = store(&home, CA, &["a.example.org"]);
        let authority = Authority::new();
        let whole = pem(&authority.issue(&["a.example.org"]));
        let foreign = pem(&authority.issue(&["b.example.org"]));
        let mixed = [
            authority.issue(&["a.example.org"]).key.into_bytes(),
            whole[300..].to_vec(),
        ];
        for broken in [
            &b""[..],
            b"\xff",
            &whole[..whole.len() / 2],
            &foreign,
            &mixed.concat(),
        ] {
            store.directory.replace(&store.certificate, broken).unwrap();
            assert!(store.certificate().unwrap().is_none());
            let aside = store
                .directory
                .path(&format!("{}.broken", store.certificate));
            assert_eq!(fs::read(aside).unwrap(), broken);
            assert!(!store.certificate_path().exists());
        }
        for broken in ["", "{}", "[1]", "{\"id\":\"x\",\"key_pkcs8\":\"%\"}"] {
            store
                .directory
                .replace(&store.account, broken.as_bytes())
                .unwrap();
            assert!(store.account().unwrap().is_none(), "{broken}");
            assert!(!store.directory.path(&store.account).exists());
        }
    }

    /// ACME-02: an account that is given up for want of a descriptor is lost with its orders.
    #[test]
    fn what_cannot_be_read_just_now_stays() {
        let home = tempfile::tempdir().unwrap();
        let store = store(&home, CA, &["a.example.org"]);
        // A link is an error of the file system, for root too.
        for name in [&store.account, &store.certificate] {
            std::os::unix::fs::symlink("elsewhere", store.directory.path(name)).unwrap();
        }
        assert!(store.account().is_err());
        assert!(store.certificate().is_err());
        for name in [&store.account, &store.certificate] {
            let metadata = fs::symlink_metadata(store.directory.path(name));
            assert!(metadata.unwrap().is_symlink(), "{name}");
        }
    }

    /// ACME-04
    #[test]
    fn attempts_are_remembered() {
        let home = tempfile::tempdir().unwrap();
        let store = store(&home, CA, &["a.example.org"]);
        assert!(store.attempts().unix_s.is_empty());
        for unix_s in 1..=5 {
            store.note_attempt(unix_s).unwrap();
        }
        store.note_not_before(9).unwrap();
        store.forget_attempt(5).unwrap();
        store.note_attempt(6).unwrap();
        let attempts = store.attempts();
        assert_eq!(
            (&attempts.unix_s[..], attempts.not_before_unix_s),
            (&[3, 4, 6][..], 9)
        );
        let earlier = b"{\"unix_s\":[7]}";
        store.directory.replace(&store.attempts, earlier).unwrap();
        assert_eq!(store.attempts().unix_s, [7], "of an earlier version");
        store.directory.replace(&store.attempts, b"broken").unwrap();
        assert!(store.attempts().unix_s.is_empty());
    }
}
