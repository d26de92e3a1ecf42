//! The protocol core without sockets, under a fake clock: a seeded simulation of clients, peers and
//! a bad network, and stories about what the clock or the host does that real sockets cannot show
//! quickly.
//!
//! `SIM_SEED` runs one seed, `SIM_SEEDS` so many of them, `SIM_STEPS` makes each longer.
#![allow(
    clippy::unwrap_used,
    reason = "a test that unwraps says where it failed"
)]

mod client;
mod host;
mod message;
mod policy;
mod scenario;
mod world;
