//! Clients on streams: accepting, TLS, framing, bounded sending.
//!
//! A connection's state lives in the worker ([`Streams`]); its task holds nothing but the name
//! and waits for the socket. What arrives goes through the same `turn::Server` as datagrams do.

mod admission;
mod alpn;
mod budget;
mod connection;
mod ending;
mod evictable;
mod failure;
mod held;
mod input;
mod opening;
mod proxied;
mod proxy;
mod queue;
mod receive;
mod ring;
mod streams;
mod tcp;
mod tls;
mod web;
mod web_places;

pub(super) use admission::Admission;
#[cfg(feature = "dtls")]
pub(super) use admission::{Notice, Place, Stage};
pub(super) use alpn::TlsConfigs;
pub(super) use budget::Budget;
#[cfg(feature = "dtls")]
pub(super) use connection::overdue;
pub(super) use ending::Ending;
pub(super) use queue::Priority;
pub(super) use streams::{StreamSettings, Streams};
pub(super) use tcp::accept;
pub(super) use web::{Failure as WebFailure, Kind as WebKind};

/// A connection's input, for `tests/fuzz`.
#[cfg(fuzzing)]
#[derive(Debug)]
pub struct StreamInput(input::Input);

#[cfg(fuzzing)]
impl StreamInput {
    /// Bytes of the longest frame without an allocation.
    pub const STRANGER_FRAME_MAX: usize = input::STRANGER_FRAME_MAX;

    /// An input that may hold so many bytes.
    pub fn new(memory: usize) -> Self {
        Self(input::Input::new(Budget::new(memory)))
    }

    /// Takes what was read and calls `handle` with every frame that is complete.
    ///
    /// # Errors
    /// If the stream is out of step, or a frame longer than it may be.
    pub fn push(
        &mut self,
        mut bytes: &[u8],
        has_allocation: bool,
        mut handle: impl FnMut(&[u8]),
    ) -> Result<(), crate::wire::NotTurn> {
        let mut next = |input: &mut input::Input| match input.next(&mut bytes, || has_allocation) {
            Ok(Some(frame)) => {
                handle(frame);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(_) => Err(crate::wire::NotTurn),
        };
        while next(&mut self.0)? {}
        Ok(())
    }

    /// Bytes of memory that it holds.
    pub const fn held(&self) -> usize {
        self.0.held()
    }
}

/// The first bytes of a connection, for `tests/fuzz`.
#[cfg(fuzzing)]
#[derive(Debug)]
pub struct StreamOpening {
    header: Option<proxy::HeaderBytes>,
    first: Option<opening::FirstBytes>,
    web: super::Web,
}

/// What a connection is for.
#[cfg(fuzzing)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenedFor {
    /// STUN.
    Turn,
    /// TLS that this server speaks.
    TurnOverTls,
    /// TLS that is passed on.
    WebOverTls,
    /// HTTP that is passed on.
    Web,
    /// Nobody.
    Refused,
}

#[cfg(fuzzing)]
impl StreamOpening {
    /// A connection, from a proxy or not, of a server with web servers or without.
    pub fn new(is_proxy: bool, has_web: bool) -> Self {
        let budget = Budget::new(1 << 20);
        let server = has_web.then(|| ([127, 0, 0, 1], 1).into());
        let web = super::Web {
            https: server,
            names: vec!["www.example.org".to_owned()],
            http: server,
            ..super::Web::default()
        };
        let accepts = opening::Accepts::new(None, true, &web);
        Self {
            header: is_proxy.then(|| proxy::HeaderBytes::new(budget.clone())),
            first: Some(opening::FirstBytes::new(accepts, budget)),
            web,
        }
    }

    /// Takes what was read, until it says what the connection is for.
    pub fn push(&mut self, bytes: &[u8]) -> Option<OpenedFor> {
        let Some(mut header) = self.header.take() else {
            return self.push_opened(bytes);
        };
        let len = match header.push(bytes) {
            Ok(proxy::Opening::Undecided) => {
                self.header = Some(header);
                return None;
            }
            Ok(proxy::Opening::Absent) => 0,
            Ok(proxy::Opening::Header { len, .. }) => len,
            Err(_) => return Some(OpenedFor::Refused),
        };
        let mut held = header.into_held();
        let bytes = if held.is_empty() { bytes } else { held.bytes() };
        match &bytes[len..] {
            [] => None,
            rest => self.push_opened(rest),
        }
    }

    fn push_opened(&mut self, bytes: &[u8]) -> Option<OpenedFor> {
        let opening = self.first.as_mut()?.push(bytes);
        Some(match opening {
            Ok(opening::Opening::Undecided) => return None,
            Ok(opening::Opening::Plain) => OpenedFor::Turn,
            Ok(opening::Opening::Http) => OpenedFor::Web,
            Ok(opening::Opening::Tls) => {
                let mut held = self.first.take()?.into_held();
                let hello = if held.is_empty() { bytes } else { held.bytes() };
                match alpn::is_for_web(hello, &self.web, None) {
                    true => OpenedFor::WebOverTls,
                    false => OpenedFor::TurnOverTls,
                }
            }
            Err(_) => OpenedFor::Refused,
        })
    }
}
