//! The options that several commands share: which configuration, and which secret.

use std::env;
use std::path::PathBuf;

use clap::Args;
use zeroize::Zeroizing;

use crate::config::{Environment, Flag, Sources, admin_socket, system_file};

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
        Sources {
            file: self.config.or_else(default_file),
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

/// The configuration file that is read when no option names one.
fn default_file() -> Option<PathBuf> {
    let variable = env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty());
    variable.map(PathBuf::from).or_else(system_file)
}

/// The operators' socket that the configuration names, if this user may read it.
pub(super) fn configured_admin_socket() -> Option<PathBuf> {
    let sources = Sources {
        file: default_file(),
        environment: Environment::of_process(),
        flags: vec![],
    };
    admin_socket(&sources)
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
