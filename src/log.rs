//! Logging set-up (skeleton).
