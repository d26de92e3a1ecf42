//! (skeleton)
pub mod udp;
