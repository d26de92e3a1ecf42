//! The options that several commands share: which configuration, and which secret.

use std::env;
use std::path::PathBuf;

use clap::Args;
use zeroize::Zeroizing;

use crate::config::{Environment, Flag, Sources, system_file};

/// Names the configuration file when `--config` does not.
const CONFIG_VARIABLE: &str = "TURNSERVER_CONFIG";

/// Which configuration file, and secrets instead of those in it.
#[derive(Args)]
pub(super) struct CommonArgs {
    /// The configuration file [env: TURNSERVER_CONFIG] [default: /etc/turnstone/turnserver.toml if
    /// it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The secret shared with the back end, instead of the configured ones. Others on this machine
    /// can see it in the process list: prefer the file. May be repeated
    #[arg(long, value_name = "SECRET")]
    static_auth_secret: Vec<String>,

    /// A file with such a secret. May be repeated
    #[arg(long, value_name = "FILE")]
    static_auth_secret_file: Vec<String>,
}

impl CommonArgs {
    /// The sources, to which a command may add flags.
    pub(super) fn into_sources(self) -> Sources {
        let from_variable = || env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty());
        let file = self.config.or_else(|| from_variable().map(PathBuf::from));
        Sources {
            file: file.or_else(system_file),
            environment: Environment::of_process(),
            flags: vec![
                flag(
                    "auth.static_auth_secret",
                    "--static-auth-secret",
                    self.static_auth_secret,
                ),
                flag(
                    "auth.static_auth_secret_file",
                    "--static-auth-secret-file",
                    self.static_auth_secret_file,
                ),
            ],
        }
    }
}

/// An option whose values are not pairs, or pairs with `=`.
pub(super) fn flag(key: &'static str, name: &'static str, values: Vec<String>) -> Flag {
    Flag {
        key,
        name,
        values: values.into_iter().map(Zeroizing::new).collect(),
        separator: '=',
    }
}
