//! (skeleton)
#[allow(
    unsafe_code,
    reason = "the socket calls that the standard library does not have"
)]
pub mod sys;
