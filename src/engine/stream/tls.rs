//! TLS on one connection, without a socket of its own: records in, plaintext out, and back.
//!
//! rustls decrypts where the bytes were read. What is kept is a record that has not arrived
//! completely and what the kernel did not take; both are bounded and charged. Frames wait as plaintext
//! and become records when they are written, so that whole ones can still be dropped.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;

use rustls::server::{ServerConfig, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{Error, HandshakeKind, ProtocolVersion};
use tokio::net::tcp::OwnedWriteHalf;

use super::budget::{Budget, Claim};
use super::held::{Full, Held};
use super::input::STRANGER_FRAME_MAX;

/// Bytes of the longest record (RFC 5246 §6.2.3), of which one may wait for its end. A handshake
/// message of a client is no longer: certificates are not asked for.
const INCOMING_MAX: usize = 5 + (1 << 14) + 2048;

/// Likewise after the handshake, without an allocation: the longest frame that is taken then, and what
/// a record adds to it (in TLS 1.2 an explicit nonce, RFC 5288 §3, and the tag).
const STRANGER_INCOMING_MAX: usize = HEADER + 8 + STRANGER_FRAME_MAX + 16;

/// Bytes that may wait for the kernel: the handshake's, with the certificates, or one batch.
const OUTGOING_MAX: usize = 64 * 1024;

/// Bytes of records that are made for one write.
const BATCH: usize = 32 * 1024;

/// Plaintext of the longest record (RFC 8446 §5.1).
const RECORD_MAX: usize = 1 << 14;

/// Bytes of a record's header.
const HEADER: usize = 5;

/// Bytes of the longest record with an alert in it.
const ALERT_MAX: usize = 64;

/// What a client asks for by ALPN that wants to know its address and no more (RFC 7443).
const NAT_DISCOVERY: &[u8] = b"stun.nat-discovery";

/// What an authority asks for that looks who is behind a name (RFC 8737).
const ACME: &[u8] = b"acme-tls/1";

/// Where a worker makes records, whichever connection they are for.
#[derive(Clone)]
pub(super) struct Workbench(Rc<RefCell<Box<[u8]>>>);

impl Default for Workbench {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(vec![0; BATCH].into())))
    }
}

/// Why TLS does not go on.
#[derive(Debug)]
pub(super) enum TlsError {
    /// rustls says so.
    Session(Error),
    /// A record without an allocation is longer than the frames are that come then.
    TooLong,
    /// There is no memory.
    Memory,
}

impl From<Full> for TlsError {
    fn from(full: Full) -> Self {
        match full {
            Full::Bound => Self::Session(Error::General("a TLS message is too long".into())),
            Full::Budget => Self::Memory,
        }
    }
}

/// How far the other side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The stream goes on.
    Open,
    /// It was closed in order.
    Closed,
}

/// The TLS of one connection.
pub(super) struct Tls {
    session: Session,
    /// What of a record has arrived.
    incoming: Held,
    workbench: Workbench,
}

/// rustls, and what it has to say.
struct Session {
    rustls: UnbufferedServerConnection,
    /// What the kernel has not taken.
    outgoing: Held,
    /// What was to be decrypted next is not kept, and rustls is not to be asked again: it may have
    /// noted where a message begins that has not arrived completely.
    is_over: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// A session that has not begun.
    ///
    /// # Errors
    /// If the configuration is none that a session can be made of.
    pub(super) fn new(
        config: &Arc<ServerConfig>,
        workbench: &Workbench,
        budget: &Budget,
    ) -> Result<Self, TlsError> {
        let rustls = UnbufferedServerConnection::new(Arc::clone(config));
        Ok(Self {
            session: Session {
                rustls: rustls.map_err(TlsError::Session)?,
                outgoing: Held::new(OUTGOING_MAX, budget.clone()),
                is_over: false,
            },
            incoming: Held::new(INCOMING_MAX, budget.clone()),
            workbench: workbench.clone(),
        })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.session.rustls.is_handshaking()
    }

    /// Whether the client wants to know its address and nothing else.
    pub(super) fn is_for_nat_discovery(&self) -> bool {
        self.session.rustls.alpn_protocol() == Some(NAT_DISCOVERY)
    }

    /// The place of the handshake in [`crate::metrics::TLS_HANDSHAKES`], once it is over.
    pub(super) fn handshake(&self) -> usize {
        let rustls = &self.session.rustls;
        let is_1_3 = rustls.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        let resumed = rustls.handshake_kind() == Some(HandshakeKind::Resumed);
        usize::from(is_1_3) * 2 + usize::from(resumed)
    }

    /// Takes what was read, which is decrypted where it is, and adds the plaintext to `plain`. What
    /// rustls has to say in return waits to be flushed.
    ///
    /// # Errors
    /// If TLS does not go on; the alert that says so waits likewise.
    pub(super) fn receive(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        claim: Claim,
    ) -> Result<Progress, TlsError> {
        let received = self.open(bytes, plain, claim);
        self.session.is_over |= received.is_err();
        received
    }

    fn open(
        &mut self,
        mut bytes: &mut [u8],
        plain: &mut Vec<u8>,
        claim: Claim,
    ) -> Result<Progress, TlsError> {
        while !bytes.is_empty() {
            if self.incoming.is_empty() {
                let (progress, used) = self.session.open(bytes, plain, claim)?;
                if progress == Progress::Open && used < bytes.len() {
                    self.hold(&bytes[used..], claim)?;
                }
                return Ok(progress);
            }
            // No more than the record lacks: what is behind it stays where it was read.
            let missing = missing(self.incoming.bytes()).min(bytes.len());
            let (part, rest) = bytes.split_at_mut(missing);
            self.hold(part, claim)?;
            let (progress, used) = self.session.open(self.incoming.bytes(), plain, claim)?;
            self.incoming.discard(used);
            if progress == Progress::Closed {
                return Ok(progress);
            }
            bytes = rest;
        }
        Ok(Progress::Open)
    }

    /// Keeps what of a record has arrived.
    fn hold(&mut self, bytes: &[u8], claim: Claim) -> Result<(), TlsError> {
        let is_short = claim == Claim::Stranger && !self.is_handshaking();
        self.incoming.set_max(if is_short {
            STRANGER_INCOMING_MAX
        } else {
            INCOMING_MAX
        });
        match self.incoming.extend(bytes, claim) {
            Err(Full::Bound) if is_short => Err(TlsError::TooLong),
            held => Ok(held?),
        }
    }

    /// Whether something waits for the kernel.
    pub(super) fn has_output(&self) -> bool {
        !self.session.outgoing.is_empty()
    }

    /// What waits, which waits no more.
    #[cfg(fuzzing)]
    pub(super) fn take_output(&mut self) -> Vec<u8> {
        let outgoing = &mut self.session.outgoing;
        let taken = outgoing.bytes().to_vec();
        outgoing.discard(taken.len());
        taken
    }

    /// Sends what waits; whether all of it has gone.
    ///
    /// # Errors
    /// If the connection is gone.
    pub(super) fn flush(&mut self, output: &OwnedWriteHalf) -> io::Result<bool> {
        let outgoing = &mut self.session.outgoing;
        while !outgoing.is_empty() {
            match output.try_write(outgoing.bytes()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => outgoing.discard(taken),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Sends frames, a record each, as many as one write has room for; `claim` is what a message of the
    /// connection has. Returns how many bytes of them
    /// became records; what the kernel does not take of those waits.
    ///
    /// # Errors
    /// `WouldBlock` if something waits already, `OutOfMemory` if there is no memory to wait in, `Other` if
    /// rustls makes no more records; otherwise the connection is gone.
    pub(super) fn write(
        &mut self,
        output: &OwnedWriteHalf,
        frames: &[IoSlice<'_>],
        claim: Claim,
    ) -> io::Result<usize> {
        if !self.flush(output)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.session.is_over {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let workbench = Rc::clone(&self.workbench.0);
        let mut records = workbench.borrow_mut();
        // Records cannot be dropped any more. Many are made where data may have the memory that they
        // take if the kernel does not; otherwise one, which is like the rest of a frame that was begun.
        let for_many = match claim {
            Claim::Control => Claim::Data,
            other => other,
        };
        let has_room = self.session.outgoing.has_room(BATCH, for_many);
        let most = if has_room { usize::MAX } else { 1 };
        let incoming = self.incoming.bytes();
        let (taken, len) = self.session.seal(incoming, frames, most, &mut records)?;
        let sent = match output.try_write(&records[..len]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            result => result?,
        };
        if sent < len {
            let held = &records[sent..len];
            let outgoing = &mut self.session.outgoing;
            let kept = outgoing.extend(held, for_many);
            let kept = kept.or_else(|_| outgoing.extend(held, claim));
            kept.map_err(|_| io::ErrorKind::OutOfMemory)?;
        }
        Ok(taken)
    }

    /// Says that no more will come, as far as the kernel takes it: nobody waits for it.
    pub(super) fn close(&mut self, output: &OwnedWriteHalf) {
        if !self.session.is_over && !self.is_handshaking() {
            let incoming = self.incoming.bytes();
            self.session.close(incoming, Claim::Control);
        }
        let _ = self.flush(output);
    }
}

impl Session {
    /// Decrypts the records that are whole, and does what they are for. Returns how many bytes they
    /// have.
    fn open(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        claim: Claim,
    ) -> Result<(Progress, usize), TlsError> {
        let mut used = 0;
        loop {
            let status = self.rustls.process_tls_records(&mut bytes[used..]);
            let UnbufferedStatus { mut discard, state } = status;
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    used += discard;
                    self.fail(&mut bytes[used..], claim);
                    return Err(TlsError::Session(error));
                }
            };
            let progress = match state {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(TlsError::Session)?;
                        plain.extend_from_slice(record.payload);
                        discard += record.discard;
                    }
                    None
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    encode(&mut self.outgoing, claim, |place| data.encode(place))?;
                    None
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    None
                }
                ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => {
                    Some(Progress::Open)
                }
                ConnectionState::PeerClosed | ConnectionState::Closed => Some(Progress::Closed),
                // Early data is not asked for, and there are no others.
                other => {
                    let error = format!("unexpected TLS state {other:?}");
                    return Err(TlsError::Session(Error::General(error)));
                }
            };
            used += discard;
            match progress {
                // The handshake was all that it wanted, and nothing else is for it.
                Some(_) if self.has_been_looked_at() => {
                    plain.clear();
                    self.close(&mut bytes[used..], claim);
                    return Ok((Progress::Closed, used));
                }
                Some(progress) => return Ok((progress, used)),
                None => {}
            }
        }
    }

    /// Whether an authority has seen who is behind a name.
    fn has_been_looked_at(&self) -> bool {
        !self.rustls.is_handshaking() && self.rustls.alpn_protocol() == Some(ACME)
    }

    /// Takes the alert that says what was wrong.
    fn fail(&mut self, bytes: &mut [u8], claim: Claim) {
        while self.rustls.wants_write() {
            let status = self.rustls.process_tls_records(bytes);
            let Ok(ConnectionState::EncodeTlsData(mut data)) = status.state else {
                return;
            };
            if encode(&mut self.outgoing, claim, |place| data.encode(place)).is_err() {
                return;
            }
        }
    }

    /// Makes records of frames, `most` at most. `incoming` is what of a record has arrived, and is not changed.
    /// Returns the bytes of frames that became records, and those of the records.
    fn seal(
        &mut self,
        incoming: &mut [u8],
        frames: &[IoSlice<'_>],
        most: usize,
        records: &mut [u8],
    ) -> io::Result<(usize, usize)> {
        let (mut taken, mut len) = (0, 0);
        loop {
            match self.rustls.process_tls_records(incoming).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    // A ticket or an update of keys goes before what follows.
                    let encoded = data.encode(&mut records[len..]);
                    len += encoded.map_err(io::Error::other)?;
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let parts = frames.iter().flat_map(|frame| frame.chunks(RECORD_MAX));
                    for part in parts.take(most) {
                        match traffic.encrypt(part, &mut records[len..]) {
                            Ok(written) => (taken, len) = (taken + part.len(), len + written),
                            Err(EncryptError::InsufficientSize(_)) if len > 0 => break,
                            Err(error) => return Err(io::Error::other(error)),
                        }
                    }
                    return Ok((taken, len));
                }
                _ => return Err(io::ErrorKind::NotConnected.into()),
            }
        }
    }

    /// Takes the alert that says that no more will come. `incoming` is what of a record has arrived.
    fn close(&mut self, incoming: &mut [u8], claim: Claim) {
        self.is_over = true;
        // What it has been told before comes first: that the other side has closed, and once.
        for _ in 0..2 {
            let state = self.rustls.process_tls_records(incoming).state;
            if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
                let mut alert = [0; ALERT_MAX];
                let len = traffic.queue_close_notify(&mut alert).unwrap_or(0);
                let _ = self.outgoing.extend(&alert[..len], claim);
                return;
            }
        }
    }
}

/// Adds what rustls has to say.
fn encode(
    outgoing: &mut Held,
    claim: Claim,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), TlsError> {
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) =
        encode(&mut [])
    {
        let written = encode(outgoing.grow(required_size, claim)?);
        debug_assert!(written.is_ok_and(|written| written == required_size));
    }
    Ok(())
}

/// Bytes that are missing to the next end of a record.
fn missing(incoming: &[u8]) -> usize {
    let mut rest = incoming;
    while let [_, _, _, high, low, ref payload @ ..] = *rest {
        let len = usize::from(u16::from_be_bytes([high, low]));
        match payload.get(len..) {
            Some(behind) => rest = behind,
            None => return len - payload.len(),
        }
    }
    HEADER - rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_missing_than_a_record_lacks() {
        let records = [22, 3, 1, 0, 2, 9, 9, 23, 3, 3, 0, 0, 23, 3, 3, 0x41, 0, 7];
        for (len, expected) in [
            (0, 5),
            (3, 2),
            (5, 2),
            (6, 1),
            (7, 5),
            (11, 1),
            (12, 5),
            (17, 0x4100),
            (18, 0x40FF),
        ] {
            assert_eq!(missing(&records[..len]), expected, "{len}");
        }
    }
}
