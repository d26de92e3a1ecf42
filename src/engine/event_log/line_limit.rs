//! How many lines of one kind are written, and of one network.

use std::net::IpAddr;

use tracing::warn;

use crate::turn::{SourcePrefix, Time};

/// Lines of one kind that a worker writes in a second.
const LINES_PER_S: usize = 10;

/// How many of them are of one network, so that one that fails without end does not hide the others.
const LINES_PER_S_AND_NETWORK: usize = 3;

/// Admits so many lines a second, fewer of one network, and says afterwards how many it kept back.
#[derive(Debug)]
pub(in crate::engine) struct LineLimit {
    kind: &'static str,
    second: u64,
    /// Where the lines of this second came from: as many as there may be lines, so the counts by
    /// network need no other table.
    written: [Option<SourcePrefix>; LINES_PER_S],
    lines: usize,
    suppressed: u64,
}

impl LineLimit {
    pub(super) const fn new(kind: &'static str) -> Self {
        Self {
            kind,
            second: 0,
            written: [None; LINES_PER_S],
            lines: 0,
            suppressed: 0,
        }
    }

    /// Whether one more line may be written that is of nobody's making.
    pub(in crate::engine) fn admits(&mut self, now: Time) -> bool {
        self.admits_source(now, None)
    }

    /// Whether one more line about a client may be written.
    pub(super) fn admits_from(&mut self, now: Time, source: IpAddr) -> bool {
        self.admits_source(now, Some(SourcePrefix::network(source)))
    }

    fn admits_source(&mut self, now: Time, source: Option<SourcePrefix>) -> bool {
        self.end_second(now);
        let of_source = self.written[..self.lines].iter();
        let of_source = of_source.filter(|it| source.is_some() && **it == source);
        let admitted = self.lines < LINES_PER_S && of_source.count() < LINES_PER_S_AND_NETWORK;
        if admitted {
            self.written[self.lines] = source;
            self.lines += 1;
        } else {
            self.suppressed += 1;
        }
        admitted
    }

    /// Says how many lines the last second was short of, once it is over.
    pub(super) fn end_second(&mut self, now: Time) {
        let second = now.as_millis() / 1000;
        if second == self.second {
            return;
        }
        let suppressed = std::mem::take(&mut self.suppressed);
        (self.second, self.lines) = (second, 0);
        if suppressed > 0 {
            warn!(
                suppressed,
                "{} not logged: more than {LINES_PER_S} a second, \
                 or {LINES_PER_S_AND_NETWORK} of one network",
                self.kind
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEC-18
    #[test]
    fn ten_lines_a_second_and_no_more() {
        let mut limit = LineLimit::new("test lines");
        let second = Time::from_millis(5_000);
        let admitted = (0..100_000).filter(|_| limit.admits(second)).count();
        assert_eq!(admitted, LINES_PER_S);
        assert_eq!(limit.suppressed, 99_990);
        assert!(limit.admits(Time::from_millis(6_000)));
        assert_eq!(limit.suppressed, 0, "told");
    }

    /// SEC-18: three lines are of one network, and the others' are not lost for it.
    #[test]
    fn one_network_does_not_hide_the_others() {
        let mut limit = LineLimit::new("test lines");
        let second = Time::from_millis(5_000);
        let mut admitted = |ip: &str| {
            let ip = ip.parse().unwrap();
            (0..1000).filter(|_| limit.admits_from(second, ip)).count()
        };
        assert_eq!(admitted("192.0.2.1"), 3);
        assert_eq!(admitted("192.0.2.200"), 0, "the same network");
        assert_eq!(admitted("192.0.3.1"), 3);
        assert_eq!(admitted("2001:db8:1:2::3"), 3);
        assert_eq!(admitted("2001:db8:1:ffff::3"), 0, "the same network");
        assert_eq!(admitted("198.51.100.1"), 1, "ten in all");
        assert_eq!(admitted("203.0.113.1"), 0);
    }
}
