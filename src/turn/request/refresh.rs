//! Refresh (RFC 8656 §8.2).

use std::sync::Arc;

use super::super::event::{CloseReason, Event, RelayId};
use super::super::reject::Reject;
use super::super::server::Server;
use super::{Exchange, Handled, family, lifetime};
use crate::auth::Identity;
use crate::wire::{AttributeType, Family};

impl Server {
    /// Prolongs or deletes an allocation, or one family of it.
    pub(super) fn handle_refresh(
        &mut self,
        exchange: &Exchange<'_, '_>,
        identity: &Identity,
    ) -> Handled {
        let now = exchange.now.time;
        let options = Arc::clone(&self.options);
        let allocation = self.owned_allocation(exchange, identity)?;
        let id = allocation.id;
        let asked_s = lifetime(exchange.message)?;
        let live = allocation.live_families(now);
        let families: Vec<Family> =
            match family(exchange.message, AttributeType::REQUESTED_ADDRESS_FAMILY)? {
                None => live.collect(),
                Some(Some(family)) if allocation.live_relay(now, family).is_some() => vec![family],
                Some(_) => return Err(Reject::FamilyMismatch),
            };

        let granted_s = if asked_s == Some(0) {
            0
        } else {
            options.limits.lifetime_s(asked_s)
        };
        if granted_s > 0 {
            let expires = now.plus_secs(granted_s);
            for family in families {
                if let Some(relay) = allocation.relay_mut(family) {
                    relay.expires = expires;
                }
            }
            self.reschedule(id);
            self.report(Event::AllocationRefreshed {
                id,
                lifetime_s: granted_s,
            });
        } else if families.len() == allocation.live_families(now).count() {
            self.close(now, id, CloseReason::Deleted);
        } else {
            for family in families {
                self.close_relay(
                    exchange.now.time,
                    RelayId {
                        allocation: id,
                        family,
                    },
                );
            }
        }
        self.succeed(exchange, identity, |builder| {
            builder.u32(AttributeType::LIFETIME, granted_s);
        });
        Ok(())
    }
}
