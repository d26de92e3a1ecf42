//! Sending: many datagrams of one socket in one system call, or one alone.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    ops::Range,
    os::fd::AsRawFd,
    ptr,
};

use super::{
    Batch, UdpSocket,
    address::RawAddress,
    batch::{EMPTY_IOVEC, empty_header},
    check,
    control::ControlBuffer,
    may_be_pending, take_pending_error,
};

/// The IP header fields of a datagram to send; the default leaves all to the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeaderFields {
    /// The address to send from: on a wildcard socket, the one that the request was sent to
    /// (RFC 8489 section 6.3.1.2). Ignored if not of the destination's family.
    pub source: Option<IpAddr>,
    /// IPv4 TTL or IPv6 hop limit. The kernel refuses an IPv4 TTL of 0 (`EINVAL`).
    pub ttl: Option<u8>,
    /// IPv4 TOS or IPv6 traffic class octet: DSCP and ECN. 0 is the kernel's default.
    pub tos: u8,
}

/// A datagram to send from where it lies in a [`Batch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// The slot.
    pub slot: usize,
    /// The octets of the slot to send; the payload begins at [`HEADROOM`](super::HEADROOM).
    pub range: Range<usize>,
    /// Where to.
    pub to: SocketAddr,
    /// With which IP header fields.
    pub fields: HeaderFields,
}

/// What became of the datagrams of one flush.
#[derive(Debug, Default)]
pub struct Flushed {
    /// Datagrams that the kernel has taken.
    pub sent: usize,
    /// Datagrams that it has not, and that are gone.
    pub dropped: usize,
    /// Why, of the last one dropped.
    pub last_error: Option<io::Error>,
}

/// Datagrams waiting to leave by one socket.
pub struct SendQueue {
    datagrams: Vec<Datagram>,
    // One of each per datagram, written just before each call.
    headers: Box<[libc::mmsghdr]>,
    iovecs: Box<[libc::iovec]>,
    names: Box<[RawAddress]>,
    controls: Box<[ControlBuffer]>,
}

// SAFETY: the raw pointers are those in `headers` and `iovecs`. They are written before each system
// call and never followed outside of it.
unsafe impl Send for SendQueue {}

impl SendQueue {
    /// Makes room for `capacity` datagrams. The kernel takes 1024 in one call (`UIO_MAXIOV`).
    pub fn new(capacity: usize) -> Self {
        Self {
            datagrams: Vec::with_capacity(capacity),
            headers: vec![empty_header(); capacity].into(),
            iovecs: vec![EMPTY_IOVEC; capacity].into(),
            names: vec![RawAddress::unspecified(); capacity].into(),
            controls: vec![ControlBuffer::new(); capacity].into(),
        }
    }

    /// Datagrams waiting.
    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Whether the next [`push`](Self::push) would fail.
    pub fn is_full(&self) -> bool {
        self.len() == self.headers.len()
    }

    /// Adds a datagram.
    ///
    /// # Errors
    ///
    /// Gives it back if the queue is full.
    pub fn push(&mut self, datagram: Datagram) -> Result<(), Datagram> {
        if self.is_full() {
            return Err(datagram);
        }
        self.datagrams.push(datagram);
        Ok(())
    }

    /// Sends what waits by `socket` and empties the queue. `batch` is the one that the datagrams
    /// lie in.
    ///
    /// It never blocks and nothing is kept for later: a datagram that the kernel refuses is
    /// dropped, and if the refusal is for want of room, so are all behind it.
    ///
    /// # Panics
    ///
    /// If a datagram's slot or range is not in `batch`.
    pub fn flush(&mut self, socket: &UdpSocket, batch: &Batch) -> Flushed {
        let total = self.prepare(socket, batch);
        let mut flushed = Flushed::default();
        let mut next = 0;
        let mut retried = false;
        while next < total {
            let headers = &mut self.headers[next..total];
            // SAFETY: `prepare` has pointed each of these headers at a destination, control data
            // and a range of `batch`, with their lengths; the kernel only reads them.
            let result = check(unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    headers.as_mut_ptr(),
                    headers.len() as libc::c_uint,
                    (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
                )
            });
            let error = match result {
                Ok(count) => {
                    flushed.sent += count as usize;
                    next += count as usize;
                    retried = false;
                    continue;
                }
                Err(error) => error,
            };
            // The error is the first datagram's own, or was pending and it never had its turn.
            let lost = match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => total - next,
                _ if may_be_pending(&error) && !retried => {
                    retried = true;
                    continue;
                }
                _ => 1,
            };
            next += lost;
            retried = false;
            flushed.dropped += lost;
            flushed.last_error = Some(error);
        }
        self.datagrams.clear();
        flushed
    }

    /// Points a header at each datagram and returns how many there are.
    fn prepare(&mut self, socket: &UdpSocket, batch: &Batch) -> usize {
        for (index, datagram) in self.datagrams.iter().enumerate() {
            let octets = &batch.slot(datagram.slot)[datagram.range.clone()];
            self.iovecs[index] = read_only(octets);
            let control = &mut self.controls[index];
            let control_len = control.write(datagram.to, &datagram.fields);
            let name = &mut self.names[index];
            let header = &mut self.headers[index].msg_hdr;
            header.msg_namelen = name.encode(datagram.to, socket.is_v6());
            header.msg_name = ptr::from_mut(name).cast();
            header.msg_iov = ptr::from_mut(&mut self.iovecs[index]);
            header.msg_iovlen = 1;
            header.msg_control = control.as_mut_ptr();
            header.msg_controllen = control_len as _;
        }
        self.datagrams.len()
    }
}

impl fmt::Debug for SendQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.datagrams).finish()
    }
}

/// Sends one datagram at once.
///
/// # Errors
///
/// Those of sendmsg(2) that are about this datagram; a pending error of an earlier one is stepped
/// over.
pub fn send_one(
    socket: &UdpSocket,
    payload: &[u8],
    to: SocketAddr,
    fields: &HeaderFields,
) -> io::Result<()> {
    let mut control = ControlBuffer::new();
    let control_len = control.write(to, fields);
    let mut send = || sendmsg(socket, payload, to, &mut control, control_len);
    send().or_else(|error| {
        if may_be_pending(&error) {
            send()
        } else {
            Err(error)
        }
    })
}

/// As [`send_one`], but to an IPv4 address and with the don't-fragment bit: the datagram travels
/// whole or not at all (DONT-FRAGMENT, RFC 8656 section 18.10). IPv6 has no such bit.
///
/// # Errors
///
/// As for [`send_one`]. `EMSGSIZE` if it exceeds the MTU known for the destination, which
/// [`read_error`](super::read_error) then tells.
pub fn send_one_dont_fragment(
    socket: &UdpSocket,
    payload: &[u8],
    to: SocketAddr,
    fields: &HeaderFields,
) -> io::Result<()> {
    // Not by trying again: each try that is too long leaves an entry in the error queue.
    take_pending_error(socket)?;
    let mut control = ControlBuffer::new();
    let control_len = control.write(to, fields);
    socket.with_dont_fragment_v4(|| sendmsg(socket, payload, to, &mut control, control_len))
}

fn sendmsg(
    socket: &UdpSocket,
    payload: &[u8],
    to: SocketAddr,
    control: &mut ControlBuffer,
    control_len: usize,
) -> io::Result<()> {
    let mut name = RawAddress::unspecified();
    let mut iovec = read_only(payload);
    let mut header = empty_header().msg_hdr;
    header.msg_namelen = name.encode(to, socket.is_v6());
    header.msg_name = ptr::from_mut(&mut name).cast();
    header.msg_iov = ptr::from_mut(&mut iovec);
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr();
    header.msg_controllen = control_len as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    loop {
        // SAFETY: the header points at a destination, control data and payload, with their
        // lengths; the kernel only reads them.
        if unsafe { libc::sendmsg(socket.as_raw_fd(), &header, flags) } != -1 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// An iovec of octets that the kernel is to read.
fn read_only(octets: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: octets.as_ptr().cast_mut().cast(),
        iov_len: octets.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            BufferSizes, HEADROOM, SLOT_LEN,
            testing::{closed_port, listener, on_loopback_with_mtu, receive, relay},
        },
        *,
    };

    /// A batch whose slots hold their own index at the start of the payload.
    fn numbered(slots: usize) -> Batch {
        let mut batch = Batch::new(slots);
        for slot in 0..slots {
            batch.slot_mut(slot)[HEADROOM] = slot as u8;
        }
        batch
    }

    fn datagram(slot: usize, to: SocketAddr) -> Datagram {
        let fields = HeaderFields::default();
        Datagram {
            slot,
            range: HEADROOM..HEADROOM + 1,
            to,
            fields,
        }
    }

    fn arrived(socket: &UdpSocket, count: usize) -> Vec<u8> {
        let mut batch = Batch::new(count + 1);
        receive(&mut batch, socket, count);
        (0..count).map(|slot| batch.payload(slot)[0]).collect()
    }

    #[test]
    fn a_flush_continues_past_what_cannot_be_sent() {
        for ip in ["127.0.0.1:0", "[::1]:0"] {
            let (from, to) = (listener(ip), relay(ip));
            let batch = numbered(6);
            let mut queue = SendQueue::new(6);
            let to_addr = to.local_addr();
            queue
                .push(datagram(0, SocketAddr::new(to_addr.ip(), 0)))
                .unwrap();
            queue.push(datagram(1, to_addr)).unwrap();
            queue
                .push(Datagram {
                    range: 0..SLOT_LEN,
                    ..datagram(2, to_addr)
                })
                .unwrap();
            queue.push(datagram(3, to_addr)).unwrap();
            queue.push(datagram(4, to_addr)).unwrap();
            queue
                .push(datagram(5, SocketAddr::new(to_addr.ip(), 0)))
                .unwrap();
            assert!(queue.is_full());
            assert_eq!(queue.push(datagram(0, to_addr)), Err(datagram(0, to_addr)));

            let flushed = queue.flush(&from, &batch);
            assert_eq!((flushed.sent, flushed.dropped), (3, 3));
            assert_eq!(
                flushed.last_error.unwrap().kind(),
                io::ErrorKind::InvalidInput
            );
            assert!(queue.is_empty());
            assert_eq!(arrived(&to, 3), [1, 3, 4]);
        }
    }

    #[test]
    fn an_icmp_error_of_one_peer_costs_the_others_nothing() {
        let (from, to) = (relay("127.0.0.1:0"), relay("127.0.0.1:0"));
        let closed = closed_port("127.0.0.1:0");
        let batch = numbered(4);
        let mut queue = SendQueue::new(4);
        for (slot, to) in [closed, to.local_addr(), closed, to.local_addr()]
            .into_iter()
            .enumerate()
        {
            queue.push(datagram(slot, to)).unwrap();
        }
        let flushed = queue.flush(&from, &batch);
        assert_eq!((flushed.sent, flushed.dropped), (4, 0), "{flushed:?}");
        assert_eq!(arrived(&to, 2), [1, 3]);

        send_one(&from, &[9], closed, &HeaderFields::default()).unwrap();
        send_one(&from, &[8], to.local_addr(), &HeaderFields::default()).unwrap();
        assert_eq!(arrived(&to, 1), [8]);
    }

    #[test]
    fn a_family_that_the_socket_lacks_is_refused() {
        let from = relay("127.0.0.1:0");
        let to = "[::1]:9".parse().unwrap();
        let error = send_one(&from, b"x", to, &HeaderFields::default()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EAFNOSUPPORT));
    }

    #[test]
    fn nothing_is_kept_when_all_is_refused() {
        let (from, to) = (relay("127.0.0.1:0"), relay("127.0.0.1:0"));
        let batch = numbered(2);
        let mut queue = SendQueue::new(2);
        let fields = HeaderFields {
            ttl: Some(0),
            ..Default::default()
        };
        for slot in 0..2 {
            queue
                .push(Datagram {
                    fields,
                    ..datagram(slot, to.local_addr())
                })
                .unwrap();
        }
        let flushed = queue.flush(&from, &batch);
        assert_eq!((flushed.sent, flushed.dropped), (0, 2));
        assert_eq!(queue.flush(&from, &batch).dropped, 0);
    }

    #[test]
    fn want_of_room_drops_the_rest() {
        on_loopback_with_mtu(1300, || {
            // The fragments of 60,000 octets do not fit the least send buffer: ENOBUFS.
            let buffers = BufferSizes {
                send: Some(1),
                ..Default::default()
            };
            let from = UdpSocket::relay("127.0.0.1:0".parse().unwrap(), buffers).unwrap();
            let to = relay("127.0.0.1:0");
            let batch = numbered(3);
            let mut queue = SendQueue::new(3);
            let to_addr = to.local_addr();
            queue.push(datagram(0, to_addr)).unwrap();
            queue
                .push(Datagram {
                    range: 0..60_000,
                    ..datagram(1, to_addr)
                })
                .unwrap();
            queue.push(datagram(2, to_addr)).unwrap();
            let flushed = queue.flush(&from, &batch);
            assert_eq!((flushed.sent, flushed.dropped), (1, 2));
            assert_eq!(
                flushed.last_error.unwrap().raw_os_error(),
                Some(libc::ENOBUFS)
            );
        });
    }
}
