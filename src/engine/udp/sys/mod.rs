//! The UDP system calls of Linux that `std` does not have: `recvmmsg`, `sendmmsg`, per-datagram
//! header fields, the error queue, epoll.
//!
//! A worker receives from many sockets into one [`Batch`], lets the core decide where each slot
//! goes, and sends slots from where they lie through a [`SendQueue`]. Nothing here blocks, and
//! nothing allocates after construction.
//!
//! Addresses are canonical at this boundary, both ways: an IPv4 address is never seen as
//! `::ffff:a.b.c.d`, whatever the family of the socket.

mod address;
mod batch;
mod control;
mod epoll;
mod error_queue;
mod send;
mod socket;
#[cfg(test)]
mod testing;

pub use batch::{Batch, HEADROOM, PAYLOAD_MAX, Received, SLOT_LEN, TAILROOM};
pub use epoll::{EpollSet, Event, Events, Ready, WatchedSet};
pub use error_queue::{IcmpError, read_error, take_pending_error};
pub use send::{Datagram, Flushed, HeaderFields, SendQueue, send_one, send_one_dont_fragment};
pub use socket::{BufferSizes, ListenerOptions, UdpSocket, newly_dropped};

use std::io;

/// Turns the `-1` of a system call into the error of this thread.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Whether this can be the verdict on an *earlier* datagram: an ICMP error that waited on the
/// socket and is handed to whichever call comes next, which then did nothing.
///
/// These are the results of the kernel's `icmp_err_convert` tables (net/ipv4/icmp.c,
/// net/ipv6/icmp.c).
fn may_be_pending(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EACCES
                | libc::ECONNREFUSED
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::EMSGSIZE
                | libc::ENETUNREACH
                | libc::ENONET
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
                | libc::EPROTO
        )
    )
}
