//! Bytes that are kept until more come or go, within a bound.

use super::budget::{Budget, Claim, Share};
use super::ending::Ending;
use super::streams::BUFFER;

/// Bytes that a buffer begins with.
const STEP: usize = 512;

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// In this buffer.
    Bound,
    /// In the memory of all connections.
    Budget,
}

/// Bytes, and the memory that they take of the budget.
#[derive(Debug)]
pub(super) struct Held {
    bytes: Vec<u8>,
    /// The capacity of `bytes`.
    share: Share,
    max: usize,
}

impl Held {
    pub(super) const fn new(max: usize, budget: Budget) -> Self {
        Self {
            bytes: Vec::new(),
            share: Share::new(budget),
            max,
        }
    }

    /// From here on it may have so many bytes. What is beyond stays.
    pub(super) const fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Whether the memory of all connections has so much more just now.
    pub(super) fn has_room(&self, more: usize, claim: Claim) -> bool {
        self.share.has_room(more, claim)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Takes everything out.
    pub(super) fn take(&mut self) -> Self {
        let empty = Self::new(self.max, self.share.budget().clone());
        std::mem::replace(self, empty)
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// If there is no room. Nothing has changed then.
    pub(super) fn extend(&mut self, more: &[u8], claim: Claim) -> Result<(), Full> {
        let place = self.grow(more.len(), claim)?;
        place.copy_from_slice(more);
        Ok(())
    }

    /// Adds so many bytes at the end, to be written.
    ///
    /// # Errors
    /// Likewise.
    pub(super) fn grow(&mut self, more: usize, claim: Claim) -> Result<&mut [u8], Full> {
        let len = self.bytes.len();
        let needed = len + more;
        if needed > self.max {
            return Err(Full::Bound);
        }
        if needed > self.share.bytes() {
            let roomy = needed.next_power_of_two().max(STEP).min(self.max);
            if !(self.share.grow(roomy, claim) || self.share.grow(needed, claim)) {
                return Err(Full::Budget);
            }
            self.bytes.reserve_exact(self.share.bytes() - len);
        }
        self.bytes.resize(needed, 0);
        Ok(&mut self.bytes[len..])
    }

    /// Takes bytes off the front. Empty, the buffer has no memory.
    pub(super) fn discard(&mut self, taken: usize) {
        self.bytes.drain(..taken);
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
            self.share.clear();
        }
    }
}

/// The first bytes of a stream, as long as they do not tell what they are.
#[derive(Debug)]
pub(super) struct Beginning {
    held: Held,
    /// Bytes that tell, at the latest.
    max: usize,
    too_long: Ending,
}

impl Beginning {
    /// One that ends its stream if `max` bytes do not tell.
    pub(super) const fn new(max: usize, too_long: Ending, budget: Budget) -> Self {
        Self {
            // What comes with the end is read with it.
            held: Held::new(max + BUFFER, budget),
            max,
            too_long,
        }
    }

    /// Everything that has come, and this behind it.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub(super) fn with<'a>(&'a mut self, bytes: &'a [u8]) -> Result<&'a [u8], Ending> {
        if self.held.is_empty() {
            return Ok(bytes);
        }
        self.hold(bytes)?;
        Ok(self.held.bytes())
    }

    /// They do not tell: `bytes`, which came last, are kept.
    ///
    /// # Errors
    /// If they are too many, or there is no memory for them.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Result<(), Ending> {
        if self.held.is_empty() {
            self.hold(bytes)?;
        }
        match self.held.bytes().len() {
            len if len >= self.max => Err(self.too_long),
            _ => Ok(()),
        }
    }

    /// What was kept: nothing, or everything that has come.
    pub(super) fn take_held(&mut self) -> Held {
        self.held.take()
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), Ending> {
        let held = self.held.extend(bytes, Claim::Stranger);
        held.map_err(|full| match full {
            Full::Bound => self.too_long,
            Full::Budget => Ending::MemoryLimit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEC-12: at the bound of the buffer, at that of all, and given back.
    #[test]
    fn both_bounds_hold() {
        let budget = Budget::new(1000);
        let mut held = Held::new(600, budget.clone());
        assert_eq!(held.extend(&[1; 600], Claim::Control), Ok(()));
        assert_eq!(held.extend(&[1; 1], Claim::Control), Err(Full::Bound));
        let mut other = Held::new(600, budget);
        assert_eq!(other.extend(&[2; 401], Claim::Control), Err(Full::Budget));
        assert_eq!(other.extend(&[2; 400], Claim::Control), Ok(()));
        held.discard(599);
        assert_eq!(held.bytes(), [1]);
        assert_eq!(other.extend(&[2; 1], Claim::Control), Err(Full::Budget));
        held.set_max(1);
        assert_eq!(held.extend(&[1; 1], Claim::Control), Err(Full::Bound));
        held.discard(1);
        assert!(held.is_empty() && held.bytes.capacity() == 0);
        assert_eq!(other.extend(&[2; 1], Claim::Control), Ok(()));
    }
}
