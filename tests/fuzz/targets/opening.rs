//! The first bytes of a TCP connection, cut anywhere: PROXY protocol, TLS, HTTP and TURN.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnstone::engine::{OpenedFor, StreamOpening};

// The first byte is how many sizes of segments follow; they are used over and over.
fuzz_target!(|input: &[u8]| {
    let Some((count, rest)) = input.split_first() else {
        return;
    };
    let (sizes, stream) = rest.split_at(usize::from(count % 16).min(rest.len()));
    for is_proxy in [true, false] {
        for has_web in [true, false] {
            let opened = |sizes: &[u8]| opened(stream, sizes, is_proxy, has_web);
            let whole = opened(&[]);
            assert_eq!(opened(sizes), whole, "proxy {is_proxy}, web {has_web}");
            assert_eq!(opened(&[1]), whole, "proxy {is_proxy}, web {has_web}");
            let is_passed_on = matches!(whole, Some(OpenedFor::Web | OpenedFor::WebOverTls));
            assert!(has_web || !is_passed_on);
        }
    }
});

/// What a connection is for that begins so, once that can be told.
fn opened(stream: &[u8], sizes: &[u8], is_proxy: bool, has_web: bool) -> Option<OpenedFor> {
    let mut opening = StreamOpening::new(is_proxy, has_web);
    let mut rest = stream;
    // A size of 0 is a segment as long as the kernel makes them.
    let sizes = sizes
        .iter()
        .map(|&size| if size == 0 { 1460 } else { usize::from(size) });
    let mut sizes = sizes.cycle();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(rest.len()).min(rest.len());
        let (segment, later) = rest.split_at(size);
        rest = later;
        let opened = opening.push(segment);
        if opened.is_some() {
            return opened;
        }
    }
    None
}
