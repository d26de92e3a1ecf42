//! What a worker does with the bytes of a stream, and with its end.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;

use super::connection::{Connection, Received, Then};
use super::ending::Ending;
use super::queue::{Dropped, Losses, Priority};
use super::streams::{BUFFER, STRANGER_BUFFER, Streams, TlsHost};
use super::web::Passage;
use crate::engine::clock;
use crate::engine::worker::Worker;
use crate::turn::{Client, FiveTuple, IpHeader, Link, Server};

/// Why a connection is served no more.
#[derive(Debug)]
pub(super) enum Left {
    /// It has ended, by the server's will if there is a reason.
    Ended(Option<Ending>),
    /// It was for a web server, which has it unless something forbids.
    HandedOver(Option<Box<Passage>>),
}

impl From<Ending> for Left {
    fn from(ending: Ending) -> Self {
        Self::Ended(Some(ending))
    }
}

impl From<Option<Ending>> for Left {
    fn from(ending: Option<Ending>) -> Self {
        Self::Ended(ending)
    }
}

impl Worker {
    /// Reads what a stream has, into the buffer that all streams of the worker share, and handles
    /// it. Ready when something was read.
    ///
    /// # Errors
    /// If the stream has ended, is to end, or is a web server's.
    pub(super) fn poll_stream(
        &mut self,
        context: &mut Context<'_>,
        input: &mut OwnedReadHalf,
        link: Link,
    ) -> Poll<Result<(), Left>> {
        let connection = self.streams.connections.get_mut(link);
        let len = match connection.is_some_and(|it| it.is_stranger()) {
            true => STRANGER_BUFFER,
            false => BUFFER,
        };
        let mut buffer = std::mem::take(&mut self.streams.buffer);
        let mut read = ReadBuf::new(&mut buffer[..len]);
        let polled = Pin::new(input).poll_read(context, &mut read).map(|result| {
            match (result, read.filled_mut()) {
                (Err(_), _) | (Ok(()), []) => Err(Left::Ended(None)),
                (Ok(()), bytes) => self.handle_bytes(link, bytes),
            }
        });
        self.streams.buffer = buffer;
        polled
    }

    /// Bytes of a stream.
    fn handle_bytes(&mut self, link: Link, bytes: &mut [u8]) -> Result<(), Left> {
        let connection = self.streams.connections.get_mut(link);
        match connection.and_then(Connection::take_header) {
            Some(header) => self.handle_header(link, header, bytes),
            None => self.handle_opened(link, bytes),
        }
    }

    /// Bytes of a stream, of which it is known whose it is.
    pub(super) fn handle_opened(&mut self, link: Link, bytes: &mut [u8]) -> Result<(), Left> {
        let mut plain = std::mem::take(&mut self.streams.plain);
        let streams = &mut self.streams;
        let mut host = TlsHost {
            configs: streams.settings.tls.as_ref(),
            web: &streams.settings.web,
            workbench: &streams.workbench,
            budget: &streams.budget,
            handshakes: &mut streams.handshakes,
        };
        let connection = streams.connections.get_mut(link);
        let received = connection.map(|it| it.receive(bytes, &mut plain, &mut host));
        let result = match received {
            Some(Received { frames, then }) => match self.handle_frames(link, frames) {
                Ok(()) => self.go_on(link, then, bytes),
                Err(ending) => Err(ending.into()),
            },
            None => Ok(()),
        };
        self.streams.plain = plain;
        result
    }

    /// What is behind the frames of these bytes.
    fn go_on(&mut self, link: Link, then: Then, bytes: &[u8]) -> Result<(), Left> {
        match then {
            Then::Open => Ok(()),
            Then::Closed => Err(Left::Ended(None)),
            Then::Ended(ending) => Err(ending.into()),
            Then::HandOver { kind, mut held } => {
                let first = if held.is_empty() { bytes } else { held.bytes() };
                Err(self.hand_over(link, kind, first))
            }
            Then::HandshakeFailed(failure) => {
                if let Some(connection) = self.streams.connections.get_mut(link) {
                    let client = connection.five_tuple().client;
                    self.log.handshake_failed(client, &failure);
                }
                Err(Ending::TlsHandshake.into())
            }
        }
    }

    /// Bytes of frames.
    fn handle_frames(&mut self, link: Link, mut bytes: &[u8]) -> Result<(), Ending> {
        let now = clock::now();
        let Some(connection) = self.streams.connections.get_mut(link) else {
            return Ok(());
        };
        let client = connection.client(link);
        let is_for_nat_discovery = connection.is_for_nat_discovery();
        let mut input = connection.take_input().expect("nobody else reads it");
        let result = loop {
            let has_allocation = || self.server.has_allocation(&client.five_tuple);
            let frame = match input.next(&mut bytes, has_allocation) {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(()),
                Err(ending) => break Err(ending),
            };
            if is_for_nat_discovery {
                self.server.handle_nat_discovery(now, client, frame);
                self.act(now);
                continue;
            }
            let forward = self
                .server
                .handle_client(now, client, IpHeader::default(), frame);
            match forward {
                Some(forward) => self.send_forward(&forward, &frame[forward.payload.clone()]),
                None => self.act(now),
            }
        };
        self.streams.losses.memory += input.take_lost();
        if let Some(connection) = self.streams.connections.get_mut(link) {
            connection.give_input(input);
        }
        self.write_events();
        result
    }

    /// Whether a connection is to be closed before anything of it is kept.
    pub(in crate::engine) fn refuses(&mut self, five_tuple: FiveTuple) -> bool {
        let refused = self.server.handle_connect(five_tuple).is_err();
        self.write_events();
        refused
    }

    /// A connection has ended, by the server's will if there is a reason.
    pub(super) fn disconnect(&mut self, link: Link, ending: Option<Ending>) {
        let Some(mut connection) = self.streams.connections.remove(link) else {
            return;
        };
        connection.close();
        let five_tuple = *connection.five_tuple();
        match ending {
            Some(ending) => {
                self.streams.endings.count(ending);
                self.log.connection_ended(five_tuple.client, ending);
            }
            None if connection.gave_way() => {}
            None => self.streams.ended_by_client += 1,
        }
        let now = clock::now();
        self.server.handle_disconnect(now.time, &five_tuple);
        self.act(now);
        self.write_events();
        // From here on its place is free, and its five-tuple for another worker.
        drop(connection);
    }
}

impl Streams {
    /// Sends frames to a client, and counts what is lost.
    pub(in crate::engine) fn send(
        &mut self,
        server: &mut Server,
        client: &Client,
        frames: &[IoSlice<'_>],
        priority: Priority,
    ) {
        let losses = match self.connections.of_client(client) {
            Some(connection) => {
                if priority == Priority::Control {
                    // It has been answered.
                    connection.set_allocation(server.has_allocation(&client.five_tuple));
                }
                connection.send(frames, priority)
            }
            None => {
                let mut losses = Losses::default();
                for frame in frames {
                    losses.slow += Dropped::one(frame.len());
                }
                losses
            }
        };
        if losses != Losses::default() {
            self.losses += losses;
            let lost = losses.slow.frames + losses.memory.frames;
            server.handle_undelivered(&client.five_tuple, lost);
        }
    }
}
