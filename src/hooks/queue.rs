//! What waits to be sent: bounded by number and by bytes. What comes when it is full is dropped and
//! counted, and the receiver is told how many with the next batch that it takes.
//!
//! The newest are dropped, so that nobody can drive out what has been taken; and strangers, who
//! decide how often they fail to authenticate, fill half of it at most.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::body::Bytes;
use tokio::sync::Notify;

use super::event::{Event, Kind};
use crate::metrics::HookEvents;

/// Events that wait, those of batches under way included, beside one for each allocation: at the end
/// of the server all of them end at once.
pub const QUEUE_EVENTS_MAX: usize = 10_000;

/// Bytes of their JSON, beside 1 KiB for each allocation that there may be.
pub const QUEUE_BYTES_MAX: usize = 8 << 20;

/// Bytes of the event of an allocation's end, unless its user's name is very long.
const EVENT_BYTES: usize = 1024;

/// Events of one request.
pub const BATCH_EVENTS_MAX: usize = 100;

/// Events that may wait before one of a stranger's making: half of the queue.
const STRANGERS_EVENTS_MAX: usize = QUEUE_EVENTS_MAX / 2;

/// Bytes likewise: who fails can have a long name.
const STRANGERS_BYTES_MAX: usize = QUEUE_BYTES_MAX / 2;

/// Events of one request.
#[derive(Debug)]
pub(super) struct Batch {
    /// Its name, which it keeps however often it is sent.
    pub(super) id: String,
    pub(super) body: Bytes,
    pub(super) events: usize,
    json_bytes: usize,
    /// How many lost events the body tells of.
    told: u64,
}

/// The queue, and the way to wake who empties it.
#[derive(Debug)]
pub(super) struct Waiting {
    kinds: Vec<Kind>,
    /// Allocations at most.
    allocations: usize,
    /// Makes the names of events different from those of other processes.
    process: String,
    queue: Mutex<Queue>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Box<str>>,
    /// Of the batches that were taken and are not done.
    under_way: usize,
    /// Of all of these.
    bytes: usize,
    next_event: u64,
    next_batch: u64,
    sent: u64,
    failed: u64,
    dropped: u64,
    /// Lost events that no accepted batch has told of.
    untold: u64,
}

impl Waiting {
    pub(super) fn new(kinds: &[Kind], allocations: u32) -> Self {
        let process = getrandom::u64().expect("the system has random numbers");
        Self {
            kinds: kinds.to_vec(),
            allocations: allocations as usize,
            process: format!("{process:016x}"),
            queue: Mutex::default(),
            arrived: Notify::new(),
        }
    }

    pub(super) fn push(&self, at_unix_ms: u64, event: &Event<'_>) {
        let kind = event.kind();
        if !self.kinds.contains(&kind) {
            return;
        }
        let mut queue = self.lock();
        let id = format!("{}-{:x}", self.process, queue.next_event);
        let json = event.to_json(&id, at_unix_ms);
        if !queue.has_room(json.len(), kind, self.allocations) {
            queue.dropped += 1;
            queue.untold += 1;
            return;
        }
        queue.next_event += 1;
        queue.bytes += json.len();
        queue.events.push_back(json);
        drop(queue);
        self.arrived.notify_one();
    }

    pub(super) fn count_lost(&self, events: u64) {
        let mut queue = self.lock();
        queue.dropped += events;
        queue.untold += events;
    }

    pub(super) fn statistics(&self) -> HookEvents {
        let queue = self.lock();
        HookEvents {
            sent: queue.sent,
            failed: queue.failed,
            dropped: queue.dropped,
            queued: (queue.events.len() + queue.under_way) as u64,
        }
    }

    /// Waits until there are so many events at least.
    pub(super) async fn has(&self, events: usize) {
        while self.lock().events.len() < events {
            self.arrived.notified().await;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().events.is_empty()
    }

    /// Takes the oldest events, as many as go into one request.
    pub(super) fn take(&self) -> Batch {
        let mut queue = self.lock();
        let events = queue.events.len().min(BATCH_EVENTS_MAX);
        let id = format!("{}-b{:x}", self.process, queue.next_batch);
        queue.next_batch += 1;
        queue.under_way += events;
        let told = std::mem::take(&mut queue.untold);
        let events: Vec<Box<str>> = queue.events.drain(..events).collect();
        drop(queue);
        let body = format!(
            "{{\"batch\":\"{id}\",\"dropped\":{told},\"events\":[{}]}}",
            events.join(",")
        );
        Batch {
            id,
            body: body.into(),
            events: events.len(),
            json_bytes: events.iter().map(|json| json.len()).sum(),
            told,
        }
    }

    /// A batch needs no further attempt.
    pub(super) fn done(&self, batch: &Batch, accepted: bool) {
        let mut queue = self.lock();
        queue.under_way -= batch.events;
        queue.bytes -= batch.json_bytes;
        if accepted {
            queue.sent += batch.events as u64;
        } else {
            queue.failed += batch.events as u64;
            queue.untold += batch.told + batch.events as u64;
        }
    }

    /// A panic elsewhere leaves the queue as it was between two of its lines: numbers may be wrong
    /// then, which is no reason for another panic.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn has_room(&self, bytes: usize, kind: Kind, allocations: usize) -> bool {
        let (events_max, bytes_max) = if kind.is_of_strangers() {
            (STRANGERS_EVENTS_MAX, STRANGERS_BYTES_MAX)
        } else {
            let for_ends = allocations * EVENT_BYTES;
            (QUEUE_EVENTS_MAX + allocations, QUEUE_BYTES_MAX + for_ends)
        };
        self.events.len() + self.under_way < events_max && self.bytes + bytes <= bytes_max
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::turn::{self, FiveTuple, Reject, Transport};

    fn revoked(name: &str) -> Event<'_> {
        Event::CredentialRevoked {
            user: Some(name),
            username: None,
            until_unix_s: None,
            ended: 0,
        }
    }

    fn failed() -> turn::Event {
        turn::Event::RequestRefused {
            five_tuple: FiveTuple {
                transport: Transport::Udp,
                client: "192.0.2.1:1000".parse().unwrap(),
                server: "192.0.2.2:3478".parse().unwrap(),
            },
            method: crate::wire::Method::Allocate,
            username: None,
            from_there: true,
            reject: Reject::TooManyFailures,
        }
    }

    fn body(batch: &Batch) -> Value {
        serde_json::from_slice(&batch.body).unwrap()
    }

    /// HOOK-04: at the edge the newest are dropped, those under way count, and the receiver is told.
    #[test]
    fn the_queue_has_room_for_so_many() {
        let waiting = Waiting::new(&Kind::ALL, 0);
        for _ in 0..QUEUE_EVENTS_MAX {
            waiting.push(0, &revoked("x"));
        }
        let all = QUEUE_EVENTS_MAX as u64;
        let of = |queued, dropped| HookEvents {
            queued,
            dropped,
            ..HookEvents::default()
        };
        assert_eq!(waiting.statistics(), of(all, 0));
        waiting.push(0, &revoked("x"));
        assert_eq!(waiting.statistics(), of(all, 1));
        let batch = waiting.take();
        assert_eq!(batch.events, BATCH_EVENTS_MAX);
        assert_eq!(body(&batch)["dropped"], 1);
        waiting.push(0, &revoked("x"));
        waiting.count_lost(5);
        assert_eq!(waiting.statistics(), of(all, 7), "those under way count");
        waiting.done(&batch, false);
        let next = waiting.take();
        assert_eq!(body(&next)["dropped"], 1 + 100 + 1 + 5);
        assert_ne!(next.id, batch.id);
        waiting.done(&next, true);
        waiting.push(0, &revoked("x"));
        let expected = HookEvents {
            sent: 100,
            failed: 100,
            dropped: 7,
            queued: all - 199,
        };
        assert_eq!(waiting.statistics(), expected);
        assert_eq!(body(&waiting.take())["dropped"], 0, "told");
    }

    /// HOOK-04
    #[test]
    fn the_queue_has_room_for_so_many_bytes() {
        let waiting = Waiting::new(&Kind::ALL, 0);
        let name = "x".repeat(100_000);
        let of_one = {
            waiting.push(0, &revoked(&name));
            waiting.lock().bytes
        };
        while waiting.statistics().dropped == 0 {
            waiting.push(0, &revoked(&name));
        }
        let queued = waiting.statistics().queued;
        assert_eq!(queued, (QUEUE_BYTES_MAX / of_one) as u64);
        let batch = waiting.take();
        assert!(waiting.is_empty() && waiting.lock().bytes > 0);
        waiting.done(&batch, true);
        assert_eq!(waiting.lock().bytes, 0);
    }

    /// HOOK-06: when the server ends, every allocation's event has room beside what waits.
    #[test]
    fn the_ends_of_all_allocations_have_room() {
        const ALLOCATIONS: u32 = 16_000;
        let waiting = Waiting::new(&Kind::ALL, ALLOCATIONS);
        let ended = turn::Event::AllocationClosed {
            id: turn::AllocationId {
                slot: u32::MAX,
                generation: u32::MAX,
            },
            five_tuple: FiveTuple {
                transport: Transport::Tcp,
                client: "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535"
                    .parse()
                    .unwrap(),
                server: "[2001:db8:ffff:ffff:ffff:ffff:ffff:fffe]:65535"
                    .parse()
                    .unwrap(),
            },
            username: "1767225600:somebody-with-a-long-name".repeat(5).into(),
            relayed: [
                Some(
                    "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535"
                        .parse()
                        .unwrap(),
                ),
                Some("255.255.255.255:65535".parse().unwrap()),
            ],
            reason: turn::CloseReason::Shutdown,
            duration: std::time::Duration::from_secs(u64::from(u32::MAX)),
            usage: turn::Usage::default(),
        };
        for _ in 0..ALLOCATIONS as usize + QUEUE_EVENTS_MAX / 2 {
            waiting.push(u64::MAX, &Event::of_worker(99, &ended).unwrap());
        }
        assert_eq!(waiting.statistics().dropped, 0);
    }

    /// HOOK-05: long names of strangers leave half of the bytes.
    #[test]
    fn strangers_fill_half_of_the_bytes() {
        let waiting = Waiting::new(&Kind::ALL, 0);
        let turn::Event::RequestRefused {
            five_tuple,
            method,
            from_there,
            reject,
            ..
        } = failed()
        else {
            unreachable!()
        };
        let failed = turn::Event::RequestRefused {
            five_tuple,
            method,
            username: Some("\u{1}".repeat(763).into()),
            from_there,
            reject,
        };
        for _ in 0..STRANGERS_EVENTS_MAX {
            waiting.push(0, &Event::of_worker(0, &failed).unwrap());
        }
        assert!(waiting.statistics().dropped > 0);
        assert!(waiting.lock().bytes <= QUEUE_BYTES_MAX / 2);
    }

    /// HOOK-05: half of the queue is out of the reach of strangers.
    #[test]
    fn strangers_fill_half_of_it() {
        let waiting = Waiting::new(&Kind::ALL, 0);
        let failed = failed();
        for _ in 0..STRANGERS_EVENTS_MAX + 10 {
            waiting.push(0, &Event::of_worker(0, &failed).unwrap());
        }
        waiting.push(0, &revoked("x"));
        let numbers = waiting.statistics();
        assert_eq!(numbers.queued, STRANGERS_EVENTS_MAX as u64 + 1);
        assert_eq!(numbers.dropped, 10);
    }

    /// HOOK-01
    #[test]
    fn only_the_kinds_that_are_wanted_are_taken() {
        let waiting = Waiting::new(&[Kind::AuthenticationFailed], 0);
        waiting.push(0, &revoked("x"));
        assert_eq!(waiting.statistics(), HookEvents::default());
        waiting.push(0, &Event::of_worker(0, &failed()).unwrap());
        assert_eq!(waiting.statistics().queued, 1);
        let body = body(&waiting.take());
        assert_eq!(body["events"][0]["event"], "authentication_failed");
    }
}
