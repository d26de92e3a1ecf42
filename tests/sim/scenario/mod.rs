//! Stories with one or two clients. Each names the requirements that it proves.

mod allocate;
mod attacks;
mod auth;
mod bandwidth;
mod channel;
mod data;
mod errors;
mod idempotency;
mod messages;
mod permission;
mod randomness;
mod reflection;
mod refresh;
mod reservation;
mod security;
mod sha256;
mod strangers;
