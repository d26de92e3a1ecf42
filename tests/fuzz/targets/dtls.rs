//! Datagrams of strangers to a listener for DTLS: whether they are a ClientHello, and the answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnstone::engine::answer_client_hello;

fuzz_target!(|input: &[u8]| {
    let mut datagram = input.to_vec();
    let Some(answer) = answer_client_hello(&mut datagram) else {
        return;
    };
    // RFC 6347: no more goes to an address that anybody may have written.
    assert!(answer.len() < input.len());
    // Of one record, and nothing but its number has changed.
    assert_eq!(datagram.len(), input.len());
    assert_eq!(
        (&datagram[..5], &datagram[11..]),
        (&input[..5], &input[11..])
    );
    assert_eq!(answer[5..11], input[5..11]);
});
