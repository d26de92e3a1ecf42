//! `turnstone run`: the server.

use std::io;
use std::process::ExitCode;

use crate::config::first_run::{self as secrets, FirstRunSecret};
use crate::config::{self, Config, Flag, Host, SecretPlace, SecretSource, Sources};
use crate::log;

use super::serve::{Plan, serve};
use super::sources::{CommonArgs, flag};
use super::{first_run, output};

/// Run the server (the default command)
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: CommonArgs,

    /// The realm of all credentials, by convention your domain
    #[arg(long)]
    realm: Option<String>,

    /// Where clients connect, UDP and TCP, e.g. 0.0.0.0:3478. May be repeated
    #[arg(long, value_name = "ADDRESS:PORT", value_delimiter = ',')]
    listen: Vec<String>,

    /// An address of this machine to relay from. May be repeated
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    relay_address: Vec<String>,

    /// The public address of a relay address behind 1:1 NAT; RELAY= may be left out when there is
    /// one relay address of the family. May be repeated
    #[arg(long, value_name = "[RELAY=]ADDRESS", value_delimiter = ',')]
    external_address: Vec<String>,

    /// The PEM file with the certificate for TLS and its chain, which needs --key
    #[arg(long, value_name = "FILE")]
    cert: Option<String>,

    /// The PEM file with the private key of that certificate
    #[arg(long, value_name = "FILE")]
    key: Option<String>,

    /// A fixed user. Others on this machine can see the password in the process list: prefer the
    /// configuration file. May be repeated
    #[arg(long, value_name = "NAME:PASSWORD")]
    user: Vec<String>,

    /// A private network that may be relayed to. May be repeated
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    allow_peer: Vec<String>,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        let host = Host::probe();
        let sources = self.into_sources();
        let loaded = match config::load(&sources, &host) {
            Ok(loaded) => loaded,
            Err(problems) => {
                let refused = output::refuse(&problems);
                // The unit starts again what ended so.
                let code = if problems.may_pass() {
                    ExitCode::FAILURE
                } else {
                    refused
                };
                return code;
            }
        };
        let mut config = loaded.config;
        let mut places = loaded.secrets;
        let mut log = log::init(&config.log);
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let mut kept = None;
        if config.auth.is_empty() {
            match kept_secret(&mut config) {
                Ok(secret) => {
                    places.push(SecretSource {
                        key: "auth.static_auth_secret",
                        place: SecretPlace::File(secret.path.clone()),
                    });
                    kept = Some(secret);
                }
                Err(error) => {
                    tracing::error!("{error}");
                    return ExitCode::FAILURE;
                }
            }
        }
        let plan = Plan {
            config,
            secrets: places,
            sources,
            files: loaded.files,
            host,
            kept_secret: kept.as_ref().map(|kept| kept.secret.clone()),
        };
        serve(plan, &mut log, |config| {
            if let Some(kept) = kept {
                explain(config, &kept);
            }
        })
    }

    /// The sources, options included.
    pub(super) fn into_sources(self) -> Sources {
        let mut sources = self.common.into_sources();
        sources.flags.extend([
            flag("realm", "--realm", self.realm.into_iter().collect()),
            flag("listen.udp", "--listen", self.listen.clone()),
            flag("listen.tcp", "--listen", self.listen),
            flag("relay.addresses", "--relay-address", self.relay_address),
            flag(
                "relay.external",
                "--external-address",
                self.external_address,
            ),
            flag("tls.cert", "--cert", self.cert.into_iter().collect()),
            flag("tls.key", "--key", self.key.into_iter().collect()),
            flag("peers.allow", "--allow-peer", self.allow_peer),
            Flag {
                separator: ':',
                ..flag("auth.users", "--user", self.user)
            },
        ]);
        sources
    }
}

/// Nothing starts open: a server without credentials gets a secret of its own.
fn kept_secret(config: &mut Config) -> Result<FirstRunSecret, secrets::Error> {
    let kept = secrets::secret()?;
    if kept.was_exposed {
        let path = kept.path.display();
        tracing::warn!("others could read {path}, which is mended; remove it to get a new secret");
    }
    config.auth.static_auth_secrets.push(kept.secret.clone());
    Ok(kept)
}

/// Tells the operator how to use that secret.
fn explain(config: &Config, kept: &FirstRunSecret) {
    // The journal is a log, and credentials are never in one.
    if log::is_journal(&io::stdout()) {
        let path = kept.path.display();
        tracing::info!(
            "no secret or user is configured: using the secret in {path}; turnstone credentials \
             makes credentials with it"
        );
    } else {
        // A server goes on without anybody who reads this.
        let _ = output::print(first_run::instructions(config, kept));
    }
}
