//! The web server that shares the port: which connections it gets, and what they may take.
//!
//! TLS goes there as it comes, so the web server's keys stay with it. A connection that is passed on is
//! a task with two buffers and no client of TURN any more: it has places and memory of its own kind.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, sleep_until, timeout};

use super::budget::{Claim, Share};
use super::ending::Ending;
use super::held::Held;
use super::passage::{BUFFER, Fragile, Sink, TakesNoMore, copy};
use super::proxy::{Announced, WRITTEN_MAX, write_header};
use super::receive::Left;
use super::streams::StreamSettings;
use super::web_places::WebPlace;
use crate::engine::settings::Web;
use crate::engine::worker::Worker;
use crate::metrics::WEB_FAILURES;
use crate::turn::{FiveTuple, Link};

/// How often a connection that is used says so to those who look for one that is not: all workers share
/// that.
const TOUCH_EVERY: Duration = Duration::from_secs(1);

/// How long a web server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a web server gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// TLS, as it came.
    Https,
    /// HTTP without TLS.
    Http,
}

impl Kind {
    /// The key that names its server.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Https => "web.https",
            Self::Http => "web.http",
        }
    }

    const fn server(self, web: &Web) -> Option<SocketAddr> {
        match self {
            Self::Https => web.https,
            Self::Http => web.http,
        }
    }
}

/// Why a connection is not passed on, by [`WEB_FAILURES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There are as many as may be, or as many of the address.
    Connections,
    /// There is no memory for its buffers.
    Memory,
    /// The server does not answer.
    Unreachable,
    /// This process or machine has no file or memory left to ask it.
    Resources,
}

const _: () = assert!(Failure::Resources as usize + 1 == WEB_FAILURES.len());

impl Failure {
    /// Why a server could not be connected to.
    fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Self::Resources,
            _ => Self::Unreachable,
        }
    }
}

/// A connection that is for a web server, which there is a place and memory for.
#[derive(Debug)]
pub(super) struct Passage {
    kind: Kind,
    server: SocketAddr,
    /// What the server is told of the client.
    announced: Option<Announced>,
    /// What was read of it.
    first: Held,
    idle: Duration,
    /// The memory of both buffers.
    _share: Share,
    place: WebPlace,
}

impl Worker {
    /// A connection is one of TURN's no more. These are its first bytes.
    pub(super) fn hand_over(&mut self, link: Link, kind: Kind, first: &[u8]) -> Left {
        // The server may have been taken out of the configuration meanwhile.
        let Some(server) = kind.server(&self.streams.settings.web) else {
            return Ending::NotTurn.into();
        };
        let Some(connection) = self.streams.connections.remove(link) else {
            return Left::HandedOver(None);
        };
        let five_tuple = *connection.five_tuple();
        drop(connection);
        Left::HandedOver(match self.passage(&five_tuple, kind, server, first) {
            Ok(passage) => {
                self.streams.web.open[kind as usize] += 1;
                Some(Box::new(passage))
            }
            Err(failure) => {
                self.count_failure(failure);
                self.log.not_passed_on(five_tuple.client, kind, failure);
                None
            }
        })
    }

    fn passage(
        &mut self,
        five_tuple: &FiveTuple,
        kind: Kind,
        server: SocketAddr,
        bytes: &[u8],
    ) -> Result<Passage, Failure> {
        let StreamSettings { web, limits, .. } = &self.streams.settings;
        let client = five_tuple.client;
        let places = &self.streams.admission.web;
        let (max, per_address) = (web.connections, limits.connections_per_address);
        let place = places.take(client, max, per_address);
        let (place, instead_of) = place.ok_or(Failure::Connections)?;
        if let Some(closed) = instead_of {
            self.streams.web.failures[Failure::Connections as usize] += 1;
            self.log.web_gave_way(client, closed);
        }
        let mut share = Share::new(self.streams.budget.clone());
        if !share.grow(2 * BUFFER, Claim::Web) {
            return Err(Failure::Memory);
        }
        let mut first = Held::new(bytes.len(), self.streams.budget.clone());
        let kept = first.extend(bytes, Claim::Web);
        kept.map_err(|_| Failure::Memory)?;
        Ok(Passage {
            kind,
            server,
            announced: web.proxy_protocol.then_some(Announced {
                client,
                server: five_tuple.server,
            }),
            first,
            idle: Duration::from_secs(web.idle_s.into()),
            _share: share,
            place,
        })
    }

    /// A connection that was for a web server has not become its.
    fn count_failure(&mut self, failure: Failure) {
        self.streams.web.failures[failure as usize] += 1;
        self.streams.endings.count(Ending::NotPassedOn);
    }

    fn count_connected(&mut self, kind: Kind) {
        self.streams.web.passed_on[kind as usize] += 1;
        self.streams.endings.count(Ending::PassedOn);
    }

    fn count_passed_on(&mut self, kind: Kind, way: Way, bytes: usize) {
        let web = &mut self.streams.web;
        let counts = match way {
            Way::ToServer => &mut web.bytes_to_servers,
            Way::ToClient => &mut web.bytes_to_clients,
        };
        counts[kind as usize] += bytes as u64;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

impl Passage {
    /// Passes the connection on, until both sides have ended it or it is idle.
    pub(super) async fn pass_on(
        self: Box<Self>,
        worker: &RefCell<Worker>,
        input: OwnedReadHalf,
        output: Rc<OwnedWriteHalf>,
    ) {
        // The worker has let go of it.
        let output = Rc::try_unwrap(output).ok();
        let client = output.and_then(|output| input.reunite(output).ok());
        let kind = self.kind as usize;
        if let Some(client) = client {
            // Whichever side was reset, both are now, and that is between them.
            let _ = self.run(worker, client).await;
        }
        worker.borrow_mut().streams.web.open[kind] -= 1;
    }

    /// Passes on. Unless both sides have ended well, both are reset.
    ///
    /// # Errors
    /// If one of them was.
    async fn run(
        mut self: Box<Self>,
        worker: &RefCell<Worker>,
        client: TcpStream,
    ) -> io::Result<()> {
        let connected = tokio::select! {
            connected = connect(self.server) => connected,
            () = self.place.taken() => {
                worker.borrow_mut().streams.endings.count(Ending::NotPassedOn);
                return Ok(());
            }
        };
        let server = match connected {
            Ok(server) => server,
            Err(error) => {
                let mut worker = worker.borrow_mut();
                let failure = Failure::of(&error);
                worker.count_failure(failure);
                worker
                    .log
                    .not_connected(self.kind, self.server, failure, &error);
                return Ok(());
            }
        };
        worker.borrow_mut().count_connected(self.kind);
        let (mut client, mut server) = (Fragile::new(client)?, Fragile::new(server)?);
        let last = Cell::new(Instant::now());
        let touched = Cell::new(last.get());
        let passed = |way, bytes| {
            last.set(Instant::now());
            if last.get() - touched.get() >= TOUCH_EVERY {
                touched.set(last.get());
                self.place.touch();
            }
            worker.borrow_mut().count_passed_on(self.kind, way, bytes);
        };
        let resets = [Cell::new(false), Cell::new(false)];
        let (from_client, to_client) = client.split(&resets[0]);
        let (from_server, mut to_server) = server.split(&resets[1]);
        let first = &mut self.first;
        let announced = self.announced;
        let up = async {
            let begun = begin(announced, first, &mut to_server).await;
            match begun {
                Ok(len) => passed(Way::ToServer, len),
                Err(TakesNoMore) => return Ok(()),
            }
            copy(from_client, to_server, |bytes| {
                passed(Way::ToServer, bytes);
            })
            .await
        };
        let down = copy(from_server, to_client, |bytes| {
            passed(Way::ToClient, bytes);
        });
        tokio::select! {
            both = async { tokio::try_join!(up, down) } => { both?; }
            () = idle(&last, self.idle) => return Err(io::ErrorKind::TimedOut.into()),
            () = self.place.taken() => return Err(io::ErrorKind::QuotaExceeded.into()),
        }
        client.end_well()?;
        server.end_well()
    }
}

/// The server is told of the client, and gets what was read of it. Returns how many bytes that was.
async fn begin(
    announced: Option<Announced>,
    first: &mut Held,
    to_server: &mut Sink<'_>,
) -> Result<usize, TakesNoMore> {
    if let Some(announced) = announced {
        let mut place = [0; WRITTEN_MAX];
        let len = write_header(&announced, &mut place);
        to_server.write(&place[..len]).await?;
    }
    to_server.write(first.bytes()).await?;
    let len = first.bytes().len();
    first.discard(len);
    Ok(len)
}

async fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(server)).await;
    let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Ends when nothing has been passed on for so long.
async fn idle(last: &Cell<Instant>, limit: Duration) {
    loop {
        let due = last.get() + limit;
        if due <= Instant::now() {
            return;
        }
        sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WEB-04: whoever is told to start a web server that runs looks in the wrong place.
    #[test]
    fn what_is_short_here_is_not_the_web_servers_fault() {
        for (errno, failure) in [
            (libc::EMFILE, Failure::Resources),
            (libc::ENFILE, Failure::Resources),
            (libc::ENOMEM, Failure::Resources),
            (libc::ECONNREFUSED, Failure::Unreachable),
            (libc::EHOSTUNREACH, Failure::Unreachable),
            (libc::EACCES, Failure::Unreachable),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(Failure::of(&error), failure, "{error}");
        }
        let late = io::Error::from(io::ErrorKind::TimedOut);
        assert_eq!(Failure::of(&late), Failure::Unreachable);
    }
}
