//! What OpenSSL takes for a socket: one datagram in, and those that it has to say in return.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::rc::Rc;

/// Bytes of datagrams that one step of a session may have to say: the longest flight, with ten
/// certificates of the largest keys.
const OUTGOING_MAX: usize = 64 * 1024;

/// The datagrams under way between a worker and one of its sessions, whichever it is just now.
#[derive(Clone, Debug, Default)]
pub(super) struct Wire(Rc<RefCell<Buffers>>);

#[derive(Debug, Default)]
struct Buffers {
    incoming: Vec<u8>,
    /// Whether it has not been read.
    is_full: bool,
    outgoing: Vec<u8>,
    /// Where each datagram ends.
    ends: Vec<usize>,
}

impl Wire {
    /// The session is to read this next. What another has left is gone.
    pub(super) fn put(&self, datagram: &[u8]) {
        let mut buffers = self.0.borrow_mut();
        buffers.clear();
        buffers.incoming.extend_from_slice(datagram);
        buffers.is_full = true;
    }

    /// The session has nothing to read.
    pub(super) fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    /// Shows what the session has written, a datagram at a time.
    pub(super) fn written(&self, mut look: impl FnMut(&[u8])) {
        let buffers = self.0.borrow();
        let mut begin = 0;
        for &end in &buffers.ends {
            look(&buffers.outgoing[begin..end]);
            begin = end;
        }
    }

    /// Hands over what the session has written, a datagram at a time.
    pub(super) fn take_written(&self, mut send: impl FnMut(&mut [u8])) {
        let mut buffers = self.0.borrow_mut();
        let Buffers { outgoing, ends, .. } = &mut *buffers;
        let mut begin = 0;
        for end in ends.drain(..) {
            send(&mut outgoing[begin..end]);
            begin = end;
        }
        outgoing.clear();
    }
}

impl Buffers {
    fn clear(&mut self) {
        self.incoming.clear();
        self.is_full = false;
        self.outgoing.clear();
        self.ends.clear();
    }
}

impl Read for Wire {
    /// A datagram, of which what does not fit is lost, as with a socket.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut buffers = self.0.borrow_mut();
        if !std::mem::take(&mut buffers.is_full) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = buffers.incoming.len().min(into.len());
        into[..len].copy_from_slice(&buffers.incoming[..len]);
        Ok(len)
    }
}

impl Write for Wire {
    /// A datagram. Where there is no room it is lost, as on the network.
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        let mut buffers = self.0.borrow_mut();
        if buffers.outgoing.len() + datagram.len() <= OUTGOING_MAX {
            buffers.outgoing.extend_from_slice(datagram);
            let end = buffers.outgoing.len();
            buffers.ends.push(end);
        }
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_keep_their_bounds() {
        let (wire, mut end) = (Wire::default(), Wire::default());
        end.0 = Rc::clone(&wire.0);
        wire.put(b"in");
        let mut read = [0; 8];
        assert_eq!(end.read(&mut read).unwrap(), 2);
        let again = end.read(&mut read).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::WouldBlock);
        for out in [&b"one"[..], b"", b"three"] {
            end.write_all(out).unwrap();
        }
        let mut seen = Vec::new();
        wire.written(|datagram| seen.push(datagram.to_vec()));
        let mut taken = Vec::new();
        wire.take_written(|datagram| taken.push(datagram.to_vec()));
        assert_eq!(taken, [b"one".to_vec(), b"three".to_vec()]);
        assert_eq!(seen, taken);
        wire.take_written(|_| panic!("it is taken once"));
    }

    /// A flight that does not end has no more memory than this.
    #[test]
    fn what_waits_is_bounded() {
        let mut wire = Wire::default();
        for _ in 0..70 {
            wire.write_all(&[0; 1024]).unwrap();
        }
        let mut taken = 0;
        wire.take_written(|datagram| taken += datagram.len());
        assert_eq!(taken, OUTGOING_MAX);
    }
}
