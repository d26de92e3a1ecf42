//! Control messages: the header fields that travel beside a datagram (cmsg(3), ip(7), ipv6(7)).

use std::{
    mem,
    net::{IpAddr, SocketAddr},
    ptr,
};

use super::{
    address::{in_addr, in6_addr, ipv4, ipv6},
    send::HeaderFields,
};

/// Octets of control data per datagram. Packet info, hop limit and traffic class, both ways, are
/// 40 + 2 × 24 on 64-bit; an entry of the error queue has 64 beside the latter two.
const LEN: usize = 128;

/// Control data of one datagram, aligned as `cmsghdr` wants it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ControlBuffer([u64; LEN / 8]);

const _: () = assert!(align_of::<ControlBuffer>() >= align_of::<libc::cmsghdr>());

impl ControlBuffer {
    /// Octets of room.
    pub(super) const SIZE: usize = LEN;

    pub(super) const fn new() -> Self {
        Self([0; LEN / 8])
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        self.0.as_mut_ptr().cast()
    }

    /// Writes what a datagram to `to` needs and returns the length in octets, 0 if nothing.
    ///
    /// The level follows the family of the *destination*: Linux hands a datagram for a mapped
    /// address to its IPv4 code, which honours `IPPROTO_IP` messages on an IPv6 socket too and
    /// ignores the IPv6 hop limit and traffic class.
    pub(super) fn write(&mut self, to: SocketAddr, fields: &HeaderFields) -> usize {
        let mut len = 0;
        if to.ip().to_canonical().is_ipv4() {
            const LEVEL: libc::c_int = libc::IPPROTO_IP;
            if let Some(IpAddr::V4(source)) = fields.source.map(|ip| ip.to_canonical()) {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: in_addr(source),
                    ipi_addr: in_addr(source),
                };
                len = self.push(len, LEVEL, libc::IP_PKTINFO, info);
            }
            if let Some(ttl) = fields.ttl {
                len = self.push(len, LEVEL, libc::IP_TTL, libc::c_int::from(ttl));
            }
            if fields.tos != 0 {
                len = self.push(len, LEVEL, libc::IP_TOS, libc::c_int::from(fields.tos));
            }
        } else {
            const LEVEL: libc::c_int = libc::IPPROTO_IPV6;
            if let Some(IpAddr::V6(source)) = fields.source {
                let info = libc::in6_pktinfo {
                    ipi6_addr: in6_addr(source),
                    ipi6_ifindex: 0,
                };
                len = self.push(len, LEVEL, libc::IPV6_PKTINFO, info);
            }
            if let Some(ttl) = fields.ttl {
                len = self.push(len, LEVEL, libc::IPV6_HOPLIMIT, libc::c_int::from(ttl));
            }
            if fields.tos != 0 {
                len = self.push(len, LEVEL, libc::IPV6_TCLASS, libc::c_int::from(fields.tos));
            }
        }
        len
    }

    /// Appends one message after the first `len` octets and returns the new length.
    fn push<T: Copy>(&mut self, len: usize, level: i32, kind: i32, value: T) -> usize {
        // SAFETY: these three only compute.
        let (space, value_at, message_len) = unsafe {
            let size = size_of::<T>() as libc::c_uint;
            (
                libc::CMSG_SPACE(size),
                libc::CMSG_LEN(0),
                libc::CMSG_LEN(size),
            )
        };
        let end = len + space as usize;
        assert!(end <= LEN, "control data outgrew its buffer");
        // SAFETY: `cmsghdr` is plain integers, for which all zeros is a value.
        let mut header: libc::cmsghdr = unsafe { mem::zeroed() };
        header.cmsg_len = message_len as _;
        header.cmsg_level = level;
        header.cmsg_type = kind;
        // SAFETY: `len..end` lies within the buffer (asserted), and holds the header, padding to
        // `value_at`, and the value; unaligned writes ask nothing of the place.
        unsafe {
            let at = self.0.as_mut_ptr().cast::<u8>().add(len);
            ptr::write_unaligned(at.cast(), header);
            ptr::write_unaligned(at.add(value_at as usize).cast(), value);
        }
        end
    }
}

/// What the kernel said about a received datagram.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) destination: Option<IpAddr>,
    pub(super) ttl: Option<u8>,
    pub(super) tos: u8,
}

impl Fields {
    /// Reads the control data of a received datagram.
    ///
    /// # Safety
    ///
    /// As for [`messages`].
    pub(super) unsafe fn read(header: &libc::msghdr) -> Self {
        let mut fields = Self::default();
        // SAFETY: the caller's promise.
        for message in unsafe { messages(header) } {
            match (message.level, message.kind) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = message.value::<libc::in_pktinfo>();
                    fields.destination = info.map(|info| ipv4(info.ipi_addr).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = message.value::<libc::in6_pktinfo>();
                    fields.destination =
                        info.map(|info| IpAddr::from(ipv6(info.ipi6_addr)).to_canonical());
                }
                (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                    fields.ttl = message.value::<libc::c_int>().map(|ttl| ttl as u8);
                }
                // One octet, unlike every other.
                (libc::IPPROTO_IP, libc::IP_TOS) => {
                    fields.tos = message.value::<u8>().unwrap_or(0);
                }
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    fields.tos = message
                        .value::<libc::c_int>()
                        .map_or(0, |class| class as u8);
                }
                _ => {}
            }
        }
        fields
    }
}

/// One received control message.
pub(super) struct Message<'a> {
    pub(super) level: libc::c_int,
    pub(super) kind: libc::c_int,
    value: &'a [u8],
}

impl Message<'_> {
    /// Reads the value as a `T`, which must be plain integers; `None` if it is shorter than one.
    pub(super) fn value<T: Plain>(&self) -> Option<T> {
        (self.value.len() >= size_of::<T>()).then(|| {
            // SAFETY: there are as many octets as a `T` has, any of them make one (`Plain`), and
            // an unaligned read asks nothing of the place.
            unsafe { ptr::read_unaligned(self.value.as_ptr().cast()) }
        })
    }
}

/// Types that any octets are a value of.
///
/// # Safety
///
/// Integers, and `repr(C)` structures of integers.
pub(super) unsafe trait Plain: Copy {}
// SAFETY: integers all.
unsafe impl Plain for u8 {}
// SAFETY: integers all.
unsafe impl Plain for libc::c_int {}
// SAFETY: integers all.
unsafe impl Plain for libc::in_pktinfo {}
// SAFETY: integers all.
unsafe impl Plain for libc::in6_pktinfo {}
// SAFETY: integers all.
unsafe impl Plain for libc::sock_extended_err {}

/// The control messages that a receiving call has left behind `header`.
///
/// # Safety
///
/// `msg_control` points to `msg_controllen` octets that are initialised, aligned for `cmsghdr` and
/// not written to while the messages are in use.
pub(super) unsafe fn messages(header: &libc::msghdr) -> impl Iterator<Item = Message<'_>> {
    // SAFETY: the caller's promise; `CMSG_FIRSTHDR` checks that one header fits.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    std::iter::from_fn(move || {
        // SAFETY: `next` is null or points to a header within the control data.
        let message = unsafe { next.as_ref()? };
        // SAFETY: the kernel wrote `cmsg_len` octets, header included, within the control data.
        let value = unsafe {
            let len = (message.cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            std::slice::from_raw_parts(libc::CMSG_DATA(next), len)
        };
        // SAFETY: `next` is a message of `header`; the result is null or another one.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
        Some(Message {
            level: message.cmsg_level,
            kind: message.cmsg_type,
            value,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Batch, Received, UdpSocket, send_one,
            testing::{at, listener, receive, relay, send},
        },
        *,
    };

    const FIELDS: HeaderFields = HeaderFields {
        source: None,
        ttl: Some(5),
        tos: 0xb9,
    };

    /// What arrives at `server` when `client` sends to `to` with [`FIELDS`].
    fn one_datagram(client: &UdpSocket, server: &UdpSocket, to: SocketAddr) -> Received {
        let mut batch = Batch::new(4);
        send_one(client, b"hello", to, &FIELDS).unwrap();
        receive(&mut batch, server, 1);
        assert_eq!(batch.payload(0), b"hello");
        *batch.received(0)
    }

    fn expected(client: &UdpSocket, to: SocketAddr) -> Received {
        Received {
            len: 5,
            source: client.local_addr(),
            destination: Some(to.ip()),
            ttl: Some(5),
            tos: 0xb9,
        }
    }

    #[test]
    fn ipv4_arrives_with_its_header_fields() {
        let (client, server) = (relay("127.0.0.1:0"), listener("0.0.0.0:0"));
        let to = at("127.0.0.2", &server);
        assert_eq!(one_datagram(&client, &server, to), expected(&client, to));
    }

    #[test]
    fn ipv6_arrives_with_its_header_fields() {
        let (client, server) = (relay("[::1]:0"), listener("[::]:0"));
        let to = at("::1", &server);
        assert_eq!(one_datagram(&client, &server, to), expected(&client, to));
    }

    #[test]
    fn ipv4_at_a_dual_stack_socket_looks_like_ipv4() {
        let (client, server) = (relay("127.0.0.1:0"), listener("[::]:0"));
        let to = at("127.0.0.2", &server);
        assert_eq!(one_datagram(&client, &server, to), expected(&client, to));
    }

    #[test]
    fn header_fields_set_at_a_dual_stack_socket_reach_ipv4() {
        let (client, server) = (listener("[::]:0"), listener("127.0.0.1:0"));
        let to = server.local_addr();
        let received = one_datagram(&client, &server, to);
        let source = at("127.0.0.1", &client);
        assert_eq!(
            received,
            Received {
                source,
                ..expected(&client, to)
            }
        );
    }

    #[test]
    fn a_relay_socket_reports_no_destination() {
        let (client, server) = (relay("127.0.0.1:0"), relay("127.0.0.1:0"));
        let to = server.local_addr();
        let received = one_datagram(&client, &server, to);
        assert_eq!(
            received,
            Received {
                destination: None,
                ..expected(&client, to)
            }
        );
    }

    #[test]
    fn default_fields_leave_the_kernels_own() {
        let (client, server) = (relay("127.0.0.1:0"), listener("127.0.0.1:0"));
        let mut batch = Batch::new(1);
        send(&client, b"", server.local_addr());
        receive(&mut batch, &server, 1);
        assert_eq!(batch.received(0).tos, 0);
        assert!(batch.received(0).ttl > Some(5));
        assert_eq!(batch.payload(0), b"");
    }
}
