//! Scripted servers.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use turnstone::auth::{LongTermKey, PasswordAlgorithm};
use turnstone::wire::{
    AttributeType, Class, ErrorCode, IntegrityAlgorithm, Message, MessageBuilder, Method,
};

/// A UDP server whose script maps datagrams to replies. It ends when dropped, and after 10 s.
pub(super) struct FakeServer {
    pub(super) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeServer {
    pub(super) fn start(script: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> Self {
        // Not the address that a client has here, so that it takes itself for another machine.
        let socket = UdpSocket::bind("127.0.0.2:0").unwrap();
        let address = socket.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = Some(thread::spawn(move || serve(&socket, script, &stopped)));
        Self {
            address,
            stop,
            thread,
        }
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

fn serve(
    socket: &UdpSocket,
    mut script: impl FnMut(&[u8]) -> Option<Vec<u8>>,
    stopped: &AtomicBool,
) {
    let started = Instant::now();
    let tick = Duration::from_millis(20);
    socket.set_read_timeout(Some(tick)).unwrap();
    let mut buffer = [0; 2048];
    while !stopped.load(Ordering::Relaxed) && started.elapsed() < Duration::from_secs(10) {
        let Ok((len, client)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        if let Some(reply) = script(&buffer[..len]) {
            socket.send_to(&reply, client).unwrap();
        }
    }
}

pub(super) fn reply(
    request: &Message<'_>,
    class: Class,
    attributes: impl FnOnce(&mut MessageBuilder<'_>),
) -> Vec<u8> {
    let mut buffer = vec![0; 512];
    let id = request.transaction_id();
    let mut builder = MessageBuilder::new(&mut buffer, class, request.method().unwrap(), id);
    attributes(&mut builder);
    let len = builder.finish().unwrap();
    buffer.truncate(len);
    buffer
}

pub(super) fn challenge(request: &Message<'_>, code: ErrorCode, nonce: &str) -> Vec<u8> {
    reply(request, Class::Error, |builder| {
        builder
            .error_code(code, code.phrase())
            .attribute(AttributeType::REALM, b"example.org")
            .attribute(AttributeType::NONCE, nonce.as_bytes());
    })
}

pub(super) fn refusal(request: &Message<'_>, code: ErrorCode) -> Vec<u8> {
    reply(request, Class::Error, |builder| {
        builder.error_code(code, "");
        builder.integrity(IntegrityAlgorithm::Sha1, key("pw").as_bytes());
    })
}

pub(super) fn allocation(
    request: &Message<'_>,
    relayed_address: &str,
    key: Option<&LongTermKey>,
) -> Vec<u8> {
    reply(request, Class::Success, |builder| {
        let mapped_address = "127.0.0.1:1".parse().unwrap();
        builder
            .xor_address(
                AttributeType::XOR_RELAYED_ADDRESS,
                relayed_address.parse().unwrap(),
            )
            .xor_address(AttributeType::XOR_MAPPED_ADDRESS, mapped_address)
            .u32(AttributeType::LIFETIME, 600);
        if let Some(key) = key {
            builder.integrity(IntegrityAlgorithm::Sha1, key.as_bytes());
        }
    })
}

pub(super) fn key(password: &str) -> LongTermKey {
    LongTermKey::derive(PasswordAlgorithm::Md5, b"alice", "example.org", password)
}

/// Answers Binding and the first Allocate as it should be, and leaves the requests with
/// credentials to `script`.
pub(super) fn challenging(
    mut script: impl FnMut(&Message<'_>) -> Option<Vec<u8>> + Send + 'static,
) -> FakeServer {
    FakeServer::start(move |datagram| {
        let request = Message::parse(datagram).unwrap();
        match request.method() {
            Some(Method::Binding) => Some(reply(&request, Class::Success, |builder| {
                let mapped_address = "192.0.2.7:4242".parse().unwrap();
                builder.xor_address(AttributeType::XOR_MAPPED_ADDRESS, mapped_address);
            })),
            _ if !request.has_integrity() => {
                Some(challenge(&request, ErrorCode::Unauthenticated, "first"))
            }
            _ => script(&request),
        }
    })
}
