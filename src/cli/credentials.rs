//! `turnstone credentials`: time-limited credentials, as a back end would make them.

use std::fmt;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::builder::NonEmptyStringValueParser;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use crate::auth::rest_password;
use crate::config::{self, Config, Host, first_run};

use super::sources::CommonArgs;
use super::{BAD_CONFIGURATION, output};

/// Make time-limited credentials for a client
///
/// They are made from the first secret of the configuration, or from the one that run made when
/// nothing is configured. No server needs to be told.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: CommonArgs,

    /// Whom they are for: any text, shown in the server's log
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    user: String,

    /// How long they are good for, in seconds, at most a year
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400,
          value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    ttl: u64,

    /// A URI of the server, instead of those that follow from the configuration. May be repeated
    #[arg(long, value_name = "URI")]
    uri: Vec<String>,

    /// Print one JSON object with username, password, ttl and uris
    #[arg(long, conflicts_with = "ice_servers")]
    json: bool,

    /// Print a JSON array for the iceServers of a browser's RTCPeerConnection
    #[arg(long)]
    ice_servers: bool,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        // The server may be another machine: its addresses need not be ours.
        let host = Host::probe().of_any_machine();
        let mut config = match config::load(&self.common.into_sources(), &host) {
            Ok(loaded) => loaded.config,
            Err(problems) => return output::refuse(&problems),
        };
        if let Err(message) = add_kept_secret(&mut config) {
            output::complain(message);
            return ExitCode::from(BAD_CONFIGURATION);
        }
        let secret = config
            .auth
            .issuing_secret()
            .expect("one was just made sure of");
        let mut credentials = Credentials::new(&config, secret, &self.user, self.ttl, unix_time());
        if !self.uri.is_empty() {
            credentials.uris = self.uri;
        }
        if self.json {
            output::print(to_json(&credentials))
        } else if self.ice_servers {
            output::print(credentials.ice_servers())
        } else {
            output::print(credentials)
        }
    }
}

/// Falls back on the secret of the first run; makes none.
fn add_kept_secret(config: &mut Config) -> Result<(), String> {
    if config.auth.issuing_secret().is_some() {
        return Ok(());
    }
    if !config.auth.users.is_empty() {
        return Err(
            "the configuration has users only, and time-limited credentials are made from \
                    a secret; add auth.static_auth_secret, or give the clients a user's name and \
                    password"
                .to_owned(),
        );
    }
    match first_run::existing() {
        Ok(Some(kept)) => config.auth.static_auth_secrets.push(kept.secret),
        Ok(None) => {
            return Err(
                "there is no secret; name one with --static-auth-secret-file or in the \
                        configuration, or start turnstone run once as this user, which makes one"
                    .to_owned(),
            );
        }
        Err(error) => return Err(error.to_string()),
    }
    Ok(())
}

/// What a client needs to relay. The fields are those of the TURN REST API draft
/// (draft-uberti-behave-turn-rest), and so is their order.
#[derive(Serialize)]
pub(super) struct Credentials {
    username: String,
    #[serde(serialize_with = "as_text")]
    password: Zeroizing<String>,
    /// In seconds.
    ttl: u64,
    pub(super) uris: Vec<String>,
}

/// An element of `iceServers`, as browsers take it.
#[derive(Serialize)]
struct IceServer<'a> {
    urls: &'a [String],
    username: &'a str,
    credential: &'a str,
}

impl Credentials {
    /// `ttl` in seconds; `now` in seconds since 1970.
    pub(super) fn new(config: &Config, secret: &str, user: &str, ttl: u64, now: u64) -> Self {
        let separator = config.auth.rest_separator;
        let (username, password) = rest_credentials(secret, user, now + ttl, separator);
        Self {
            username,
            password,
            ttl,
            uris: config.credentials.uris.clone(),
        }
    }

    /// The JSON of an `iceServers` array.
    pub(super) fn ice_servers(&self) -> String {
        to_json(&[IceServer {
            urls: &self.uris,
            username: &self.username,
            credential: &self.password,
        }])
    }
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "username: {}", self.username)?;
        writeln!(f, "password: {}", self.password.as_str())?;
        writeln!(f, "ttl: {}", self.ttl)?;
        write!(f, "uris: {}", self.uris.join(" "))
    }
}

/// Username and password of the TURN REST API: good until `expiry`, in seconds since 1970.
fn rest_credentials(
    secret: &str,
    user: &str,
    expiry: u64,
    separator: char,
) -> (String, Zeroizing<String>) {
    let username = format!("{expiry}{separator}{user}");
    let password = rest_password(secret, username.as_bytes());
    (username, password)
}

fn as_text<S: Serializer>(text: &Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

/// Seconds since 1970.
pub(super) fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn to_json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string_pretty(value).expect("texts and numbers have a JSON form")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_the_credentials_of_the_rest_api() {
        let (username, password) = rest_credentials("north", "alice", 1_767_225_600, ':');
        assert_eq!(username, "1767225600:alice");
        assert_eq!(*password, "qnVCfmDqv+5N7tpxKH0liO/huIU=");
    }
}
