//! What is behind a 401 once credentials were sent: the secret, or a clock.
//!
//! A server says neither. But it accepts a credential of the right secret that is good for longer,
//! however far its clock is ahead, and no credential of a wrong one. (A clock that is behind refuses
//! nothing.)

use std::time::Instant;

use super::client::Client;
use super::clock::span;
use super::credentials::{Credentials, Minted, utc};
use super::failure::{Context, Failure};
use crate::wire::ErrorCode;

/// Seconds, ten years, that a credential is good for when the clock is to be left out of account.
const HORIZON_S: u64 = 10 * 365 * 86_400;

/// Seconds by which a clock may miss the end of a credential and still be the cause: more than it
/// can be misread by.
const CLOSE_S: u64 = 30;

/// Credentials that are tried to find out how far the clock is ahead. Six bring ten years down to a
/// span whose end is less than a quarter above its beginning.
const TRIES_MAX: usize = 7;

/// The span is narrow enough once its end is not above its beginning by more than this.
const NARROW: f64 = 1.25;

/// What a 401 does not tell from a wrong password.
const REVOKED: &str =
    "the credential or its user is revoked (turnstone revoke --list on the server)";

/// What the measurements say about a 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Diagnosis {
    /// The secret is right: the clock is ahead by this many seconds, at least and at most.
    ClockAhead { least_s: u64, most_s: u64 },
    /// No clock is to blame: the server's agrees, or a credential that is good for this long is
    /// refused, too.
    WrongSecret { refused_s: Option<u64> },
}

/// Finds out why a credential made here is refused; `None` if that failed.
///
/// `ahead_s` is what the server's nonces say of its clock.
pub(super) fn diagnose(
    context: &Context<'_>,
    minted: &Minted,
    ahead_s: Option<i64>,
    deadline: Instant,
) -> Option<Diagnosis> {
    let good_s = minted.expiry_unix_s - minted.now_unix_s;
    let accepted = |seconds| accepts(context, minted, seconds, deadline).ok();
    if let Some(ahead_s) = ahead_s {
        let ahead_s = u64::try_from(ahead_s).unwrap_or(0);
        if ahead_s + CLOSE_S < good_s {
            return Some(Diagnosis::WrongSecret { refused_s: None });
        }
        // As long as the first one should have been, by the server's clock.
        let refused_s = ahead_s + good_s;
        return Some(if accepted(refused_s)? {
            Diagnosis::ClockAhead {
                least_s: ahead_s,
                most_s: ahead_s,
            }
        } else {
            Diagnosis::WrongSecret {
                refused_s: Some(refused_s),
            }
        });
    }
    if !accepted(HORIZON_S)? {
        let refused_s = Some(HORIZON_S);
        return Some(Diagnosis::WrongSecret { refused_s });
    }
    let (mut least_s, mut most_s) = (good_s, HORIZON_S);
    for _ in 0..TRIES_MAX {
        let (least, most) = (least_s as f64, most_s as f64);
        if most <= least * NARROW {
            break;
        }
        let middle_s = (least * most).sqrt() as u64;
        // What is known already stands, even if the time is up now.
        match accepted(middle_s) {
            Some(true) => most_s = middle_s,
            Some(false) => least_s = middle_s,
            None => break,
        }
    }
    Some(Diagnosis::ClockAhead { least_s, most_s })
}

/// Whether the server takes a credential that is good for so long.
fn accepts(
    context: &Context<'_>,
    minted: &Minted,
    seconds: u64,
    deadline: Instant,
) -> Result<bool, Failure> {
    let credentials = minted.until(minted.now_unix_s + seconds);
    let link = context.open(deadline)?;
    let mut client = Client::new(link, deadline);
    client.challenge(&credentials)?;
    match client.allocate(None) {
        Ok(_) => {
            // Whatever becomes of it, the credential was accepted.
            let _ = client.delete();
            Ok(true)
        }
        Err(failure) if failure.is_refusal(ErrorCode::Unauthenticated) => Ok(false),
        Err(Failure::Refused(_)) => Ok(true),
        Err(failure) => Err(failure),
    }
}

impl Diagnosis {
    /// What was seen, if more was tried than the first credential.
    pub(super) fn detail(self) -> Option<String> {
        Some(match self {
            Self::ClockAhead { least_s, most_s } if least_s == most_s => {
                "accepted when good by the server's clock".to_owned()
            }
            Self::ClockAhead { least_s, most_s } => format!(
                "refused when good for {}, accepted when good for {}",
                span(least_s),
                span(most_s)
            ),
            Self::WrongSecret { refused_s } => {
                format!("refused, too, when good for {}", span(refused_s?))
            }
        })
    }
}

/// What 401 means once credentials were sent.
pub(super) fn wrong_credentials(context: &Context<'_>) -> String {
    let Some(credentials) = context.credentials else {
        return "the server wants credentials".to_owned();
    };
    match (context.diagnosis, credentials.minted()) {
        (Some(Diagnosis::ClockAhead { least_s, most_s }), _) => {
            let by = if least_s == most_s {
                span(least_s)
            } else {
                format!("between {} and {}", span(least_s), span(most_s))
            };
            format!(
                "the secret is right, but the server's clock is ahead of this machine's by {by}, \
                 so credentials have expired before they are used; set both clocks (NTP)"
            )
        }
        (Some(Diagnosis::WrongSecret { refused_s }), _) => {
            let clock = match refused_s {
                Some(refused_s) => {
                    format!("a credential good for {} is refused, too", span(refused_s))
                }
                None => format!("the server's {}", relation(context.ahead_s.unwrap_or(0))),
            };
            format!(
                "wrong secret, or the server takes no secrets (turnstone: \
                 auth.static_auth_secret; coturn: use-auth-secret and static-auth-secret); it is \
                 not the clock: {clock}"
            )
        }
        (None, Some(minted)) => format!(
            "wrong secret, or the server's clock differs: the credential expires at {}, and here \
             it is {}",
            utc(minted.expiry_unix_s),
            utc(minted.now_unix_s)
        ),
        (None, None) => wrong_password(context, credentials),
    }
}

/// A fixed user, or a credential that somebody else made.
fn wrong_password(context: &Context<'_>, credentials: &Credentials) -> String {
    let now_unix_s = crate::cli::credentials::unix_time();
    let ahead_s = context.ahead_s.unwrap_or(0);
    match credentials.expiry_unix_s() {
        Some(expiry) if expiry < now_unix_s => format!(
            "the credential expired {} ago: {}",
            span(now_unix_s - expiry),
            utc(expiry)
        ),
        Some(expiry) if expiry < now_unix_s.saturating_add_signed(ahead_s) => format!(
            "the credential has expired by the server's clock, which {}; set both clocks (NTP)",
            relation(ahead_s)
        ),
        Some(expiry) => {
            let or_clock = match context.ahead_s {
                Some(_) if expiry > now_unix_s.saturating_add_signed(ahead_s) + CLOSE_S => {
                    format!("; it is not the clock: the server's {}", relation(ahead_s))
                }
                _ => format!(
                    "; or the server's clock differs: the credential expires at {}, and here it is {}",
                    utc(expiry),
                    utc(now_unix_s)
                ),
            };
            format!("wrong password for this user name, so another secret; or {REVOKED}{or_clock}")
        }
        None => {
            format!(
                "wrong user or password (turnstone: auth.users; coturn: user, with lt-cred-mech and \
                 without use-auth-secret); or {REVOKED}; a key kept in the place of the password is \
                 good in one realm only, and after many failures the right password is refused for a \
                 minute, too (turnstone: limits.failed_authentications_per_minute)"
            )
        }
    }
}

/// What the server's clock does, compared with this machine's.
pub(super) fn relation(ahead_s: i64) -> String {
    match ahead_s {
        // Whole seconds, and half a round trip.
        -3..=3 => "agrees with this machine's (to 3 s)".to_owned(),
        4.. => format!(
            "is {} ahead of this machine's",
            span(ahead_s.unsigned_abs())
        ),
        _ => format!("is {} behind this machine's", span(ahead_s.unsigned_abs())),
    }
}
