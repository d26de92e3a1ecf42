#![doc = include_str!("ARCHITECTURE.md")]

// The protocol, which is built always.

// Who is asking: long-term and time-limited credentials.
pub mod auth;
// The TURN protocol as a state machine without sockets, threads or clocks.
pub mod turn;
// Bytes and their meaning: STUN messages, ChannelData and frames.
pub mod wire;

// What touches the operating system.

// Certificates from an ACME server.
#[cfg(feature = "server")]
pub mod acme;
// HTTP for operators.
#[cfg(feature = "server")]
pub mod admin;
// The command line, one file a command.
#[cfg(feature = "server")]
pub mod cli;
// What the operator wants, read from a file, the environment and options.
#[cfg(feature = "server")]
pub mod config;
// Sockets, threads and clocks: the host of the protocol.
#[cfg(feature = "server")]
pub mod engine;
// What is counted, for whoever watches the server.
#[cfg(feature = "server")]
pub mod metrics;
// Events as signed HTTP requests.
#[cfg(feature = "server")]
pub mod hooks;
// Requests to the servers of others.
#[cfg(feature = "server")]
pub mod https;
// Log lines to standard error.
#[cfg(feature = "server")]
pub mod log;
// What this process may still do once it serves.
#[cfg(feature = "server")]
pub mod process;
// The directories of the server's own files.
#[cfg(feature = "server")]
pub mod state;
// Certificates, and the configuration of TLS.
#[cfg(feature = "server")]
pub mod tls;
