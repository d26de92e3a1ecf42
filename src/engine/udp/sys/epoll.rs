//! One file descriptor that stands for many sockets.

use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use tokio::io::{
    Interest as TokioInterest,
    unix::{AsyncFd, AsyncFdReadyGuard},
};

use super::check;

/// A level-triggered epoll instance. It is itself readable while one of its members has an event,
/// so that a runtime can watch them all as one file descriptor: see [`WatchedSet`].
#[derive(Debug)]
pub struct EpollSet {
    fd: OwnedFd,
}

impl EpollSet {
    /// Makes an empty set.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is involved.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the call has just made this descriptor, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// Adds `member`, whose events will carry `token`: that there is something to read, or an error.
    /// Closing it takes it out again, unless the descriptor has been duplicated.
    ///
    /// # Errors
    ///
    /// `EEXIST` if it is one already; `ENOSPC` past `fs.epoll.max_user_watches`; `ENOMEM`.
    pub fn add(&self, member: &impl AsFd, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: token,
        };
        let (set, member) = (self.fd.as_raw_fd(), member.as_fd().as_raw_fd());
        // SAFETY: `event` outlives the call.
        check(unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, member, &mut event) })?;
        Ok(())
    }

    /// Replaces `events` with those of now, without waiting, and returns how many there are.
    ///
    /// If there are more than `events` has room for, the rest come first the next time.
    ///
    /// # Errors
    ///
    /// Those of epoll_wait(2), which are bugs.
    pub fn wait(&self, events: &mut Events) -> io::Result<usize> {
        events.len = 0;
        let most = libc::c_int::try_from(events.list.len()).unwrap_or(libc::c_int::MAX);
        loop {
            // SAFETY: the list has room for `most` events.
            let result = check(unsafe {
                libc::epoll_wait(self.fd.as_raw_fd(), events.list.as_mut_ptr(), most, 0)
            });
            match result {
                Ok(count) => {
                    events.len = count as usize;
                    return Ok(events.len);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for EpollSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for EpollSet {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// An [`EpollSet`] that tokio watches.
#[derive(Debug)]
pub struct WatchedSet {
    set: AsyncFd<EpollSet>,
}

impl WatchedSet {
    /// Has the runtime of this thread watch `set`.
    ///
    /// # Errors
    ///
    /// Those of epoll_ctl(2), such as `ENOMEM`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O enabled.
    pub fn new(set: EpollSet) -> io::Result<Self> {
        // SAFETY: `EpollSet` owns its descriptor and always gives the same one; nothing here hands
        // out the `&mut EpollSet` that could exchange it while it is registered.
        let set = unsafe { AsyncFd::register_with_interest(set, TokioInterest::READABLE)? };
        Ok(Self { set })
    }

    /// The set, to add members.
    pub fn get(&self) -> &EpollSet {
        self.set.get_ref()
    }

    /// Waits until there are events and replaces `events` with them.
    ///
    /// It returns at once while there are any, so the caller decides when others have their turn.
    /// Nothing is lost if it is cancelled.
    ///
    /// # Errors
    ///
    /// As for [`EpollSet::wait`], or if the runtime is shutting down.
    pub async fn ready(&self, events: &mut Events) -> io::Result<Ready<'_>> {
        loop {
            let mut guard = self.set.readable().await?;
            if self.get().wait(events)? > 0 {
                return Ok(Ready { guard });
            }
            // tokio watches edge-triggered: only an empty set may be called not ready.
            guard.clear_ready();
        }
    }
}

/// A set that had events.
#[derive(Debug)]
pub struct Ready<'s> {
    guard: AsyncFdReadyGuard<'s, EpollSet>,
}

impl Ready<'_> {
    /// Spares the next [`WatchedSet::ready`] the system call that would find nothing.
    ///
    /// Only if the cause of every event is gone and there may be no more events than were told:
    /// otherwise those that are left wait for the next thing to happen.
    pub fn all_done(mut self) {
        self.guard.clear_ready();
    }
}

/// Room for the events of one [`EpollSet::wait`].
pub struct Events {
    list: Box<[libc::epoll_event]>,
    len: usize,
}

impl Events {
    /// Makes room for `capacity` events, of which there must be at least one.
    pub fn new(capacity: usize) -> Self {
        Self {
            list: vec![libc::epoll_event { events: 0, u64: 0 }; capacity].into(),
            len: 0,
        }
    }

    /// Whether there may be more events than these.
    pub fn is_full(&self) -> bool {
        self.len == self.list.len()
    }

    /// The events of the last wait.
    pub fn iter(&self) -> impl Iterator<Item = Event> {
        self.list[..self.len].iter().map(|event| Event {
            token: event.u64,
            readable: event.events & libc::EPOLLIN as u32 != 0,
            error: event.events & libc::EPOLLERR as u32 != 0,
        })
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Something to do about one member of an [`EpollSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The member's token.
    pub token: u64,
    /// There is something to read.
    pub readable: bool,
    /// An error waits: in the error queue of a relay socket, or pending on any.
    pub error: bool,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::{
        super::{
            Batch,
            testing::{closed_port, receive, relay, send, wait_for},
        },
        *,
    };

    fn now(set: &EpollSet) -> Vec<Event> {
        let mut events = Events::new(8);
        let count = set.wait(&mut events).unwrap();
        let mut events: Vec<_> = events.iter().collect();
        assert_eq!(events.len(), count);
        events.sort_by_key(|event| event.token);
        events
    }

    #[test]
    fn events_carry_tokens_until_their_cause_is_gone() {
        let set = EpollSet::new().unwrap();
        let (a, b) = (relay("127.0.0.1:0"), relay("127.0.0.1:0"));
        set.add(&a, 7).unwrap();
        set.add(&b, u64::MAX).unwrap();
        assert_eq!(now(&set), []);

        for socket in [&a, &b] {
            send(&a, b"x", socket.local_addr());
        }
        wait_for(&set, libc::POLLIN);
        let event = |token| Event {
            token,
            readable: true,
            error: false,
        };
        for _ in 0..2 {
            assert_eq!(now(&set), [event(7), event(u64::MAX)]);
        }
        receive(&mut Batch::new(1), &a, 1);
        assert_eq!(now(&set), [event(u64::MAX)]);
        drop(b);
        assert_eq!(now(&set), []);

        let again = set.add(&a, 8).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn more_events_than_room_come_in_turns() {
        let set = EpollSet::new().unwrap();
        let sockets = [0, 1, 2].map(|token| {
            let socket = relay("127.0.0.1:0");
            set.add(&socket, token).unwrap();
            send(&socket, b"x", socket.local_addr());
            socket
        });
        let mut events = Events::new(1);
        let mut tokens: Vec<_> = sockets
            .iter()
            .map(|_| {
                assert_eq!(set.wait(&mut events).unwrap(), 1);
                events.iter().next().unwrap().token
            })
            .collect();
        tokens.sort();
        assert_eq!(tokens, [0, 1, 2]);
    }

    #[test]
    fn an_error_is_told_until_it_is_read() {
        let set = EpollSet::new().unwrap();
        let socket = relay("127.0.0.1:0");
        set.add(&socket, 3).unwrap();
        send(&socket, b"anybody?", closed_port("127.0.0.1:0"));
        wait_for(&set, libc::POLLIN);
        assert_eq!(
            now(&set),
            [Event {
                token: 3,
                readable: false,
                error: true
            }]
        );
        super::super::read_error(&socket).unwrap().unwrap();
        assert_eq!(now(&set), []);
    }

    #[test]
    fn what_comes_while_all_is_done_is_told() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let set = WatchedSet::new(EpollSet::new().unwrap()).unwrap();
            let (socket, other) = (relay("127.0.0.1:0"), relay("127.0.0.1:0"));
            set.get().add(&socket, 5).unwrap();
            set.get().add(&other, 6).unwrap();
            let mut events = Events::new(4);
            let mut batch = Batch::new(1);
            send(&socket, b"x", socket.local_addr());
            for late in [&socket, &other, &socket] {
                let ready = set.ready(&mut events).await.unwrap();
                let token = events.iter().next().unwrap().token;
                receive(&mut batch, if token == 5 { &socket } else { &other }, 1);
                batch.clear();
                send(&socket, b"y", late.local_addr());
                ready.all_done();
            }
            let last = set.ready(&mut events);
            timeout(Duration::from_secs(5), last)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(events.iter().next().unwrap().token, 5);
        });
    }

    #[test]
    fn a_runtime_can_watch_the_set() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let set = WatchedSet::new(EpollSet::new().unwrap()).unwrap();
            let socket = relay("127.0.0.1:0");
            set.get().add(&socket, 5).unwrap();
            let mut events = Events::new(4);
            for _ in 0..3 {
                send(&socket, b"x", socket.local_addr());
                for _ in 0..2 {
                    set.ready(&mut events).await.unwrap();
                    assert_eq!(events.iter().next().unwrap().token, 5);
                }
                receive(&mut Batch::new(1), &socket, 1);
                let none = set.ready(&mut events);
                assert!(timeout(Duration::ZERO, none).await.is_err());
            }
        });
    }
}
