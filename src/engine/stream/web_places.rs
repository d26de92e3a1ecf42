//! How many connections web servers have. They take no place of TURN's clients, and those take none of
//! theirs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::turn::SourcePrefix;

/// The connections of the whole server that web servers have.
#[derive(Clone, Debug, Default)]
pub(super) struct WebPlaces(Arc<Mutex<Census>>);

#[derive(Debug, Default)]
struct Census {
    open: u32,
    /// Of each address that has any, IPv6 by /64.
    per_address: HashMap<SourcePrefix, u32>,
}

/// The place of one connection, given back when dropped.
#[derive(Debug)]
pub(super) struct WebPlace {
    address: SourcePrefix,
    places: WebPlaces,
}

impl WebPlaces {
    /// A place for a client, unless so many have one, or so many of its address.
    pub(super) fn take(&self, client: IpAddr, max: u32, max_per_address: u32) -> Option<WebPlace> {
        let address = SourcePrefix::subscriber(client);
        let mut census = self.lock();
        let of_address = census.per_address.get(&address).copied().unwrap_or(0);
        if census.open >= max || of_address >= max_per_address {
            return None;
        }
        census.open += 1;
        census.per_address.insert(address, of_address + 1);
        drop(census);
        let places = self.clone();
        Some(WebPlace { address, places })
    }

    /// The numbers are whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, Census> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WebPlace {
    fn drop(&mut self) {
        let mut census = self.places.lock();
        census.open -= 1;
        let of_address = census.per_address.get_mut(&self.address);
        let of_address = of_address.expect("an address with a place is counted");
        *of_address -= 1;
        if *of_address == 0 {
            census.per_address.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WEB-03: of all and of one address.
    #[test]
    fn one_connection_more_than_there_may_be() {
        let places = WebPlaces::default();
        let take = |ip: &str| places.take(ip.parse().unwrap(), 3, 2);
        let first = take("2001:db8::1").unwrap();
        let second = take("2001:db8::2");
        assert!(second.is_some() && take("2001:db8::3").is_none());
        let third = take("192.0.2.1");
        assert!(third.is_some() && take("192.0.2.2").is_none());
        drop(first);
        let fourth = take("192.0.2.2");
        assert!(fourth.is_some() && take("192.0.2.3").is_none());
        drop((second, third, fourth));
        let census = places.lock();
        assert!(census.open == 0 && census.per_address.is_empty());
    }
}
