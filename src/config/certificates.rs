//! Certificates and their keys, from the files that the configuration names.

use super::files;
use crate::tls::{Files, Pair, PairError, Part, Stamp};

/// Reads a pair and checks it.
///
/// # Errors
/// What is wrong with either file.
pub fn read_pair(at: &Files) -> Result<Pair, PairError> {
    // Before the reading: what changes meanwhile is seen as a change afterwards.
    let stamp = Stamp::of(at);
    let read = |part| {
        let text = files::read(at.path(part), files::PEM_MAX);
        text.map_err(|error| PairError::unreadable(part, &error))
    };
    let (cert, key) = (read(Part::Certificate)?, read(Part::Key)?);
    Pair::from_pem(at.clone(), stamp, cert.as_bytes(), key.as_bytes())
}
