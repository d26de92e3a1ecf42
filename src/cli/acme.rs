//! What ACME is told, and where its certificates go.

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretBox};

use super::certificates::put_in_force;
use crate::acme::{Acme, ChallengeKind, ExternalAccount, Settings};
use crate::admin::{self, CONNECTION_TIME_MAX};
use crate::config::{self, AcmeChallenge, Config};
use crate::metrics::Metrics;
use crate::state::{self, Directory};
use crate::tls::{Certificates, Pair};

/// Of the state directory, what account, certificates and keys are kept in.
const DIRECTORY: &str = "acme";

/// ACME that is configured, before the rights of the process are given up.
pub(super) struct Configured {
    acme: Acme,
    responder: Option<TcpListener>,
    /// The authority's port.
    pub(super) port: u16,
}

/// Opens what ACME needs, if it is configured. The files belong to `owner`, user and group, if there
/// is one.
///
/// # Errors
/// If something that it needs cannot be had.
pub(super) fn prepare(
    config: &Config,
    owner: Option<(u32, u32)>,
) -> Result<Option<Configured>, Box<dyn Error>> {
    let acme = &config.tls.acme;
    if acme.domains.is_empty() {
        return Ok(None);
    }
    let directory = open(owner)?;
    let responder = acme.http_listener().map(bind).transpose()?;
    let settings = settings(acme);
    let port = settings.target().port();
    Ok(Some(Configured {
        acme: Acme::new(settings, directory)?,
        responder,
        port,
    }))
}

/// Where account, certificates and keys are kept.
pub(super) fn place() -> std::io::Result<PathBuf> {
    Ok(state::place()?.join(DIRECTORY))
}

/// Having no place for them is a reason not to serve: every start would ask for a certificate, until
/// the authority has had enough.
fn open(owner: Option<(u32, u32)>) -> Result<Directory, String> {
    let opened = place().map_err(|error| error.to_string());
    let opened =
        opened.and_then(|path| Directory::open(path, owner).map_err(|error| error.to_string()));
    opened.map_err(|error| {
        format!(
            "tls.acme: there is no place for account and keys: {error}; set STATE_DIRECTORY to a \
             directory that this user may write"
        )
    })
}

fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| {
        format!(
            "cannot answer the authority on {address}: {error}; free the port, set \
             tls.acme.http_listen to another one, to which port 80 leads, or set challenge = \
             \"tls-alpn-01\" in [tls.acme]"
        )
    })
}

fn settings(acme: &config::Acme) -> Settings {
    Settings {
        domains: acme.domains.clone(),
        email: Some(acme.email.clone()).filter(|email| !email.is_empty()),
        directory: acme.directory.clone(),
        ca_file: acme.ca_file.clone(),
        challenge: match acme.challenge {
            AcmeChallenge::TlsAlpn01 => ChallengeKind::TlsAlpn01,
            AcmeChallenge::Http01 => ChallengeKind::Http01,
        },
        external_account: acme.eab_key.as_ref().map(|key| ExternalAccount {
            key_id: acme.eab_key_id.clone(),
            key: SecretBox::new(Box::new(key.expose_secret().to_vec())),
        }),
    }
}

impl Configured {
    /// The directory that is to stay writable.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.acme.directory()
    }

    /// The file of the certificate and its key.
    pub(super) fn file(&self) -> PathBuf {
        self.acme.file()
    }

    /// Puts the certificate of earlier runs in force, if there is one.
    pub(super) fn put_in_force(&self, certificates: &Certificates, metrics: &Metrics) {
        let names = self.acme.domains().join(", ");
        match self.acme.kept() {
            Some(pair) => issue(certificates, metrics, &pair),
            None => tracing::info!(names, "ACME: there is no certificate yet; one is asked for"),
        }
    }

    /// Begins to look after the certificate, in the runtime of the caller.
    pub(super) fn start(self, certificates: &Arc<Certificates>, metrics: &Arc<Metrics>) {
        if let Some(responder) = self.responder {
            if let Ok(address) = responder.local_addr() {
                tracing::info!(%address, "ACME: the authority is answered");
            }
            let router = self.acme.responder();
            let counted = Arc::clone(metrics);
            tokio::spawn(async move {
                let tell_ended = || counted.acme().count_ended();
                let served = admin::serve_crowd(responder, router, CONNECTION_TIME_MAX, tell_ended);
                let Err(error) = served.await;
                tracing::error!("ACME: the authority is not answered: {error}");
            });
        }
        let challenges = Arc::clone(certificates.challenges());
        let (certificates, counted) = (Arc::clone(certificates), Arc::clone(metrics));
        let take = move |pair: Arc<Pair>| issue(&certificates, &counted, &pair);
        self.acme.start(Arc::clone(metrics), challenges, take);
    }
}

/// Puts a certificate in the place of the one before, behind those of the configuration.
fn issue(certificates: &Certificates, metrics: &Metrics, pair: &Arc<Pair>) {
    let file = &pair.files().cert;
    let mut pairs = configured(certificates, Some(file));
    pairs.push(Arc::clone(pair));
    put_in_force(certificates, metrics, pairs);
}

/// The certificates in force but that in the file of ACME.
pub(super) fn configured(certificates: &Certificates, file: Option<&Path>) -> Vec<Arc<Pair>> {
    let pairs = certificates.pairs();
    let others = pairs
        .iter()
        .filter(|pair| Some(&*pair.files().cert) != file);
    others.cloned().collect()
}

/// That one.
pub(super) fn issued(certificates: &Certificates, file: Option<&Path>) -> Option<Arc<Pair>> {
    let pairs = certificates.pairs();
    let mut of_file = pairs
        .iter()
        .filter(|pair| Some(&*pair.files().cert) == file);
    of_file.next().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Process;
    use crate::tls::testing::Authority;
    use crate::tls::{Files, Stamp};
    use crate::turn::{PortPool, Shared};

    fn pair(file: &str) -> Arc<Pair> {
        let made = Authority::new().issue(&["turn.example.org"]);
        let files = Files {
            cert: file.into(),
            key: file.into(),
        };
        let stamp = Stamp::of(&files);
        let pair = Pair::from_pem(files, stamp, made.cert.as_bytes(), made.key.as_bytes());
        Arc::new(pair.unwrap())
    }

    /// ACME-01: it takes the place of its predecessor, and of no other.
    #[test]
    fn a_certificate_stands_behind_those_of_the_configuration() {
        let shared = Arc::new(Shared::new(PortPool::new(&[], 50_000..=50_009, &[])));
        let metrics = Metrics::new(1, shared, Process::open());
        let own = pair("/etc/own.pem");
        let certificates = Certificates::new(vec![Arc::clone(&own)]);
        let file = Some(Path::new("/state/acme.pem"));
        assert!(issued(&certificates, file).is_none());
        for _ in 0..2 {
            let new = pair("/state/acme.pem");
            issue(&certificates, &metrics, &new);
            assert_eq!(*certificates.pairs(), [Arc::clone(&own), Arc::clone(&new)]);
            assert_eq!(issued(&certificates, file), Some(new));
            assert_eq!(configured(&certificates, file), [Arc::clone(&own)]);
        }
        assert_eq!(configured(&certificates, None).len(), 2);
        assert!(issued(&certificates, None).is_none());
    }

    #[test]
    fn a_taken_port_is_told_with_the_remedy() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let told = bind(taken.local_addr().unwrap()).unwrap_err();
        assert!(told.contains("tls.acme.http_listen"), "{told}");
    }
}
