//! What happened, for others than the log: workers hand events to the main thread. They never wait
//! for it: what does not fit is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::clock;
use crate::turn::{Event, Reject};
use crate::wire::ErrorCode;

/// Events that wait for the main thread, of all workers together, beside one for each allocation: at
/// the end of the server all of them end at once.
pub const NOTICES_MAX: usize = 10_000;

/// Something that happened in a worker's shard: an allocation was created or ended, or a client
/// that has proven its address failed to authenticate.
#[derive(Debug)]
pub struct Notice {
    /// Whose shard.
    pub worker: usize,
    /// When, in milliseconds of Unix time.
    pub at_unix_ms: u64,
    /// What.
    pub event: Event,
}

/// Where workers put notices.
#[derive(Clone, Debug)]
pub struct NoticeSink {
    sender: mpsc::Sender<Notice>,
    lost: Arc<AtomicU64>,
}

/// Where the main thread takes them.
#[derive(Debug)]
pub struct Notices {
    receiver: mpsc::Receiver<Notice>,
    lost: Arc<AtomicU64>,
}

/// Both ends, for [`super::Bound::tell`], of a server with so many allocations at most.
pub fn notices(allocations: u32) -> (NoticeSink, Notices) {
    let (sender, receiver) = mpsc::channel(NOTICES_MAX + allocations as usize);
    let lost = Arc::new(AtomicU64::new(0));
    let sink = NoticeSink {
        sender,
        lost: Arc::clone(&lost),
    };
    (sink, Notices { receiver, lost })
}

impl NoticeSink {
    /// Hands over an event if it is one that is told. `logged` says whether it was within the
    /// limits of lines, which hold here too: strangers decide how often they fail.
    pub(super) fn offer(&self, worker: usize, event: Event, logged: bool) {
        if !is_told(&event) || !logged {
            return;
        }
        let notice = Notice {
            worker,
            at_unix_ms: clock::unix_ms(),
            event,
        };
        if self.sender.try_send(notice).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether others than the log want to know. A failure that anybody may have caused in anybody's
/// name is not for those who ban addresses, and a nonce that has aged is no failure of anybody.
fn is_told(event: &Event) -> bool {
    match event {
        Event::AllocationCreated { .. } | Event::AllocationClosed { .. } => true,
        Event::RequestRefused {
            from_there, reject, ..
        } => {
            let failure = matches!(reject, Reject::Authentication(_) | Reject::TooManyFailures);
            failure && *from_there && reject.code() != ErrorCode::StaleNonce
        }
        _ => false,
    }
}

impl Notices {
    /// Waits for the next one; `None` once all workers have ended and everything was taken.
    pub async fn next(&mut self) -> Option<Notice> {
        self.receiver.recv().await
    }

    /// From here on only those come that were told before.
    pub fn close(&mut self) {
        self.receiver.close();
    }

    /// How many did not fit since this was asked last.
    pub fn take_lost(&mut self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::auth::AuthFailure;
    use crate::turn::{AllocationId, CloseReason, FiveTuple, Transport, Usage};
    use crate::wire::Method;

    fn five_tuple() -> FiveTuple {
        FiveTuple {
            transport: Transport::Udp,
            client: "192.0.2.1:1000".parse().unwrap(),
            server: "192.0.2.2:3478".parse().unwrap(),
        }
    }

    fn closed() -> Event {
        Event::AllocationClosed {
            id: AllocationId {
                slot: 0,
                generation: 0,
            },
            five_tuple: five_tuple(),
            username: "alice".into(),
            relayed: [None, None],
            reason: CloseReason::Deleted,
            duration: Duration::ZERO,
            usage: Usage::default(),
        }
    }

    fn failed(failure: AuthFailure, from_there: bool) -> Event {
        Event::RequestRefused {
            five_tuple: five_tuple(),
            method: Method::Allocate,
            username: None,
            from_there,
            reject: Reject::Authentication(failure),
        }
    }

    /// HOOK-04: the edge: nobody waits, and what does not fit is counted.
    #[test]
    fn what_does_not_fit_is_counted() {
        let (sink, mut notices) = notices(7);
        for _ in 0..NOTICES_MAX + 7 {
            sink.offer(0, closed(), true);
        }
        assert_eq!(notices.take_lost(), 0);
        sink.clone().offer(1, closed(), true);
        sink.offer(0, closed(), true);
        assert_eq!((notices.take_lost(), notices.take_lost()), (2, 0));
        drop(sink);
        let mut taken = 0;
        while notices.receiver.try_recv().is_ok() {
            taken += 1;
        }
        assert_eq!(taken, NOTICES_MAX + 7, "each allocation's end has room");
    }

    /// HOOK-05
    #[test]
    fn what_strangers_can_feign_is_not_told() {
        let (sink, mut notices) = notices(0);
        sink.offer(0, failed(AuthFailure::WrongRealm, false), true);
        sink.offer(0, failed(AuthFailure::WrongRealm, true), false);
        sink.offer(0, failed(AuthFailure::ForeignNonce, true), true);
        assert!(notices.receiver.try_recv().is_err());
        sink.offer(0, failed(AuthFailure::WrongRealm, true), true);
        assert!(notices.receiver.try_recv().is_ok());
        assert_eq!(notices.take_lost(), 0);
    }
}
