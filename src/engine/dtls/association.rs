//! DTLS with one client, without a socket: OpenSSL between the datagrams of a [`Wire`] and plaintext.

use std::fmt;

use openssl::error::ErrorStack;
use openssl::ssl::{Error, ErrorCode, Ssl, SslContext, SslStream};

use super::hello::{PREFACE, RANDOM_LEN};
use super::record::renumber;
use super::wire::Wire;

/// Bytes of the longest datagram of a handshake: every path has room for it (RFC 8200 §5).
const HANDSHAKE_MTU: u32 = 1200;

/// Plaintext of the longest record (RFC 6347 §4.1).
pub(super) const PLAIN_MAX: usize = 1 << 14;

/// What a client asks for by ALPN that wants to know its address and no more (RFC 7443).
const NAT_DISCOVERY: &[u8] = b"stun.nat-discovery";

/// What became of what there was to read.
#[derive(Debug)]
pub(super) enum Step {
    /// So many bytes of plaintext, of one record. There may be more.
    Plain(usize),
    /// There is nothing more.
    Done,
    /// The client has closed it.
    Closed,
    /// It cannot go on.
    Failed(Failure),
}

/// What OpenSSL said.
#[derive(Debug)]
pub(in crate::engine) struct Failure(Error);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = self.0.ssl_error().map_or(&[][..], ErrorStack::errors);
        match reasons.iter().find_map(openssl::error::Error::reason) {
            Some(reason) => f.write_str(reason),
            None => self.0.fmt(f),
        }
    }
}

/// The two ends' common state.
pub(super) struct Association {
    stream: SslStream<Wire>,
    /// What the client's random was, which tells one association from another.
    random: [u8; RANDOM_LEN],
    /// How far the client's numbers of records are ahead of OpenSSL's.
    ahead: u64,
    /// OpenSSL has given it up, and is not to be asked again.
    is_over: bool,
}

impl fmt::Debug for Association {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Association").finish_non_exhaustive()
    }
}

impl Association {
    /// One that goes on behind a HelloVerifyRequest: the ClientHello with the right cookie comes next, in
    /// a record of this number.
    ///
    /// # Errors
    /// If OpenSSL has no memory.
    pub(super) fn new(
        context: &SslContext,
        wire: &Wire,
        sequence: u64,
        random: [u8; RANDOM_LEN],
    ) -> Result<Self, ErrorStack> {
        let mut ssl = Ssl::new(context)?;
        ssl.set_mtu(HANDSHAKE_MTU)?;
        ssl.set_accept_state();
        let mut stream = SslStream::new(ssl, wire.clone())?;
        // It makes a HelloVerifyRequest of its own for this, which nobody gets.
        wire.put(&PREFACE);
        let asked = stream.do_handshake();
        wire.clear();
        drain_errors();
        match asked {
            Err(error) if error.code() == ErrorCode::WANT_READ => Ok(Self {
                stream,
                random,
                ahead: sequence.saturating_sub(1),
                is_over: false,
            }),
            _ => Err(ErrorStack::get()),
        }
    }

    /// Goes on with what the wire has, and sends again what is due to be.
    pub(super) fn step(&mut self, into: &mut [u8]) -> Step {
        if self.is_over {
            return Step::Done;
        }
        let read = self.stream.ssl_read(into);
        drain_errors();
        match read {
            Ok(len) => Step::Plain(len),
            Err(error) => match error.code() {
                ErrorCode::WANT_READ | ErrorCode::WANT_WRITE => Step::Done,
                ErrorCode::ZERO_RETURN => Step::Closed,
                _ => {
                    self.is_over = true;
                    Step::Failed(Failure(error))
                }
            },
        }
    }

    /// Makes a record of a message, on the wire. False if there is none to be made.
    pub(super) fn write(&mut self, message: &[u8]) -> bool {
        if self.is_over || !self.is_established() || message.len() > PLAIN_MAX {
            return false;
        }
        let written = self.stream.ssl_write(message);
        drain_errors();
        written.is_ok()
    }

    /// Says that no more will come.
    pub(super) fn close(&mut self) {
        if !self.is_over && self.is_established() {
            self.is_over = true;
            let _ = self.stream.shutdown();
            drain_errors();
        }
    }

    /// Gives a datagram of OpenSSL the numbers that the client expects.
    pub(super) fn renumber(&self, datagram: &mut [u8]) {
        renumber(datagram, self.ahead);
    }

    /// Whether the handshake is complete.
    pub(super) fn is_established(&self) -> bool {
        self.stream.ssl().is_init_finished()
    }

    /// Whether it began with this random.
    pub(super) fn began_with(&self, random: &[u8; RANDOM_LEN]) -> bool {
        self.random == *random
    }

    /// Whether the client wants to know its address and nothing else.
    pub(super) fn is_for_nat_discovery(&self) -> bool {
        self.stream.ssl().selected_alpn_protocol() == Some(NAT_DISCOVERY)
    }
}

/// OpenSSL keeps errors for the thread, and would take what one session has left for one of the next.
fn drain_errors() {
    let _ = ErrorStack::get();
}
