//! What `tests/fuzz` sees of connections.

use std::sync::Arc;

use rustls::ServerConfig;

use super::alpn::{TlsConfigs, is_for_web};
use super::budget::{Budget, Claim};
use super::client_hello::ClientHello;
use super::input::{Input, STRANGER_FRAME_MAX};
use super::opening::{Accepts, FirstBytes, Opening};
use super::proxy::{Header, HeaderBytes};
use super::tls::{Progress, Tls, Workbench};
use crate::engine::settings::Web;
use crate::wire::NotTurn;

/// A connection's input, for `tests/fuzz`.
#[derive(Debug)]
pub struct StreamInput(Input);

impl StreamInput {
    /// Bytes of the longest frame without an allocation.
    pub const STRANGER_FRAME_MAX: usize = STRANGER_FRAME_MAX;

    /// An input that may hold so many bytes.
    pub fn new(memory: usize) -> Self {
        Self(Input::new(Budget::new(memory)))
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
    ) -> Result<(), NotTurn> {
        let mut next = |input: &mut Input| match input.next(&mut bytes, || has_allocation) {
            Ok(Some(frame)) => {
                handle(frame);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(_) => Err(NotTurn),
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
#[derive(Debug)]
pub struct StreamOpening {
    header: Option<HeaderBytes>,
    first: Option<FirstBytes>,
    web: Web,
}

/// What a connection is for.
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

impl StreamOpening {
    /// A connection, from a proxy or not, of a server with web servers or without.
    pub fn new(is_proxy: bool, has_web: bool) -> Self {
        let budget = Budget::new(1 << 20);
        let server = has_web.then(|| ([127, 0, 0, 1], 1).into());
        let web = Web {
            https: server,
            names: vec!["www.example.org".to_owned()],
            http: server,
            ..Web::default()
        };
        let accepts = Accepts::new(None, true, &web);
        Self {
            header: is_proxy.then(|| HeaderBytes::new(budget.clone())),
            first: Some(FirstBytes::new(accepts, budget)),
            web,
        }
    }

    /// Takes what was read, until it says what the connection is for.
    pub fn push(&mut self, bytes: &[u8]) -> Option<OpenedFor> {
        let Some(mut header) = self.header.take() else {
            return self.push_opened(bytes);
        };
        let len = match header.push(bytes) {
            Ok(Header::Undecided) => {
                self.header = Some(header);
                return None;
            }
            Ok(Header::Whole { len, .. }) => len,
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
            Ok(Opening::Undecided) => return None,
            Ok(Opening::Plain) => OpenedFor::Turn,
            Ok(Opening::Http) => OpenedFor::Web,
            Ok(Opening::Tls) => {
                let mut held = self.first.take()?.take_held();
                let hello = if held.is_empty() { bytes } else { held.bytes() };
                let hello = ClientHello::read(hello);
                match is_for_web(hello.as_ref(), &self.web, Some(&[])) {
                    true => OpenedFor::WebOverTls,
                    false => OpenedFor::TurnOverTls,
                }
            }
            Err(_) => OpenedFor::Refused,
        })
    }
}

/// A connection without an allocation, from its first byte to frames.
#[derive(Debug)]
pub struct StreamConnection {
    header: Option<HeaderBytes>,
    layer: Layer,
    input: Input,
    configs: TlsConfigs,
    budget: Budget,
}

#[derive(Debug)]
enum Layer {
    Unknown(FirstBytes),
    Plain,
    Tls(Box<Tls>),
}

/// The connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over;

impl StreamConnection {
    /// A connection, from a proxy or not.
    pub fn new(config: Arc<ServerConfig>, is_proxy: bool, memory: usize) -> Self {
        let budget = Budget::new(memory);
        let accepts = Accepts::new(None, true, &Web::default());
        Self {
            header: is_proxy.then(|| HeaderBytes::new(budget.clone())),
            layer: Layer::Unknown(FirstBytes::new(accepts, budget.clone())),
            input: Input::new(budget.clone()),
            configs: TlsConfigs::new(config),
            budget,
        }
    }

    /// Takes what was read and calls `handle` with every frame that is complete.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn push(&mut self, bytes: &mut [u8], handle: impl FnMut(&[u8])) -> Result<(), Over> {
        let Some(mut header) = self.header.take() else {
            return self.push_opened(bytes, handle);
        };
        let len = match header.push(bytes).map_err(|_| Over)? {
            Header::Undecided => {
                self.header = Some(header);
                return Ok(());
            }
            Header::Whole { len, .. } => len,
        };
        let mut held = header.into_held();
        let bytes = if held.is_empty() { bytes } else { held.bytes() };
        match &mut bytes[len..] {
            [] => Ok(()),
            rest => self.push_opened(rest, handle),
        }
    }

    fn push_opened(&mut self, bytes: &mut [u8], handle: impl FnMut(&[u8])) -> Result<(), Over> {
        let opening = match &mut self.layer {
            Layer::Plain => return self.push_frames(bytes, handle),
            Layer::Tls(_) => return self.push_records(bytes, handle),
            Layer::Unknown(first) => first.push(bytes).map_err(|_| Over)?,
        };
        match opening {
            Opening::Undecided => return Ok(()),
            Opening::Http => return Err(Over),
            Opening::Plain | Opening::Tls => {}
        }
        let Layer::Unknown(mut first) = std::mem::replace(&mut self.layer, Layer::Plain) else {
            return Ok(());
        };
        if opening == Opening::Plain {
            return self.push_frames(bytes, handle);
        }
        let mut held = first.take_held();
        let bytes = if held.is_empty() { bytes } else { held.bytes() };
        let config = self.configs.of(ClientHello::read(bytes).as_ref());
        let tls = Tls::new(config, &Workbench::default(), &self.budget).map_err(|_| Over)?;
        self.layer = Layer::Tls(Box::new(tls));
        self.push_records(bytes, handle)
    }

    fn push_records(&mut self, bytes: &mut [u8], handle: impl FnMut(&[u8])) -> Result<(), Over> {
        let Layer::Tls(tls) = &mut self.layer else {
            return Ok(());
        };
        let mut plain = Vec::new();
        let progress = tls.receive(bytes, &mut plain, Claim::Stranger);
        self.push_frames(&plain, handle)?;
        match progress {
            Ok(Progress::Open) => Ok(()),
            Ok(Progress::Closed) | Err(_) => Err(Over),
        }
    }

    fn push_frames(&mut self, mut bytes: &[u8], mut handle: impl FnMut(&[u8])) -> Result<(), Over> {
        while let Some(frame) = self.input.next(&mut bytes, || false).map_err(|_| Over)? {
            handle(frame);
        }
        Ok(())
    }

    /// What waits to be sent.
    pub fn take_output(&mut self) -> Vec<u8> {
        match &mut self.layer {
            Layer::Tls(tls) => tls.take_output(),
            Layer::Unknown(_) | Layer::Plain => vec![],
        }
    }

    /// Bytes of memory that it holds.
    pub fn held(&self) -> usize {
        self.budget.used()
    }

    /// Ends it. Returns the bytes that it does not give back.
    pub fn end(self) -> usize {
        let budget = self.budget.clone();
        drop(self);
        budget.used()
    }
}
