//! TCP: accepting connections, and the task that waits on each.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tracing::warn;

use crate::engine::clock;
use crate::engine::worker::Worker;
use crate::turn::{FiveTuple, Link, Transport};

/// Bytes that one connection may read before the others have their turn: a full receive buffer
/// costs tens of these.
const READ_CHUNK: usize = 16 * 1024;

/// How long accepting pauses when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Accepts connections as long as the worker lives.
pub(crate) async fn accept(worker: Rc<RefCell<Worker>>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => open(&worker, stream, client),
            Err(error) if is_about_the_connection(&error) => {}
            Err(error) => {
                let admitted = worker.borrow_mut().log.resources.admits(clock::time());
                if admitted {
                    warn!(%error, "cannot accept TCP connections; is LimitNOFILE large enough?");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Errors of a connection that ended before it was accepted (accept(2)).
fn is_about_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::WouldBlock
    )
}

/// Takes a connection in and starts its task, unless there are too many.
fn open(worker: &Rc<RefCell<Worker>>, stream: TcpStream, client: SocketAddr) {
    let Ok(server) = stream.local_addr() else {
        return;
    };
    let Some(slot) = worker.borrow().connection_slots.acquire() else {
        return;
    };
    // Without it a small reply would wait for the client's acknowledgement of the last.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let five_tuple = FiveTuple {
        transport: Transport::Tcp,
        client: canonical(client),
        server: canonical(server),
    };
    let stream = Rc::new(stream);
    let wake = Rc::new(Notify::new());
    let link = {
        let mut worker = worker.borrow_mut();
        let max = worker.stream_limits.send_queue_bytes;
        let (stream, wake) = (Rc::clone(&stream), Rc::clone(&wake));
        worker
            .connections
            .insert(five_tuple, stream, wake, max, clock::time())
    };
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        serve(&worker, &stream, &wake, link).await;
        worker.borrow_mut().disconnect(link);
        drop(slot);
    });
}

/// An IPv4 client of a dual-stack listener is an IPv4 client.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Reads and writes until the connection ends, by the client's will or the server's. Half a close
/// is a whole one.
async fn serve(worker: &RefCell<Worker>, stream: &TcpStream, wake: &Notify, link: Link) {
    let mut buffer = vec![0; 0];
    loop {
        let mut interest = Interest::READABLE;
        {
            let mut worker = worker.borrow_mut();
            let Some(connection) = worker.connections.get_mut(link) else {
                return;
            };
            if connection.closing {
                return;
            }
            if connection.has_output() {
                interest |= Interest::WRITABLE;
            }
        }
        let ready = tokio::select! {
            ready = stream.ready(interest) => ready,
            () = wake.notified() => continue,
        };
        let Ok(ready) = ready else { return };
        if ready.is_writable() {
            let mut worker = worker.borrow_mut();
            let Some(connection) = worker.connections.get_mut(link) else {
                return;
            };
            if connection.flush().is_err() {
                return;
            }
        }
        if ready.is_readable() {
            // Taken for one read, so that a waiting connection holds no buffer.
            buffer.resize(READ_CHUNK, 0);
            let read = match stream.try_read(&mut buffer) {
                Ok(0) => return,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => return,
            };
            if worker
                .borrow_mut()
                .handle_stream(link, &buffer[..read])
                .is_err()
            {
                return;
            }
            if read < READ_CHUNK {
                buffer = Vec::new();
            }
            tokio::task::yield_now().await;
        }
    }
}
