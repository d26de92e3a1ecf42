//! Who may relay. No message quotes a secret or a password.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use zeroize::Zeroizing;

use super::check;
use super::draft::{Draft, Element, quoted};
use super::line::Line;
use crate::config::defaults;

/// What `auth.nonce_lifetime_s` takes.
const NONCE_LIFETIME_S: RangeInclusive<u64> = 30..=3600;

/// What `stale-nonce` alone means in coturn.
const STALE_NONCE_S: u64 = 600;

const OPEN_RELAY: &str = "THIS COTURN IS AN OPEN RELAY: it asks nobody for credentials, so anybody \
    on the Internet can send traffic in its name. turnstone does not do that: with neither a \
    secret nor a user it makes a secret of its own at its first start and prints how clients use \
    it. Give your clients such credentials before you switch over";

const SECRETS_IN_DATABASE: &str = "use-auth-secret without static-auth-secret takes its secrets \
    from the database: turnadmin -S lists them; write them to auth.static_auth_secret";

const USERS_IN_DATABASE: &str = "lt-cred-mech without a user in the file takes its users from the \
    database: turnadmin -l lists them; write them to auth.users, with a password or with the key \
    that turnadmin -k prints";

const NO_REALM_FOR_KEYS: &str = "0x keys are made for a realm, and this file names none: coturn \
    takes the machine's domain name; write that to realm, or these users are refused";

/// How coturn would ask for credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mechanism {
    /// Time-limited credentials. Users are not looked at.
    Secret,
    /// Users, of the file or of a database.
    Users,
    /// None at all.
    Nobody,
}

pub(super) fn translate(draft: &mut Draft<'_>) {
    let has_realm = realm(draft);
    rest_separator(draft);
    nonces(draft);
    let no_auth = draft
        .last("no-auth")
        .filter(|line| line.is_on() == Some(true));
    let lt_cred_mech = draft.last("lt-cred-mech");
    let lt_cred_mech = lt_cred_mech.filter(|line| line.is_on() == Some(true));
    let use_auth_secret = draft.last("use-auth-secret");
    let secrets = draft.all("static-auth-secret");
    let users = draft.all("user");
    let mechanism = if use_auth_secret.is_some() || !secrets.is_empty() {
        Mechanism::Secret
    } else if no_auth.is_none() && (lt_cred_mech.is_some() || !users.is_empty()) {
        Mechanism::Users
    } else {
        Mechanism::Nobody
    };
    if let Some(line) = use_auth_secret {
        let was_off = line.is_on() == Some(false);
        let note = if was_off {
            "coturn does not look at its value: it is on"
        } else {
            ""
        };
        draft.translated(line, note);
    }
    static_auth_secrets(draft, &secrets);
    match mechanism {
        Mechanism::Secret if secrets.is_empty() => draft.note("auth", SECRETS_IN_DATABASE),
        Mechanism::Users if users.is_empty() => draft.note("auth", USERS_IN_DATABASE),
        Mechanism::Nobody if draft.all("stun-only").is_empty() => {
            draft.note("auth", OPEN_RELAY);
        }
        Mechanism::Secret | Mechanism::Users | Mechanism::Nobody => {}
    }
    if mechanism == Mechanism::Users {
        accept_users(draft, &users, has_realm);
        return;
    }
    let why = match mechanism {
        Mechanism::Secret => {
            "coturn does not look at users beside a secret, so this one has not been accepted; \
             turnstone accepts both: write it to auth.users if you want it"
        }
        _ => {
            "coturn does not look at users with no-auth, so this one is not written; write it to \
             auth.users if you want it"
        }
    };
    for user in users {
        draft.needless(user, why);
    }
}

/// Whether there is a realm.
fn realm(draft: &mut Draft<'_>) -> bool {
    let Some(line) = draft.text("realm") else {
        return false;
    };
    let toml = quoted(line.value);
    if let Err(problem) = check(&format!("realm = {}", toml.as_str())) {
        draft.refused(line, &problem);
        return false;
    }
    draft.translated(line, "");
    draft.set("realm", toml, &[line]);
    true
}

fn rest_separator(draft: &mut Draft<'_>) {
    let Some(line) = draft.text("rest-api-separator") else {
        return;
    };
    let separator: String = line.value.chars().take(1).collect();
    let toml = quoted(&separator);
    if let Err(problem) = check(&format!("auth.rest_separator = {}", toml.as_str())) {
        draft.refused(line, &problem);
        return;
    }
    draft.translated(line, "");
    draft.set("auth.rest_separator", toml, &[line]);
}

fn nonces(draft: &mut Draft<'_>) {
    let stale_nonce = draft.number_or("stale-nonce", STALE_NONCE_S);
    if let Some((line, seconds)) = stale_nonce {
        let (low, high) = NONCE_LIFETIME_S.into_inner();
        let (kept, note) = match seconds {
            0 => (
                high,
                "0 is for ever in coturn; here an hour is the longest (RFC 8656)",
            ),
            _ if seconds > high => (high, "an hour is the longest (RFC 8656)"),
            _ if seconds < low => (low, "30 s are the shortest"),
            _ => (seconds, ""),
        };
        draft.translated(line, note);
        draft.set("auth.nonce_lifetime_s", kept.to_string(), &[line]);
    }
    let secrets = draft.all("stateless-nonce-secret");
    let elements = secret_elements(draft, &secrets);
    if !elements.is_empty() {
        draft.set_list("auth.nonce_secret", elements);
    }
}

fn static_auth_secrets(draft: &mut Draft<'_>, secrets: &[&Line<'_>]) {
    let mut elements = secret_elements(draft, secrets);
    // coturn takes any of them; turnstone also makes credentials, with the first.
    if elements.is_empty() {
        return;
    }
    if elements.len() > 1 {
        draft.note(
            "auth",
            "all secrets are accepted; turnstone credentials makes credentials with the first",
        );
    }
    elements.dedup_by(|b, a| a.toml == b.toml);
    draft.set_list("auth.static_auth_secret", elements);
}

fn secret_elements(draft: &mut Draft<'_>, lines: &[&Line<'_>]) -> Vec<Element> {
    let mut elements = Vec::new();
    for line in lines {
        if line.value.trim().is_empty() {
            draft.invalid(
                line,
                "it has no value",
                "write a secret, or remove the line",
            );
            continue;
        }
        draft.translated(line, odd_ending(line));
        elements.push(Element {
            toml: quoted(line.value),
            lines: vec![line.number],
        });
    }
    elements
}

/// What coturn takes for a part of a secret although it hardly is meant as one.
fn odd_ending(line: &Line<'_>) -> &'static str {
    if line.value.ends_with(';') {
        "it ends with a semicolon, which belongs to it as it does in coturn"
    } else if line.value.contains(" #") {
        "what looks like a comment behind it belongs to it, as it does in coturn"
    } else {
        ""
    }
}

fn accept_users(draft: &mut Draft<'_>, lines: &[&Line<'_>], has_realm: bool) {
    let mut users: Vec<Element> = Vec::new();
    let mut has_keys = false;
    // In coturn a later user of the same name replaces an earlier one.
    let named = lines
        .iter()
        .filter_map(|line| Some((line.value.split_once(':')?.0, line.number)));
    let last: BTreeMap<&str, usize> = named.collect();
    for line in lines {
        let Some((name, password)) = line.value.split_once(':') else {
            let remedy = "write user=name:password or user=name:0xKEY";
            draft.invalid(line, "it has no colon", remedy);
            continue;
        };
        let password = password.trim_start();
        if last[name] != line.number {
            let why = format!("line {} replaces it: the name is the same", last[name]);
            draft.needless(line, why);
            continue;
        }
        let pair = Zeroizing::new(format!(
            "{} = {}",
            quoted(name).as_str(),
            quoted(password).as_str()
        ));
        let toml = Zeroizing::new(format!("auth.users = {{ {} }}", pair.as_str()));
        if let Err(problem) = check(&toml) {
            draft.refused(line, &problem);
            continue;
        }
        draft.translated(line, odd_ending(line));
        has_keys |= password.starts_with("0x");
        users.push(Element {
            toml: pair,
            lines: vec![line.number],
        });
    }
    if users.is_empty() {
        return;
    }
    if has_keys && !has_realm {
        draft.note("", NO_REALM_FOR_KEYS);
    }
    share_limits(draft);
    draft.set_table("auth.users", users);
}

/// Fixed users are often shared by all clients, whom the limits for one user would then stop.
fn share_limits(draft: &mut Draft<'_>) {
    let has_quota = draft
        .all("user-quota")
        .iter()
        .any(|line| line.bare() != "0");
    if !has_quota {
        draft.set(
            "limits.allocations_per_user",
            defaults::ALLOCATIONS_TOTAL.to_string(),
            &[],
        );
    }
    draft.set("limits.user_kbit_per_s", "0".to_owned(), &[]);
    let (quota, kbit) = (defaults::ALLOCATIONS_PER_USER, defaults::USER_KBIT_PER_S);
    draft.note(
        "limits",
        format!(
            "users of a file are often shared by many clients, and coturn sets them no limits: so \
             one user has none here either, by the keys without a line number. If every client has \
             a name of its own, take them out; by default they are {quota} and {kbit}"
        ),
    );
}
