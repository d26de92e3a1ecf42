//! The environment overlay: `TURNSERVER_AUTH__STATIC_AUTH_SECRET` is `auth.static_auth_secret`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fmt};

use zeroize::Zeroize;

use super::document::{Document, Item, Setting, Value};
use super::error::{Origin, Problem};
use super::schema::{self, KEYS};
use super::suggest;

const PREFIX: &str = "TURNSERVER_";

/// The names of the credentials that hold a secret, and the keys that they are.
pub(super) const CREDENTIALS: [(&str, &str); 2] = [
    ("static_auth_secret", "auth.static_auth_secret_file"),
    ("nonce_secret", "auth.nonce_secret_file"),
];

const ADMIN_SOCKET_KEY: &str = "admin.socket";

/// Names the configuration file; the command line reads it.
const CONFIG: &str = "TURNSERVER_CONFIG";

/// Where systemd puts the credentials of a unit (systemd.exec(5)).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Where systemd lets a unit put what lives as long as it (systemd.exec(5)); it may name several
/// directories, with colons between.
const RUNTIME_DIRECTORY: &str = "RUNTIME_DIRECTORY";

/// Where a user puts the like.
const XDG_RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";

/// The directory of the packaged unit, which other starts as root use too.
const SYSTEM_RUNTIME: &str = "/run/turnstone";

/// The operators' socket in one of them.
const ADMIN_SOCKET: &str = "admin.sock";

/// The variables of a process that a configuration is made of. Erased when dropped, and hidden in
/// `Debug`.
#[derive(Default)]
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// Those of this process.
    pub fn of_process() -> Self {
        let places = [CREDENTIALS_DIRECTORY, RUNTIME_DIRECTORY, XDG_RUNTIME_DIR];
        let ours = |name: &OsString| {
            places.iter().any(|place| name == place)
                || name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
        };
        Self(env::vars_os().filter(|(name, _)| ours(name)).collect())
    }

    /// Adds a variable.
    pub fn push(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.0.push((name.into(), value.into()));
    }

    /// Where the credentials of this unit are.
    fn credentials_directory(&self) -> Option<PathBuf> {
        let variables = self.0.iter();
        let mut directories = variables.filter(|(name, _)| name == CREDENTIALS_DIRECTORY);
        let (_, path) = directories.next_back()?;
        Some(Path::new(path).components().collect())
    }

    fn get(&self, name: &str) -> Option<&OsString> {
        let mut variables = self.0.iter().rev();
        let (_, value) = variables.find(|(known, _)| known == name)?;
        (!value.is_empty()).then_some(value)
    }

    /// Where the operators' socket is, unless the configuration says otherwise.
    pub(super) fn admin_socket(&self) -> Option<PathBuf> {
        if let Some(directories) = self.get(RUNTIME_DIRECTORY) {
            let first = directories.to_str()?.split(':').next()?;
            return Some(Path::new(first).join(ADMIN_SOCKET));
        }
        if rustix::process::geteuid().is_root() {
            return Some(Path::new(SYSTEM_RUNTIME).join(ADMIN_SOCKET));
        }
        let directory = Path::new(self.get(XDG_RUNTIME_DIR)?).join("turnstone");
        Some(directory.join(ADMIN_SOCKET))
    }

    /// Where the socket of a server on this machine may be that this process was not started with:
    /// its user's, and the system's.
    pub fn admin_sockets(&self) -> Vec<PathBuf> {
        let system = Path::new(SYSTEM_RUNTIME).join(ADMIN_SOCKET);
        let mut paths: Vec<PathBuf> = self.admin_socket().into_iter().collect();
        if !paths.contains(&system) {
            paths.push(system);
        }
        paths
    }

    /// The file of a credential of this unit, if there is one. One that cannot be looked at is: who
    /// reads it will say why not.
    fn credential(&self, name: &str) -> Option<PathBuf> {
        let path = self.credentials_directory()?.join(name);
        path.try_exists().unwrap_or(true).then_some(path)
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        for (_, value) in &mut self.0 {
            std::mem::take(value).into_encoded_bytes().zeroize();
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

/// The secrets that systemd hands to this unit (`LoadCredential=static_auth_secret:FILE`), as the
/// lowest layer: they are used where the configuration names none.
pub(super) fn credentials(variables: &Environment) -> Document {
    let mut document = Document::default();
    for (name, key) in CREDENTIALS {
        let key = schema::find(key).expect("the schema has this key");
        if let Some(path) = variables.credential(name) {
            let origin = Origin::Environment(CREDENTIALS_DIRECTORY.to_owned());
            let item = Item::new(path.to_string_lossy(), &origin);
            let value = Value::List(vec![item]);
            document.set(key, Setting { value, origin });
        }
    }
    document
}

/// Whether a value is the path of a credential.
pub(super) fn is_credential(origin: &Origin) -> bool {
    *origin == Origin::Environment(CREDENTIALS_DIRECTORY.to_owned())
}

/// For a server without secrets and users: that a unit with credentials has none of ours is likely
/// a misspelt name.
pub(super) fn missing_credential(variables: &Environment) -> Option<Problem> {
    let directory = variables.credentials_directory()?;
    let mut names = CREDENTIALS.iter();
    if names.any(|(name, _)| variables.credential(name).is_some()) {
        return None;
    }
    let origin = Origin::Environment(CREDENTIALS_DIRECTORY.to_owned());
    let (name, _) = CREDENTIALS[0];
    let what = format!("no credential {name} in {}", directory.display());
    let remedy = format!("write LoadCredential={name}:FILE in the unit, or configure a secret");
    Some(Problem::new(&origin, "", what, remedy))
}

/// The place of the operators' socket, as the lowest layer: it is used where the configuration names
/// none.
pub(super) fn places(variables: &Environment) -> Document {
    let mut document = Document::default();
    let key = schema::find(ADMIN_SOCKET_KEY).expect("the schema has this key");
    if let Some(path) = variables.admin_socket() {
        let origin = Origin::Default;
        let value = Value::Text(Item::new(path.to_string_lossy(), &origin));
        document.set(key, Setting { value, origin });
    }
    document
}

/// The variable that sets the key `path`.
pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_uppercase())
}

/// Reads the variables that are ours. An empty one counts as not set, because container tools pass
/// on unset variables that way; `[]` empties a list.
pub(super) fn read(variables: &Environment, problems: &mut Vec<Problem>) -> Document {
    let mut document = Document::default();
    for (name, text) in &variables.0 {
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
        if let Some(setting) = Setting::from_text(key, text, &origin, problems) {
            document.set(key, setting);
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
