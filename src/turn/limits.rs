//! Every bound of the protocol core, in one place.

use super::budget::Rate;

/// Seconds that an allocation lasts unless its client asks for more (RFC 8656 §3.2).
pub const DEFAULT_LIFETIME_S: u32 = 600;

/// Seconds that a permission lasts, neither more nor less (RFC 8656 §9).
pub const PERMISSION_LIFETIME_S: u32 = 300;

/// Seconds that a channel binding lasts (RFC 8656 §12).
pub const CHANNEL_LIFETIME_S: u32 = 600;

/// Relay ports that one Allocate request tries before it is refused: a port that another process
/// holds costs one.
pub(super) const BIND_ATTEMPTS_MAX: u8 = 8;

/// Comprehension-required attributes that a 420 lists. A message can have 16,000, and looking for
/// doubles among them would cost a stranger's packet tens of milliseconds.
pub(super) const UNKNOWN_ATTRIBUTES_MAX: usize = 64;

/// Bytes of an unauthenticated USERNAME that an event carries.
pub(super) const LOGGED_USERNAME_MAX: usize = 128;

/// Bytes of the longest UDP payload over IPv4, 65,535 less the headers of IP and UDP. IPv6 could
/// carry 20 more.
pub(super) const UDP_PAYLOAD_MAX: usize = 65_507;

/// Bytes of the buffer that replies are built in. The longest is a 401 with a realm of 763 bytes.
pub(super) const REPLY_LEN_MAX: usize = 1280;

/// Budgets of replies to strangers that a shard has: 128 KiB. See `turn::reply_limit` for why so many.
pub(super) const REPLY_BUCKETS: usize = 16_384;

/// Seconds of [`Limits::unauthenticated_replies_per_s`] that may go out at once, as when everybody
/// behind a NAT comes back after an outage.
const REPLY_BURST_S: u32 = 2;

/// Sets of pairs of sender and user name whose failures a shard remembers, and of senders; once for
/// addresses and once for networks.
pub(super) const FAILURE_PAIR_SETS: usize = 1024;
pub(super) const FAILURE_SENDER_SETS: usize = 256;

/// Places of a set: 2 times 128 KiB of pairs and 32 KiB of senders in all.
pub(super) const FAILURE_WAYS: usize = 8;

/// Failures of an address that are answered, in budgets of one pair: users of a NAT whose
/// credentials are all wrong, as after a change of the secret, should hear of it.
const FAILURE_REPLIES_FACTOR: u32 = 20;

/// Failures and answers of a network (IPv4 /24, IPv6 /48), in budgets of one address. Somebody with
/// a /48 has 65,536 addresses in the sense of the limits.
const FAILURE_NETWORK_FACTOR: u32 = 10;

/// How often authentication may fail.
#[derive(Clone, Copy, Debug)]
pub(super) struct FailureRates {
    /// Of one address as one user.
    pub(super) pair: Rate,
    /// Of one network as one user.
    pub(super) network_pair: Rate,
    /// Answered, of one address.
    pub(super) address: Rate,
    /// Answered, of one network.
    pub(super) network: Rate,
}

/// New allocations that a user or an address may make at once, if it may not have even so many at a
/// time: an ICE restart makes the new ones before it deletes the old.
const NEW_ALLOCATIONS_AT_ONCE_MIN: u32 = 10;

/// Seconds in which a user or an address may make as many allocations as it may have at a time,
/// again and again. It bounds the ports at rest and the lines of the log.
const NEW_ALLOCATIONS_PERIOD_S: u32 = 10;

/// Kbit/s each way that an allocation has beside its user's bandwidth, whatever the user's other
/// allocations do: a few voice calls.
const SHARE_KBIT_PER_S_MAX: u32 = 500;

/// What the operator may set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Allocations that one user may have at a time; 486 beyond.
    pub allocations_per_user: u32,
    /// Allocations that one client address (of IPv6 a /64) may have at a time; 486 beyond.
    pub allocations_per_address: u32,
    /// Allocations of the whole server; 508 beyond.
    pub allocations_total: u32,
    /// What one allocation may relay, in kbit/s each way, with the headers of IP and UDP; dropped
    /// beyond, 0 is no limit.
    pub allocation_kbit_per_s: u32,
    /// The same of all allocations of one user together. Each has a small share of its own beside
    /// it, so that a flooded one does not silence the others; a quarter more in all by default.
    pub user_kbit_per_s: u32,
    /// Peer addresses that one allocation may permit at a time; 508 beyond.
    pub permissions_per_allocation: u32,
    /// Channels that one allocation may bind at a time, at most 4096; 508 beyond.
    pub channels_per_allocation: u32,
    /// Seconds of the longest lifetime that is granted, at least [`DEFAULT_LIFETIME_S`]; RFC 8656
    /// §7.2 recommends no more than 3600.
    pub max_lifetime_s: u32,
    /// Seconds that a freed relay port rests before it is used again, while others are free.
    pub port_rest_s: u32,
    /// Seconds that the port of a RESERVATION-TOKEN is held, at least 30 (RFC 8656 §7.2).
    pub reservation_s: u32,
    /// Data indications with an ICMP error that a shard sends in a second.
    pub icmp_per_s: u32,
    /// Replies that a shard sends over UDP to requesters of one network (IPv4 /24, IPv6 /48) who
    /// have proven nothing, in a second. 0 is no limit.
    pub unauthenticated_replies_per_s: u32,
    /// Failed authentications of one client address (IPv6 /64) as one user in a minute, beyond
    /// which a shard refuses that user there; ten times as many of a network. 0 is no limit.
    pub failed_authentications_per_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            allocations_per_user: 50,
            allocations_per_address: 1000,
            allocations_total: 16_000,
            allocation_kbit_per_s: 50_000,
            user_kbit_per_s: 100_000,
            permissions_per_allocation: 64,
            channels_per_allocation: 64,
            max_lifetime_s: 3600,
            port_rest_s: 30,
            reservation_s: 30,
            icmp_per_s: 100,
            unauthenticated_replies_per_s: 200,
            failed_authentications_per_minute: 10,
        }
    }
}

impl Limits {
    /// The lifetime that is granted for LIFETIME, in seconds (RFC 8656 §7.2, §8.2).
    pub(super) fn lifetime_s(&self, asked_s: Option<u32>) -> u32 {
        let asked_s = asked_s.unwrap_or(DEFAULT_LIFETIME_S);
        asked_s.min(self.max_lifetime_s).max(DEFAULT_LIFETIME_S)
    }

    /// What each allocation may relay before it draws on its user's bandwidth, in kbit/s. All
    /// shares together are no more than what the user has.
    pub(super) fn share_kbit_per_s(&self) -> u32 {
        let even = self.user_kbit_per_s / self.allocations_per_user.max(1);
        even.min(SHARE_KBIT_PER_S_MAX)
    }

    /// Of new allocations of one user.
    pub(super) const fn user_allocation_rate(&self) -> Rate {
        new_allocations(self.allocations_per_user)
    }

    /// Of new allocations at one client address.
    pub(super) const fn address_allocation_rate(&self) -> Rate {
        new_allocations(self.allocations_per_address)
    }

    /// Of replies to one network of strangers.
    pub(super) const fn reply_rate(&self) -> Option<Rate> {
        let per_s = self.unauthenticated_replies_per_s;
        Rate::new(per_s, 1, per_s.saturating_mul(REPLY_BURST_S))
    }

    /// Of failed authentications; `None` is no limit.
    pub(super) fn failure_rates(&self) -> Option<FailureRates> {
        let rate = |factor: u32| {
            let count = self.failed_authentications_per_minute;
            let count = count.saturating_mul(factor);
            Rate::new(count, 60, count)
        };
        Some(FailureRates {
            pair: rate(1)?,
            network_pair: rate(FAILURE_NETWORK_FACTOR)?,
            address: rate(FAILURE_REPLIES_FACTOR)?,
            network: rate(FAILURE_REPLIES_FACTOR * FAILURE_NETWORK_FACTOR)?,
        })
    }
}

/// How quickly somebody who may have so many allocations may make new ones.
const fn new_allocations(at_a_time: u32) -> Rate {
    let at_once = if at_a_time < NEW_ALLOCATIONS_AT_ONCE_MIN {
        NEW_ALLOCATIONS_AT_ONCE_MIN
    } else {
        at_a_time
    };
    let rate = Rate::new(at_once, NEW_ALLOCATIONS_PERIOD_S, at_once);
    rate.expect("the least is not none")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ALLOC-18, REFR-03
    #[test]
    fn lifetime_is_never_below_the_default_nor_above_the_maximum() {
        let limits = Limits::default();
        let cases = [
            (None, 600),
            (Some(0), 600),
            (Some(1), 600),
            (Some(599), 600),
            (Some(601), 601),
            (Some(3600), 3600),
            (Some(3601), 3600),
            (Some(u32::MAX), 3600),
        ];
        for (asked, granted) in cases {
            assert_eq!(limits.lifetime_s(asked), granted, "{asked:?}");
        }
    }

    /// SEC-22: half a megabit at most, and never more than the user has for all together.
    #[test]
    fn shares_of_a_user() {
        for (user, allocations, share) in [
            (100_000, 50, 500),
            (100_000, 1000, 100),
            (1000, 50, 20),
            (49, 50, 0),
            (0, 50, 0),
            (1000, 0, 500),
        ] {
            let limits = Limits {
                user_kbit_per_s: user,
                allocations_per_user: allocations,
                ..Limits::default()
            };
            assert_eq!(limits.share_kbit_per_s(), share);
        }
    }
}
