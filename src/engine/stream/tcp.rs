//! Accepting connections, and the task that waits on each.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::warn;

use super::admission::{Admitted, Notice, Place};
use super::connection::Connection;
use super::proxy::canonical;
use super::receive::Left;
use crate::engine::clock;
use crate::engine::worker::Worker;
use crate::turn::{FiveTuple, Link, Transport};

/// Bytes that the kernel may hold for a client beyond those that are under way (tcp(7),
/// `TCP_NOTSENT_LOWAT`).
const UNSENT_MAX: u32 = 64 * 1024;

/// How long accepting pauses when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Accepts connections as long as the worker lives.
pub(crate) async fn accept(worker: Rc<RefCell<Worker>>, listener: TcpListener, place: usize) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => open(&worker, stream, client, place),
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
fn open(worker: &Rc<RefCell<Worker>>, stream: TcpStream, client: SocketAddr, listener: usize) {
    let Ok(server) = stream.local_addr() else {
        return;
    };
    let five_tuple = FiveTuple {
        transport: Transport::Tcp,
        client: canonical(client),
        server: canonical(server),
    };
    // For whom a proxy speaks is known later.
    let is_proxy = worker.borrow().streams.is_proxy(five_tuple.client.ip());
    if !is_proxy && worker.borrow_mut().refuses(five_tuple) {
        return;
    }
    let notice = Arc::new(Notice::default());
    let place = worker
        .borrow_mut()
        .admit(five_tuple.client, is_proxy, &notice);
    let Some(place) = place else {
        return;
    };
    if set_options(&stream).is_err() {
        return;
    }
    let (mut input, output) = stream.into_split();
    let output = Rc::new(output);
    let link = {
        let streams = &mut worker.borrow_mut().streams;
        let connection = Connection::new(
            five_tuple,
            Rc::clone(&output),
            Arc::clone(&notice),
            streams.accepts(listener),
            place,
            streams,
            clock::time(),
        );
        streams.connections.insert(connection)
    };
    let turns = Rc::clone(&worker.borrow().streams.turns);
    let tasks = worker.borrow().tasks.clone();
    let worker = Rc::clone(worker);
    tasks.start(async move {
        let Err(left) = serve(&worker, &mut input, &output, &notice, link, &turns).await;
        match left {
            Left::HandedOver(Some(passage)) => passage.pass_on(&worker, input, output).await,
            Left::HandedOver(None) => {}
            Left::Ended(ending) => worker.borrow_mut().disconnect(link, ending),
        }
    });
}

impl Worker {
    /// Lets a connection in, or says why not.
    pub(in crate::engine) fn admit(
        &mut self,
        client: SocketAddr,
        is_proxy: bool,
        notice: &Arc<Notice>,
    ) -> Option<Place> {
        let streams = &mut self.streams;
        match streams.admission.admit(client, is_proxy, notice) {
            Ok(Admitted { place, instead_of }) => {
                for (closed, limit) in instead_of {
                    streams.endings.count(limit);
                    self.log.connection_gave_way(client, closed, limit);
                }
                streams.accepted += 1;
                Some(place)
            }
            Err(limit) => {
                streams.refusals.count(limit);
                self.log.connection_refused(client, limit);
                None
            }
        }
    }
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    // Otherwise a small reply would wait for the client's acknowledgement of the last.
    stream.set_nodelay(true)?;
    // Otherwise the kernel would hold megabytes for a slow client, and its replies behind them.
    SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_MAX)
}

/// Reads and writes until the connection ends or is for a web server. Half a close is a whole one.
///
/// # Errors
/// When it is so.
async fn serve(
    worker: &RefCell<Worker>,
    input: &mut OwnedReadHalf,
    output: &OwnedWriteHalf,
    notice: &Notice,
    link: Link,
    turns: &Semaphore,
) -> Result<Infallible, Left> {
    loop {
        let (has_output, turns) = {
            let mut worker = worker.borrow_mut();
            let connection = worker
                .streams
                .connections
                .get_mut(link)
                .ok_or(Left::Ended(None))?;
            // Where it gave way, the one that it made room for has been told.
            if notice.is_eviction() || connection.ending().is_some() {
                return Err(connection.ending().into());
            }
            let turns = connection.is_stranger().then_some(turns);
            (connection.has_output(), turns)
        };
        tokio::select! {
            read = read(worker, input, link, turns) => {
                let turn = read?;
                // However much there is, the others have their turn.
                tokio::task::yield_now().await;
                drop(turn);
            }
            writable = output.writable(), if has_output => {
                let mut worker = worker.borrow_mut();
                let connection = worker.streams.connections.get_mut(link).ok_or(Left::Ended(None))?;
                writable.map_err(|_| Left::Ended(None))?;
                connection.flush()?;
            }
            () = notice.given() => {}
        }
    }
}

/// Reads once. Where there are `turns`, one is waited for when there is something to read, and
/// returned, to be kept until datagrams have been looked after.
async fn read<'t>(
    worker: &RefCell<Worker>,
    input: &mut OwnedReadHalf,
    link: Link,
    turns: Option<&'t Semaphore>,
) -> Result<Option<SemaphorePermit<'t>>, Left> {
    let Some(turns) = turns else {
        poll_fn(|context| worker.borrow_mut().poll_stream(context, input, link)).await?;
        return Ok(None);
    };
    input.readable().await.map_err(|_| Left::Ended(None))?;
    let turn = turns.acquire().await.map_err(|_| Left::Ended(None))?;
    let once = |context: &mut Context<'_>| {
        let polled = worker.borrow_mut().poll_stream(context, input, link);
        // Whoever has a turn does not wait.
        Poll::Ready(if let Poll::Ready(read) = polled {
            read
        } else {
            Ok(())
        })
    };
    poll_fn(once).await?;
    Ok(Some(turn))
}
