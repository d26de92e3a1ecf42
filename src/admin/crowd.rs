//! A listener that anybody may come to: however many are slow, the next one is served.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::http::{ACCEPT_PAUSE, CONNECTIONS_MAX, connection};
use crate::turn::SourcePrefix;

/// Serves as long as it is polled. `time_max` is what a connection may take. Where [`CONNECTIONS_MAX`]
/// are open, the next one costs the oldest of the address (IPv6 /64) that has the most, and
/// `tell_ended` is called.
///
/// # Errors
/// If the runtime cannot watch the listener.
pub async fn serve_crowd(
    listener: std::net::TcpListener,
    router: Router,
    time_max: Duration,
    tell_ended: impl Fn(),
) -> io::Result<Infallible> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let mut crowd = Crowd::default();
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if crowd.make_room() {
            tell_ended();
        }
        let task = tokio::spawn(connection(stream, router.clone(), time_max));
        // A listener of both families shows IPv4 addresses within IPv6 ones.
        let address = SourcePrefix::subscriber(from.ip().to_canonical());
        crowd.members.push((address, task.abort_handle()));
    }
}

/// The connections that are open, the oldest first.
#[derive(Default)]
struct Crowd {
    members: Vec<(SourcePrefix, AbortHandle)>,
}

impl Crowd {
    /// Leaves room for one more. Returns whether one had to go for that.
    fn make_room(&mut self) -> bool {
        self.members.retain(|(_, task)| !task.is_finished());
        if self.members.len() < CONNECTIONS_MAX {
            return false;
        }
        let addresses = self.members.iter().map(|(address, _)| *address);
        if let Some(place) = oldest_of_most(&Vec::from_iter(addresses)) {
            let (_, task) = self.members.remove(place);
            task.abort();
        }
        true
    }
}

/// The first place of what stands there most often; of several such, the first place of all.
fn oldest_of_most<T: PartialEq>(those: &[T]) -> Option<usize> {
    let how_often = |it: &T| those.iter().filter(|other| *other == it).count();
    // The last one is found of equal ones, so they are looked at from the end.
    let places = those.iter().enumerate().rev();
    let place = places.max_by_key(|(_, it)| how_often(it));
    place.map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_most_makes_room() {
        for (those, expected) in [
            (&[][..], None),
            (&[1], Some(0)),
            (&[1, 2, 3], Some(0)),
            (&[1, 2, 2, 3], Some(1)),
            (&[3, 1, 2, 1, 2], Some(1)),
        ] {
            assert_eq!(oldest_of_most(those), expected, "{those:?}");
        }
    }
}
