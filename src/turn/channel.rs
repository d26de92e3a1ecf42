//! Channel bindings (RFC 8656 §12).

use std::net::{IpAddr, SocketAddr};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::limits::CHANNEL_LIFETIME_S;
use super::peer_policy::Reach;
use super::time::Time;
use crate::wire::{ChannelNumber, Family};

/// The channels of one allocation, found by number and by peer.
#[derive(Debug, Default)]
pub(super) struct Channels {
    by_number: HashMap<ChannelNumber, Binding, RandomState>,
    by_peer: HashMap<Peer, ChannelNumber, RandomState>,
}

/// A transport address and nothing else: `SocketAddr` also has a flow label and a zone, which are
/// no part of it, and takes 12 bytes more.
type Peer = (IpAddr, u16);

const fn peer_of(address: SocketAddr) -> Peer {
    (address.ip(), address.port())
}

#[derive(Clone, Copy, Debug)]
struct Binding {
    peer: Peer,
    expires: Time,
    /// Of the peer's address, when the channel was bound.
    reach: Reach,
}

/// Why a channel cannot be bound.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BindError {
    /// The number has another peer, or the peer another number.
    InUse,
    /// The allocation has as many channels as it may.
    Full,
}

impl Channels {
    /// The peer behind a channel.
    pub(super) fn peer(&self, now: Time, number: ChannelNumber) -> Option<SocketAddr> {
        self.peer_and_reach(now, number).map(|(peer, _)| peer)
    }

    /// The peer behind a channel, and how much of its address is permitted.
    pub(super) fn peer_and_reach(
        &self,
        now: Time,
        number: ChannelNumber,
    ) -> Option<(SocketAddr, Reach)> {
        self.by_number
            .get(&number)
            .filter(|binding| binding.expires > now)
            .map(|binding| (SocketAddr::from(binding.peer), binding.reach))
    }

    /// The channel of a peer.
    pub(super) fn number(&self, now: Time, peer: SocketAddr) -> Option<ChannelNumber> {
        let number = *self.by_peer.get(&peer_of(peer))?;
        let binding = self
            .by_number
            .get(&number)
            .expect("both maps have the same bindings");
        (binding.expires > now).then_some(number)
    }

    /// Those bound, sorted: numbers, peers, and seconds until they end.
    #[expect(clippy::disallowed_methods, reason = "what comes out is sorted")]
    pub(super) fn list(&self, now: Time) -> Vec<(ChannelNumber, SocketAddr, u32)> {
        let live = self.by_number.iter().filter(|(_, it)| it.expires > now);
        let entry = |(number, it): (&ChannelNumber, &Binding)| {
            (
                *number,
                SocketAddr::from(it.peer),
                it.expires.secs_after(now),
            )
        };
        let mut list: Vec<_> = live.map(entry).collect();
        list.sort_unstable_by_key(|(number, ..)| number.get());
        list
    }

    /// Whether [`Channels::bind`] would succeed. Bindings that have expired are in nobody's way.
    pub(super) fn check(
        &mut self,
        now: Time,
        number: ChannelNumber,
        peer: SocketAddr,
        max: u32,
    ) -> Result<(), BindError> {
        match (self.peer(now, number), self.number(now, peer)) {
            (Some(bound), Some(_)) if bound == peer => return Ok(()),
            (None, None) => {}
            _ => return Err(BindError::InUse),
        }
        if let Some(binding) = self.by_number.remove(&number) {
            self.by_peer.remove(&binding.peer);
        }
        if let Some(number) = self.by_peer.remove(&peer_of(peer)) {
            self.by_number.remove(&number);
        }
        if self.by_number.len() >= max as usize {
            self.retain(|binding| binding.expires > now);
        }
        if self.by_number.len() >= max as usize {
            Err(BindError::Full)
        } else {
            Ok(())
        }
    }

    /// Binds a channel that [`Channels::check`] found free, or refreshes it.
    pub(super) fn bind(
        &mut self,
        now: Time,
        number: ChannelNumber,
        peer: SocketAddr,
        reach: Reach,
    ) {
        let binding = Binding {
            peer: peer_of(peer),
            expires: now.plus_secs(CHANNEL_LIFETIME_S),
            reach,
        };
        let peer = binding.peer;
        self.by_number.insert(number, binding);
        self.by_peer.insert(peer, number);
        debug_assert_eq!(self.by_number.len(), self.by_peer.len());
    }

    pub(super) fn remove_family(&mut self, family: Family) {
        self.retain(|binding| Family::of(binding.peer.0) != family);
    }

    fn retain(&mut self, keep: impl Fn(&Binding) -> bool) {
        let by_peer = &mut self.by_peer;
        self.by_number.retain(|_, binding| {
            let keep = keep(binding);
            if !keep {
                by_peer.remove(&binding.peer);
            }
            keep
        });
    }

    /// When a channel's binding ends.
    pub(super) fn expiry(&self, number: ChannelNumber) -> Option<Time> {
        self.by_number.get(&number).map(|binding| binding.expires)
    }

    pub(super) fn live(&self, now: Time) -> usize {
        self.by_number
            .values()
            .filter(|binding| binding.expires > now)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn channel(offset: u16) -> ChannelNumber {
        ChannelNumber::new(0x4000 + offset).unwrap()
    }

    fn bind(channels: &mut Channels, now: Time, n: u16, port: u16) -> Result<(), BindError> {
        channels.check(now, channel(n), peer(port), 4096)?;
        channels.bind(now, channel(n), peer(port), Reach::EveryPort);
        Ok(())
    }

    /// CHAN-03, CHAN-04
    #[test]
    fn one_peer_a_channel_and_one_channel_a_peer() {
        let now = Time::from_millis(0);
        let mut channels = Channels::default();
        bind(&mut channels, now, 0, 1).unwrap();
        bind(&mut channels, now, 0, 1).unwrap();
        bind(&mut channels, now, 1, 2).unwrap();
        assert_eq!(bind(&mut channels, now, 0, 3), Err(BindError::InUse));
        assert_eq!(bind(&mut channels, now, 2, 1), Err(BindError::InUse));
        assert_eq!(bind(&mut channels, now, 0, 2), Err(BindError::InUse));
        assert_eq!(channels.number(now, peer(1)), Some(channel(0)));
        assert_eq!(channels.peer(now, channel(1)), Some(peer(2)));
    }

    /// CHAN-05, CHAN-06
    #[test]
    fn ends_after_600_seconds_and_can_then_be_bound_to_another_peer() {
        let start = Time::from_millis(0);
        let mut channels = Channels::default();
        bind(&mut channels, start, 0, 1).unwrap();
        bind(&mut channels, start, 1, 2).unwrap();
        let last = Time::from_millis(599_999);
        assert_eq!(channels.peer(last, channel(0)), Some(peer(1)));
        let end = start.plus_secs(CHANNEL_LIFETIME_S);
        assert_eq!(channels.peer(end, channel(0)), None);
        assert_eq!(channels.number(end, peer(1)), None);
        bind(&mut channels, end, 0, 2).unwrap();
        assert_eq!(channels.number(end, peer(2)), Some(channel(0)));
        assert_eq!(channels.number(end, peer(1)), None);
        bind(&mut channels, end, 1, 1).unwrap();
        assert_eq!(channels.live(end), 2);
    }

    /// CHAN-09: what the system says of a packet besides its source does not hide the channel.
    #[test]
    fn flow_labels_are_no_part_of_a_peer() {
        let now = Time::from_millis(0);
        let ip = "2001:db8::1".parse().unwrap();
        let labelled = |label| SocketAddr::V6(std::net::SocketAddrV6::new(ip, 1, label, 0));
        let mut channels = Channels::default();
        channels.check(now, channel(0), labelled(0), 1).unwrap();
        channels.bind(now, channel(0), labelled(0), Reach::EveryPort);
        assert_eq!(channels.number(now, labelled(5)), Some(channel(0)));
    }

    /// CHAN-08, CHAN-18
    #[test]
    fn all_4096_channels_can_be_bound_and_the_limit_is_exact() {
        let now = Time::from_millis(0);
        let mut channels = Channels::default();
        for n in 0..4096 {
            bind(&mut channels, now, n, n + 1).unwrap();
        }
        for n in 0..4096 {
            assert_eq!(channels.peer(now, channel(n)), Some(peer(n + 1)));
            assert_eq!(channels.number(now, peer(n + 1)), Some(channel(n)));
        }
        let mut channels = Channels::default();
        bind(&mut channels, now, 0, 1).unwrap();
        assert_eq!(
            channels.check(now, channel(1), peer(2), 1),
            Err(BindError::Full)
        );
        assert_eq!(
            channels.check(now, channel(0), peer(1), 1),
            Ok(()),
            "refreshing is no growth"
        );
        let later = now.plus_secs(CHANNEL_LIFETIME_S);
        assert_eq!(channels.check(later, channel(1), peer(2), 1), Ok(()));
    }
}
