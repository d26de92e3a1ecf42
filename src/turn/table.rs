//! All allocations of a shard, and every index over them: the one place that keeps them in step.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use slab::Slab;

use super::allocation::Allocation;
use super::client::FiveTuple;
use super::event::AllocationId;

/// Allocations by place and by five-tuple. Five-tuples stand in it only after authentication and
/// under quota, so nobody can fill a bucket at will.
#[derive(Debug, Default)]
pub(super) struct Table {
    allocations: Slab<Allocation>,
    by_five_tuple: HashMap<FiveTuple, u32, RandomState>,
    next_generation: u32,
}

impl Table {
    /// Adds an allocation and gives it its name.
    pub(super) fn insert(&mut self, mut allocation: Allocation) -> &mut Allocation {
        let slot = self.allocations.vacant_key() as u32;
        allocation.id = AllocationId {
            slot,
            generation: self.next_generation,
        };
        self.next_generation = self.next_generation.wrapping_add(1);
        let replaced = self
            .by_five_tuple
            .insert(allocation.client.five_tuple, slot);
        debug_assert_eq!(replaced, None, "a five-tuple has one allocation");
        let key = self.allocations.insert(allocation);
        &mut self.allocations[key]
    }

    pub(super) fn find(&self, five_tuple: &FiveTuple) -> Option<&Allocation> {
        let &slot = self.by_five_tuple.get(five_tuple)?;
        self.allocations.get(slot as usize)
    }

    pub(super) fn find_mut(&mut self, five_tuple: &FiveTuple) -> Option<&mut Allocation> {
        let &slot = self.by_five_tuple.get(five_tuple)?;
        self.allocations.get_mut(slot as usize)
    }

    pub(super) fn get(&self, id: AllocationId) -> Option<&Allocation> {
        self.allocations
            .get(id.slot as usize)
            .filter(|allocation| allocation.id == id)
    }

    pub(super) fn get_mut(&mut self, id: AllocationId) -> Option<&mut Allocation> {
        self.allocations
            .get_mut(id.slot as usize)
            .filter(|allocation| allocation.id == id)
    }

    pub(super) fn remove(&mut self, id: AllocationId) -> Option<Allocation> {
        self.get(id)?;
        let allocation = self.allocations.remove(id.slot as usize);
        self.by_five_tuple.remove(&allocation.client.five_tuple);
        Some(allocation)
    }

    /// In the order of their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Allocation> {
        self.allocations.iter().map(|(_, allocation)| allocation)
    }

    pub(super) fn len(&self) -> usize {
        debug_assert_eq!(self.allocations.len(), self.by_five_tuple.len());
        self.allocations.len()
    }
}
