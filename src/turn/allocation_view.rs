//! Allocations as operators and tests see them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::allocation::Allocation;
use super::client::{FiveTuple, Link};
use super::event::{AllocationId, Usage};
use super::port_pool::PortPool;
use super::time::Time;
use crate::wire::{ChannelNumber, Family};

/// An allocation as an onlooker sees it.
#[derive(Clone, Copy, Debug)]
pub struct AllocationView<'a> {
    allocation: &'a Allocation,
    now: Time,
}

impl<'a> AllocationView<'a> {
    pub(super) const fn new(allocation: &'a Allocation, now: Time) -> Self {
        Self { allocation, now }
    }

    /// Its name.
    pub const fn id(&self) -> AllocationId {
        self.allocation.id
    }

    /// The way to its client that its host named.
    pub const fn link(&self) -> Link {
        self.allocation.client.link
    }

    /// Its client.
    pub const fn five_tuple(&self) -> FiveTuple {
        self.allocation.client.five_tuple
    }

    /// USERNAME of the user who made it.
    pub fn username(&self) -> &'a str {
        &self.allocation.owner.username
    }

    /// Whom quotas count it for.
    pub fn user(&self) -> &'a str {
        &self.allocation.owner.user
    }

    /// Seconds until the family ends, rounded up; `None` if it has none.
    pub fn remaining_s(&self, family: Family) -> Option<u32> {
        self.allocation
            .relay(family)
            .map(|relay| relay.expires.secs_after(self.now))
    }

    /// Whether its relay sockets are still being bound.
    pub const fn is_pending(&self) -> bool {
        self.allocation.is_pending()
    }

    /// What clients are told, IPv4 before IPv6.
    pub fn relayed(&self, ports: &PortPool) -> [Option<SocketAddr>; 2] {
        self.allocation.relayed(ports)
    }

    /// How long it has lived.
    pub fn age(&self) -> Duration {
        self.now - self.allocation.created
    }

    /// How long it has relayed nothing.
    pub fn idle(&self) -> Duration {
        self.now - self.allocation.last_relayed
    }

    /// Permissions in force, sorted: addresses, and seconds until they end.
    pub fn permission_list(&self) -> Vec<(IpAddr, u32)> {
        self.allocation.permissions.list(self.now)
    }

    /// Channels that are bound, sorted: numbers, peers, and seconds until they end.
    pub fn channel_list(&self) -> Vec<(ChannelNumber, SocketAddr, u32)> {
        self.allocation.channels.list(self.now)
    }

    /// Permissions that are in force.
    pub fn permissions(&self) -> usize {
        self.allocation.permissions.live(self.now)
    }

    /// Channels that are bound.
    pub fn channels(&self) -> usize {
        self.allocation.channels.live(self.now)
    }

    /// When the permission of an address ends.
    pub fn permission_expiry(&self, ip: IpAddr) -> Option<Time> {
        self.allocation.permissions.expiry(ip)
    }

    /// When the binding of a channel ends.
    pub fn channel_expiry(&self, number: ChannelNumber) -> Option<Time> {
        self.allocation.channels.expiry(number)
    }

    /// What it has relayed.
    pub const fn usage(&self) -> Usage {
        self.allocation.usage
    }
}
