//! The sessions of a worker: who they are of, how far they have come, and where they are found.

use std::collections::HashMap;
use std::sync::Arc;

use slab::Slab;

use super::Path;
use super::association::Association;
use super::hello::RANDOM_LEN;
use super::record::Records;
use crate::engine::settings::StreamLimits;
use crate::engine::stream::{Ending, Notice, Place, Stage, overdue};
use crate::turn::{Client, FiveTuple, Link, Time, Transport};

/// Sessions that have made room for others and are looked for when one more comes. Their number is at
/// most that of the others, and these.
const EVICTED_MAX: usize = 64;

/// A client's session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) association: Association,
    pub(super) path: Path,
    /// The place of the listener.
    pub(super) listener: usize,
    /// Whether the handshake was complete when it was last looked at.
    pub(super) is_established: bool,
    /// Encrypted records that OpenSSL may be shown before the handshake is complete; afterwards, how often
    /// its end may be said again.
    pub(super) patience: usize,
    /// The end of the handshake, until the client shows that it has it.
    pub(super) last_flight: Vec<Vec<u8>>,
    pub(super) place: Place,
    pub(super) notice: Arc<Notice>,
    /// When it came, or its allocation was last seen.
    pub(super) alone_since: Time,
}

impl Session {
    pub(super) const fn five_tuple(&self) -> FiveTuple {
        FiveTuple {
            transport: Transport::Dtls,
            client: self.path.client,
            server: self.path.server,
        }
    }

    /// The client is answered, and has an allocation now or not.
    pub(super) fn set_allocation(&mut self, has_allocation: bool) {
        self.place.set_stage(if has_allocation {
            Stage::Allocated
        } else {
            Stage::Answered
        });
    }

    /// A look at the clock, as at that of a connection: why it is to end.
    pub(super) fn tick(
        &mut self,
        now: Time,
        has_allocation: bool,
        limits: &StreamLimits,
    ) -> Option<Ending> {
        if has_allocation || self.place.stage() == Stage::Allocated {
            self.set_allocation(has_allocation);
        }
        if has_allocation {
            self.alone_since = now;
            return None;
        }
        overdue(now - self.alone_since, self.place.stage(), limits)
    }
}

/// The sessions between two addresses.
#[derive(Debug, Default)]
struct Between {
    /// Whose handshake is complete.
    established: Option<Link>,
    /// Which takes its place if the handshake completes (RFC 6347 §4.2.8).
    beginning: Option<Link>,
}

/// All of a worker. Who is in here gets what is sent to its address.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    slab: Slab<Session>,
    by_path: HashMap<Path, Between>,
    /// How many there are when those that have made room are looked for.
    sweep_at: usize,
}

impl Sessions {
    /// Adds one that begins; its link is its name towards the core.
    pub(super) fn insert(&mut self, session: Session) -> Link {
        let path = session.path;
        let link = Link(self.slab.insert(session) as u32);
        self.by_path.entry(path).or_default().beginning = Some(link);
        link
    }

    pub(super) fn get_mut(&mut self, link: Link) -> Option<&mut Session> {
        self.slab.get_mut(link.0 as usize)
    }

    /// The session of a client. A link may name a later one, which the address shows.
    pub(super) fn of_client(&mut self, client: &Client) -> Option<&mut Session> {
        self.get_mut(client.link)
            .filter(|session| session.five_tuple() == client.five_tuple)
    }

    /// Which one records are for that are no ClientHello.
    pub(super) fn of_records(&self, path: &Path, records: Records) -> Option<Link> {
        let between = self.by_path.get(path)?;
        match records.is_traffic {
            true => between.established,
            false => between.beginning.or(between.established),
        }
    }

    /// The one that a hello has begun before, if the network has brought it twice.
    pub(super) fn begun_with(&self, path: &Path, random: &[u8; RANDOM_LEN]) -> Option<Link> {
        let between = self.by_path.get(path)?;
        let mut both = [between.beginning, between.established]
            .into_iter()
            .flatten();
        both.find(|link| self.slab[link.0 as usize].association.began_with(random))
    }

    /// The one that begins between two addresses.
    pub(super) fn beginning(&self, path: &Path) -> Option<Link> {
        self.by_path.get(path)?.beginning
    }

    /// The handshake of one is complete. Returns the one whose place it takes.
    pub(super) fn establish(&mut self, link: Link) -> Option<Link> {
        let session = self.slab.get_mut(link.0 as usize)?;
        session.is_established = true;
        let between = self.by_path.entry(session.path).or_default();
        between.beginning.take_if(|beginning| *beginning == link);
        between.established.replace(link)
    }

    /// Removes one, whose place is free again.
    pub(super) fn remove(&mut self, link: Link) -> Option<Session> {
        let session = self.slab.try_remove(link.0 as usize)?;
        if let Some(between) = self.by_path.get_mut(&session.path) {
            between.beginning.take_if(|it| *it == link);
            between.established.take_if(|it| *it == link);
            if between.beginning.is_none() && between.established.is_none() {
                self.by_path.remove(&session.path);
            }
        }
        Some(session)
    }

    /// The place of the listener that a client uses.
    pub(super) fn listener_of(&self, client: &Client) -> Option<usize> {
        let session = self.slab.get(client.link.0 as usize)?;
        (session.five_tuple() == client.five_tuple).then_some(session.listener)
    }

    /// Every one, for what may remove some of them.
    pub(super) fn links(&self) -> Vec<Link> {
        self.slab.iter().map(|(key, _)| Link(key as u32)).collect()
    }

    /// Those that have made room for others, now and then: what one more costs stays the same on average.
    pub(super) fn evicted(&mut self) -> Vec<Link> {
        if self.slab.len() < self.sweep_at.max(EVICTED_MAX) {
            return Vec::new();
        }
        let (mut evicted, mut left) = (Vec::new(), 0);
        for (key, session) in &self.slab {
            match session.notice.is_eviction() {
                true => evicted.push(Link(key as u32)),
                false => left += 1,
            }
        }
        self.sweep_at = 2 * left + EVICTED_MAX;
        evicted
    }

    /// Sessions that have been answered, and those that have not.
    pub(super) fn established_and_half_open(&self) -> (u64, u64) {
        let half_open = |it: &&Session| it.place.stage() == Stage::HalfOpen;
        let all = self.slab.iter().map(|(_, session)| session);
        let half_open = all.filter(half_open).count() as u64;
        (self.slab.len() as u64 - half_open, half_open)
    }
}
