//! The peers that may talk to an allocation (RFC 8656 §9).

use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::limits::PERMISSION_LIFETIME_S;
use super::peer_policy::Reach;
use super::time::Time;
use crate::wire::Family;

/// The permissions of one allocation, by IP address.
#[derive(Debug, Default)]
pub(super) struct Permissions {
    by_ip: HashMap<IpAddr, Permission, RandomState>,
}

#[derive(Clone, Copy, Debug)]
struct Permission {
    expires: Time,
    /// Ports do not matter, unless the policy has a word about them.
    reach: Reach,
}

/// The allocation has as many permissions as it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Permissions {
    /// How much of an address is permitted, if it is.
    pub(super) fn reach(&self, now: Time, ip: IpAddr) -> Option<Reach> {
        let permission = self.by_ip.get(&ip)?;
        (permission.expires > now).then_some(permission.reach)
    }

    /// Installs or refreshes all of `peers`, or none. Returns how many are new.
    pub(super) fn install(
        &mut self,
        now: Time,
        peers: &[(IpAddr, Reach)],
        max: u32,
    ) -> Result<u32, Full> {
        self.check_room(now, peers, max)?;
        let expires = now.plus_secs(PERMISSION_LIFETIME_S);
        let added = peers.iter().filter(|&&(ip, reach)| {
            let permission = Permission { expires, reach };
            self.by_ip.insert(ip, permission).is_none()
        });
        Ok(added.count() as u32)
    }

    /// Whether `peers` could be installed; forgets what has expired if that makes the room.
    fn check_room(&mut self, now: Time, peers: &[(IpAddr, Reach)], max: u32) -> Result<(), Full> {
        let mut new: Vec<IpAddr> = peers
            .iter()
            .map(|(ip, _)| *ip)
            .filter(|ip| !self.by_ip.contains_key(ip))
            .collect();
        new.sort_unstable();
        new.dedup();
        let max = max as usize;
        if self.by_ip.len() + new.len() > max {
            let is_asked = |ip: &IpAddr| peers.iter().any(|(asked, _)| asked == ip);
            self.by_ip
                .retain(|ip, permission| permission.expires > now || is_asked(ip));
        }
        if self.by_ip.len() + new.len() > max {
            Err(Full)
        } else {
            Ok(())
        }
    }

    /// Those in force, sorted: addresses, and seconds until they end.
    #[expect(clippy::disallowed_methods, reason = "what comes out is sorted")]
    pub(super) fn list(&self, now: Time) -> Vec<(IpAddr, u32)> {
        let live = self.by_ip.iter().filter(|(_, it)| it.expires > now);
        let mut list: Vec<_> = live
            .map(|(ip, it)| (*ip, it.expires.secs_after(now)))
            .collect();
        list.sort_unstable();
        list
    }

    pub(super) fn remove_family(&mut self, family: Family) {
        self.by_ip.retain(|ip, _| Family::of(*ip) != family);
    }

    /// When the permission of an address ends.
    pub(super) fn expiry(&self, ip: IpAddr) -> Option<Time> {
        self.by_ip.get(&ip).map(|permission| permission.expires)
    }

    pub(super) fn live(&self, now: Time) -> usize {
        self.by_ip
            .values()
            .filter(|permission| permission.expires > now)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> (IpAddr, Reach) {
        (IpAddr::from([192, 0, 2, last]), Reach::EveryPort)
    }

    fn allows(permissions: &Permissions, now: Time, (ip, _): (IpAddr, Reach)) -> bool {
        permissions.reach(now, ip).is_some()
    }

    /// PERM-02
    #[test]
    fn lasts_exactly_300_seconds() {
        let start = Time::from_millis(7);
        let mut permissions = Permissions::default();
        permissions.install(start, &[ip(1)], 1).unwrap();
        assert!(allows(&permissions, Time::from_millis(7 + 299_999), ip(1)));
        assert!(!allows(&permissions, Time::from_millis(7 + 300_000), ip(1)));
        assert!(!allows(&permissions, start, ip(2)));
    }

    /// PERM-09, PERM-06
    #[test]
    fn full_installs_nothing_and_the_expired_make_room() {
        let start = Time::from_millis(0);
        let mut permissions = Permissions::default();
        permissions
            .install(start, &[ip(1), ip(1), ip(2)], 3)
            .unwrap();
        assert_eq!(permissions.install(start, &[ip(3), ip(4)], 3), Err(Full));
        assert!(!allows(&permissions, start, ip(3)));
        assert_eq!(permissions.install(start, &[ip(2), ip(3), ip(3)], 3), Ok(1));
        let later = start.plus_secs(PERMISSION_LIFETIME_S);
        assert_eq!(permissions.install(later, &[ip(4), ip(5), ip(6)], 3), Ok(3));
    }
}
