//! The environment overlay: `TURNSERVER_AUTH__STATIC_AUTH_SECRET` is `auth.static_auth_secret`.

use std::ffi::OsString;

use super::document::{Document, Setting};
use super::error::{Origin, Problem};
use super::schema::{self, KEYS};
use super::suggest;

const PREFIX: &str = "TURNSERVER_";

/// Names the configuration file; the command line reads it.
const CONFIG: &str = "TURNSERVER_CONFIG";

/// The variable that sets the key `path`.
pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_uppercase())
}

/// Reads the variables that are ours. An empty one counts as not set, because container tools pass
/// on unset variables that way; `[]` empties a list.
pub(super) fn read(variables: &[(OsString, OsString)], problems: &mut Vec<Problem>) -> Document {
    let mut document = Document::default();
    for (name, text) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        if name == CONFIG || text.is_empty() {
            continue;
        }
        let origin = Origin::Environment(name.to_owned());
        let Some(key) = KEYS.iter().find(|key| variable(key.path) == name) else {
            problems.extend(unknown(name, &origin));
            continue;
        };
        let Some(text) = text.to_str() else {
            problems.push(Problem::new(
                &origin,
                key.path,
                "is not UTF-8",
                "write it as UTF-8",
            ));
            continue;
        };
        match Setting::from_text(key, text, &origin) {
            Ok(setting) => document.set(key, setting),
            Err(found) => problems.extend(found),
        }
    }
    document
}

/// An error if `name` was meant for us. Kubernetes sets `TURNSERVER_PORT` and the like for a
/// service named turnserver, so an unknown name as such is none.
fn unknown(name: &str, origin: &Origin) -> Option<Problem> {
    let path = name.strip_prefix(PREFIX)?.replace("__", ".").to_lowercase();
    // One underscore where two are needed is the mistake to expect.
    let flat = path.replace('.', "_");
    let near = KEYS
        .iter()
        .map(|key| key.path)
        .find(|known| known.replace('.', "_") == flat)
        .or_else(|| suggest::nearest(&path, KEYS.iter().map(|key| key.path)));
    let meant = near.is_some() || path.contains('.') || schema::is_section(&path);
    let remedy = match near {
        Some(known) => format!("did you mean {}?", variable(known)),
        None => "unset it: names are TURNSERVER_SECTION__KEY".to_owned(),
    };
    meant.then(|| Problem::new(origin, "", "is no configuration key", remedy))
}
