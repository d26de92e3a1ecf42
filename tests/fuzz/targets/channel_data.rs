//! ChannelData and Data indications, read and written in place.
#![no_main]

use std::net::SocketAddr;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use turnstone::wire::{
    AttributeType, ChannelData, ChannelNumber, Class, Frame, HEADROOM, Message, Method, PacketKind,
    TAILROOM, TransactionId, classify, decode_xor_address, next_frame, padded,
    prepend_channel_data, prepend_data_indication,
};

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    number: u16,
    pad: bool,
    peer: SocketAddr,
    id: [u8; 12],
    /// Before and behind the payload, and in the room for headers.
    garbage: u8,
    /// The payload's length, of which `data` is the beginning.
    len: u16,
    /// Beyond what a length field can count.
    more: bool,
    data: &'a [u8],
}

fuzz_target!(|bytes: &[u8]| {
    check_parsed(bytes);
    let mut unstructured = Unstructured::new(bytes);
    if let Ok(input) = Input::arbitrary(&mut unstructured) {
        check_channel_data(&input);
        check_data_indication(&input);
    }
});

/// What is read is what the bytes say, and what is written of it is what was read.
fn check_parsed(bytes: &[u8]) {
    let Some(ChannelData { number, payload }) = ChannelData::parse(bytes) else {
        let number = bytes.first_chunk().map(|it| u16::from_be_bytes(*it));
        let is_channel = number.is_some_and(|it| (0x4000..=0x4FFF).contains(&it));
        let promised = bytes.get(2..4).map(|it| u16::from_be_bytes([it[0], it[1]]));
        assert!(!is_channel || promised.is_none_or(|it| usize::from(it) + 4 > bytes.len()));
        return;
    };
    assert_eq!(classify(bytes), PacketKind::ChannelData);
    let (mut buffer, range) = buffer(&bytes[payload.clone()], 0xEE);
    let written = prepend_channel_data(&mut buffer, range, number, false);
    assert_eq!(
        &buffer[written.expect("its length was counted")],
        &bytes[..payload.end]
    );
}

fn buffer(payload: &[u8], garbage: u8) -> (Vec<u8>, std::ops::Range<usize>) {
    let mut buffer = vec![garbage; HEADROOM + payload.len() + TAILROOM];
    let range = HEADROOM..HEADROOM + payload.len();
    buffer[range.clone()].copy_from_slice(payload);
    (buffer, range)
}

fn payload(input: &Input<'_>) -> Vec<u8> {
    let len = usize::from(input.len) + if input.more { 1 << 16 } else { 0 };
    let mut payload = input.data.to_vec();
    payload.resize(len, input.garbage.wrapping_add(1));
    payload
}

fn check_channel_data(input: &Input<'_>) {
    let number = ChannelNumber::new(input.number);
    assert_eq!(number.is_some(), (0x4000..=0x4FFF).contains(&input.number));
    let Some(number) = number else { return };
    assert_eq!(number.get(), input.number);
    let payload = payload(input);
    let (mut buffer, range) = buffer(&payload, input.garbage);
    let written = prepend_channel_data(&mut buffer, range.clone(), number, input.pad);
    assert_eq!(written.is_some(), payload.len() <= 0xFFFF);
    let Some(written) = written else { return };
    let len = 4 + if input.pad {
        padded(payload.len())
    } else {
        payload.len()
    };
    assert_eq!(written.len(), len);
    assert_untouched(&buffer, &written, input.garbage);
    let message = &buffer[written];
    let read = ChannelData::parse(message).expect("we read what we write");
    assert_eq!(
        (read.number, &message[read.payload]),
        (number, &payload[..])
    );
    assert!(message[4 + payload.len()..].iter().all(|&byte| byte == 0));
    if input.pad {
        assert_eq!(next_frame(message), Ok(Frame::Complete { len }));
    }
}

fn check_data_indication(input: &Input<'_>) {
    let payload = payload(input);
    let id = TransactionId(input.id);
    // Flow label and scope are not on the wire.
    let peer = SocketAddr::new(input.peer.ip(), input.peer.port());
    let (mut buffer, range) = buffer(&payload, input.garbage);
    let written = prepend_data_indication(&mut buffer, range, peer, id);
    let room = if peer.is_ipv4() {
        0xFFFF - 16
    } else {
        0xFFFF - 28
    };
    assert_eq!(written.is_some(), padded(payload.len()) <= room);
    let Some(written) = written else { return };
    assert_untouched(&buffer, &written, input.garbage);
    let bytes = &buffer[written];
    assert_eq!(next_frame(bytes), Ok(Frame::Complete { len: bytes.len() }));
    let message = Message::parse(bytes).expect("we read what we write");
    assert_eq!(
        (message.class(), message.method()),
        (Class::Indication, Some(Method::Data))
    );
    assert_eq!(message.transaction_id(), id);
    assert_eq!(message.attributes().count(), 2);
    let address = message
        .first(AttributeType::XOR_PEER_ADDRESS)
        .expect("it was written");
    assert_eq!(decode_xor_address(address, &id), Ok(peer));
    assert_eq!(message.first(AttributeType::DATA), Some(&payload[..]));
    assert!(
        bytes[bytes.len() - (padded(payload.len()) - payload.len())..]
            .iter()
            .all(|&it| it == 0)
    );
}

/// Nothing was written but the message.
fn assert_untouched(buffer: &[u8], written: &std::ops::Range<usize>, garbage: u8) {
    assert!(buffer[..written.start].iter().all(|&byte| byte == garbage));
    assert!(buffer[written.end..].iter().all(|&byte| byte == garbage));
}
