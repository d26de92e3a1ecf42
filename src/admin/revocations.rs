//! The revocations in force: told to the workers first, then kept. Who has revoked waits for a disk
//! for a bounded time, and nobody else does; what could not be kept is tried again.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{sleep, timeout};

use super::to_its_end;
use crate::auth::{Revocations, RevokedName, TooManyRevocations, Until, opaque_string};
use crate::config::RevocationFile;
use crate::engine::{Control, Stopped};

/// How long whoever changes revocations waits for the disk, and the end of the server likewise.
const SAVE_WAIT_MAX: Duration = Duration::from_secs(3);

/// The wait after the first failure to save, which doubles with every further one.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// The longest of these waits.
const RETRY_LONGEST: Duration = Duration::from_secs(60);

/// Where revocations survive the server.
pub trait Place: fmt::Debug + Send + Sync {
    /// Replaces what is kept. It may take as long as the disk.
    ///
    /// # Errors
    /// If it cannot be kept. What was kept before stays then.
    fn save(&self, revocations: &Revocations) -> io::Result<()>;

    /// Its name, for log lines.
    fn name(&self) -> String;
}

impl Place for RevocationFile {
    fn save(&self, revocations: &Revocations) -> io::Result<()> {
        Self::save(self, revocations)
    }

    fn name(&self) -> String {
        self.path().display().to_string()
    }
}

/// What became of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Allocations that it ended.
    pub ended: usize,
    /// Whether it survives a restart. If not, it is tried to make it.
    pub is_persisted: bool,
}

/// What became of taking revocations back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undone {
    /// How many there were.
    pub undone: usize,
    /// Whether that survives a restart.
    pub is_persisted: bool,
}

/// A name that is to be refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Whether all credentials of a user are revoked, and not one USERNAME.
    pub is_user: bool,
    /// The user or the USERNAME.
    pub name: String,
    /// Unix time at which it ends, if it does.
    pub until_unix_s: Until,
}

/// A revocation, for who is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedNotice {
    /// What was revoked.
    pub revocation: Revocation,
    /// Allocations that it ended.
    pub ended: usize,
}

/// The revocations of a server that runs.
#[derive(Debug)]
pub struct RevocationBook {
    control: Control,
    place: Option<Arc<dyn Place>>,
    told: Option<mpsc::Sender<RevokedNotice>>,
    /// Held until every worker knows the same.
    changing: Mutex<()>,
    in_force: watch::Sender<Edition>,
    saved: watch::Receiver<Saved>,
}

/// Revocations, numbered in the order in which they came into force.
#[derive(Clone, Debug)]
struct Edition {
    number: u64,
    revocations: Arc<Revocations>,
}

/// Numbers of editions.
#[derive(Clone, Copy, Debug, Default)]
struct Saved {
    /// The last one that was saved.
    kept: u64,
    /// The last one that could not be.
    failed: u64,
}

impl RevocationBook {
    /// Revocations that the workers know already and that are kept, the place for those to come, and
    /// who is told of them. Wants to be called in a runtime, in which it saves.
    pub fn new(
        control: Control,
        place: Option<Arc<dyn Place>>,
        in_force: Arc<Revocations>,
        told: Option<mpsc::Sender<RevokedNotice>>,
    ) -> Arc<Self> {
        let (in_force, newest) = watch::channel(Edition {
            number: 0,
            revocations: in_force,
        });
        let (saved, is_saved) = watch::channel(Saved::default());
        if let Some(place) = &place {
            tokio::spawn(save_every_change(Arc::clone(place), newest, saved));
        }
        Arc::new(Self {
            control,
            place,
            told,
            changing: Mutex::new(()),
            in_force,
            saved: is_saved,
        })
    }

    /// Whether there is a place for changes.
    pub const fn is_persistent(&self) -> bool {
        self.place.is_some()
    }

    /// All of them, some of which may be over.
    pub fn in_force(&self) -> Arc<Revocations> {
        Arc::clone(&self.in_force.borrow().revocations)
    }

    /// Changes that a restart would undo.
    pub fn unsaved(&self) -> u64 {
        let kept = self.saved.borrow().kept;
        self.in_force.borrow().number.saturating_sub(kept)
    }

    /// Refuses a name from now on, which is a time of Unix. It goes on to its end even if nobody waits
    /// for it any more: the workers must not know different ones, and log and hooks are to know.
    ///
    /// # Errors
    /// If there is no room for one more, or the server is stopping.
    pub async fn revoke<E>(
        self: &Arc<Self>,
        revocation: Revocation,
        now_unix_s: u64,
    ) -> Result<Changed, E>
    where
        E: From<Stopped> + From<TooManyRevocations> + Send + 'static,
    {
        let book = Arc::clone(self);
        let work = async move {
            let Revocation {
                is_user,
                ref name,
                until_unix_s,
            } = revocation;
            let change = |revocations: &mut Revocations| {
                revocations.forget_ended(now_unix_s);
                for name in spellings(name) {
                    revocations.insert(revoked(is_user, &name), until_unix_s)?;
                }
                let kind = if is_user { "user" } else { "username" };
                tracing::warn!(kind, name, until_unix_s, "revoked");
                Ok::<(), E>(())
            };
            let ((), ended, number) = book.change(change).await?;
            tracing::info!(ended, "allocations with revoked credentials ended");
            if let Some(told) = &book.told {
                // Without hooks the server is stopping.
                let _ = told.send(RevokedNotice { revocation, ended }).await;
            }
            Ok(Changed {
                ended,
                is_persisted: book.is_kept(number).await,
            })
        };
        to_its_end(work).await
    }

    /// Has a name, be it a user's or a USERNAME, be good again; `None` if it is not refused. It goes on
    /// to its end likewise.
    ///
    /// # Errors
    /// If the server is stopping.
    pub async fn undo<E>(self: &Arc<Self>, name: String) -> Result<Option<Undone>, E>
    where
        E: From<Stopped> + Send + 'static,
    {
        let book = Arc::clone(self);
        let work = async move {
            let spellings = spellings(&name);
            let names: Vec<RevokedName<'_>> = spellings
                .iter()
                .flat_map(|name| [true, false].map(|is_user| revoked(is_user, name)))
                .collect();
            let is_known = |revocations: &Revocations, name: RevokedName<'_>| {
                revocations.iter().any(|(it, _)| it == name)
            };
            let before = book.in_force();
            if !names.iter().any(|name| is_known(&before, *name)) {
                return Ok(None);
            }
            let change = |revocations: &mut Revocations| {
                let removed = names.iter().filter(|name| revocations.remove(**name));
                let undone = removed.count();
                if undone > 0 {
                    tracing::warn!(name, "revocation undone");
                }
                Ok::<usize, E>(undone)
            };
            let (undone, _, number) = book.change(change).await?;
            let is_persisted = book.is_kept(number).await;
            // Somebody else may have been quicker.
            Ok((undone > 0).then_some(Undone {
                undone,
                is_persisted,
            }))
        };
        to_its_end(work).await
    }

    /// Changes the revocations, one change after the other. Returns what `change` does, how many
    /// allocations that ended, and the number of the edition.
    async fn change<T, E: From<Stopped>>(
        &self,
        change: impl FnOnce(&mut Revocations) -> Result<T, E>,
    ) -> Result<(T, usize, u64), E> {
        let _changing = self.changing.lock().await;
        // Until the workers have the new ones, so that they free nothing.
        let before = self.in_force();
        let mut revocations = (*before).clone();
        let result = change(&mut revocations)?;
        let revocations = Arc::new(revocations);
        let ended = self.control.revoke(&revocations).await?;
        let number = self.in_force.borrow().number + 1;
        self.in_force.send_replace(Edition {
            number,
            revocations,
        });
        Ok((result, ended, number))
    }

    /// Whether an edition is kept, as far as can be said within a bounded time.
    async fn is_kept(&self, number: u64) -> bool {
        let Some(place) = &self.place else {
            tracing::warn!(
                "the revocations will not survive a restart: there is no place for them"
            );
            return false;
        };
        let mut saved = self.saved.clone();
        let outcome = async {
            let decided = |it: &Saved| it.kept >= number || it.failed >= number;
            let outcome = saved.wait_for(decided).await;
            outcome.is_ok_and(|it| it.kept >= number)
        };
        // A failure has its line.
        timeout(SAVE_WAIT_MAX, outcome).await.unwrap_or_else(|_| {
            let file = place.name();
            tracing::warn!(
                file,
                "the revocations are not written yet: the disk is slow"
            );
            false
        })
    }

    /// Keeps what is not kept yet, if that can be done within a bounded time.
    pub async fn finish(&self) {
        if self.unsaved() == 0 || self.place.is_none() {
            return;
        }
        // Another edition with the same names: it is tried at once.
        let mut number = 0;
        self.in_force.send_modify(|newest| {
            newest.number += 1;
            number = newest.number;
        });
        if !self.is_kept(number).await {
            tracing::error!("revocations are not kept: the next start does not know the last ones");
        }
    }
}

/// Saves the newest edition whenever there is one, and again until that succeeds. Ends with the book.
async fn save_every_change(
    place: Arc<dyn Place>,
    mut newest: watch::Receiver<Edition>,
    saved: watch::Sender<Saved>,
) {
    let mut failures = 0_u32;
    loop {
        let Edition {
            number,
            revocations,
        } = newest.borrow_and_update().clone();
        if saved.borrow().kept == number {
            match newest.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            }
        }
        let to = Arc::clone(&place);
        let outcome = tokio::task::spawn_blocking(move || to.save(&revocations)).await;
        let file = place.name();
        let Err(error) = outcome.map_err(io::Error::other).flatten() else {
            saved.send_modify(|saved| saved.kept = number);
            if std::mem::take(&mut failures) > 0 {
                tracing::info!(file, "the revocations are written again");
            }
            continue;
        };
        tracing::warn!(
            file,
            %error,
            "the revocations will not survive a restart: the file cannot be written; trying again"
        );
        saved.send_modify(|saved| saved.failed = number);
        let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
        failures = failures.saturating_add(1);
        tokio::select! {
            () = sleep(RETRY_FIRST.saturating_mul(factor).min(RETRY_LONGEST)) => {}
            changed = newest.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

const fn revoked(is_user: bool, name: &str) -> RevokedName<'_> {
    if is_user {
        RevokedName::User(name)
    } else {
        RevokedName::Username(name)
    }
}

/// A name as it is written and, if that is another, as clients and the credential service prepare it
/// (RFC 8265 §4.2): back ends write names into USERNAME either way.
fn spellings(name: &str) -> Vec<Cow<'_, str>> {
    let prepared = opaque_string(name).ok();
    let prepared = prepared.filter(|prepared| prepared.as_str() != name);
    let prepared = prepared.map(|prepared| Cow::Owned(prepared.as_str().to_owned()));
    [Cow::Borrowed(name)].into_iter().chain(prepared).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// REV-01
    #[test]
    fn names_are_revoked_however_they_are_spelled() {
        assert_eq!(spellings("alice"), ["alice"]);
        assert_eq!(spellings("zoe\u{308}"), ["zoe\u{308}", "zo\u{eb}"]);
        assert_eq!(spellings("\u{7}"), ["\u{7}"], "no client can prepare it");
    }
}
