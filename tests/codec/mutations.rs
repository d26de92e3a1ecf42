//! Everything within one cut or one byte of a vector.

use turnstone::wire::{ClassicRequest, Message};

use crate::vectors::vectors;
use crate::{agreement, invariants, oracle_stun};

/// MSG-03, MSG-04, MSG-23, STREAM-01: a cut message is never a message, and never a panic.
#[test]
fn every_prefix() {
    for packet in vectors().packets() {
        for len in 0..packet.len() {
            let prefix = &packet[..len];
            invariants::check(prefix);
            if len < 20 || Message::parse(&packet).is_ok() {
                assert!(Message::parse(prefix).is_err());
                assert_eq!(ClassicRequest::parse(prefix), None);
            }
        }
    }
}

/// MSG-23: the same after one to eight bytes more, of either extreme.
#[test]
fn every_surplus() {
    for packet in vectors().packets() {
        for filler in [0x00, 0xFF] {
            let mut longer = packet.clone();
            for _ in 0..8 {
                longer.push(filler);
                invariants::check(&longer);
                assert!(Message::parse(&packet).is_err() || Message::parse(&longer).is_err());
            }
        }
    }
}

/// MSG-01, MSG-02, MSG-03, MSG-04, MSG-23: 255 wrong values for each byte of each vector.
#[test]
fn every_byte_changed() {
    for mut packet in vectors().packets() {
        for at in 0..packet.len() {
            let right = packet[at];
            for change in 1..=255 {
                packet[at] = right ^ change;
                invariants::check(&packet);
            }
            packet[at] = right;
        }
    }
}

/// Two codecs that other people wrote see the same messages in every vector with one bit flipped,
/// but for the differences that the oracles' modules list.
#[test]
fn every_bit_flipped_means_the_same_to_others() {
    for mut packet in vectors().packets() {
        for bit in 0..packet.len() * 8 {
            packet[bit / 8] ^= 0x80 >> (bit % 8);
            oracle_stun::compare(&packet);
            agreement::compare(&packet);
            packet[bit / 8] ^= 0x80 >> (bit % 8);
        }
    }
}
