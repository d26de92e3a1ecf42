//! turnstone: a STUN/TURN relay server for WebRTC (RFC 8489, RFC 8656).

pub mod auth;
pub mod turn;
pub mod wire;

#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod engine;
#[cfg(feature = "server")]
pub mod log;
