//! A call that goes on in threads of its own, and loses nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::{Client, Peer, eventually};

/// Datagrams under way at any time, so that whatever is done to the server is done while it has some.
/// No buffer on the way is as small.
const UNDER_WAY: u64 = 32;

/// What tells the peer that nothing more comes.
const END: &[u8] = b"end";

/// Datagrams to a peer that sends each back, in their order, until the call is ended.
pub(crate) struct Call {
    stop: Arc<AtomicBool>,
    echoed: Arc<AtomicU64>,
    threads: [JoinHandle<()>; 2],
    pub(crate) client: SocketAddr,
    pub(crate) relayed: SocketAddr,
}

impl Call {
    pub(crate) fn start(mut client: Client) -> Self {
        let peer = Peer::new();
        let relayed = client.allocate();
        client.bind(0x4000, peer.address());
        let address = client.local();
        let (stop, echoed) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (ended, counted) = (Arc::clone(&stop), Arc::clone(&echoed));
        let sender = std::thread::spawn(move || {
            let (mut sent, mut received) = (0_u64, 0_u64);
            while received < sent || !ended.load(Ordering::Relaxed) {
                while sent < received + UNDER_WAY && !ended.load(Ordering::Relaxed) {
                    client.send_channel(0x4000, &sent.to_be_bytes());
                    sent += 1;
                }
                if received < sent {
                    // Of a lost datagram the next one comes, or none.
                    client.expect_channel(0x4000, &received.to_be_bytes());
                    received += 1;
                    counted.store(received, Ordering::Relaxed);
                }
            }
            client.send_channel(0x4000, END);
            client.expect_channel(0x4000, END);
            client.delete();
        });
        let echo = std::thread::spawn(move || {
            loop {
                let (data, from) = peer.recv();
                assert_eq!(from, relayed);
                peer.send(&data, relayed);
                if data == END {
                    return;
                }
            }
        });
        Self {
            stop,
            echoed,
            threads: [sender, echo],
            client: address,
            relayed,
        }
    }

    fn echoed(&self) -> u64 {
        self.echoed.load(Ordering::Relaxed)
    }

    /// Lets everything come back that is under way, and more, and sees it do.
    #[track_caller]
    pub(crate) fn assert_goes_on(&self) {
        let before = self.echoed();
        eventually("an echo", || self.echoed() > before + 2 * UNDER_WAY);
    }

    /// Ends it, with which it has lost nothing.
    #[track_caller]
    pub(crate) fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no datagram was lost");
        }
    }
}
