//! Whether the kernel's clock is kept right, as whoever keeps it has told the kernel (adjtimex(2)).
//! The libraries of this crate do not have the call.

/// What the kernel knows about its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    /// Whether somebody keeps it right.
    pub(super) synchronised: bool,
    /// How wrong it may be at most, in milliseconds.
    pub(super) max_error_ms: u64,
}

impl Clock {
    /// Reads the state and sets nothing. `None` if the system forbids to ask.
    #[expect(
        unsafe_code,
        reason = "no library has a safe form of this call that only reads"
    )]
    pub(super) fn read() -> Option<Self> {
        // SAFETY: zero is a value of every field, among them `modes`, where it means to set nothing.
        let mut state: libc::timex = unsafe { std::mem::zeroed() };
        // SAFETY: the structure is valid, writable and outlives the call.
        let result = unsafe { libc::adjtimex(&raw mut state) };
        (result >= 0).then(|| Self {
            synchronised: result != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0,
            max_error_ms: u64::try_from(state.maxerror).unwrap_or(0) / 1000,
        })
    }
}
