//! The state of one connection, and the table of them.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use slab::Slab;
use tokio::net::tcp::OwnedWriteHalf;

use super::admission::{Place, Waker};
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
    /// Wakes the connection's task: there is something to send, or it is to end.
    waker: Arc<Waker>,
    /// Not there while it is read from.
    input: Option<Input>,
    queue: SendQueue,
    place: Place,
    /// Whether the server has answered anything.
    is_established: bool,
    /// Whether there was an allocation the last time that it showed.
    has_allocation: bool,
    /// When the connection came, or its allocation was last seen.
    alone_since: Time,
    ending: Option<Ending>,
}

impl Connection {
    /// A connection that has just been let in.
    pub(super) fn new(
        five_tuple: FiveTuple,
        output: Rc<OwnedWriteHalf>,
        waker: Arc<Waker>,
        place: Place,
        queue_max: usize,
        budget: &Budget,
        now: Time,
    ) -> Self {
        Self {
            five_tuple,
            output,
            waker,
            input: Some(Input::new(budget.clone())),
            queue: SendQueue::new(queue_max, budget.clone()),
            place,
            is_established: false,
            has_allocation: false,
            alone_since: now,
            ending: None,
        }
    }

    /// Sends a frame, or queues what the kernel does not take at once.
    ///
    /// # Errors
    /// If it is lost.
    pub(crate) fn send(&mut self, frame: &[u8], priority: Priority) -> Result<(), Loss> {
        if self.ending.is_some() {
            return Err(Loss::Slow);
        }
        match priority {
            // Nobody else is sent any.
            Priority::Data => self.has_allocation = true,
            Priority::Control if self.is_established => {}
            Priority::Control => {
                self.is_established = true;
                self.place.establish();
            }
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
        let pushed = self.queue.push(frame, sent, priority, self.has_allocation);
        self.waker.wake();
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
        self.has_allocation = has_allocation;
        if has_allocation {
            self.alone_since = now;
            return;
        }
        let alone_s = (now - self.alone_since).as_secs();
        if !self.is_established && alone_s >= limits.first_message_s.into() {
            self.end(Ending::NoFirstMessage);
        } else if alone_s >= limits.idle_s.into() {
            self.end(Ending::NoAllocation);
        }
    }

    /// Has the connection's task end it.
    fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
        self.waker.wake();
    }

    /// Why it is to end.
    pub(super) const fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Whether it had to make room for another, which was counted then.
    pub(crate) fn gave_way(&self) -> bool {
        self.waker.gave_way()
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
        let established = self.slab.iter().filter(|(_, it)| it.is_established).count();
        let half_open = self.slab.len() - established;
        (established as u64, half_open as u64)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slab.iter_mut().map(|(_, connection)| connection)
    }
}
