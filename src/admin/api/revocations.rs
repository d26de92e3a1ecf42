//! `/v1/revocations`: credentials that are refused before their time.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::input::{Body, Named};
use super::{Api, Error};
use crate::admin;
use crate::auth::{RestUsername, RevokedName, TooManyRevocations, Until};

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
    /// One of the two: a USERNAME if it carries an expiry as time-limited ones do.
    name: Option<String>,
    until_unix_s: Option<u64>,
}

#[derive(Serialize)]
struct Revoked {
    #[serde(flatten)]
    revocation: Revocation,
    ended: usize,
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
    let mut revocations = (*api.revocations.in_force()).clone();
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
    let separator = api.in_force.borrow().rest_separator;
    let (is_user, name) = match (asked.user, asked.username, asked.name) {
        (Some(name), None, None) => (true, name),
        (None, Some(name), None) => (false, name),
        (None, None, Some(name)) => (!has_expiry(&name, separator), name),
        _ => return Err(Error::bad_request("give one of user, username and name")),
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
        None => default_until(&name, separator, now_unix_s),
    };
    let told = match is_user {
        true => RevokedName::User(&name),
        false => RevokedName::Username(&name),
    };
    let told = Revocation::new(told, until);
    let revocation = admin::Revocation {
        is_user,
        name,
        until_unix_s: until,
    };
    let changed = api.revocations.revoke::<Error>(revocation, now_unix_s);
    let changed = changed.await?;
    Ok(Json(Revoked {
        revocation: told,
        ended: changed.ended,
        persisted: changed.is_persisted,
    }))
}

/// Whether a name is a time-limited one. A number alone is a user's as well: users have telephone
/// numbers, and the user of a bare expiry is the whole of it.
fn has_expiry(name: &str, separator: char) -> bool {
    name.contains(separator) && RestUsername::parse(name, separator).is_some()
}

/// Time-limited names are refused by themselves after their time, others never.
fn default_until(username: &str, separator: char, now_unix_s: u64) -> Until {
    let name = RestUsername::parse(username, separator)?;
    Some(name.expiry_unix_s.max(now_unix_s + EXPIRED_S))
}

async fn undo(State(api): State<Arc<Api>>, Named(name): Named) -> Result<Json<Undone>, Error> {
    let undone = api.revocations.undo::<Error>(name.clone()).await?;
    let undone = undone.ok_or_else(|| Error::not_found(format!("{name:?} is not revoked")))?;
    Ok(Json(Undone {
        undone: undone.undone,
        persisted: undone.is_persisted,
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
    fn numbers_do_not_make_a_user_a_username() {
        for (name, expected) in [
            ("1767225600:alice", true),
            ("alice:1767225600", true),
            ("1767225600", false),
            ("4915112345678", false),
            ("user-1234567890", false),
            ("alice", false),
        ] {
            assert_eq!(has_expiry(name, ':'), expected, "{name}");
        }
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
