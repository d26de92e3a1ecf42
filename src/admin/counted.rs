//! Every answer counts, and who comes without the right key shows in the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};

use super::Remote;
use crate::metrics::{HttpService, Metrics};

/// Between two lines about a service.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Lines about those who have no right, few however many they are.
#[derive(Debug, Default)]
struct Lines {
    last: Mutex<Option<Instant>>,
    /// Not told since then.
    untold: AtomicU64,
}

impl Lines {
    /// How many were not told before this one, or nothing if this one is not told either.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now.saturating_duration_since(last) < LINE_INTERVAL) {
            self.untold.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *last = Some(now);
        Some(self.untold.swap(0, Ordering::Relaxed))
    }
}

/// Counts what a service answers.
pub fn counted(router: Router, service: HttpService, metrics: Arc<Metrics>) -> Router {
    let lines = Arc::new(Lines::default());
    router.layer(from_fn(move |request: Request, next: Next| {
        let (metrics, lines) = (Arc::clone(&metrics), Arc::clone(&lines));
        let from = request.extensions().get::<Option<Remote>>();
        let from = from.and_then(|from| from.map(|Remote(address)| address));
        async move {
            let response = next.run(request).await;
            metrics.http().count(service, response.status().as_u16());
            if let (StatusCode::UNAUTHORIZED, Some(client)) = (response.status(), from)
                && let Some(untold) = lines.admit(Instant::now())
            {
                let service = service.name();
                let untold = Some(untold).filter(|untold| *untold > 0);
                tracing::warn!(service, %client, untold, "HTTP request without the right key");
            }
            response
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ADM-05: at the edge.
    #[test]
    fn a_line_a_second_and_the_rest_in_the_next() {
        let lines = Lines::default();
        let start = Instant::now();
        assert_eq!(lines.admit(start), Some(0));
        let edge = start + LINE_INTERVAL;
        assert_eq!(lines.admit(edge - Duration::from_millis(1)), None);
        assert_eq!(lines.admit(start), None);
        assert_eq!(lines.admit(edge), Some(2));
        assert_eq!(lines.admit(edge + LINE_INTERVAL), Some(0));
    }
}
