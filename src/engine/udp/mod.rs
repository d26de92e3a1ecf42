//! UDP for the engine: every datagram enters and leaves through here.
//!
//! [`sys`] owns the system calls. It knows datagrams, addresses and header fields, and nothing of
//! STUN, TURN, workers or policy.

#[allow(
    unsafe_code,
    reason = "the socket calls that the standard library does not have"
)]
pub mod sys;
