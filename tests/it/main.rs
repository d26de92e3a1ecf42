//! Behaviour over real sockets on loopback. One module per subject.

mod harness;

mod authentication;
mod binding;
mod check;
mod cli;
mod fingerprint;
mod framing;
mod rest;
mod retransmission;
