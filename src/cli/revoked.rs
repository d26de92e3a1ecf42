//! The revocations at the start of a server: read while it still has rights, and taken over by the
//! book that operators write in.

use std::io::ErrorKind;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::credentials::unix_time;
use crate::admin::{Place, RevocationBook, RevokedNotice};
use crate::auth::Revocations;
use crate::config::{RevocationError, RevocationFile};
use crate::engine::Control;

/// The revocations of earlier runs, and where those of this one go.
pub(super) struct Revoked {
    file: Option<RevocationFile>,
    revocations: Arc<Revocations>,
}

impl Revoked {
    /// Having no place for them is no reason not to serve; forgetting them is.
    pub(super) fn of_earlier_runs(owner: Option<(u32, u32)>) -> Result<Self, RevocationError> {
        let file = match RevocationFile::open(owner) {
            Ok(file) => Some(file),
            Err(error @ RevocationError::NoPlace(_)) => {
                tracing::info!("{error}");
                None
            }
            Err(error) => return Err(error),
        };
        let revocations = file.as_ref().map(|file| file.load(unix_time()));
        let revocations = Arc::new(revocations.transpose()?.unwrap_or_default());
        Ok(Self { file, revocations })
    }

    /// What the workers start with.
    pub(super) fn in_force(&self) -> Arc<Revocations> {
        Arc::clone(&self.revocations)
    }

    /// The directory that is to stay writable.
    pub(super) fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(RevocationFile::directory)
    }

    /// The rights of the process are those it keeps: what they do not let it write now they never do.
    /// Wants to be called in a runtime.
    pub(super) fn into_book(
        self,
        control: Control,
        told: Option<mpsc::Sender<RevokedNotice>>,
    ) -> Arc<RevocationBook> {
        let Self { file, revocations } = self;
        let saved = file.as_ref().map(|file| file.save(&revocations));
        let is_shared =
            matches!(&saved, Some(Err(error)) if error.kind() == ErrorKind::ResourceBusy);
        if let (Some(file), Some(Err(error))) = (&file, saved) {
            let path = file.path().display();
            tracing::warn!(
                "new revocations will not survive a restart: cannot write {path} ({error})"
            );
        }
        let file = file.filter(|_| !is_shared);
        let place = file.map(|file| Arc::new(file) as Arc<dyn Place>);
        RevocationBook::new(control, place, revocations, told)
    }
}
