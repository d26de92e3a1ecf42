//! What requests over HTTP came to.

use std::sync::atomic::{AtomicU64, Ordering};

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpService {
    /// Operators ask.
    Admin,
    /// Programs ask for credentials.
    Credentials,
}

impl HttpService {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Admin, Self::Credentials];

    /// In labels and log lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Credentials => "credentials",
        }
    }
}

/// By class of status, with those of their own that tell of attacks.
const RESULTS: [&str; 5] = [
    "success",
    "unauthorized",
    "rate_limited",
    "refused",
    "error",
];

const fn result_of(status: u16) -> usize {
    match status {
        401 => 1,
        429 => 2,
        400..=499 => 3,
        500.. => 4,
        _ => 0,
    }
}

/// Counts answers.
#[derive(Debug, Default)]
pub struct HttpRequests([[AtomicU64; RESULTS.len()]; HttpService::ALL.len()]);

impl HttpRequests {
    /// One more, with this status.
    pub fn count(&self, service: HttpService, status: u16) {
        self.0[service as usize][result_of(status)].fetch_add(1, Ordering::Relaxed);
    }

    /// Every number, with the labels.
    pub(super) fn numbers(&self) -> impl Iterator<Item = ([&'static str; 2], u64)> {
        HttpService::ALL.into_iter().flat_map(|service| {
            let numbers = RESULTS.into_iter().zip(&self.0[service as usize]);
            numbers.map(move |(result, number)| {
                let number = number.load(Ordering::Relaxed);
                ([service.name(), result], number)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_their_status() {
        let requests = HttpRequests::default();
        for status in [200, 204, 304, 401, 429, 400, 403, 404, 500, 503] {
            requests.count(HttpService::Credentials, status);
        }
        let numbers: Vec<u64> = requests.numbers().map(|(_, number)| number).collect();
        assert_eq!(numbers, [0, 0, 0, 0, 0, 3, 1, 1, 3, 2]);
    }
}
