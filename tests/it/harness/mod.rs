//! What every test needs: a server in this process, clients and peers on loopback sockets.
//!
//! Requests are written and replies are read here byte by byte, without the server's own codec, so
//! that a mistake of the codec is not made twice.
//!
//! Nothing sleeps to let something happen. That something does *not* happen is seen by what happens next on the same socket:
//! the server takes the datagrams of a socket in their order, so the reply to a later Binding
//! request proves that what came before it was not answered, and a later datagram that arrives
//! proves that the earlier one was not relayed.

pub(crate) mod attribute;
mod call;
mod client;
#[cfg(feature = "dtls")]
pub(crate) mod dtls;
mod http;
mod message;
mod peer;
mod process;
mod server;
mod strangers;
pub(crate) mod tls;

pub(crate) use call::Call;
pub(crate) use client::{Client, Received, Via};
pub(crate) use http::{Answer, ask_socket, ask_tcp};
pub(crate) use message::{Class, Message, Packet, method, parse_attributes, random_id};
pub(crate) use peer::Peer;
pub(crate) use process::Process;
pub(crate) use server::{NOBODY, REALM, Setup, TestServer, own_ipv4, unix_s};
pub(crate) use strangers::{Flood, Strangers};

use std::io;
use std::time::{Duration, Instant};

/// How long anything may take that is bound to happen. Only a failing test waits for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Does it again when a signal came in between: a debugger's, or of whoever stops the machine.
pub(crate) fn uninterrupted<T>(mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match act() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Waits for something that happens without a message about it.
#[track_caller]
pub(crate) fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !happened() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}
