//! Passing on between two connections, so that each end sees what the other has done.
//!
//! A half-close (FIN) says that an end has sent everything, and not that it reads no more: an answer may
//! still be on its way. So each way ends for itself. A reset says that what has come may be a part of
//! what was meant: if it became a clean end, half a page would be taken for the whole.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::task::yield_now;

/// Bytes that wait in a connection that is passed on, each way, beside what the kernel holds.
pub(super) const BUFFER: usize = 8 * 1024;

/// A connection that ends with a reset, unless it is said to have ended well: whatever drops it, nobody
/// takes it for whole.
#[derive(Debug)]
pub(super) struct Fragile(TcpStream);

impl Fragile {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        Ok(Self(stream))
    }

    /// Its end is one like any other, and the kernel sends what it still has.
    pub(super) fn end_well(self) -> io::Result<()> {
        SockRef::from(&self.0).set_linger(None)
    }

    pub(super) fn split<'s>(&'s mut self, was_reset: &'s Cell<bool>) -> (Source<'s>, Sink<'s>) {
        let (from, to) = self.0.split();
        (Source(from, was_reset), Sink(to, was_reset))
    }
}

/// Where bytes come from, and whether writing to it has shown that it was reset.
pub(super) struct Source<'s>(ReadHalf<'s>, &'s Cell<bool>);

/// Where they go, likewise.
pub(super) struct Sink<'s>(WriteHalf<'s>, &'s Cell<bool>);

/// It takes no more. That is the end of one way: what it has sent is still to be had.
pub(super) struct TakesNoMore;

impl Source<'_> {
    /// Reads once; nothing if that is the end.
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer).await? {
            // The kernel tells of a reset once. Whoever has written was told, and reading shows an end.
            0 if self.1.get() => Err(ErrorKind::ConnectionReset.into()),
            len => Ok(len),
        }
    }
}

impl Sink<'_> {
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), TakesNoMore> {
        let written = self.0.write_all(bytes).await;
        self.told(written)
    }

    async fn end(&mut self) -> Result<(), TakesNoMore> {
        let ended = self.0.shutdown().await;
        self.told(ended)
    }

    fn told(&self, result: io::Result<()>) -> Result<(), TakesNoMore> {
        result.map_err(|error| {
            // A broken pipe is one whose other end had sent everything before (tcp(7), EPIPE).
            if error.kind() != ErrorKind::BrokenPipe {
                self.1.set(true);
            }
            TakesNoMore
        })
    }
}

/// Copies one way, until there is no more or the other takes no more.
///
/// # Errors
/// If it cannot be read to its end: neither end may take what it has for everything.
pub(super) async fn copy(
    mut from: Source<'_>,
    mut to: Sink<'_>,
    passed: impl Fn(usize),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let len = from.read(&mut buffer).await?;
        let written = match len {
            0 => to.end().await,
            len => to.write(&buffer[..len]).await,
        };
        if len == 0 || written.is_err() {
            return Ok(());
        }
        passed(len);
        // However much there is, datagrams have their turn.
        yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use tokio::net::TcpListener;
    use tokio::runtime::Builder;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = Builder::new_current_thread().enable_io().build();
        runtime.unwrap().block_on(future)
    }

    /// Two ends of a connection.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).await;
        (one.unwrap(), listener.accept().await.unwrap().0)
    }

    /// What the client gets of a server that has answered, and then ended in some way, before what the
    /// client has sent is looked at; and what a passage makes of it.
    async fn answered(end: impl AsyncFnOnce(TcpStream)) -> (Vec<u8>, io::Result<()>) {
        let ((mut client, one), (mut other, server)) = (pair().await, pair().await);
        client.write_all(&[7; 4 * BUFFER]).await.unwrap();
        other.write_all(b"answer").await.unwrap();
        end(other).await;
        let (mut one, mut server) = (Fragile::new(one).unwrap(), Fragile::new(server).unwrap());
        let result = {
            let resets = [Cell::new(false), Cell::new(false)];
            let (from_client, to_client) = one.split(&resets[0]);
            let (from_server, mut to_server) = server.split(&resets[1]);
            // The way to the server is the first to see what has become of it.
            while to_server.write(b"head").await.is_ok() {}
            let up = copy(from_client, to_server, |_| {});
            let down = copy(from_server, to_client, |_| {});
            tokio::try_join!(up, down).map(|_| ())
        };
        let mut answer = [0; 6];
        client.read_exact(&mut answer).await.unwrap();
        (answer.to_vec(), result)
    }

    /// WEB-03: a download does not keep datagrams waiting for longer than one piece takes.
    #[test]
    fn a_piece_is_passed_on_at_a_time() {
        block_on(async {
            const ALL: usize = 8 * BUFFER;
            let ((mut client, one), (server, _other)) = (pair().await, pair().await);
            client.write_all(&[7; ALL]).await.unwrap();
            let (mut one, mut server) = (Fragile::new(one).unwrap(), Fragile::new(server).unwrap());
            let resets = [Cell::new(false), Cell::new(false)];
            let (from, _) = one.split(&resets[0]);
            let (_, to) = server.split(&resets[1]);
            let passed = Cell::new(0);
            let mut copy = pin!(copy(from, to, |bytes| passed.set(passed.get() + bytes)));
            while passed.get() < ALL {
                let before = passed.get();
                let polled = poll_fn(|context| Poll::Ready(copy.as_mut().poll(context))).await;
                assert!(polled.is_pending() && passed.get() - before <= BUFFER);
                yield_now().await;
            }
        });
    }

    /// WEB-02: what the kernel says once, on the way that fails, is known to the other one.
    #[test]
    fn an_answer_is_had_before_the_reset_behind_it() {
        block_on(async {
            let reset = async |other: TcpStream| drop(Fragile::new(other).unwrap());
            let (answer, result) = answered(reset).await;
            assert_eq!(answer, b"answer");
            assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset);
        });
    }

    /// WEB-02: who has sent everything, and takes no more, has ended well.
    #[test]
    fn an_answer_is_whole_if_its_end_came_first() {
        block_on(async {
            let close = async |other: TcpStream| drop(other);
            let (answer, result) = answered(close).await;
            assert_eq!(answer, b"answer");
            assert!(result.is_ok(), "{result:?}");
        });
    }
}
