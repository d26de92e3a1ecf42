//! The codec on the messages that a relay sees most, beside `stun` and `stun-types` doing the same.
//!
//! `cargo bench --bench wire`
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macro makes public functions, and a bench fails by panicking"
)]

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stun::message::Setter;
use stun_types::message::{
    IntegrityAlgorithm as OtherAlgorithm, IntegrityKey, LongTermKeyCredentials, MessageClass,
    MessageType, MessageWriteMutSlice,
};
use stun_types::prelude::*;
use turnstone::wire::{
    AttributeType, ChannelData, ChannelNumber, Class, ErrorCode, HEADROOM, IntegrityAlgorithm,
    Message, MessageBuilder, Method, TAILROOM, TransactionId, decode_lifetime, decode_xor_address,
    next_frame, prepend_channel_data, prepend_data_indication, verify_integrity,
};

/// The MD5 key of user `alice`, realm `example.org`, password `wonderland`.
const KEY: [u8; 16] = [
    0x72, 0xf8, 0x6f, 0x20, 0x53, 0x70, 0x3f, 0xaa, 0x0f, 0x52, 0x1c, 0xe7, 0x1c, 0xfe, 0x6f, 0x59,
];
const REALM: &[u8] = b"example.org";
const NONCE: &[u8] = b"obMatJos2AAAA68f0c1e29a7b3d5c";
const ID: TransactionId = TransactionId([0xA1; 12]);

/// The audio packet and the video packet of WebRTC.
const PAYLOADS: [usize; 2] = [160, 1200];

fn other_key() -> IntegrityKey {
    LongTermKeyCredentials::new("alice".into(), "wonderland".into(), "example.org".into())
        .make_key(OtherAlgorithm::Sha1)
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn build(class: Class, method: Method, fill: impl FnOnce(&mut MessageBuilder<'_>)) -> Vec<u8> {
    let mut buffer = vec![0; 2048];
    let mut builder = MessageBuilder::new(&mut buffer, class, method, ID);
    fill(&mut builder);
    let len = builder.finish().unwrap();
    buffer.truncate(len);
    buffer
}

fn allocate() -> Vec<u8> {
    build(Class::Request, Method::Allocate, |builder| {
        builder
            .u32(AttributeType::REQUESTED_TRANSPORT, 17 << 24)
            .u32(AttributeType::LIFETIME, 3600)
            .attribute(AttributeType::USERNAME, b"alice")
            .attribute(AttributeType::REALM, REALM)
            .attribute(AttributeType::NONCE, NONCE)
            .integrity(IntegrityAlgorithm::Sha1, &KEY);
    })
}

fn send_indication(payload: usize, fingerprint: bool) -> Vec<u8> {
    build(Class::Indication, Method::Send, |builder| {
        builder
            .xor_address(
                AttributeType::XOR_PEER_ADDRESS,
                address("198.51.100.7:50001"),
            )
            .attribute(AttributeType::DATA, &vec![0xAB; payload]);
        if fingerprint {
            builder.fingerprint();
        }
    })
}

/// An Allocate with long-term credentials: read only, and read with what a server does to it.
fn parse_allocate(c: &mut Criterion) {
    let bytes = allocate();
    let mut group = c.benchmark_group("allocate/parse");
    group.bench_function("turnstone", |b| {
        b.iter(|| Message::parse(black_box(&bytes)).unwrap());
    });
    group.bench_function("stun", |b| {
        let mut message = stun::message::Message::new();
        b.iter(|| message.unmarshal_binary(black_box(&bytes)).unwrap());
    });
    group.bench_function("stun-types", |b| {
        b.iter(|| stun_types::message::Message::from_bytes(black_box(&bytes)).unwrap());
    });
    group.finish();

    let mut group = c.benchmark_group("allocate/parse+attributes+integrity");
    group.bench_function("turnstone", |b| {
        b.iter(|| {
            let message = Message::parse(black_box(&bytes)).unwrap();
            for kind in [
                AttributeType::USERNAME,
                AttributeType::REALM,
                AttributeType::NONCE,
                AttributeType::REQUESTED_TRANSPORT,
            ] {
                black_box(message.first(kind).unwrap());
            }
            black_box(decode_lifetime(message.first(AttributeType::LIFETIME).unwrap()).unwrap());
            assert!(verify_integrity(&message, IntegrityAlgorithm::Sha1, &KEY));
        });
    });
    group.bench_function("stun", |b| {
        let mut message = stun::message::Message::new();
        let key = stun::integrity::MessageIntegrity(KEY.to_vec());
        b.iter(|| {
            message.unmarshal_binary(black_box(&bytes)).unwrap();
            for kind in [
                stun::attributes::ATTR_USERNAME,
                stun::attributes::ATTR_REALM,
                stun::attributes::ATTR_NONCE,
                stun::attributes::ATTR_REQUESTED_TRANSPORT,
                stun::attributes::ATTR_LIFETIME,
            ] {
                black_box(message.get(kind).unwrap());
            }
            key.check(&mut message).unwrap();
        });
    });
    group.bench_function("stun-types (keyed HMAC kept)", |b| {
        let key = other_key();
        b.iter(|| {
            let message = stun_types::message::Message::from_bytes(black_box(&bytes)).unwrap();
            for kind in [0x0006, 0x0014, 0x0015, 0x0019, 0x000D] {
                let kind = stun_types::attribute::AttributeType::new(kind);
                black_box(message.raw_attribute(kind).unwrap());
            }
            message.validate_integrity_with_key(&key).unwrap();
        });
    });
    group.finish();
}

/// The data path of a client without channels, with and without FINGERPRINT (FP-05).
fn parse_send(c: &mut Criterion) {
    for payload in PAYLOADS {
        for fingerprint in [false, true] {
            let bytes = send_indication(payload, fingerprint);
            let with = if fingerprint { "+fingerprint" } else { "" };
            let mut group = c.benchmark_group(format!("send-indication/{payload}{with}"));
            group.bench_function("turnstone", |b| {
                b.iter(|| {
                    let message = Message::parse(black_box(&bytes)).unwrap();
                    let peer = message.first(AttributeType::XOR_PEER_ADDRESS).unwrap();
                    let data = message.first(AttributeType::DATA).unwrap();
                    let id = message.transaction_id();
                    black_box((decode_xor_address(peer, &id).unwrap(), data.len()))
                });
            });
            group.bench_function("stun", |b| {
                let mut message = stun::message::Message::new();
                b.iter(|| {
                    message.unmarshal_binary(black_box(&bytes)).unwrap();
                    let mut peer = stun::xoraddr::XorMappedAddress::default();
                    peer.get_from_as(&message, stun::attributes::ATTR_XOR_PEER_ADDRESS)
                        .unwrap();
                    if fingerprint {
                        stun::fingerprint::FINGERPRINT.check(&message).unwrap();
                    }
                    let data = message.get(stun::attributes::ATTR_DATA).unwrap();
                    black_box((peer, data.len()))
                });
            });
            group.bench_function("stun-types", |b| {
                b.iter(|| {
                    let message =
                        stun_types::message::Message::from_bytes(black_box(&bytes)).unwrap();
                    let peer = message.raw_attribute(0x0012.into()).unwrap();
                    let peer = stun_types::attribute::XorSocketAddr::from_raw(&peer).unwrap();
                    let data = message.raw_attribute(0x0013.into()).unwrap();
                    black_box((peer.addr(message.transaction_id()), data.value.len()))
                });
            });
            group.finish();
        }
    }
}

/// The data path of everyone else. What is not touched does not count: payloads of both sizes cost
/// the same.
fn channel_data(c: &mut Criterion) {
    let mut group = c.benchmark_group("channel-data");
    group.throughput(Throughput::Elements(1));
    let mut packet = vec![0xAB; 4 + 1200];
    packet[..4].copy_from_slice(&[0x40, 0x00, 0x04, 0xB0]);
    group.bench_function("parse", |b| {
        b.iter(|| ChannelData::parse(black_box(&packet)).unwrap());
    });
    group.bench_function("next_frame", |b| {
        b.iter(|| next_frame(black_box(&packet)).unwrap());
    });
    let mut buffer = vec![0xAB; HEADROOM + 1200 + TAILROOM];
    let payload = HEADROOM..HEADROOM + 1200;
    group.bench_function("prepend", |b| {
        let number = ChannelNumber::MIN;
        b.iter(|| prepend_channel_data(black_box(&mut buffer), payload.clone(), number, false));
    });
    for (name, peer) in [("v4", "198.51.100.7:50001"), ("v6", "[2001:db8::7]:50001")] {
        let peer = address(peer);
        group.bench_function(format!("prepend-data-indication/{name}"), |b| {
            b.iter(|| prepend_data_indication(black_box(&mut buffer), payload.clone(), peer, ID));
        });
    }
    group.finish();
}

/// The challenge that any stranger can ask for.
fn build_401(c: &mut Criterion) {
    let mut group = c.benchmark_group("build/401");
    let mut buffer = [0; 512];
    group.bench_function("turnstone", |b| {
        b.iter(|| {
            MessageBuilder::new(black_box(&mut buffer), Class::Error, Method::Allocate, ID)
                .error_code(
                    ErrorCode::Unauthenticated,
                    ErrorCode::Unauthenticated.phrase(),
                )
                .attribute(AttributeType::REALM, REALM)
                .attribute(AttributeType::NONCE, NONCE)
                .finish()
                .unwrap()
        });
    });
    group.bench_function("stun", |b| {
        let mut message = stun::message::Message::new();
        b.iter(|| {
            message.reset();
            message.transaction_id.0 = ID.0;
            message.typ = stun::message::MessageType::new(
                stun::message::METHOD_ALLOCATE,
                stun::message::CLASS_ERROR_RESPONSE,
            );
            message.write_header();
            let error = stun::error_code::ErrorCodeAttribute {
                code: stun::error_code::CODE_UNAUTHORIZED,
                reason: ErrorCode::Unauthenticated.phrase().into(),
            };
            error.add_to(&mut message).unwrap();
            message.add(stun::attributes::ATTR_REALM, REALM);
            message.add(stun::attributes::ATTR_NONCE, NONCE);
            black_box(message.raw.len())
        });
    });
    group.bench_function("stun-types", |b| {
        let realm = std::str::from_utf8(REALM).unwrap();
        let nonce = std::str::from_utf8(NONCE).unwrap();
        b.iter(|| {
            let mut message = other_builder(black_box(&mut buffer), MessageClass::Error);
            let phrase = ErrorCode::Unauthenticated.phrase();
            let error = stun_types::attribute::ErrorCode::new(401, phrase).unwrap();
            let realm = stun_types::attribute::Realm::new(realm).unwrap();
            let nonce = stun_types::attribute::Nonce::new(nonce).unwrap();
            message.add_attribute(&error).unwrap();
            message.add_attribute(&realm).unwrap();
            message.add_attribute(&nonce).unwrap();
            message.finish()
        });
    });
    group.finish();
}

fn other_builder(buffer: &mut [u8], class: MessageClass) -> MessageWriteMutSlice<'_> {
    let method = stun_types::message::Method::new(Method::Allocate.number());
    let message_type = MessageType::from_class_method(class, method);
    let id = u128::from_be_bytes([0xA1; 16]).into();
    let buffer = MessageWriteMutSlice::new(buffer);
    stun_types::message::Message::builder(message_type, id, buffer)
}

/// The success reply, signed.
fn build_success(c: &mut Criterion) {
    let mut group = c.benchmark_group("build/allocate-success+integrity");
    let (relayed, mapped) = (address("192.0.2.15:49160"), address("203.0.113.9:40000"));
    let mut buffer = [0; 512];
    group.bench_function("turnstone", |b| {
        b.iter(|| {
            MessageBuilder::new(black_box(&mut buffer), Class::Success, Method::Allocate, ID)
                .xor_address(AttributeType::XOR_RELAYED_ADDRESS, relayed)
                .xor_address(AttributeType::XOR_MAPPED_ADDRESS, mapped)
                .u32(AttributeType::LIFETIME, 600)
                .integrity(IntegrityAlgorithm::Sha1, &KEY)
                .finish()
                .unwrap()
        });
    });
    group.bench_function("stun", |b| {
        let mut message = stun::message::Message::new();
        let key = stun::integrity::MessageIntegrity(KEY.to_vec());
        b.iter(|| {
            message.reset();
            message.transaction_id.0 = ID.0;
            message.typ = stun::message::MessageType::new(
                stun::message::METHOD_ALLOCATE,
                stun::message::CLASS_SUCCESS_RESPONSE,
            );
            message.write_header();
            for (kind, address) in [
                (stun::attributes::ATTR_XOR_RELAYED_ADDRESS, relayed),
                (stun::attributes::ATTR_XORMAPPED_ADDRESS, mapped),
            ] {
                stun::xoraddr::XorMappedAddress {
                    ip: address.ip(),
                    port: address.port(),
                }
                .add_to_as(&mut message, kind)
                .unwrap();
            }
            message.add(stun::attributes::ATTR_LIFETIME, &600_u32.to_be_bytes());
            key.add_to(&mut message).unwrap();
            black_box(message.raw.len())
        });
    });
    group.bench_function("stun-types (keyed HMAC kept)", |b| {
        let key = other_key();
        b.iter(|| {
            let mut message = other_builder(black_box(&mut buffer), MessageClass::Success);
            let id = message.transaction_id();
            let relayed = turn_types::attribute::XorRelayedAddress::new(relayed, id);
            let mapped = stun_types::attribute::XorMappedAddress::new(mapped, id);
            message.add_attribute(&relayed).unwrap();
            message.add_attribute(&mapped).unwrap();
            let lifetime = turn_types::attribute::Lifetime::new(600);
            message.add_attribute(&lifetime).unwrap();
            message
                .add_message_integrity_with_key(&key, OtherAlgorithm::Sha1)
                .unwrap();
            message.finish()
        });
    });
    group.finish();
}

criterion_group!(
    benches,
    parse_allocate,
    parse_send,
    channel_data,
    build_401,
    build_success
);
criterion_main!(benches);
