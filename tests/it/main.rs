//! Behaviour over real sockets on loopback. One module per subject.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod harness;

mod acme;
mod admin;
mod allocate;
mod attacks;
mod authentication;
mod bandwidth;
mod binding;
mod certificates;
mod channel;
mod check;
mod cli;
mod confinement;
mod control;
mod credential_service;
mod dashboard;
mod doctor;
#[cfg(feature = "dtls")]
mod dtls;
mod fingerprint;
mod five_tuple;
mod flood;
mod foreign;
mod framing;
mod hooks;
mod host;
mod icmp;
mod import;
mod injection;
mod ip_header;
mod logging;
mod malformed;
mod metrics;
mod permission;
mod policy;
mod proxy;
mod refresh;
mod reload;
mod rest;
mod retransmission;
mod revocation;
mod secrets;
mod send_data;
mod slowloris;
mod strangers;
mod stream;
mod stream_limits;
mod tls;
mod web;
