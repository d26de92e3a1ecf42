//! Ports held for a RESERVATION-TOKEN (RFC 8656 §7.2, §18.10). Shared by the shards, since the
//! client comes back from another address; touched by Allocate requests with EVEN-PORT or a token
//! only.

use std::sync::{Mutex, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::port_pool::PortLease;
use super::time::Time;

/// What a client shows to claim a reserved port.
pub(super) type ReservationToken = [u8; 8];

/// The held ports of the server; as many as there are relay ports at the most.
#[derive(Debug, Default)]
pub struct Reservations {
    held: Mutex<HashMap<ReservationToken, Reservation, RandomState>>,
}

#[derive(Debug)]
struct Reservation {
    user: Box<str>,
    lease: PortLease,
    expires: Time,
}

impl Reservations {
    /// Holds a port for a user.
    pub(super) fn hold(
        &self,
        token: ReservationToken,
        user: &str,
        lease: PortLease,
        expires: Time,
    ) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(
            token,
            Reservation {
                user: user.into(),
                lease,
                expires,
            },
        );
    }

    /// Hands the port over; a token serves once, and only the user it was given to.
    pub(super) fn claim(
        &self,
        token: ReservationToken,
        user: &str,
        now: Time,
    ) -> Option<PortLease> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let reservation = held.get(&token)?;
        if *reservation.user != *user || reservation.expires <= now {
            return None;
        }
        held.remove(&token).map(|reservation| reservation.lease)
    }

    /// Ends a reservation that nobody claimed.
    pub(super) fn cancel(&self, token: ReservationToken) -> Option<PortLease> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&token).map(|reservation| reservation.lease)
    }

    /// Ports that are held.
    pub fn held(&self) -> usize {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}
