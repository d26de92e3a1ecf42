//! Datagrams received together, each with room around it for headers.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::AsRawFd,
    ptr,
};

use super::{
    UdpSocket,
    address::RawAddress,
    check,
    control::{ControlBuffer, Fields},
    may_be_pending,
};

/// Octets free in front of each payload. The largest header ever written there is that of a Data
/// indication: 20 for STUN, 24 for an IPv6 XOR-PEER-ADDRESS, 4 for DATA (RFC 8656 section 11.4).
pub const HEADROOM: usize = 64;

/// Octets of room for one payload: more than a UDP datagram can carry (65,507 on IPv4, 65,527 on
/// IPv6), so that none is ever cut.
pub const PAYLOAD_MAX: usize = 65_536;

/// Octets free behind the room for the payload: padding to a multiple of 4 (RFC 8489 section 14).
pub const TAILROOM: usize = 4;

/// Octets of one slot: headroom, payload, tailroom.
pub const SLOT_LEN: usize = HEADROOM + PAYLOAD_MAX + TAILROOM;

/// Pending errors that one [`Batch::receive`] steps over before it reports one.
const PENDING_ERRORS_MAX: usize = 4;

/// In place of a sender that is neither IPv4 nor IPv6, which no UDP socket has; the kernel refuses
/// to send to port 0.
const NO_SOURCE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What came with a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Octets of payload.
    pub len: usize,
    /// The sender's address.
    pub source: SocketAddr,
    /// The address it was sent to. `None` on a relay socket, which has only its own.
    pub destination: Option<IpAddr>,
    /// IPv4 TTL or IPv6 hop limit, as it arrived.
    pub ttl: Option<u8>,
    /// IPv4 TOS or IPv6 traffic class octet: DSCP in the upper six bits, ECN in the lower two.
    pub tos: u8,
}

/// A fixed number of slots, filled from any number of sockets and emptied together.
///
/// Each slot is [`SLOT_LEN`] octets, with the payload at [`HEADROOM`]. Memory that no datagram has
/// reached is never committed, so a batch costs what its largest datagrams need.
pub struct Batch {
    memory: Box<[u8]>,
    /// One per filled slot, in order of arrival.
    received: Vec<Received>,
    // One of each per slot, written just before each call.
    headers: Box<[libc::mmsghdr]>,
    iovecs: Box<[libc::iovec]>,
    names: Box<[RawAddress]>,
    controls: Box<[ControlBuffer]>,
}

// SAFETY: the raw pointers are those in `headers` and `iovecs`. They are written before each system
// call and never followed outside of it.
unsafe impl Send for Batch {}

impl Batch {
    /// Makes room for `slots` datagrams.
    pub fn new(slots: usize) -> Self {
        Self {
            // Zeroed by the kernel, page by page as touched, and not by us.
            memory: vec![0; slots * SLOT_LEN].into(),
            received: Vec::with_capacity(slots),
            headers: vec![empty_header(); slots].into(),
            iovecs: vec![EMPTY_IOVEC; slots].into(),
            names: vec![RawAddress::unspecified(); slots].into(),
            controls: vec![ControlBuffer::new(); slots].into(),
        }
    }

    /// Slots, filled and free.
    pub fn capacity(&self) -> usize {
        self.headers.len()
    }

    /// Filled slots. Their indexes are `0..len()`.
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether no slot is filled.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// Whether no slot is free.
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity()
    }

    /// Frees every slot.
    pub fn clear(&mut self) {
        self.received.clear();
    }

    /// Fills the free slots with what waits on `socket`, behind those already filled, in one
    /// system call. Returns how many were filled, 0 if nothing waits or no slot is free.
    ///
    /// # Errors
    ///
    /// Those of recvmmsg(2), such as `ENOMEM`. An ICMP error that waits on the socket is stepped
    /// over: it says nothing about the datagrams to be read, and [`read_error`](super::read_error)
    /// has the details.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.receive_at_most(socket, usize::MAX)
    }

    /// As [`receive`](Self::receive), but fills no more than `most` slots, so that a busy socket
    /// leaves some to the others.
    ///
    /// # Errors
    ///
    /// As for [`receive`](Self::receive).
    pub fn receive_at_most(&mut self, socket: &UdpSocket, most: usize) -> io::Result<usize> {
        let first = self.len();
        let slots = most.min(self.capacity() - first);
        if slots == 0 {
            return Ok(0);
        }
        self.offer(first, slots);
        let count = self.recvmmsg(socket, first, slots)?;
        for slot in first..first + count {
            let datagram = self.read_header(slot);
            self.received.push(datagram);
        }
        Ok(count)
    }

    /// Points the headers of `count` slots from `first` on at their buffers.
    fn offer(&mut self, first: usize, count: usize) {
        let memory = self.memory.as_mut_ptr();
        for slot in first..first + count {
            // SAFETY: `slot` is below the capacity, so that this is within the memory.
            let payload = unsafe { memory.add(slot * SLOT_LEN + HEADROOM) };
            self.iovecs[slot] = libc::iovec {
                iov_base: payload.cast(),
                iov_len: PAYLOAD_MAX,
            };
            let header = &mut self.headers[slot].msg_hdr;
            header.msg_name = ptr::from_mut(&mut self.names[slot]).cast();
            header.msg_namelen = RawAddress::SIZE;
            header.msg_iov = ptr::from_mut(&mut self.iovecs[slot]);
            header.msg_iovlen = 1;
            header.msg_control = self.controls[slot].as_mut_ptr();
            header.msg_controllen = ControlBuffer::SIZE as _;
            header.msg_flags = 0;
        }
    }

    fn recvmmsg(&mut self, socket: &UdpSocket, first: usize, count: usize) -> io::Result<usize> {
        let mut pending_errors = 0;
        let headers = &mut self.headers[first..first + count];
        loop {
            // SAFETY: `offer` has pointed each of these headers at buffers that `self` owns, all
            // distinct and of the lengths given; no timeout is passed.
            let result = check(unsafe {
                libc::recvmmsg(
                    socket.as_raw_fd(),
                    headers.as_mut_ptr(),
                    headers.len() as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                    ptr::null_mut(),
                )
            });
            match result {
                Ok(count) => return Ok(count as usize),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(0),
                    io::ErrorKind::Interrupted => {}
                    _ if may_be_pending(&error) && pending_errors < PENDING_ERRORS_MAX => {
                        pending_errors += 1;
                    }
                    _ => return Err(error),
                },
            }
        }
    }

    /// Reads what the kernel wrote beside the payload of `slot`.
    fn read_header(&self, slot: usize) -> Received {
        let header = &self.headers[slot];
        // SAFETY: the control pointer and length are those of `controls[slot]`, the length as cut
        // down by the kernel; the buffer is initialised, aligned, and not written to here.
        let fields = unsafe { Fields::read(&header.msg_hdr) };
        Received {
            len: (header.msg_len as usize).min(PAYLOAD_MAX),
            source: self.names[slot].decode().unwrap_or(NO_SOURCE),
            destination: fields.destination,
            ttl: fields.ttl,
            tos: fields.tos,
        }
    }

    /// What came with the datagram in `slot`.
    ///
    /// # Panics
    ///
    /// If `slot` is not filled.
    pub fn received(&self, slot: usize) -> &Received {
        &self.received[slot]
    }

    /// The payload in `slot`, as it arrived unless written over.
    ///
    /// # Panics
    ///
    /// If `slot` is not filled.
    pub fn payload(&self, slot: usize) -> &[u8] {
        &self.slot(slot)[HEADROOM..HEADROOM + self.received[slot].len]
    }

    /// The room for the payload of `slot`, whatever is in it.
    ///
    /// # Panics
    ///
    /// If `slot` is not below [`capacity`](Self::capacity).
    #[cfg(feature = "dtls")]
    pub fn payload_room(&mut self, slot: usize) -> &mut [u8] {
        &mut self.slot_mut(slot)[HEADROOM..HEADROOM + PAYLOAD_MAX]
    }

    /// The payload of `slot` has been replaced by one of so many octets, [`PAYLOAD_MAX`] at most.
    ///
    /// # Panics
    ///
    /// If `slot` is not filled.
    #[cfg(feature = "dtls")]
    pub fn set_len(&mut self, slot: usize, len: usize) {
        self.received[slot].len = len.min(PAYLOAD_MAX);
    }

    /// All [`SLOT_LEN`] octets of a slot; the payload is at [`HEADROOM`]. What is around it is
    /// left over from earlier datagrams.
    ///
    /// # Panics
    ///
    /// If `slot` is not below [`capacity`](Self::capacity).
    pub fn slot(&self, slot: usize) -> &[u8] {
        &self.memory[slot * SLOT_LEN..][..SLOT_LEN]
    }

    /// As [`slot`](Self::slot), to write headers and padding around the payload.
    ///
    /// # Panics
    ///
    /// If `slot` is not below [`capacity`](Self::capacity).
    pub fn slot_mut(&mut self, slot: usize) -> &mut [u8] {
        &mut self.memory[slot * SLOT_LEN..][..SLOT_LEN]
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("capacity", &self.capacity())
            .field("len", &self.len())
            .finish()
    }
}

/// An iovec that points nowhere.
pub(super) const EMPTY_IOVEC: libc::iovec = libc::iovec {
    iov_base: ptr::null_mut(),
    iov_len: 0,
};

/// A header that points nowhere.
pub(super) fn empty_header() -> libc::mmsghdr {
    // SAFETY: `mmsghdr` is integers and pointers, for which all zeros is a value.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            BufferSizes, Datagram, HeaderFields, ListenerOptions, SendQueue,
            testing::{at, closed_port, listener, receive, relay, send},
        },
        *,
    };

    #[test]
    fn answers_leave_from_the_address_that_was_asked() {
        for wildcard in ["0.0.0.0:0", "[::]:0"] {
            let (client, server) = (relay("127.0.0.1:0"), listener(wildcard));
            let mut queue = SendQueue::new(4);
            let mut batch = Batch::new(4);
            send(&client, b"one", at("127.0.0.1", &server));
            send(&client, b"two", at("127.0.0.2", &server));
            receive(&mut batch, &server, 2);
            for slot in 0..2 {
                let Received {
                    source,
                    destination,
                    len,
                    ..
                } = *batch.received(slot);
                let fields = HeaderFields {
                    source: destination,
                    ..Default::default()
                };
                let range = HEADROOM..HEADROOM + len;
                queue
                    .push(Datagram {
                        slot,
                        range,
                        to: source,
                        fields,
                    })
                    .unwrap();
            }
            assert_eq!(queue.flush(&server, &batch).sent, 2);
            let mut answers = Batch::new(4);
            receive(&mut answers, &client, 2);
            assert_eq!(
                answers.received(0).source,
                at("127.0.0.1", &server),
                "{wildcard}"
            );
            assert_eq!(
                answers.received(1).source,
                at("127.0.0.2", &server),
                "{wildcard}"
            );
        }
    }

    #[test]
    fn several_sockets_fill_one_batch_and_the_rest_waits() {
        let (client, v4, v6) = (listener("[::]:0"), relay("127.0.0.1:0"), relay("[::1]:0"));
        for octet in 0..4 {
            send(&client, &[4, octet], v4.local_addr());
            send(&client, &[6, octet], v6.local_addr());
        }
        let mut batch = Batch::new(6);
        assert_eq!(batch.receive_at_most(&v4, 3).unwrap(), 3);
        assert_eq!(batch.receive(&v6).unwrap(), 3);
        assert!(batch.is_full());
        assert_eq!(batch.receive(&v4).unwrap(), 0);
        let payloads: Vec<_> = (0..6).map(|slot| batch.payload(slot).to_vec()).collect();
        assert_eq!(payloads, [[4, 0], [4, 1], [4, 2], [6, 0], [6, 1], [6, 2]]);

        batch.clear();
        assert!(batch.is_empty());
        assert_eq!(batch.receive(&v6).unwrap(), 1);
        assert_eq!(batch.receive(&v4).unwrap(), 1);
        assert_eq!(batch.payload(0), [6, 3]);
        assert_eq!(batch.payload(1), [4, 3]);
        assert_eq!(batch.receive(&v4).unwrap(), 0);
    }

    #[test]
    fn the_longest_datagrams_arrive_whole() {
        for (ip, len) in [("127.0.0.1:0", 65_507), ("[::1]:0", 65_527)] {
            let buffers = BufferSizes {
                receive: Some(1 << 20),
                send: Some(1 << 20),
            };
            let options = ListenerOptions {
                buffers,
                ..Default::default()
            };
            let server = UdpSocket::listener(ip.parse().unwrap(), &options).unwrap();
            let client = UdpSocket::relay(ip.parse().unwrap(), buffers).unwrap();
            let payload: Vec<u8> = (0..len).map(|octet| octet as u8).collect();
            let mut batch = Batch::new(2);
            send(&client, &payload, server.local_addr());
            receive(&mut batch, &server, 1);
            assert!(batch.payload(0) == payload);
        }
    }

    #[test]
    fn a_header_in_the_headroom_leaves_with_the_payload_untouched() {
        let (client, server, peer) = (
            relay("127.0.0.1:0"),
            listener("127.0.0.1:0"),
            relay("127.0.0.1:0"),
        );
        let mut batch = Batch::new(1);
        send(&client, b"payload", server.local_addr());
        receive(&mut batch, &server, 1);
        let before = batch.payload(0).as_ptr();
        batch.slot_mut(0)[HEADROOM - 4..HEADROOM].copy_from_slice(&[0x40, 0, 0, 7]);
        batch.slot_mut(0)[HEADROOM + 7] = 0;
        let mut queue = SendQueue::new(1);
        let range = HEADROOM - 4..HEADROOM + 8;
        let to = peer.local_addr();
        let fields = HeaderFields::default();
        queue
            .push(Datagram {
                slot: 0,
                range,
                to,
                fields,
            })
            .unwrap();
        assert_eq!(queue.flush(&server, &batch).sent, 1);
        assert_eq!(
            (batch.payload(0), batch.payload(0).as_ptr()),
            (&b"payload"[..], before)
        );
        let mut arrived = Batch::new(1);
        receive(&mut arrived, &peer, 1);
        assert_eq!(arrived.payload(0), b"\x40\x00\x00\x07payload\x00");
    }

    #[test]
    fn an_icmp_error_does_not_hide_a_datagram() {
        let (client, server) = (relay("127.0.0.1:0"), relay("127.0.0.1:0"));
        send(&server, b"to nobody", closed_port("127.0.0.1:0"));
        send(&client, b"hello", server.local_addr());
        let mut batch = Batch::new(4);
        receive(&mut batch, &server, 1);
        assert_eq!(batch.payload(0), b"hello");
    }

    #[test]
    fn a_batch_may_move_to_its_worker() {
        fn is_send<T: Send>() {}
        is_send::<Batch>();
        is_send::<SendQueue>();
    }
}
