//! Clients that others wrote, against this server: webrtc-rs over UDP, and librice's over UDP and
//! TCP.

mod librice;
mod webrtc;
