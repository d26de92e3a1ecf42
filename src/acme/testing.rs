//! What tests of this room have in common.

use super::{ChallengeKind, Settings};

pub(super) fn settings() -> Settings {
    Settings {
        domains: vec!["turn.example.org".to_owned()],
        email: None,
        directory: "https://ca.example:14000/dir".parse().unwrap(),
        ca_file: None,
        challenge: ChallengeKind::TlsAlpn01,
        external_account: None,
    }
}
