//! The peers that may talk to an allocation (RFC 8656 §9).

use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::limits::PERMISSION_LIFETIME_S;
use super::time::Time;
use crate::wire::Family;

/// The permissions of one allocation, by IP address: ports do not matter.
#[derive(Debug, Default)]
pub(super) struct Permissions {
    expires: HashMap<IpAddr, Time, RandomState>,
}

/// The allocation has as many permissions as it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Permissions {
    pub(super) fn allows(&self, now: Time, ip: IpAddr) -> bool {
        self.expires.get(&ip).is_some_and(|&expires| expires > now)
    }

    /// Installs or refreshes all of `ips`, or none. Returns how many are new.
    pub(super) fn install(&mut self, now: Time, ips: &[IpAddr], max: u32) -> Result<u32, Full> {
        self.check_room(now, ips, max)?;
        let expires = now.plus_secs(PERMISSION_LIFETIME_S);
        let added = ips
            .iter()
            .filter(|&&ip| self.expires.insert(ip, expires).is_none())
            .count();
        Ok(added as u32)
    }

    /// Whether `ips` could be installed; forgets what has expired if that makes the room.
    pub(super) fn check_room(&mut self, now: Time, ips: &[IpAddr], max: u32) -> Result<(), Full> {
        let mut new: Vec<IpAddr> = ips
            .iter()
            .copied()
            .filter(|ip| !self.expires.contains_key(ip))
            .collect();
        new.sort_unstable();
        new.dedup();
        let max = max as usize;
        if self.expires.len() + new.len() > max {
            self.expires
                .retain(|ip, expires| *expires > now || ips.contains(ip));
        }
        if self.expires.len() + new.len() > max {
            Err(Full)
        } else {
            Ok(())
        }
    }

    pub(super) fn remove_family(&mut self, family: Family) {
        self.expires.retain(|ip, _| Family::of(*ip) != family);
    }

    /// When the permission of an address ends.
    pub(super) fn expiry(&self, ip: IpAddr) -> Option<Time> {
        self.expires.get(&ip).copied()
    }

    pub(super) fn live(&self, now: Time) -> usize {
        self.expires
            .values()
            .filter(|&&expires| expires > now)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// PERM-02
    #[test]
    fn lasts_exactly_300_seconds() {
        let start = Time::from_millis(7);
        let mut permissions = Permissions::default();
        permissions.install(start, &[ip(1)], 1).unwrap();
        assert!(permissions.allows(Time::from_millis(7 + 299_999), ip(1)));
        assert!(!permissions.allows(Time::from_millis(7 + 300_000), ip(1)));
        assert!(!permissions.allows(start, ip(2)));
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
        assert!(!permissions.allows(start, ip(3)));
        assert_eq!(permissions.install(start, &[ip(2), ip(3), ip(3)], 3), Ok(1));
        let later = start.plus_secs(PERMISSION_LIFETIME_S);
        assert_eq!(permissions.install(later, &[ip(4), ip(5), ip(6)], 3), Ok(3));
    }
}
