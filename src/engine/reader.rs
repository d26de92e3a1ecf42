//! Numbers and vectors of TLS and DTLS (RFC 8446 §3), off the front of bytes from strangers.

/// What of some bytes has not been read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// So many bytes, if there are as many.
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of so many bytes, eight at most.
    pub(super) fn number(&mut self, len: usize) -> Option<u64> {
        let bytes = self.take(len)?.iter();
        Some(bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// What stands behind its length, which has so many bytes.
    pub(super) fn vector(&mut self, len: usize) -> Option<Self> {
        let len = usize::try_from(self.number(len)?).ok()?;
        self.take(len).map(Self)
    }
}
