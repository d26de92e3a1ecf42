//! The codec against published vectors, against everything near them, against arbitrary input, and
//! against two codecs that other people wrote.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agreement;
mod invariants;
mod mutations;
mod oracle_stun;
mod oracle_stun_types;
mod published;
mod rebuild;
mod round_trip;
mod strategies;
mod stream;
mod vectors;
