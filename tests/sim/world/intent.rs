//! What a client means by a packet. The reference model judges the intent and never reads the
//! bytes; the core reads the bytes and never sees the intent.

use std::net::SocketAddr;

use turnstone::turn::{Client, IpHeader};
use turnstone::wire::{AttributeType as A, Class, MessageBuilder, Method, TransactionId};

use crate::message::{Account, Scheme, UDP, build, channel_data, send_indication, sign};

/// A packet on its way to the server.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: Client,
    pub(crate) ip: IpHeader,
    pub(crate) bytes: Vec<u8>,
    pub(crate) intent: Intent,
}

#[derive(Clone, Debug)]
pub(crate) enum Intent {
    /// Nothing that anybody should answer.
    Junk,
    Binding,
    Send {
        peer: SocketAddr,
        data: Vec<u8>,
        has_unknown: bool,
    },
    ChannelData {
        number: u16,
        data: Vec<u8>,
    },
    Request(Request),
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) id: TransactionId,
    pub(crate) account: Account,
    pub(crate) scheme: Scheme,
    pub(crate) nonce: Vec<u8>,
    pub(crate) fault: Option<Fault>,
    pub(crate) ask: Ask,
    pub(crate) has_unknown: bool,
}

/// What is wrong with the credentials of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Incomplete,
    Realm,
    Password,
    Algorithm,
}

#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Allocate(Allocate),
    Refresh {
        lifetime: Option<u32>,
        family: Option<u8>,
    },
    Permit(Vec<SocketAddr>),
    Bind {
        number: u16,
        peer: SocketAddr,
    },
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Allocate {
    pub(crate) is_tcp: bool,
    pub(crate) lifetime: Option<u32>,
    pub(crate) family: Option<u8>,
    pub(crate) additional: bool,
    /// With the R bit.
    pub(crate) even_port: Option<bool>,
    pub(crate) token: Option<Vec<u8>>,
}

impl Ask {
    pub(crate) const fn method(&self) -> Method {
        match self {
            Self::Allocate(_) => Method::Allocate,
            Self::Refresh { .. } => Method::Refresh,
            Self::Permit(_) => Method::CreatePermission,
            Self::Bind { .. } => Method::ChannelBind,
        }
    }

    fn write(&self, builder: &mut MessageBuilder<'_>) {
        match self {
            Self::Allocate(allocate) => allocate.write(builder),
            Self::Refresh { lifetime, family } => {
                if let Some(lifetime) = lifetime {
                    builder.u32(A::LIFETIME, *lifetime);
                }
                if let Some(family) = family {
                    builder.u32(A::REQUESTED_ADDRESS_FAMILY, u32::from(*family) << 24);
                }
            }
            Self::Permit(peers) => {
                for peer in peers {
                    builder.xor_address(A::XOR_PEER_ADDRESS, *peer);
                }
            }
            Self::Bind { number, peer } => {
                builder
                    .u32(A::CHANNEL_NUMBER, u32::from(*number) << 16)
                    .xor_address(A::XOR_PEER_ADDRESS, *peer);
            }
        }
    }
}

impl Allocate {
    fn write(&self, builder: &mut MessageBuilder<'_>) {
        let protocol = if self.is_tcp { 6 << 24 } else { UDP };
        builder.u32(A::REQUESTED_TRANSPORT, protocol);
        if let Some(lifetime) = self.lifetime {
            builder.u32(A::LIFETIME, lifetime);
        }
        if let Some(family) = self.family {
            builder.u32(A::REQUESTED_ADDRESS_FAMILY, u32::from(family) << 24);
        }
        if self.additional {
            builder.u32(A::ADDITIONAL_ADDRESS_FAMILY, 2 << 24);
        }
        if let Some(reserve) = self.even_port {
            builder.attribute(A::EVEN_PORT, &[if reserve { 0x80 } else { 0 }]);
        }
        if let Some(token) = &self.token {
            builder.attribute(A::RESERVATION_TOKEN, token);
        }
    }
}

impl Request {
    fn bytes(&self) -> Vec<u8> {
        build(Class::Request, self.ask.method(), self.id, |builder| {
            self.ask.write(builder);
            if self.has_unknown {
                builder.attribute(A(0x7F00), b"what");
            }
            let key = self.account.key(self.scheme.password());
            let integrity = self.scheme.request_integrity();
            match self.fault {
                None => sign(builder, &self.account, &self.nonce, self.scheme),
                Some(Fault::Password) => {
                    let mut account = self.account.clone();
                    account.password.push('?');
                    sign(builder, &account, &self.nonce, self.scheme);
                }
                Some(Fault::None) => {}
                Some(Fault::Incomplete) => {
                    builder
                        .attribute(A::USERNAME, self.account.username.as_bytes())
                        .attribute(A::NONCE, &self.nonce)
                        .integrity(integrity, key.as_bytes());
                }
                Some(Fault::Realm) => {
                    builder
                        .attribute(A::USERNAME, self.account.username.as_bytes())
                        .attribute(A::REALM, b"elsewhere")
                        .attribute(A::NONCE, &self.nonce)
                        .integrity(integrity, key.as_bytes());
                }
                Some(Fault::Algorithm) => {
                    builder.u32(A::PASSWORD_ALGORITHM, 2 << 16);
                    sign(builder, &self.account, &self.nonce, Scheme::Old);
                }
            }
        })
    }
}

impl Intent {
    /// The packet that says it.
    pub(crate) fn bytes(&self, id: TransactionId, is_stream: bool) -> Vec<u8> {
        match self {
            Self::Junk => unreachable!("junk has bytes of its own"),
            Self::Binding => build(Class::Request, Method::Binding, id, |_| {}),
            Self::Send {
                peer,
                data,
                has_unknown: false,
            } => send_indication(id, *peer, data),
            Self::Send { peer, data, .. } => {
                build(Class::Indication, Method::Send, id, |builder| {
                    builder
                        .xor_address(A::XOR_PEER_ADDRESS, *peer)
                        .attribute(A(0x7F00), b"what")
                        .attribute(A::DATA, data);
                })
            }
            Self::ChannelData { number, data } => channel_data(*number, data, is_stream),
            Self::Request(request) => request.bytes(),
        }
    }
}
