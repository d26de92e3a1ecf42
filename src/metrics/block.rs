//! Where a worker leaves its numbers for others to read: one writer, no lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::sample::Sample;

/// Two cache lines, which some processors fetch as one.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line([AtomicU64; 16]);

/// The numbers of one worker. A reader that comes while they are written gets some of this second
/// and some of the last: each is right by itself.
#[derive(Debug)]
pub(super) struct Block {
    /// Milliseconds from the start of the server.
    published: AtomicU64,
    lines: Box<[Line]>,
}

impl Block {
    pub(super) fn new() -> Self {
        let numbers = Sample::default().numbers_mut().count();
        let lines = numbers.div_ceil(Line::default().0.len());
        Self {
            published: AtomicU64::new(0),
            lines: (0..lines).map(|_| Line::default()).collect(),
        }
    }

    /// Replaces the numbers.
    pub(super) fn publish(&self, mut sample: Sample, since_start: Duration) {
        for (number, place) in sample.numbers_mut().zip(self.places()) {
            place.store(*number, Ordering::Relaxed);
        }
        let now = since_start.as_millis() as u64;
        self.published.store(now, Ordering::Relaxed);
    }

    /// Adds the numbers to those of other workers.
    pub(super) fn add_to(&self, total: &mut Sample) {
        for (number, place) in total.numbers_mut().zip(self.places()) {
            *number += place.load(Ordering::Relaxed);
        }
    }

    /// When they were last replaced, from the start of the server.
    pub(super) fn published(&self) -> Duration {
        Duration::from_millis(self.published.load(Ordering::Relaxed))
    }

    fn places(&self) -> impl Iterator<Item = &AtomicU64> {
        self.lines.iter().flat_map(|line| &line.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_place() {
        let block = Block::new();
        let mut sample = Sample::default();
        for (value, number) in (1..).zip(sample.numbers_mut()) {
            *number = value;
        }
        block.publish(sample, Duration::from_millis(1500));
        let mut read = Sample::default();
        block.add_to(&mut read);
        assert!(
            read.numbers_mut()
                .map(|number| *number)
                .eq(sample.numbers_mut().map(|it| *it))
        );
        assert_eq!(block.published(), Duration::from_millis(1500));
    }
}
