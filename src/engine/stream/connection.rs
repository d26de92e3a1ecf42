//! The state of one connection, and the table of them.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tokio::net::tcp::OwnedWriteHalf;

use super::admission::{Notice, Place, Stage};
use super::alpn::{TlsConfigs, is_for_web};
use super::budget::Claim;
use super::client_hello::ClientHello;
use super::ending::Ending;
use super::failure::HandshakeFailure;
use super::held::Held;
use super::input::Input;
use super::opening::{Accepts, FirstBytes, Opening};
use super::proxy::{Announced, HeaderBytes};
use super::queue::{Dropped, FRAMES_PER_WRITE, Losses, Priority, SendQueue};
use super::streams::{Streams, TlsHost};
use super::tls::{Progress, Tls, TlsError};
use super::web::Kind;
use crate::engine::settings::StreamLimits;
use crate::turn::{Client, FiveTuple, Link, Time, Transport};

/// What the bytes of a connection are.
#[derive(Debug)]
enum Layer {
    /// That is not known yet.
    Unknown(FirstBytes),
    /// Frames.
    Plain,
    /// Frames under TLS.
    Tls(Box<Tls>),
}

/// What was read, without what it was wrapped in.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    /// Bytes of frames.
    pub(crate) frames: &'a [u8],
    /// What comes behind them.
    pub(crate) then: Then,
}

/// What becomes of a connection behind the frames.
#[derive(Debug)]
pub(crate) enum Then {
    /// It goes on.
    Open,
    /// The client has closed it.
    Closed,
    /// It cannot go on.
    Ended(Ending),
    /// A web server is to have it, from its first byte on: what was kept, and if that is nothing, what
    /// was just read.
    HandOver {
        /// Which.
        kind: Kind,
        /// What was kept.
        held: Held,
    },
    /// The TLS handshake failed.
    HandshakeFailed(HandshakeFailure),
}

/// A client's stream.
#[derive(Debug)]
pub(crate) struct Connection {
    five_tuple: FiveTuple,
    output: Rc<OwnedWriteHalf>,
    /// To the connection's task: there is something to send, or it is to end.
    notice: Arc<Notice>,
    /// Until a proxy has said for whom it speaks.
    header: Option<HeaderBytes>,
    is_by_proxy: bool,
    layer: Layer,
    /// Not there while it is read from.
    input: Option<Input>,
    queue: SendQueue,
    place: Place,
    /// When the connection came, or its allocation was last seen.
    alone_since: Time,
    ending: Option<Ending>,
}

impl Connection {
    /// A connection that has just been let in.
    pub(super) fn new(
        five_tuple: FiveTuple,
        output: Rc<OwnedWriteHalf>,
        notice: Arc<Notice>,
        accepts: Accepts,
        place: Place,
        streams: &Streams,
        now: Time,
    ) -> Self {
        let budget = &streams.budget;
        let is_proxy = streams.is_proxy(five_tuple.client.ip());
        Self {
            five_tuple,
            output,
            notice,
            header: is_proxy.then(|| HeaderBytes::new(budget.clone())),
            is_by_proxy: is_proxy,
            layer: Layer::Unknown(FirstBytes::new(accepts, budget.clone())),
            input: Some(Input::new(budget.clone())),
            queue: SendQueue::new(streams.settings.limits.send_queue_bytes, budget.clone()),
            place,
            alone_since: now,
            ending: None,
        }
    }

    /// The client is answered, and has an allocation now or not.
    pub(crate) fn set_allocation(&mut self, has_allocation: bool) {
        self.place.set_stage(if has_allocation {
            Stage::Allocated
        } else {
            Stage::Answered
        });
    }

    /// What memory for its messages is wanted for.
    const fn claim(&self) -> Claim {
        match self.place.stage() {
            Stage::Allocated => Claim::Control,
            Stage::HalfOpen | Stage::Answered => Claim::Stranger,
        }
    }

    /// Takes the wrapping off what was read, into `plain` where it does not lie there as it is.
    pub(super) fn receive<'a>(
        &mut self,
        bytes: &'a mut [u8],
        plain: &'a mut Vec<u8>,
        host: &mut TlsHost<'_>,
    ) -> Received<'a> {
        plain.clear();
        let then = match &mut self.layer {
            Layer::Plain => {
                let (frames, then) = (bytes, Then::Open);
                return Received { frames, then };
            }
            Layer::Tls(_) => self.receive_tls(bytes, plain, host),
            Layer::Unknown(first) => match first.push(bytes) {
                Ok(Opening::Undecided) => Then::Open,
                Ok(Opening::Plain) => {
                    self.layer = Layer::Plain;
                    let (frames, then) = (bytes, Then::Open);
                    return Received { frames, then };
                }
                Ok(Opening::Tls) => {
                    let held = first.take_held();
                    self.begin_tls(held, bytes, plain, host)
                }
                Ok(Opening::Http) => Then::HandOver {
                    kind: Kind::Http,
                    held: first.take_held(),
                },
                // The proxy's own has been read.
                Err(Ending::ProxyUntrusted) if self.is_by_proxy => Then::Ended(Ending::ProxyBroken),
                Err(ending) => Then::Ended(ending),
            },
        };
        let frames = plain;
        Received { frames, then }
    }

    /// From here on it is TLS, which begins with what has come so far.
    fn begin_tls(
        &mut self,
        mut held: Held,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        host: &mut TlsHost<'_>,
    ) -> Then {
        let bytes = if held.is_empty() { bytes } else { held.bytes() };
        let hello = ClientHello::read(bytes);
        let spoken = host.configs.map(TlsConfigs::protocols);
        if is_for_web(hello.as_ref(), host.web, spoken) {
            let kind = Kind::Https;
            return Then::HandOver { kind, held };
        }
        let Some(configs) = host.configs else {
            return Then::Ended(Ending::NoCertificate);
        };
        self.layer = match Tls::new(configs.of(hello.as_ref()), host.workbench, host.budget) {
            Ok(tls) => Layer::Tls(Box::new(tls)),
            Err(error) => return self.tls_failed(error, true),
        };
        self.five_tuple.transport = Transport::Tls;
        self.receive_tls(bytes, plain, host)
    }

    /// What reads the header of a proxy, until [`Connection::give_header`].
    pub(super) const fn take_header(&mut self) -> Option<HeaderBytes> {
        self.header.take()
    }

    pub(super) fn give_header(&mut self, header: HeaderBytes) {
        self.header = Some(header);
    }

    /// Has the connection be the one that a proxy says. Returns the connection of its address that makes
    /// room for it.
    ///
    /// # Errors
    /// If that is there already; or the limit, if none makes room.
    pub(super) fn announce(&mut self, announced: Announced) -> Result<Option<SocketAddr>, Ending> {
        self.place.announce(announced)?;
        let Announced { client, server } = announced;
        self.five_tuple = FiveTuple {
            transport: self.five_tuple.transport,
            client,
            server,
        };
        self.place.move_to(client)
    }

    fn receive_tls(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        host: &mut TlsHost<'_>,
    ) -> Then {
        let claim = self.claim();
        let Layer::Tls(tls) = &mut self.layer else {
            unreachable!("it is TLS");
        };
        let was_handshaking = tls.is_handshaking();
        let progress = tls.receive(bytes, plain, claim);
        if was_handshaking && !tls.is_handshaking() {
            host.handshakes[tls.handshake()] += 1;
        }
        let flushed = tls.flush(&self.output);
        if tls.has_output() {
            self.notice.give();
        }
        match (progress, flushed) {
            (Err(error), _) => self.tls_failed(error, was_handshaking),
            (Ok(Progress::Closed), _) | (_, Err(_)) => Then::Closed,
            (Ok(Progress::Open), Ok(_)) => Then::Open,
        }
    }

    fn tls_failed(&self, error: TlsError, in_handshake: bool) -> Then {
        match error {
            TlsError::Memory => Then::Ended(Ending::MemoryLimit),
            TlsError::TooLong => Then::Ended(Ending::FrameTooLong),
            TlsError::Session(error) if in_handshake => {
                Then::HandshakeFailed(HandshakeFailure(error))
            }
            TlsError::Session(_) => Then::Ended(Ending::TlsBroken),
        }
    }

    /// Whether it has no allocation.
    pub(super) fn is_stranger(&self) -> bool {
        self.place.stage() != Stage::Allocated
    }

    /// Whether TURN is not for this client, by its own wish.
    pub(super) fn is_for_nat_discovery(&self) -> bool {
        matches!(&self.layer, Layer::Tls(tls) if tls.is_for_nat_discovery())
    }

    /// Sends frames, or queues what the kernel does not take at once. Returns what is lost.
    pub(crate) fn send(&mut self, frames: &[IoSlice<'_>], priority: Priority) -> Losses {
        let mut losses = Losses::default();
        let mut rest = frames;
        let mut sent_of_first = 0;
        let mut is_gone = self.ending.is_some();
        let claim = self.claim();
        while !rest.is_empty() && !is_gone && !self.has_output() {
            match self.layer.write(&self.output, rest, claim) {
                Ok(taken) => {
                    (rest, sent_of_first) = behind(rest, taken);
                    if taken == 0 || sent_of_first > 0 {
                        break;
                    }
                }
                Err(WriteError::Blocked) => break,
                Err(WriteError::Ended(ending)) => {
                    self.end(ending);
                    is_gone = true;
                }
                // The task sees the same error when it next reads.
                Err(WriteError::Gone) => is_gone = true,
            }
        }
        if is_gone {
            for frame in rest {
                losses.slow += Dropped::one(frame.len());
            }
            return losses;
        }
        let has_allocation = claim == Claim::Control;
        for frame in rest {
            let sent = std::mem::take(&mut sent_of_first);
            let pushed = self
                .queue
                .push(frame, sent, priority, has_allocation, &mut losses);
            if pushed.is_err() {
                self.end(Ending::MemoryLimit);
            }
        }
        if self.has_output() {
            self.notice.give();
        }
        losses
    }

    /// Whether something waits to be sent.
    pub(super) fn has_output(&self) -> bool {
        !self.queue.is_empty() || matches!(&self.layer, Layer::Tls(tls) if tls.has_output())
    }

    /// Sends what waits, as far as the kernel takes it.
    ///
    /// # Errors
    /// If the connection is gone, or is to end for the reason given.
    pub(super) fn flush(&mut self) -> Result<(), Option<Ending>> {
        let claim = self.claim();
        if let Layer::Tls(tls) = &mut self.layer
            && !tls.flush(&self.output).map_err(|_| None)?
        {
            return Ok(());
        }
        while !self.queue.is_empty() {
            let mut pieces = [IoSlice::new(&[]); FRAMES_PER_WRITE];
            let count = self.queue.pieces(&mut pieces);
            match self.layer.write(&self.output, &pieces[..count], claim) {
                Ok(0) | Err(WriteError::Gone) => return Err(None),
                Ok(taken) => self.queue.advance(taken),
                Err(WriteError::Blocked) => return Ok(()),
                Err(WriteError::Ended(ending)) => return Err(Some(ending)),
            }
        }
        Ok(())
    }

    /// Says goodbye, where the protocol has a word for it.
    pub(crate) fn close(&mut self) {
        if let Layer::Tls(tls) = &mut self.layer {
            tls.close(&self.output);
        }
    }

    /// What reads the stream, until [`Connection::give_input`].
    pub(crate) const fn take_input(&mut self) -> Option<Input> {
        self.input.take()
    }

    pub(crate) fn give_input(&mut self, input: Input) {
        self.input = Some(input);
    }

    /// A look at the clock: a connection that has not said anything valid, or has no allocation,
    /// has its time.
    pub(crate) fn tick(&mut self, now: Time, has_allocation: bool, limits: &StreamLimits) {
        if has_allocation || self.place.stage() == Stage::Allocated {
            self.set_allocation(has_allocation);
        }
        if has_allocation {
            self.alone_since = now;
            return;
        }
        if let Some(ending) = overdue(now - self.alone_since, self.place.stage(), limits) {
            self.end(ending);
        }
    }

    /// Has the connection's task end it.
    fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
        self.notice.give();
    }

    /// Why it is to end.
    pub(super) const fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Whether it had to make room for another, which was counted then.
    pub(crate) fn gave_way(&self) -> bool {
        self.notice.is_eviction()
    }

    pub(crate) const fn five_tuple(&self) -> &FiveTuple {
        &self.five_tuple
    }

    /// As the core knows it.
    pub(crate) const fn client(&self, link: Link) -> Client {
        Client {
            five_tuple: self.five_tuple,
            link,
        }
    }
}

/// Why nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteError {
    /// The kernel takes no more for now.
    Blocked,
    /// The connection has to end.
    Ended(Ending),
    /// The connection is gone.
    Gone,
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => Self::Blocked,
            io::ErrorKind::OutOfMemory => Self::Ended(Ending::MemoryLimit),
            // rustls makes no more records, as when TLS 1.2 has used its key up.
            io::ErrorKind::Other => Self::Ended(Ending::TlsBroken),
            _ => Self::Gone,
        }
    }
}

impl Layer {
    /// Writes frames, and returns how many bytes of them need no more care.
    fn write(
        &mut self,
        output: &OwnedWriteHalf,
        frames: &[IoSlice<'_>],
        claim: Claim,
    ) -> Result<usize, WriteError> {
        let written = match self {
            Self::Tls(tls) => tls.write(output, frames, claim),
            Self::Plain | Self::Unknown(_) => match frames {
                [frame] => output.try_write(frame),
                frames => output.try_write_vectored(frames),
            },
        };
        Ok(written?)
    }
}

/// What is behind so many bytes: frames, and how much of the first has gone.
fn behind<'f, 'a>(frames: &'f [IoSlice<'a>], mut taken: usize) -> (&'f [IoSlice<'a>], usize) {
    let mut rest = frames;
    while let [first, others @ ..] = rest
        && taken >= first.len()
    {
        taken -= first.len();
        rest = others;
    }
    (rest, taken)
}

/// What is over for a connection after so much time without an allocation.
pub(in crate::engine) fn overdue(
    alone: Duration,
    stage: Stage,
    limits: &StreamLimits,
) -> Option<Ending> {
    let has_passed = |limit_s: u32| alone >= Duration::from_secs(limit_s.into());
    match stage {
        Stage::Allocated => None,
        Stage::HalfOpen if has_passed(limits.first_message_s) => Some(Ending::NoFirstMessage),
        Stage::HalfOpen | Stage::Answered => {
            has_passed(limits.idle_s).then_some(Ending::NoAllocation)
        }
    }
}

/// The connections of a worker.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slab: Slab<Connection>,
}

impl Connections {
    /// Adds a connection; its link is its name towards the core.
    pub(super) fn insert(&mut self, connection: Connection) -> Link {
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

    /// Removes a connection, whose place is free again.
    pub(crate) fn remove(&mut self, link: Link) -> Option<Connection> {
        self.slab.try_remove(link.0 as usize)
    }

    /// Connections that have been answered, and those that have not.
    pub(crate) fn established_and_half_open(&self) -> (u64, u64) {
        let established = self
            .slab
            .iter()
            .filter(|(_, it)| it.place.stage() != Stage::HalfOpen);
        let established = established.count();
        let half_open = self.slab.len() - established;
        (established as u64, half_open as u64)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slab.iter_mut().map(|(_, connection)| connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEC-17, STREAM-05: at the millisecond, for a client that has said nothing and for one that
    /// has; and whatever is configured, neither deadline is one of an allocation.
    #[test]
    fn deadlines_end_at_their_edge() {
        let limits = |first_message_s, idle_s| StreamLimits {
            connections: 0,
            connections_per_address: 0,
            half_open: 0,
            send_queue_bytes: 0,
            queues_total_bytes: 0,
            first_message_s,
            idle_s,
        };
        let installed = limits(10, 60);
        let patient = limits(300, 60);
        for (limits, stage, edge_ms, ending) in [
            (installed, Stage::HalfOpen, 10_000, Ending::NoFirstMessage),
            (installed, Stage::Answered, 60_000, Ending::NoAllocation),
            (patient, Stage::HalfOpen, 60_000, Ending::NoAllocation),
        ] {
            let at = |ms| overdue(Duration::from_millis(ms), stage, &limits);
            assert_eq!((at(edge_ms - 1), at(edge_ms)), (None, Some(ending)));
            let allocated = overdue(Duration::from_secs(9999), Stage::Allocated, &limits);
            assert_eq!(allocated, None);
        }
    }
}
