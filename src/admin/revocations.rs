//! The revocations in force: told to the workers first, then kept.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::auth::{Revocations, Until};
use crate::config::RevocationFile;
use crate::engine::{Control, Stopped};

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Allocations that it ended.
    pub ended: usize,
    /// Whether it survives a restart.
    pub is_persisted: bool,
}

/// A revocation, for who is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedNotice {
    /// Whether all credentials of a user are revoked, and not one USERNAME.
    pub is_user: bool,
    /// The user or the USERNAME.
    pub name: String,
    /// Unix time at which it ends, if it does.
    pub until_unix_s: Until,
    /// Allocations that it ended.
    pub ended: usize,
}

/// The revocations of a server that runs.
#[derive(Debug)]
pub struct RevocationBook {
    control: Control,
    file: Option<Arc<RevocationFile>>,
    in_force: Mutex<Arc<Revocations>>,
}

impl RevocationBook {
    /// Revocations that the workers know already, and where they are kept.
    pub fn new(
        control: Control,
        file: Option<Arc<RevocationFile>>,
        in_force: Arc<Revocations>,
    ) -> Arc<Self> {
        let in_force = Mutex::new(in_force);
        Arc::new(Self {
            control,
            file,
            in_force,
        })
    }

    /// Whether changes are kept.
    pub const fn is_persistent(&self) -> bool {
        self.file.is_some()
    }

    /// All of them, some of which may be over.
    pub async fn in_force(&self) -> Arc<Revocations> {
        Arc::clone(&*self.in_force.lock().await)
    }

    /// Changes them, one after the other. It goes on to its end even if nobody waits for it any more:
    /// the workers must not know different ones.
    ///
    /// # Errors
    /// What `change` says, and nothing is changed then; or that the server is stopping.
    pub async fn change<E: From<Stopped> + Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Revocations) -> Result<(), E> + Send + 'static,
    ) -> Result<Changed, E> {
        let book = Arc::clone(self);
        let changed = tokio::spawn(async move {
            let mut in_force = book.in_force.lock().await;
            let mut revocations = (**in_force).clone();
            change(&mut revocations)?;
            let revocations = Arc::new(revocations);
            let ended = book.control.revoke(&revocations).await?;
            *in_force = Arc::clone(&revocations);
            let is_persisted = book.keep(revocations).await;
            Ok(Changed {
                ended,
                is_persisted,
            })
        });
        // Without the task the runtime is ending.
        changed.await.unwrap_or_else(|_| Err(Stopped.into()))
    }

    async fn keep(&self, revocations: Arc<Revocations>) -> bool {
        let Some(file) = &self.file else {
            tracing::warn!(
                "the revocations will not survive a restart: there is no place for them"
            );
            return false;
        };
        let place = Arc::clone(file);
        let saved = tokio::task::spawn_blocking(move || place.save(&revocations)).await;
        let Err(error) = saved.map_err(std::io::Error::other).flatten() else {
            return true;
        };
        tracing::warn!(
            file = %file.path().display(),
            %error,
            "the revocations will not survive a restart: the file cannot be written"
        );
        false
    }
}
