//! All allocations of a shard, and every index over them: the one place that keeps them in step.

use std::hash::BuildHasher;
use std::ops::Range;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use slab::Slab;

use super::allocation::Allocation;
use super::client::FiveTuple;
use super::event::AllocationId;

/// Allocations by place and by five-tuple. Five-tuples stand in it only after authentication and
/// under quota, so nobody can fill a bucket at will.
#[derive(Debug, Default)]
pub(super) struct Table {
    allocations: Slab<Allocation>,
    /// Places; the five-tuple itself is the allocation's.
    by_five_tuple: HashTable<u32>,
    hasher: RandomState,
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
        let five_tuple = allocation.client.five_tuple;
        debug_assert!(
            self.find(&five_tuple).is_none(),
            "a five-tuple has one allocation"
        );
        let key = self.allocations.insert(allocation);
        let (allocations, hasher) = (&self.allocations, &self.hasher);
        let hash_of = |slot: &u32| hasher.hash_one(allocations[*slot as usize].client.five_tuple);
        self.by_five_tuple
            .insert_unique(hasher.hash_one(five_tuple), slot, hash_of);
        &mut self.allocations[key]
    }

    fn slot_of(&self, five_tuple: &FiveTuple) -> Option<u32> {
        let has_it = |slot: &u32| self.allocations[*slot as usize].client.five_tuple == *five_tuple;
        let hash = self.hasher.hash_one(five_tuple);
        self.by_five_tuple.find(hash, has_it).copied()
    }

    pub(super) fn find(&self, five_tuple: &FiveTuple) -> Option<&Allocation> {
        let slot = self.slot_of(five_tuple)?;
        self.allocations.get(slot as usize)
    }

    pub(super) fn find_mut(&mut self, five_tuple: &FiveTuple) -> Option<&mut Allocation> {
        let slot = self.slot_of(five_tuple)?;
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
        let hash = self.hasher.hash_one(allocation.client.five_tuple);
        let entry = self.by_five_tuple.find_entry(hash, |slot| *slot == id.slot);
        entry.expect("every allocation has its entry").remove();
        Some(allocation)
    }

    /// In the order of their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Allocation> {
        self.allocations.iter().map(|(_, allocation)| allocation)
    }

    /// Those of some places.
    pub(super) fn range(&self, slots: Range<u32>) -> impl Iterator<Item = &Allocation> {
        slots.filter_map(|slot| self.allocations.get(slot as usize))
    }

    /// Places that there are, taken and free ones.
    pub(super) fn slots(&self) -> u32 {
        self.allocations.capacity() as u32
    }

    pub(super) fn len(&self) -> usize {
        debug_assert_eq!(self.allocations.len(), self.by_five_tuple.len());
        self.allocations.len()
    }
}
