//! The command line: one file a command, each a set of arguments with a `run` that ends in an exit
//! code.
//!
//! A further command is a file here, a variant of `Command` and an arm in [`main`].

mod acme;
mod admin_client;
mod allocations;
mod certificates;
pub mod check;
mod check_config;
mod credentials;
mod doctor;
mod drain;
mod drain_status;
mod end;
mod file_limit;
mod first_run;
mod hooks;
mod http;
mod import;
mod info;
mod log_level;
mod output;
mod own_networks;
mod reload;
mod reloader;
mod revoke;
mod revoked;
mod run;
mod serve;
mod settings;
mod show;
mod signals;
mod sources;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::process;

/// Bad usage or a bad configuration; clap ends with the same code. Success is 0, and 1 is a failure
/// while running.
const BAD_CONFIGURATION: u8 = 2;

/// It is done, and a restart of the server would undo it.
const NOT_KEPT: u8 = 3;

const AFTER_HELP: &str = "\
turnstone alone is turnstone run. Without a configuration it listens on port 3478, makes a secret,
keeps it, and prints what to put into a browser's iceServers.

Configuration: --config FILE, else $TURNSERVER_CONFIG, else /etc/turnstone/turnserver.toml if there
is one, else the defaults. Variables TURNSERVER_SECTION__KEY override the file, options override
both; a list or table replaces the one below it whole. turnserver.toml.example has every key.

Exit codes:
  0  success
  1  failure while running; a check or the doctor found a failure; an import lacks a line; an address
     is not there yet
  2  bad usage or bad configuration";

/// A STUN/TURN relay server for WebRTC.
#[derive(Parser)]
#[command(name = "turnstone", version, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    run: run::Args,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::CheckArgs),
    CheckConfig(check_config::Args),
    Credentials(credentials::Args),
    Doctor(doctor::Args),
    Import(import::Args),
    Info(info::Args),
    Allocations(allocations::Args),
    Show(show::Args),
    End(end::Args),
    Reload(reload::Args),
    Revoke(revoke::Args),
    Drain(drain::Args),
    LogLevel(log_level::Args),
}

/// Parses the process's arguments and does what they say.
pub fn main() -> ExitCode {
    // The arguments and the environment may be secrets, and most commands read some.
    process::hide_memory();
    let Cli { command, run } = Cli::parse();
    let command = command.unwrap_or(Command::Run(run));
    match command {
        Command::Run(args) => args.run(),
        Command::Check(args) => check::run(&args),
        Command::CheckConfig(args) => args.run(),
        Command::Credentials(args) => args.run(),
        Command::Doctor(args) => args.run(),
        Command::Import(args) => args.run(),
        Command::Info(args) => args.run(),
        Command::Allocations(args) => args.run(),
        Command::Show(args) => args.run(),
        Command::End(args) => args.run(),
        Command::Reload(args) => args.run(),
        Command::Revoke(args) => args.run(),
        Command::Drain(args) => args.run(),
        Command::LogLevel(args) => args.run(),
    }
}
