//! Methods and classes: the two halves of a STUN message type (RFC 8489 §5, RFC 8656 §17).

/// The class of a STUN message (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Wants a response.
    Request,
    /// Wants none.
    Indication,
    /// A success response.
    Success,
    /// An error response.
    Error,
}

/// The methods that this server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// RFC 8489 §3
    Binding,
    /// RFC 8656 §7
    Allocate,
    /// RFC 8656 §8
    Refresh,
    /// RFC 8656 §11.1, an indication from the client
    Send,
    /// RFC 8656 §11.3, an indication to the client
    Data,
    /// RFC 8656 §10
    CreatePermission,
    /// RFC 8656 §12
    ChannelBind,
}

impl Method {
    /// The 12-bit number (RFC 8489 §18.2, RFC 8656 §17).
    pub const fn number(self) -> u16 {
        match self {
            Self::Binding => 0x001,
            Self::Allocate => 0x003,
            Self::Refresh => 0x004,
            Self::Send => 0x006,
            Self::Data => 0x007,
            Self::CreatePermission => 0x008,
            Self::ChannelBind => 0x009,
        }
    }

    /// The method of a 12-bit number; `None` if this server does not know it.
    pub const fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            0x001 => Self::Binding,
            0x003 => Self::Allocate,
            0x004 => Self::Refresh,
            0x006 => Self::Send,
            0x007 => Self::Data,
            0x008 => Self::CreatePermission,
            0x009 => Self::ChannelBind,
            _ => return None,
        })
    }

    /// The RFC's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Binding => "Binding",
            Self::Allocate => "Allocate",
            Self::Refresh => "Refresh",
            Self::Send => "Send",
            Self::Data => "Data",
            Self::CreatePermission => "CreatePermission",
            Self::ChannelBind => "ChannelBind",
        }
    }
}

/// Packs method and class into the message type, whose class bits sit between the method's
/// (RFC 8489 §5, Figure 3).
pub(super) const fn encode_type(class: Class, method: Method) -> u16 {
    let m = method.number();
    let class = match class {
        Class::Request => 0x000,
        Class::Indication => 0x010,
        Class::Success => 0x100,
        Class::Error => 0x110,
    };
    ((m & 0xF80) << 2) | ((m & 0x070) << 1) | (m & 0x00F) | class
}

/// Splits a message type, whose two top bits are zero, into class and method number.
pub(super) const fn decode_type(message_type: u16) -> (Class, u16) {
    let class = match message_type & 0x110 {
        0x000 => Class::Request,
        0x010 => Class::Indication,
        0x100 => Class::Success,
        _ => Class::Error,
    };
    let method =
        (message_type & 0x3E00) >> 2 | (message_type & 0x00E0) >> 1 | message_type & 0x000F;
    (class, method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_splits_and_packs() {
        for message_type in 0..0x4000 {
            let (class, number) = decode_type(message_type);
            assert!(number < 0x1000);
            if let Some(method) = Method::from_number(number) {
                assert_eq!(method.number(), number);
                assert_eq!(encode_type(class, method), message_type);
            }
        }
    }
}
