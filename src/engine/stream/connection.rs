//! The state of one connection, and the table of them.

use std::io;
use std::rc::Rc;

use slab::Slab;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

use super::queue::{Priority, SendQueue};
use crate::turn::{Client, FiveTuple, Link, Time};
use crate::wire::{Frame, NotTurn, PacketKind, classify, next_frame};

/// A client's stream.
#[derive(Debug)]
pub(crate) struct Connection {
    five_tuple: FiveTuple,
    output: Rc<OwnedWriteHalf>,
    /// Wakes the connection's task: there is something to send, or it is to end.
    wake: Rc<Notify>,
    pub(crate) input: Input,
    queue: SendQueue,
    /// When the last complete message came, or the connection.
    pub(crate) last_message: Time,
    pub(crate) closing: bool,
}

impl Connection {
    /// Sends a frame, or queues what the kernel does not take at once. False if it was dropped.
    pub(crate) fn send(&mut self, frame: &[u8], priority: Priority) -> bool {
        if self.closing {
            return false;
        }
        let sent = if self.queue.is_empty() {
            self.output.try_write(frame)
        } else {
            Ok(0)
        };
        let sent = match sent {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            // The task sees the same error when it next reads.
            Err(_) => return false,
        };
        if sent == frame.len() {
            return true;
        }
        let queued = self.queue.push(frame, sent, priority);
        self.wake.notify_one();
        queued
    }

    /// Whether something waits to be sent.
    pub(crate) fn has_output(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Sends what waits, as far as the kernel takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while !self.queue.is_empty() {
            match self.output.try_write_vectored(&self.queue.chunks()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => self.queue.advance(taken),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Has the connection's task end it.
    pub(crate) fn close(&mut self) {
        self.closing = true;
        self.wake.notify_one();
    }

    /// As the core knows it.
    pub(crate) const fn client(&self, link: Link) -> Client {
        Client {
            five_tuple: self.five_tuple,
            link,
        }
    }
}

/// Bytes of a frame that has not arrived completely. Nothing is reserved for what a header
/// promises.
#[derive(Debug, Default)]
pub(crate) struct Input {
    partial: Vec<u8>,
    /// Whether the stream has carried a STUN message. Before, what looks like ChannelData is
    /// something else: `GET ` would be channel 0x4745.
    seen_stun: bool,
}

impl Input {
    /// Takes what was read and calls `handle` with every frame that is complete.
    ///
    /// # Errors
    /// If the stream is out of step; what came before was handled.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        mut handle: impl FnMut(&[u8]),
    ) -> Result<(), NotTurn> {
        let Self { partial, seen_stun } = self;
        let mut held = std::mem::take(partial);
        let mut rest = if held.is_empty() {
            bytes
        } else {
            held.extend_from_slice(bytes);
            &held
        };
        while !rest.is_empty() {
            let is_stun = classify(rest) == PacketKind::Stun;
            if !is_stun && !*seen_stun {
                return Err(NotTurn);
            }
            let Frame::Complete { len } = next_frame(rest)? else {
                break;
            };
            *seen_stun |= is_stun;
            let (frame, after) = rest.split_at(len);
            handle(frame);
            rest = after;
        }
        partial.extend_from_slice(rest);
        Ok(())
    }

    /// Whether any complete message has arrived.
    pub(crate) const fn has_begun(&self) -> bool {
        self.seen_stun
    }

    /// Bytes of memory that wait for the rest of a frame.
    #[cfg(fuzzing)]
    pub(super) const fn held(&self) -> usize {
        self.partial.capacity()
    }
}

/// The connections of a worker.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slab: Slab<Connection>,
}

impl Connections {
    /// Adds a connection; its link is its name towards the core.
    pub(crate) fn insert(
        &mut self,
        five_tuple: FiveTuple,
        output: Rc<OwnedWriteHalf>,
        wake: Rc<Notify>,
        queue_max: usize,
        now: Time,
    ) -> Link {
        let connection = Connection {
            five_tuple,
            output,
            wake,
            input: Input::default(),
            queue: SendQueue::new(queue_max),
            last_message: now,
            closing: false,
        };
        Link(self.slab.insert(connection) as u32)
    }

    pub(crate) fn get_mut(&mut self, link: Link) -> Option<&mut Connection> {
        self.slab.get_mut(link.0 as usize)
    }

    /// The connection to a client. A link may name a later one, which the five-tuple shows.
    pub(crate) fn of_client(&mut self, client: &Client) -> Option<&mut Connection> {
        self.get_mut(client.link)
            .filter(|connection| connection.five_tuple == client.five_tuple)
    }

    pub(crate) fn remove(&mut self, link: Link) -> Option<FiveTuple> {
        self.slab
            .try_remove(link.0 as usize)
            .map(|connection| connection.five_tuple)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slab.iter_mut().map(|(_, connection)| connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(input: &mut Input, bytes: &[u8]) -> Result<Vec<usize>, NotTurn> {
        let mut lengths = Vec::new();
        input.push(bytes, |frame| lengths.push(frame.len()))?;
        Ok(lengths)
    }

    fn binding() -> Vec<u8> {
        let mut bytes = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
        bytes.extend([7; 12]);
        bytes
    }

    /// STREAM-01
    #[test]
    fn one_byte_at_a_time_and_many_frames_at_once() {
        let mut stream = binding();
        stream.extend([0x40, 0, 0, 1, 9, 0, 0, 0]);
        stream.extend(binding());
        let mut input = Input::default();
        assert_eq!(frames(&mut input, &stream), Ok(vec![20, 8, 20]));
        let mut input = Input::default();
        let mut lengths = Vec::new();
        for byte in stream {
            lengths.extend(frames(&mut input, &[byte]).unwrap());
        }
        assert_eq!(lengths, [20, 8, 20]);
        assert!(input.partial.is_empty());
    }

    /// SEC-19
    #[test]
    fn an_http_request_is_refused_at_its_first_byte() {
        assert_eq!(
            frames(&mut Input::default(), b"GET / HTTP/1.1\r\n\r\n"),
            Err(NotTurn)
        );
        assert_eq!(frames(&mut Input::default(), b"G"), Err(NotTurn));
        let mut input = Input::default();
        frames(&mut input, &binding()).unwrap();
        assert_eq!(
            frames(&mut input, b"GET "),
            Ok(vec![]),
            "then it is channel 0x4745"
        );
    }

    /// MSG-23
    #[test]
    fn a_promised_length_reserves_nothing() {
        let mut input = Input::default();
        frames(&mut input, &binding()).unwrap();
        frames(&mut input, &[0x40, 0, 0xFF, 0xFF]).unwrap();
        assert!(input.partial.capacity() < 64);
    }
}
