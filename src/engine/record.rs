//! What operators are told of an allocation: a copy, which no worker waits for.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use crate::turn::{AllocationId, AllocationView, FiveTuple, InvalidAllocationId, PortPool, Usage};
use crate::wire::{ChannelNumber, Family};

/// Names an allocation of the server: in the log, in JSON, on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AllocationName {
    /// Whose it is.
    pub worker: usize,
    /// Its name there.
    pub id: AllocationId,
}

impl fmt::Display for AllocationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.worker, self.id)
    }
}

impl FromStr for AllocationName {
    type Err = InvalidAllocationId;

    /// What [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, InvalidAllocationId> {
        let (worker, id) = text.split_once('-').ok_or(InvalidAllocationId)?;
        Ok(Self {
            worker: usize::from_str_radix(worker, 16).map_err(|_| InvalidAllocationId)?,
            id: id.parse()?,
        })
    }
}

/// An allocation as it was at one moment.
#[derive(Clone, Debug)]
pub struct AllocationRecord {
    /// Its name.
    pub name: AllocationName,
    /// Its client.
    pub five_tuple: FiveTuple,
    /// USERNAME.
    pub username: Box<str>,
    /// Whom quotas count it for.
    pub user: Box<str>,
    /// What clients are told, IPv4 before IPv6.
    pub relayed: [Option<SocketAddr>; 2],
    /// How long it has lived.
    pub age: Duration,
    /// How long it has relayed nothing.
    pub idle: Duration,
    /// Seconds until it ends, unless it is refreshed.
    pub expires_s: u32,
    /// Permissions in force.
    pub permissions: usize,
    /// Channels that are bound.
    pub channels: usize,
    /// What it has relayed.
    pub usage: Usage,
}

impl AllocationRecord {
    pub(super) fn new(worker: usize, view: &AllocationView<'_>, ports: &PortPool) -> Self {
        let remaining = [Family::V4, Family::V6].map(|family| view.remaining_s(family));
        Self {
            name: AllocationName {
                worker,
                id: view.id(),
            },
            five_tuple: view.five_tuple(),
            username: view.username().into(),
            user: view.user().into(),
            relayed: view.relayed(ports),
            age: view.age(),
            idle: view.idle(),
            expires_s: remaining.into_iter().flatten().max().unwrap_or(0),
            permissions: view.permissions(),
            channels: view.channels(),
            usage: view.usage(),
        }
    }
}

/// An allocation with everything that is known about it.
#[derive(Clone, Debug)]
pub struct AllocationDetail {
    /// What lists have too.
    pub record: AllocationRecord,
    /// Permissions in force: addresses, and seconds until they end.
    pub permissions: Vec<(IpAddr, u32)>,
    /// Channels that are bound: numbers, peers, and seconds until they end.
    pub channels: Vec<(ChannelNumber, SocketAddr, u32)>,
}

/// Which allocations are meant. The default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of a user, or with this very USERNAME.
    pub user: Option<Box<str>>,
    /// Those of clients in a network.
    pub client: Option<IpNet>,
    /// Those that have lived at least so long.
    pub min_age: Duration,
}

impl Filter {
    pub(super) fn matches(&self, view: &AllocationView<'_>) -> bool {
        let user = self.user.as_deref();
        !view.is_pending()
            && user.is_none_or(|user| user == view.user() || user == view.username())
            && self
                .client
                .is_none_or(|network| network.contains(&view.five_tuple().client.ip()))
            && view.age() >= self.min_age
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let name = AllocationName {
            worker: 17,
            id: AllocationId {
                slot: 0x1f,
                generation: u32::MAX,
            },
        };
        assert_eq!(name.to_string(), "11-1f-ffffffff");
        assert_eq!(name.to_string().parse(), Ok(name));
        for text in ["", "1", "1-2", "1-2-3-4", "x-1-2", "1--2", "1-2-100000000"] {
            assert_eq!(text.parse::<AllocationName>(), Err(InvalidAllocationId));
        }
    }
}
