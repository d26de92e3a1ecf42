//! A small HTTP server: one request a connection, few connections, little time.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections that are served at once. Further ones wait in the listener's queue.
pub const CONNECTIONS_MAX: usize = 16;

/// How long a connection may take, from being accepted to the last byte of the reply.
pub const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of a request's header at most.
const HEADER_LEN_MAX: usize = 16 * 1024;

/// How long accepting pauses when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves as long as it is polled. `time_max` is what a connection may take.
///
/// # Errors
/// If the runtime cannot watch the listener.
pub async fn serve(
    listener: std::net::TcpListener,
    router: Router,
    time_max: Duration,
) -> io::Result<Infallible> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let place = place.expect("nobody closes the semaphore");
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, router.clone(), time_max, place));
            }
            // Of the connection, which is gone; or no descriptor is left, which takes time.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// One request and its reply.
async fn connection(
    stream: TcpStream,
    router: Router,
    time_max: Duration,
    _place: OwnedSemaphorePermit,
) {
    let served = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEADER_LEN_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(time_max, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "HTTP connection failed"),
        Err(_) => tracing::debug!("HTTP connection took too long"),
    }
}
