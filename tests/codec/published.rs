//! Published vectors, and messages that were made and checked by two other programs.

use turnstone::wire::{
    AttributeType, BadAttribute, ChannelData, ChannelNumber, Class, ErrorCode, EvenPort, Family,
    HEADROOM, IcmpAttribute, IntegrityAlgorithm, Malformed, Message, MessageBuilder, Method,
    RequestedTransport, TAILROOM, decode_address, decode_channel_number, decode_error_code,
    decode_lifetime, decode_xor_address, prepend_channel_data, prepend_data_indication,
    verify_integrity,
};

use crate::rebuild::{ERROR_CODES, rebuild};
use crate::vectors::{Vector, in_message, vectors, without_fingerprint};

const ALGORITHMS: [IntegrityAlgorithm; 2] = [IntegrityAlgorithm::Sha1, IntegrityAlgorithm::Sha256];

fn text<'a>(message: &Message<'a>, attribute_type: AttributeType) -> &'a str {
    std::str::from_utf8(message.first(attribute_type).unwrap()).unwrap()
}

/// MSG-05, MSG-10, FP-03, BIND-02
#[test]
fn rfc_5769_says_what_its_text_says() {
    let all = vectors();
    let expected = [
        ("rfc5769-2.1", Class::Request, None),
        ("rfc5769-2.2", Class::Success, Some("192.0.2.1:32853")),
        (
            "rfc5769-2.3",
            Class::Success,
            Some("[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
        ),
        ("rfc5769-2.4", Class::Request, None),
    ];
    for (name, class, address) in expected {
        let vector = all.rfc(name);
        let message = Message::parse(&vector.bytes).unwrap();
        assert_eq!(
            (message.class(), message.method()),
            (class, Some(Method::Binding))
        );
        assert_eq!(message.has_fingerprint(), name != "rfc5769-2.4");
        let key = vector.key(IntegrityAlgorithm::Sha1);
        assert!(verify_integrity(&message, IntegrityAlgorithm::Sha1, key));
        assert!(!verify_integrity(&message, IntegrityAlgorithm::Sha256, key));
        assert!(!verify_integrity(&message, IntegrityAlgorithm::Sha1, b"x"));
        let value = message.first(AttributeType::XOR_MAPPED_ADDRESS);
        let seen = value.map(|value| decode_xor_address(value, &message.transaction_id()).unwrap());
        assert_eq!(seen, address.map(|address| address.parse().unwrap()));
    }

    let message = Message::parse(&all.rfc("rfc5769-2.1").bytes).unwrap();
    assert_eq!(text(&message, AttributeType::USERNAME), "evtj:h6vY");
    assert_eq!(text(&message, AttributeType::SOFTWARE), "STUN test client");
    assert_eq!(
        message.first(AttributeType::PRIORITY).unwrap(),
        0x6E00_01FF_u32.to_be_bytes()
    );
    let message = Message::parse(&all.rfc("rfc5769-2.2").bytes).unwrap();
    assert_eq!(text(&message, AttributeType::SOFTWARE), "test vector");
    let message = Message::parse(&all.rfc("rfc5769-2.4").bytes).unwrap();
    assert_eq!(text(&message, AttributeType::USERNAME), "マトリックス");
    assert_eq!(text(&message, AttributeType::REALM), "example.org");
    assert_eq!(
        text(&message, AttributeType::NONCE),
        "f//499k954d6OL34oL9FSTvy64sA"
    );
}

/// MSG-03: the sample of RFC 8489 B.1 counts the header in its length. With that corrected, and as
/// erratum 6268 has it, it verifies.
#[test]
fn rfc_8489_b1_in_three_forms() {
    let all = vectors();
    let printed = all.rfc("rfc8489-B.1-as-printed");
    assert_eq!(
        Message::parse(&printed.bytes).unwrap_err(),
        Malformed::Length
    );
    for name in ["rfc8489-B.1-length-fixed", "rfc8489-B.1-erratum-6268"] {
        let vector = all.rfc(name);
        let message = Message::parse(&vector.bytes).unwrap();
        let key = vector.key(IntegrityAlgorithm::Sha256);
        assert!(verify_integrity(&message, IntegrityAlgorithm::Sha256, key));
        assert!(!verify_integrity(&message, IntegrityAlgorithm::Sha1, key));
        assert_eq!(message.first(AttributeType::USERHASH).unwrap().len(), 32);
        assert_eq!(text(&message, AttributeType::REALM), "example.org");
        assert_eq!(message.first(AttributeType::USERNAME), None);
    }
}

/// FP-01, FP-03
#[test]
fn fingerprint_of_the_smallest_request() {
    let all = vectors();
    let plain = &all.rfc("binding-request-min").bytes;
    let message = Message::parse(plain).unwrap();
    assert!(!message.has_fingerprint());
    let mut buffer = [0xEE; 28];
    let id = message.transaction_id();
    let len = MessageBuilder::new(&mut buffer, Class::Request, Method::Binding, id)
        .fingerprint()
        .finish();
    assert_eq!(len, Ok(28));
    assert_eq!(buffer[..], all.rfc("binding-request-fp").bytes);
    assert!(Message::parse(&buffer).unwrap().has_fingerprint());
}

/// BIND-02
#[test]
fn addresses_in_both_forms() {
    for vector in &vectors().addresses {
        let id = vector.transaction_id;
        assert_eq!(
            decode_xor_address(&vector.xored[4..], &id),
            Ok(vector.address)
        );
        assert_eq!(decode_address(&vector.plain[4..]), Ok(vector.address));

        let mut buffer = [0xEE; 128];
        let len = MessageBuilder::new(&mut buffer, Class::Success, Method::Binding, id)
            .xor_address(AttributeType::XOR_MAPPED_ADDRESS, vector.address)
            .address(AttributeType::MAPPED_ADDRESS, vector.address)
            .finish()
            .unwrap();
        assert_eq!(
            buffer[20..len],
            [&vector.xored[..], &vector.plain[..]].concat()
        );
    }
}

/// PERM-03: no other length, no other family.
#[test]
fn addresses_of_wrong_shape_are_refused() {
    let id = vectors().addresses[0].transaction_id;
    for family in 0..=255 {
        for len in 0..=32 {
            let mut value = vec![0; len];
            if len > 1 {
                value[1] = family;
            }
            let right = matches!((family, len), (1, 8) | (2, 20));
            assert_eq!(decode_address(&value).is_ok(), right, "{family} {len}");
            assert_eq!(decode_xor_address(&value, &id).is_ok(), right);
            if let Some(first) = value.first_mut() {
                *first = 0xFF; // ignored by receivers (RFC 8489 §14.1)
                assert_eq!(decode_address(&value).is_ok(), right);
            }
        }
    }
}

/// Every message of both exchanges verifies under its key and under no other. B13 is truncated,
/// which TURN does not permit.
#[test]
fn exchanges_verify() {
    let all = vectors();
    let mut verified = 0;
    for vector in all.exchanges() {
        let message = Message::parse(&vector.bytes).unwrap();
        for algorithm in ALGORITHMS {
            let key = vector.key(algorithm);
            let right = message.integrity(algorithm).is_some() && !vector.is("B13");
            assert_eq!(
                verify_integrity(&message, algorithm, key),
                right,
                "{}",
                vector.name
            );
            assert!(!verify_integrity(&message, algorithm, b""));
            assert!(!verify_integrity(&message, algorithm, &key[1..]));
            verified += u32::from(right);
        }
    }
    assert_eq!(verified, 25);
}

/// MSG-18: what follows MESSAGE-INTEGRITY does not count, though it is in the message.
#[test]
fn smuggled_lifetime_is_not_seen() {
    let vector = vectors().exchange("A18");
    let message = Message::parse(&vector.bytes).unwrap();
    assert!(vector.bytes.ends_with(&[0x00, 0x0D, 0, 4, 0, 0, 0, 0]));
    assert_eq!(message.first(AttributeType::LIFETIME), None);
    assert!(
        message
            .attributes()
            .all(|a| a.attribute_type != AttributeType::LIFETIME)
    );
    let key = vector.key(IntegrityAlgorithm::Sha1);
    assert!(verify_integrity(&message, IntegrityAlgorithm::Sha1, key));
}

/// AUTH-06: one wrong bit anywhere in what integrity covers, or in the value, and it fails. A
/// FINGERPRINT is taken off first, or it would catch them all.
#[test]
fn one_wrong_bit_breaks_integrity() {
    let mut flips = 0;
    for vector in vectors().messages() {
        let mut bytes = without_fingerprint(&vector.bytes);
        for algorithm in ALGORITHMS {
            let key = vector.key(algorithm);
            let signed = |bytes: &[u8]| {
                Message::parse(bytes).is_ok_and(|m| verify_integrity(&m, algorithm, key))
            };
            if !signed(&bytes) {
                continue;
            }
            let message = Message::parse(&bytes).unwrap();
            let end = message.integrity(algorithm).unwrap().0 + 4 + algorithm.value_len();
            for bit in 0..end * 8 {
                bytes[bit / 8] ^= 0x80 >> (bit % 8);
                assert!(!signed(&bytes), "{}, bit {bit}", vector.name);
                bytes[bit / 8] ^= 0x80 >> (bit % 8);
                flips += 1;
            }
        }
    }
    assert!(flips > 25_000, "{flips}");
}

/// The vectors that have padding other than zeros.
fn has_foreign_padding(vector: &Vector) -> bool {
    matches!(&vector.name[..], "rfc5769-2.1" | "rfc5769-2.2")
        || vector.name.starts_with("rfc5769-2.3")
}

/// MSG-05, MSG-21, FP-03: what was read and is written again is the same bytes.
#[test]
fn messages_are_rebuilt_to_the_byte() {
    for vector in vectors().messages() {
        let Ok(message) = Message::parse(&vector.bytes) else {
            assert_eq!(vector.name, "rfc8489-B.1-as-printed");
            continue;
        };
        let rebuilt = rebuild(&message, vector);
        if vector.is("A18") {
            // All but the smuggled attribute.
            assert_eq!(rebuilt[4..], vector.bytes[4..rebuilt.len()]);
            assert_eq!(rebuilt.len() + 8, vector.bytes.len());
        } else if has_foreign_padding(vector) {
            let again = Message::parse(&rebuilt).unwrap();
            assert_ne!(rebuilt, vector.bytes);
            assert!(message.attributes().eq(again.attributes()));
            let key = vector.key(IntegrityAlgorithm::Sha1);
            assert!(verify_integrity(&again, IntegrityAlgorithm::Sha1, key));
            assert_eq!(rebuilt.len(), vector.bytes.len());
        } else {
            assert_eq!(rebuilt, vector.bytes, "{}", vector.name);
        }
    }
}

/// SEND-07, SEND-08: the header in the headroom is the header of the builder.
#[test]
fn data_indication_in_place_is_the_vector() {
    let vector = vectors().exchange("A08");
    let message = Message::parse(&vector.bytes).unwrap();
    let peer = message.first(AttributeType::XOR_PEER_ADDRESS).unwrap();
    let data = message.first(AttributeType::DATA).unwrap();
    let mut buffer = vec![0xEE; HEADROOM + data.len() + TAILROOM];
    let payload = HEADROOM..HEADROOM + data.len();
    buffer[payload.clone()].copy_from_slice(data);
    let peer = decode_xor_address(peer, &message.transaction_id()).unwrap();
    let range =
        prepend_data_indication(&mut buffer, payload, peer, message.transaction_id()).unwrap();
    assert_eq!(buffer[range], vector.bytes);
}

/// CHAN-12, CHAN-13, CHAN-14
#[test]
fn channel_data_on_both_kinds_of_transport() {
    for vector in &vectors().channel_data {
        for (bytes, pad) in [(&vector.udp, false), (&vector.stream, true)] {
            let parsed = ChannelData::parse(bytes).unwrap();
            assert_eq!(parsed.number.get(), vector.channel);
            assert_eq!(bytes[parsed.payload], vector.payload);

            let mut buffer = vec![0xEE; HEADROOM + vector.payload.len() + TAILROOM];
            let payload = HEADROOM..HEADROOM + vector.payload.len();
            buffer[payload.clone()].copy_from_slice(&vector.payload);
            let number = ChannelNumber::new(vector.channel).unwrap();
            let range = prepend_channel_data(&mut buffer, payload, number, pad).unwrap();
            assert_eq!(&buffer[range], bytes);
        }
    }
}

/// MSG-07, MSG-08: class and method of every type; the methods of RFC 6062 are not ours.
#[test]
fn message_types() {
    for vector in &vectors().types {
        for (class, number) in vector.types {
            let mut bytes = in_message(&[]);
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            let message = Message::parse(&bytes).unwrap();
            assert_eq!(message.class(), class, "{}", vector.method);
            let Some(method) = message.method() else {
                assert!(vector.method.starts_with("Connect"), "{}", vector.method);
                continue;
            };
            assert_eq!(method.name(), vector.method);
            let mut buffer = [0; 20];
            let id = message.transaction_id();
            let len = MessageBuilder::new(&mut buffer, class, method, id).finish();
            assert_eq!(len, Ok(20));
            assert_eq!(buffer[..], bytes);
        }
    }
    assert_eq!(vectors().types.len(), 10);
}

/// Writes the attribute of a vector's name with the builder's own method for it; `None` if the
/// server never sends it, or only as an opaque value.
fn build_attribute(name: &str, builder: &mut MessageBuilder<'_>) -> Option<()> {
    let icmp = |icmp_type, icmp_code, error_data| {
        IcmpAttribute {
            icmp_type,
            icmp_code,
            error_data,
        }
        .encode()
    };
    match name {
        "LIFETIME 600" => builder.u32(AttributeType::LIFETIME, 600),
        "ADDRESS-ERROR-CODE IPv4 508 (no phrase)" => {
            builder.address_error_code(Family::V4, ErrorCode::InsufficientCapacity)
        }
        "ICMP type 3 code 4 MTU 1400 (8+8-bit reading)" => {
            builder.attribute(AttributeType::ICMP, &icmp(3, 4, 1400))
        }
        "ICMPv6 type 1 code 4" => builder.attribute(AttributeType::ICMP, &icmp(1, 4, 0)),
        "UNKNOWN-ATTRIBUTES 0x7ffe" => builder.unknown_attributes(&[AttributeType(0x7FFE)]),
        "DONT-FRAGMENT" => builder.attribute(AttributeType::DONT_FRAGMENT, &[]),
        _ => {
            let number = name.strip_prefix("ERROR-CODE ")?;
            let code = ERROR_CODES
                .into_iter()
                .find(|code| code.number().to_string() == number)?;
            builder.error_code(code, code.phrase())
        }
    };
    Some(())
}

/// MSG-05, MSG-21, ICMP-03
#[test]
fn attributes_of_the_table_are_written() {
    let mut written = 0;
    for vector in &vectors().attributes {
        let mut buffer = [0xEE; 128];
        let id = vectors().addresses[0].transaction_id;
        let mut builder = MessageBuilder::new(&mut buffer, Class::Error, Method::Allocate, id);
        if build_attribute(&vector.name, &mut builder).is_some() {
            let len = builder.finish().unwrap();
            assert_eq!(buffer[20..len], vector.bytes, "{}", vector.name);
            written += 1;
        }
    }
    // Every error code that the server has, and the other six.
    assert_eq!(written, ERROR_CODES.len() + 6);
}

/// MSG-04, MSG-05, MSG-21, CHAN-01, CHAN-02: every attribute of the table is read back with its
/// own type and length, and by the decoder for it.
#[test]
fn attributes_of_the_table_are_read() {
    for vector in &vectors().attributes {
        let bytes = in_message(&vector.bytes);
        let message = Message::parse(&bytes).unwrap();
        let mut attributes = message.attributes();
        let attribute = attributes.next().unwrap();
        assert_eq!(attributes.next(), None, "{}", vector.name);
        assert_eq!(
            attribute.attribute_type.0.to_be_bytes(),
            vector.bytes[..2],
            "{}",
            vector.name
        );
        let (attribute_type, value) = (attribute.attribute_type, attribute.value);
        let mut words = vector.name.split(' ');
        let name = words.next().unwrap();
        if let Some(known) = attribute_type.name() {
            assert!(
                known == name || (known, name) == ("ICMP", "ICMPv6"),
                "{known}"
            );
        }
        let argument = words.next().unwrap_or_default();
        match attribute_type {
            AttributeType::ERROR_CODE => {
                let (number, phrase) = decode_error_code(value).unwrap();
                assert_eq!(number.to_string(), argument);
                let code = ERROR_CODES.into_iter().find(|code| code.number() == number);
                assert!(code.is_none_or(|code| code.phrase() == phrase));
            }
            AttributeType::REQUESTED_TRANSPORT => {
                let udp = RequestedTransport::decode(value).unwrap() == RequestedTransport::UDP;
                assert_eq!(udp, argument == "UDP");
            }
            AttributeType::REQUESTED_ADDRESS_FAMILY | AttributeType::ADDITIONAL_ADDRESS_FAMILY => {
                assert_eq!(Family::decode(value), Ok(Some(Family::V6)));
            }
            AttributeType::EVEN_PORT => {
                let reserve_next = argument == "R=1";
                assert_eq!(EvenPort::decode(value), Ok(EvenPort { reserve_next }));
            }
            AttributeType::CHANNEL_NUMBER => {
                assert_eq!(decode_channel_number(value), Ok(ChannelNumber::MAX));
            }
            AttributeType::LIFETIME => assert_eq!(decode_lifetime(value), Ok(600)),
            _ if matches!(
                name,
                "OTHER-ADDRESS" | "RESPONSE-ORIGIN" | "ALTERNATE-SERVER"
            ) =>
            {
                assert_eq!(decode_address(value), Ok(argument.parse().unwrap()));
            }
            _ => {}
        }
    }
}

/// CHAN-02, MSG-21: what is reserved for future use is ignored by receivers.
#[test]
fn reserved_bits_are_ignored() {
    let (none, kept) = (EvenPort::decode(&[0x7F]), EvenPort::decode(&[0xFF]));
    assert!(!none.unwrap().reserve_next && kept.unwrap().reserve_next);
    let transport = RequestedTransport::decode(&[17, 1, 2, 3]);
    assert_eq!(transport, Ok(RequestedTransport::UDP));
    assert_eq!(Family::decode(&[1, 1, 2, 3]), Ok(Some(Family::V4)));
    assert_eq!(Family::decode(&[7, 0, 0, 0]), Ok(None));
    let channel = decode_channel_number(&[0x40, 0x00, 0xFF, 0xFF]);
    assert_eq!(channel, Ok(ChannelNumber::MIN));
    assert_eq!(
        decode_error_code(&[0xFF, 0xFF, 0xFC, 20]),
        Ok((420, "")),
        "21 reserved bits"
    );
    for impossible in [[0, 0, 2, 99], [0, 0, 7, 0], [0, 0, 4, 100]] {
        assert_eq!(decode_error_code(&impossible), Err(BadAttribute));
    }
    assert_eq!(decode_error_code(&[0, 0, 4, 0, 0xC3]), Err(BadAttribute));
}

/// What the codec says of a vector that deserves no reply.
enum Drop {
    /// No message.
    As(Malformed),
    /// A message, whose method this server does not know.
    Method,
    /// A message, whose class its method does not have or a client does not send: the protocol
    /// drops it.
    Class(Class, Method),
    /// A message, whose attribute cannot be read.
    PeerAddress,
    /// A message, whose integrity is wrong under any key.
    Integrity,
    /// No ChannelData.
    ChannelData,
}

fn why_dropped(name: &str) -> Drop {
    match name {
        "empty" | "1 byte" | "19 bytes of a header" => Drop::As(Malformed::Short),
        "length 1 (not multiple of 4)"
        | "length 4, no body"
        | "length 0, 4 trailing bytes"
        | "length 0xfffc" => Drop::As(Malformed::Length),
        "attribute header cut (body of 2 would need length 2)"
        | "attribute length 0xffff"
        | "attribute length past the end by padding only" => Drop::As(Malformed::Attribute),
        "wrong cookie" => Drop::As(Malformed::Cookie),
        // The first of them is ChannelData on a channel that nobody bound.
        "top bits 01" | "top bits 10 (RTP)" => Drop::As(Malformed::NotStun),
        "bad FINGERPRINT" | "FINGERPRINT of length 8" | "attribute after FINGERPRINT" => {
            Drop::As(Malformed::Fingerprint)
        }
        "method 0x000 request" | "method 0x002 (SharedSecret)" | "method 0xfff request" => {
            Drop::Method
        }
        "Allocate indication" => Drop::Class(Class::Indication, Method::Allocate),
        "Send request" => Drop::Class(Class::Request, Method::Send),
        "Data indication from a client" => Drop::Class(Class::Indication, Method::Data),
        "Binding success out of the blue" => Drop::Class(Class::Success, Method::Binding),
        "MESSAGE-INTEGRITY of length 0" => Drop::Integrity,
        "XOR-PEER-ADDRESS of length 0" => Drop::PeerAddress,
        _ if name.starts_with("ChannelData: ") => Drop::ChannelData,
        _ => panic!("what becomes of {name}?"),
    }
}

/// MSG-01, MSG-02, MSG-03, MSG-04, MSG-07, MSG-19, FP-02, CHAN-11, CHAN-12
#[test]
fn malformed_is_told_from_merely_unwanted() {
    for vector in &vectors().malformed {
        let bytes = &vector.bytes;
        let message = Message::parse(bytes);
        match why_dropped(&vector.name) {
            Drop::As(reason) => assert_eq!(message.unwrap_err(), reason, "{}", vector.name),
            Drop::Method => assert_eq!(message.unwrap().method(), None),
            Drop::Class(class, method) => {
                let message = message.unwrap();
                assert_eq!((message.class(), message.method()), (class, Some(method)));
            }
            Drop::PeerAddress => {
                let message = message.unwrap();
                let value = message.first(AttributeType::XOR_PEER_ADDRESS).unwrap();
                let id = message.transaction_id();
                assert_eq!(decode_xor_address(value, &id), Err(BadAttribute));
            }
            Drop::Integrity => {
                let message = message.unwrap();
                assert!(message.has_integrity());
                for key in [&b""[..], &vectors().md5_key] {
                    assert!(!verify_integrity(&message, IntegrityAlgorithm::Sha1, key));
                }
            }
            Drop::ChannelData => {
                assert!(message.is_err());
                assert_eq!(ChannelData::parse(bytes), None);
            }
        }
    }
}
