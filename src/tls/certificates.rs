//! The pairs in force, and which of them a client gets.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::challenges::Challenges;
use super::names::Fit;
use super::pair::Pair;

/// The pairs in force, in the operator's order. A handshake takes those that are in force when it
/// chooses; connections that there are have chosen.
#[derive(Debug)]
pub struct Certificates {
    pairs: ArcSwap<Vec<Arc<Pair>>>,
    challenges: Arc<Challenges>,
}

impl Certificates {
    /// Those to begin with. Without any, every handshake is refused.
    pub fn new(pairs: Vec<Arc<Pair>>) -> Self {
        Self {
            pairs: ArcSwap::from_pointee(pairs),
            challenges: Arc::default(),
        }
    }

    /// Puts others in their place, all at once.
    pub fn replace(&self, pairs: Vec<Arc<Pair>>) {
        self.pairs.store(Arc::new(pairs));
    }

    /// Those in force.
    pub fn pairs(&self) -> Arc<Vec<Arc<Pair>>> {
        self.pairs.load_full()
    }

    /// What authorities are shown.
    pub const fn challenges(&self) -> &Arc<Challenges> {
        &self.challenges
    }

    /// For a client that names a server, and verifies signatures of these kinds.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let pairs = self.pairs.load();
        let fit = |pair: &Pair| name.and_then(|name| pair.fit(name));
        let can_verify = |pair: &Pair| pair.certified().key.choose_scheme(schemes).is_some();
        // Whoever asks for none of the names may still know the address by another way, and whoever
        // can verify none of them learns so from the handshake.
        let tiers: [&dyn Fn(&Pair) -> bool; 4] = [
            &|pair| fit(pair) == Some(Fit::Exact) && can_verify(pair),
            &|pair| fit(pair) == Some(Fit::Wildcard) && can_verify(pair),
            &can_verify,
            &|_| true,
        ];
        let chosen = tiers
            .into_iter()
            .find_map(|tier| pairs.iter().find(|pair| tier(pair)));
        chosen.map(|pair| Arc::clone(pair.certified()))
    }

    /// For a client that names a server: of the pairs that fit best, the first of each kind of key, for
    /// a library that chooses by the signatures that the client verifies.
    #[cfg(feature = "dtls")]
    pub(super) fn best_for(&self, name: Option<&str>) -> Vec<Arc<Pair>> {
        let pairs = self.pairs.load();
        let pairs = || pairs.iter().filter(|pair| pair.openssl().is_some());
        let fit = |pair: &Pair| name.and_then(|name| pair.fit(name));
        let best = pairs().filter_map(|pair| fit(pair)).max();
        let mut chosen: Vec<Arc<Pair>> = Vec::new();
        for pair in pairs().filter(|pair| fit(pair) == best || best.is_none()) {
            if !chosen.iter().any(|it| it.algorithm() == pair.algorithm()) {
                chosen.push(Arc::clone(pair));
            }
        }
        chosen
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if Challenges::is_asked(&client) {
            return self.challenges.choose(client.server_name());
        }
        self.choose(client.server_name(), client.signature_schemes())
    }
}
