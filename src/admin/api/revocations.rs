//! `/v1/revocations`: credentials that are refused before their time.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::input::{Body, Named};
use super::{Api, Error};
use crate::admin::RevokedNotice;
use crate::auth::{RestUsername, RevokedName, TooManyRevocations, Until, opaque_string};

/// Bytes of a name at most: no USERNAME is longer (RFC 5389 §15.3).
const NAME_LEN_MAX: usize = 763;

/// Seconds that a USERNAME which has expired is refused for: long enough to end the allocations that
/// have outlived it.
const EXPIRED_S: u64 = 60;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/revocations", get(list).post(revoke))
        .route("/v1/revocations/{name}", delete(undo))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    user: Option<String>,
    username: Option<String>,
    until_unix_s: Option<u64>,
}

#[derive(Serialize)]
struct Revoked {
    ended: usize,
    until_unix_s: Until,
    persisted: bool,
}

#[derive(Serialize)]
struct Undone {
    undone: usize,
    persisted: bool,
}

#[derive(Serialize)]
struct List {
    revocations: Vec<Revocation>,
    persistent: bool,
}

#[derive(Serialize)]
struct Revocation {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    until_unix_s: Until,
}

impl Revocation {
    fn new(name: RevokedName<'_>, until_unix_s: Until) -> Self {
        let (user, username) = match name {
            RevokedName::User(name) => (Some(name.to_owned()), None),
            RevokedName::Username(name) => (None, Some(name.to_owned())),
        };
        Self {
            user,
            username,
            until_unix_s,
        }
    }
}

impl From<TooManyRevocations> for Error {
    fn from(error: TooManyRevocations) -> Self {
        Self::new(StatusCode::CONFLICT, error.to_string())
    }
}

async fn list(State(api): State<Arc<Api>>) -> Json<List> {
    let mut revocations = (*api.revocations.in_force().await).clone();
    revocations.forget_ended(unix_s());
    let revocations = revocations.iter();
    let revocations = revocations.map(|(name, until)| Revocation::new(name, until));
    Json(List {
        revocations: revocations.collect(),
        persistent: api.revocations.is_persistent(),
    })
}

async fn revoke(
    State(api): State<Arc<Api>>,
    Body(asked): Body<Revoke>,
) -> Result<Json<Revoked>, Error> {
    let now_unix_s = unix_s();
    let (is_user, name) = match (asked.user, asked.username) {
        (Some(name), None) => (true, name),
        (None, Some(name)) => (false, name),
        _ => return Err(Error::bad_request("give one of user and username")),
    };
    if name.is_empty() || name.len() > NAME_LEN_MAX {
        let text = format!("no name has less than 1 or more than {NAME_LEN_MAX} bytes");
        return Err(Error::bad_request(text));
    }
    let until = match asked.until_unix_s {
        Some(until) if until <= now_unix_s => {
            let text = format!("until_unix_s: {until} is over; it is {now_unix_s} now");
            return Err(Error::bad_request(text));
        }
        Some(until) => Some(until),
        None if is_user => None,
        None => {
            let separator = api.in_force.borrow().rest_separator;
            default_until(&name, separator, now_unix_s)
        }
    };
    let told = name.clone();
    let changed = api.revocations.change(move |revocations| {
        revocations.forget_ended(now_unix_s);
        for name in spellings(&name) {
            let revoked = if is_user {
                RevokedName::User(&name)
            } else {
                RevokedName::Username(&name)
            };
            revocations.insert(revoked, until)?;
        }
        let kind = if is_user { "user" } else { "username" };
        tracing::warn!(kind, name, until_unix_s = until, "revoked");
        Ok::<(), Error>(())
    });
    let changed = changed.await?;
    tracing::info!(
        ended = changed.ended,
        "allocations with revoked credentials ended"
    );
    if let Some(revoked) = &api.revoked {
        let notice = RevokedNotice {
            is_user,
            name: told,
            until_unix_s: until,
            ended: changed.ended,
        };
        // Without hooks the server is stopping.
        let _ = revoked.send(notice).await;
    }
    Ok(Json(Revoked {
        ended: changed.ended,
        until_unix_s: until,
        persisted: changed.is_persisted,
    }))
}

/// A name as it is written and, if that is another, as clients and the credential service prepare it
/// (RFC 8265 §4.2): back ends write names into USERNAME either way.
fn spellings(name: &str) -> Vec<Cow<'_, str>> {
    let prepared = opaque_string(name).ok();
    let prepared = prepared.filter(|prepared| prepared.as_str() != name);
    let prepared = prepared.map(|prepared| Cow::Owned(prepared.as_str().to_owned()));
    [Cow::Borrowed(name)].into_iter().chain(prepared).collect()
}

/// Time-limited names are refused by themselves after their time, others never.
fn default_until(username: &str, separator: char, now_unix_s: u64) -> Until {
    let name = RestUsername::parse(username, separator)?;
    Some(name.expiry_unix_s.max(now_unix_s + EXPIRED_S))
}

async fn undo(State(api): State<Arc<Api>>, Named(name): Named) -> Result<Json<Undone>, Error> {
    let names = {
        let in_force = api.revocations.in_force().await;
        let spellings = spellings(&name);
        let spellings = spellings.iter().map(AsRef::as_ref);
        let names = spellings.flat_map(|it| [RevokedName::User(it), RevokedName::Username(it)]);
        names
            .filter(|name| in_force.iter().any(|(it, _)| it == *name))
            .count()
    };
    if names == 0 {
        return Err(Error::not_found(format!("{name:?} is not revoked")));
    }
    let changed = api.revocations.change(move |revocations| {
        for name in spellings(&name) {
            revocations.remove(RevokedName::User(&name));
            revocations.remove(RevokedName::Username(&name));
        }
        tracing::warn!(name, "revocation undone");
        Ok::<(), Error>(())
    });
    Ok(Json(Undone {
        undone: names,
        persisted: changed.await?.is_persisted,
    }))
}

fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
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

    #[test]
    fn revocations_end_with_what_they_revoke() {
        let until = |username| default_until(username, ':', 1_000_000);
        assert_eq!(until("1767225600:alice"), Some(1_767_225_600));
        assert_eq!(until("1767225600"), Some(1_767_225_600));
        assert_eq!(until("alice:1767225600"), Some(1_767_225_600));
        assert_eq!(until("999999:alice"), Some(1_000_060), "expired");
        assert_eq!(until("alice"), None);
        assert_eq!(default_until("1767225600:alice", '#', 1), None);
    }
}
