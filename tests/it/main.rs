//! Behaviour over real sockets on loopback. One module per subject.

mod check;
mod cli;
