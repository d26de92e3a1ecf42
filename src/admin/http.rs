//! A small HTTP server: one request a connection, few connections, little time.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections of a listener that are served at once. Further ones wait in its queue.
pub const CONNECTIONS_MAX: usize = 64;

/// How long a connection may take, from being accepted to the last byte of the reply.
pub const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a request's header may take to arrive: silent connections must not keep others waiting.
const HEADER_TIME_MAX: Duration = Duration::from_secs(2);

/// Bytes of a request's header at most.
const HEADER_LEN_MAX: usize = 16 * 1024;

/// How long accepting pauses when no file descriptor is left.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Where requests come in.
#[derive(Debug)]
pub enum Listener {
    /// From this machine.
    Unix(std::os::unix::net::UnixListener),
    /// From wherever the address is reached.
    Tcp(std::net::TcpListener),
}

impl From<std::net::TcpListener> for Listener {
    fn from(listener: std::net::TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<std::os::unix::net::UnixListener> for Listener {
    fn from(listener: std::os::unix::net::UnixListener) -> Self {
        Self::Unix(listener)
    }
}

/// Where a request comes from; each has an `Option` of it among its extensions, `None` if it came over
/// a Unix socket.
#[derive(Clone, Copy, Debug)]
pub struct Remote(pub SocketAddr);

/// Serves as long as it is polled. `time_max` is what a connection may take.
///
/// # Errors
/// If the runtime cannot watch the listener.
pub async fn serve(
    listener: impl Into<Listener>,
    router: Router,
    time_max: Duration,
) -> io::Result<Infallible> {
    let places = Places {
        router,
        time_max,
        free: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
    };
    match listener.into() {
        Listener::Tcp(listener) => {
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            loop {
                let place = places.wait().await;
                let accepted = listener.accept().await;
                let accepted = accepted.map(|(stream, from)| (stream, Some(Remote(from))));
                places.give(place, accepted).await;
            }
        }
        Listener::Unix(listener) => {
            listener.set_nonblocking(true)?;
            let listener = UnixListener::from_std(listener)?;
            loop {
                let place = places.wait().await;
                let accepted = listener.accept().await;
                places
                    .give(place, accepted.map(|(stream, _)| (stream, None)))
                    .await;
            }
        }
    }
}

/// The connections of a listener.
struct Places {
    router: Router,
    time_max: Duration,
    free: Arc<Semaphore>,
}

impl Places {
    async fn wait(&self) -> OwnedSemaphorePermit {
        let place = Arc::clone(&self.free).acquire_owned().await;
        place.expect("nobody closes the semaphore")
    }

    async fn give<S>(&self, place: OwnedSemaphorePermit, accepted: io::Result<(S, Option<Remote>)>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match accepted {
            Ok((stream, from)) => {
                let router = self.router.clone().layer(Extension(from));
                let served = connection(stream, router, self.time_max);
                tokio::spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            // Of the connection, which is gone; or no descriptor is left, which takes time.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// One request and its reply.
pub(super) async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    time_max: Duration,
) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .keep_alive(false)
        .max_buf_size(HEADER_LEN_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(time_max, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "HTTP connection failed"),
        Err(_) => tracing::debug!("HTTP connection took too long"),
    }
}
