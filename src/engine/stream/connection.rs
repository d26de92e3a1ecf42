//! The state of one connection, and the table of them.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tokio::net::tcp::OwnedWriteHalf;

use super::admission::{Notice, Place, Stage};
use super::budget::Budget;
use super::ending::Ending;
use super::input::Input;
use super::queue::{Priority, Pushed, SendQueue};
use crate::engine::settings::StreamLimits;
use crate::turn::{Client, FiveTuple, Link, Time};

/// Why a frame did not go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The client is slow, or gone.
    Slow,
    /// All clients together have used up the memory for what waits.
    BudgetSpent,
}

/// A client's stream.
#[derive(Debug)]
pub(crate) struct Connection {
    five_tuple: FiveTuple,
    output: Rc<OwnedWriteHalf>,
    /// To the connection's task: there is something to send, or it is to end.
    notice: Arc<Notice>,
    /// Not there while it is read from.
    input: Option<Input>,
    queue: SendQueue,
    place: Place,
    /// When the connection came, or its allocation was last seen.
    alone_since: Time,
    ending: Option<Ending>,
}

impl Connection {
    /// A connection that has just been let in.
    pub(super) fn new(
        five_tuple: FiveTuple,
        output: Rc<OwnedWriteHalf>,
        notice: Arc<Notice>,
        place: Place,
        queue_max: usize,
        budget: &Budget,
        now: Time,
    ) -> Self {
        Self {
            five_tuple,
            output,
            notice,
            input: Some(Input::new(budget.clone())),
            queue: SendQueue::new(queue_max, budget.clone()),
            place,
            alone_since: now,
            ending: None,
        }
    }

    /// The client is answered, and has an allocation now or not.
    pub(crate) fn set_allocation(&mut self, has_allocation: bool) {
        self.place.set_stage(if has_allocation {
            Stage::Allocated
        } else {
            Stage::Answered
        });
    }

    /// Sends a frame, or queues what the kernel does not take at once.
    ///
    /// # Errors
    /// If it is lost.
    pub(crate) fn send(&mut self, frame: &[u8], priority: Priority) -> Result<(), Loss> {
        if self.ending.is_some() {
            return Err(Loss::Slow);
        }
        let sent = if self.queue.is_empty() {
            self.output.try_write(frame)
        } else {
            Ok(0)
        };
        let sent = match sent {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            // The task sees the same error when it next reads.
            Err(_) => return Err(Loss::Slow),
        };
        if sent == frame.len() {
            return Ok(());
        }
        let has_allocation = self.place.stage() == Stage::Allocated;
        let pushed = self.queue.push(frame, sent, priority, has_allocation);
        self.notice.give();
        match pushed {
            Pushed::Queued => Ok(()),
            Pushed::QueueFull => Err(Loss::Slow),
            Pushed::BudgetSpent => Err(Loss::BudgetSpent),
            Pushed::Broken => {
                self.end(Ending::MemoryLimit);
                Err(Loss::BudgetSpent)
            }
        }
    }

    /// Whether something waits to be sent.
    pub(super) fn has_output(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Sends what waits, as far as the kernel takes it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.queue.is_empty() {
            match self.output.try_write_vectored(&self.queue.chunks()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => self.queue.advance(taken),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What reads the stream, until [`Connection::give_input`].
    pub(crate) const fn take_input(&mut self) -> Option<Input> {
        self.input.take()
    }

    pub(crate) fn give_input(&mut self, input: Input) {
        self.input = Some(input);
    }

    /// A look at the clock: a connection that has not said anything valid, or has no allocation,
    /// has its time.
    pub(crate) fn tick(&mut self, now: Time, has_allocation: bool, limits: &StreamLimits) {
        if has_allocation || self.place.stage() == Stage::Allocated {
            self.set_allocation(has_allocation);
        }
        if has_allocation {
            self.alone_since = now;
            return;
        }
        if let Some(ending) = overdue(now - self.alone_since, self.place.stage(), limits) {
            self.end(ending);
        }
    }

    /// Has the connection's task end it.
    fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
        self.notice.give();
    }

    /// Why it is to end.
    pub(super) const fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Whether it had to make room for another, which was counted then.
    pub(crate) fn gave_way(&self) -> bool {
        self.notice.is_eviction()
    }

    pub(crate) const fn five_tuple(&self) -> &FiveTuple {
        &self.five_tuple
    }

    /// As the core knows it.
    pub(crate) const fn client(&self, link: Link) -> Client {
        Client {
            five_tuple: self.five_tuple,
            link,
        }
    }
}

/// What is over for a connection after so much time without an allocation.
fn overdue(alone: Duration, stage: Stage, limits: &StreamLimits) -> Option<Ending> {
    let has_passed = |limit_s: u32| alone >= Duration::from_secs(limit_s.into());
    match stage {
        Stage::Allocated => None,
        Stage::HalfOpen if has_passed(limits.first_message_s) => Some(Ending::NoFirstMessage),
        Stage::HalfOpen | Stage::Answered => {
            has_passed(limits.idle_s).then_some(Ending::NoAllocation)
        }
    }
}

/// The connections of a worker.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slab: Slab<Connection>,
}

impl Connections {
    /// Adds a connection; its link is its name towards the core.
    pub(super) fn insert(&mut self, connection: Connection) -> Link {
        Link(self.slab.insert(connection) as u32)
    }

    pub(crate) fn get_mut(&mut self, link: Link) -> Option<&mut Connection> {
        self.slab.get_mut(link.0 as usize)
    }

    /// The connection to a client. A link may name a later one, which the five-tuple shows.
    pub(crate) fn of_client(&mut self, client: &Client) -> Option<&mut Connection> {
        self.get_mut(client.link)
            .filter(|connection| connection.five_tuple == client.five_tuple)
    }

    /// Removes a connection, whose place is free again.
    pub(crate) fn remove(&mut self, link: Link) -> Option<Connection> {
        self.slab.try_remove(link.0 as usize)
    }

    /// Connections that have been answered, and those that have not.
    pub(crate) fn established_and_half_open(&self) -> (u64, u64) {
        let established = self
            .slab
            .iter()
            .filter(|(_, it)| it.place.stage() != Stage::HalfOpen);
        let established = established.count();
        let half_open = self.slab.len() - established;
        (established as u64, half_open as u64)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slab.iter_mut().map(|(_, connection)| connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEC-17, STREAM-05: at the millisecond, for a client that has said nothing and for one that
    /// has; and whatever is configured, neither deadline is one of an allocation.
    #[test]
    fn deadlines_end_at_their_edge() {
        let limits = |first_message_s, idle_s| StreamLimits {
            connections: 0,
            connections_per_address: 0,
            half_open: 0,
            send_queue_bytes: 0,
            queues_total_bytes: 0,
            first_message_s,
            idle_s,
        };
        let installed = limits(10, 60);
        let patient = limits(300, 60);
        for (limits, stage, edge_ms, ending) in [
            (installed, Stage::HalfOpen, 10_000, Ending::NoFirstMessage),
            (installed, Stage::Answered, 60_000, Ending::NoAllocation),
            (patient, Stage::HalfOpen, 60_000, Ending::NoAllocation),
        ] {
            let at = |ms| overdue(Duration::from_millis(ms), stage, &limits);
            assert_eq!((at(edge_ms - 1), at(edge_ms)), (None, Some(ending)));
            let allocated = overdue(Duration::from_secs(9999), Stage::Allocated, &limits);
            assert_eq!(allocated, None);
        }
    }
}
