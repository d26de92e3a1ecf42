//! Behaviour over real sockets on loopback. One module per subject.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod harness;

mod allocate;
mod attacks;
mod authentication;
mod binding;
mod channel;
mod check;
mod cli;
mod fingerprint;
mod five_tuple;
mod foreign;
mod framing;
mod host;
mod icmp;
mod ip_header;
mod logging;
mod malformed;
mod permission;
mod refresh;
mod rest;
mod retransmission;
mod send_data;
mod stream;
