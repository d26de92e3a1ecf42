//! What a server without configured credentials tells its operator: all that is needed to place a
//! call through it.

use std::fmt::{Display, Write};

use secrecy::ExposeSecret;

use crate::config::Config;
use crate::config::first_run::FirstRunSecret;

use super::credentials::{Credentials, unix_time};
use super::output::list;

/// How long the printed credentials are good for, in seconds.
const TTL_S: u64 = 24 * 3600;

/// Who they are for.
const USER: &str = "test";

/// The text. It contains working credentials: not for logs.
pub(super) fn instructions(config: &Config, kept: &FirstRunSecret) -> String {
    let credentials = Credentials::new(
        config,
        kept.secret.expose_secret(),
        USER,
        TTL_S,
        unix_time(),
    );
    let path = quoted(&kept.path.display().to_string());
    let age = if kept.created {
        "made now, kept for later starts"
    } else {
        "kept since an earlier start"
    };
    let mut text =
        String::from("No secret or user is configured: turnstone uses its own secret.\n\n");
    let mut row = |name: &str, value: &dyn Display| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<12}{value}");
    };
    row("realm", &config.realm);
    row("UDP", &list(&config.listen.udp));
    row("TCP", &list(&config.listen.tcp));
    if !config.listen.tls.is_empty() {
        row("TLS", &list(&config.listen.tls));
    }
    if !config.listen.dtls.is_empty() {
        row("DTLS", &list(&config.listen.dtls));
    }
    row(
        "relays from",
        &format_args!("{}, ports {}", relays(config), ports(config)),
    );
    row("secret", &format_args!("{path} ({age})"));
    let uri = credentials.uris.first().map_or("turn:", String::as_str);
    let uri = uri.split('?').next().unwrap_or(uri);
    let _ = write!(
        text,
        "\nFor the browser, with credentials that work for 24 hours:\n\n\
         {{ \"iceServers\": {} }}\n\n\
         Test it:\n\n  \
         turnstone check '{uri}' --static-auth-secret-file {path}\n\n\
         For your back end (TURN REST API): the secret is in the file above; a user name is \
         EXPIRY{}ID\nwith EXPIRY in Unix seconds, its password base64(HMAC-SHA1(secret, user \
         name)). Or let it call:\n\n  \
         turnstone credentials --user ID --ttl 600 --json\n",
        credentials.ice_servers(),
        config.auth.rest_separator,
    );
    text
}

fn relays(config: &Config) -> String {
    let addresses = config.relay.addresses.iter().map(|address| {
        let advertised = config.relay.advertised(*address);
        if advertised == *address {
            address.to_string()
        } else {
            format!("{address} (told as {advertised})")
        }
    });
    list(&addresses.collect::<Vec<_>>())
}

fn ports(config: &Config) -> String {
    format!(
        "{}-{}",
        config.relay.ports.start(),
        config.relay.ports.end()
    )
}

/// For a shell, without quotes where none are needed.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if path.chars().all(plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}
