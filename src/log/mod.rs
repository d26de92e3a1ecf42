//! Log set-up: `tracing` events to standard error, as text or as JSON lines.
//!
//! Called once, by the commands that serve. Nothing above `engine` logs packets, and nothing
//! anywhere logs a secret.
//!
//! Who reads standard error may stop reading, and no worker may wait for that. So a thread of its
//! own writes, and a bounded queue is in front of it. Until that thread may exist
//! ([`Output::detach`]) lines are written at once.

mod names;

use std::cell::Cell;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use self::names::TextFields;
use crate::config::{Log, LogFormat, LogLevel};

/// Lines that may wait, beside one for each allocation: when the server stops, all of them end at
/// once.
const LINES_QUEUED: usize = 1024;

/// Between two lines about lost ones.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);

/// How long the end of the process waits for a line to be written, and for all of them.
const STALL_MAX: Duration = Duration::from_secs(1);
const FLUSH_MAX: Duration = Duration::from_secs(10);

/// Starts logging to standard error. Has no effect when the process logs already.
///
/// Colours are for terminals only, and there is no time on the lines when standard error is the
/// systemd journal, which adds its own; else it is UTC as of RFC 3339. `RUST_LOG` is not read: the
/// level has one place, `log.level`.
pub fn init(log: &Log) -> Output {
    let lines = Lines::default();
    let (targets, handle) = reload::Layer::new(targets(log.level));
    let output = Output {
        lines: lines.clone(),
        guard: None,
        level: Level {
            handle,
            current: Arc::new(Mutex::new(log.level)),
        },
    };
    let layer = layer(log.format, is_journal(&io::stderr()), lines).with_filter(targets);
    let _ = tracing_subscriber::registry().with(layer).try_init();
    output
}

/// Libraries tell their innards at debug, which drown ours.
fn targets(level: LogLevel) -> Targets {
    let level = filter(level);
    Targets::new()
        .with_target(env!("CARGO_CRATE_NAME"), level)
        .with_default(level.min(LevelFilter::WARN))
}

/// The level of the lines from here on. Clones are the same.
#[derive(Clone, Debug)]
pub struct Level {
    handle: reload::Handle<Targets, Registry>,
    current: Arc<Mutex<LogLevel>>,
}

impl Level {
    /// The level in force.
    pub fn get(&self) -> LogLevel {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it, at once and for every thread.
    pub fn set(&self, level: LogLevel) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // It fails only where there is no log any more.
        let _ = self.handle.reload(targets(level));
        *current = level;
    }
}

fn layer(format: LogFormat, journal: bool, lines: Lines) -> Box<dyn Layer<Registry> + Send + Sync> {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let layer = fmt::layer()
        .with_writer(lines)
        .with_ansi(colours)
        .with_target(false);
    match (format, journal) {
        (LogFormat::Text, false) => layer.fmt_fields(TextFields).with_timer(SystemTime).boxed(),
        (LogFormat::Text, true) => layer.fmt_fields(TextFields).without_time().boxed(),
        (LogFormat::Json, false) => layer.json().flatten_event(true).boxed(),
        (LogFormat::Json, true) => layer.json().flatten_event(true).without_time().boxed(),
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Whether this stream ends in the systemd journal. `JOURNAL_STREAM` alone does not tell: it is
/// inherited by children whose streams go elsewhere.
pub fn is_journal(stream: &impl AsFd) -> bool {
    let Ok(announced) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(copy) = stream.as_fd().try_clone_to_owned() else {
        return false;
    };
    let Ok(metadata) = File::from(copy).metadata() else {
        return false;
    };
    announced == format!("{}:{}", metadata.dev(), metadata.ino())
}

/// The log of this process. Dropped last, it writes what waits.
#[must_use]
pub struct Output {
    lines: Lines,
    guard: Option<WorkerGuard>,
    level: Level,
}

impl Output {
    /// The level, to change it while the log is in use.
    pub fn level(&self) -> Level {
        self.level.clone()
    }

    /// From here on a thread writes the lines, and nobody waits for it. It inherits what this
    /// thread may do. What the queue cannot take is lost, and a line tells how much that was once
    /// lines can be written again.
    pub fn detach(&mut self, allocations: u32) {
        let queued = LINES_QUEUED + allocations as usize;
        self.guard = self.lines.queue(queued, io::stderr());
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let Some(guard) = self.guard.take() else {
            return;
        };
        if self.lines.drained() {
            drop(guard);
        } else {
            // It would complain on standard output, which may be as stalled.
            std::mem::forget(guard);
        }
    }
}

/// Where lines go.
#[derive(Clone, Default)]
struct Lines {
    queue: Arc<OnceLock<NonBlocking>>,
    progress: Arc<Progress>,
}

#[derive(Default)]
struct Progress {
    /// Lines that were given to the queue, lost ones among them.
    given: AtomicUsize,
    /// Lines that have left it, written or not.
    taken: AtomicUsize,
    /// Whether nothing more will come.
    ending: AtomicBool,
}

impl Lines {
    /// `None` if there is a queue already.
    fn queue(&self, lines: usize, to: impl Write + Send + 'static) -> Option<WorkerGuard> {
        let losses = Arc::new(OnceLock::new());
        let writer = Writer {
            to,
            progress: Arc::clone(&self.progress),
            counter: Arc::clone(&losses),
            unwritten: 0,
            losses: Losses::default(),
        };
        let (queue, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(lines)
            .lossy(true)
            .thread_name("log")
            .finish(writer);
        let _ = losses.set(queue.error_counter());
        self.queue.set(queue).is_ok().then_some(guard)
    }

    /// Lines that wait.
    fn waiting(&self) -> usize {
        let lost = self.queue.get().map(NonBlocking::error_counter);
        let lost = lost.map_or(0, |lost| lost.dropped_lines());
        let left = lost + self.progress.taken.load(Ordering::Acquire);
        self.progress
            .given
            .load(Ordering::Acquire)
            .saturating_sub(left)
    }

    /// Waits until every line is written. `false` if standard error takes no more.
    fn drained(&self) -> bool {
        self.progress.ending.store(true, Ordering::Release);
        let began = Instant::now();
        let (mut waiting, mut since) = (self.waiting(), began);
        while waiting > 0 {
            if since.elapsed() > STALL_MAX || began.elapsed() > FLUSH_MAX {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
            let now = self.waiting();
            if now != waiting {
                (waiting, since) = (now, Instant::now());
            }
        }
        true
    }
}

thread_local! {
    /// Whether this is the thread that writes, whose own lines need no queue.
    static WRITES: Cell<bool> = const { Cell::new(false) };
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        match self.queue.get() {
            Some(queue) if !WRITES.get() => Line::Queued(queue.clone(), &self.progress),
            _ => Line::Written,
        }
    }
}

/// One line. It never fails: nobody could be told.
enum Line<'a> {
    Written,
    Queued(NonBlocking, &'a Progress),
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self {
            Self::Written => {
                let _ = io::stderr().write_all(line);
            }
            Self::Queued(queue, progress) => {
                progress.given.fetch_add(1, Ordering::AcqRel);
                queue.write_all(line)?;
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the thread writes with.
struct Writer<W> {
    to: W,
    progress: Arc<Progress>,
    /// Set once the thread runs.
    counter: Arc<OnceLock<ErrorCounter>>,
    /// Lines that standard error refused.
    unwritten: usize,
    losses: Losses,
}

impl<W> Writer<W> {
    fn tell_losses(&mut self, ending: bool) {
        let lost = self.counter.get().map_or(0, ErrorCounter::dropped_lines);
        let lost = lost + self.unwritten;
        if let Some(lost) = self.losses.due(lost, Instant::now(), ending) {
            WRITES.set(true);
            tracing::warn!(lost, "log lines lost: nobody read them in time");
        }
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let written = self.to.write_all(line).is_ok();
        self.progress.taken.fetch_add(1, Ordering::AcqRel);
        if written {
            self.tell_losses(false);
        } else {
            self.unwritten += 1;
        }
        Ok(line.len())
    }

    /// Called when the queue is empty, and at its end.
    fn flush(&mut self) -> io::Result<()> {
        self.tell_losses(self.progress.ending.load(Ordering::Acquire));
        Ok(())
    }
}

/// Which losses have been told.
#[derive(Default)]
struct Losses {
    told: usize,
    last: Option<Instant>,
}

impl Losses {
    /// How many lost lines are to be told now, of `lost` in all.
    fn due(&mut self, lost: usize, now: Instant, ending: bool) -> Option<usize> {
        let rests = |last: Instant| now.duration_since(last) < LOSS_INTERVAL;
        if lost == self.told || (self.last.is_some_and(rests) && !ending) {
            return None;
        }
        let untold = lost - self.told;
        (self.told, self.last) = (lost, Some(now));
        Some(untold)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Writes a line when it is let.
    struct Gate {
        stands: Sender<()>,
        open: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.stands.send(());
            let _ = self.open.recv();
            let _ = self.written.send(line.to_vec());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// PROC-09
    #[test]
    fn the_queue_is_bounded_and_nobody_waits_for_it() {
        let (stands, standing) = channel();
        let (opener, open) = channel();
        let (written, lines_written) = channel();
        let lines = Lines::default();
        let gate = Gate {
            stands,
            open,
            written,
        };
        let guard = lines.queue(10, gate).unwrap();
        assert!(lines.queue(10, io::sink()).is_none());
        let give = |line: &[u8]| lines.make_writer().write_all(line).unwrap();
        give(b"0");
        standing.recv().unwrap();
        // One is being written, and ten may wait.
        for line in *b"123456789abcd" {
            give(&[line]);
        }
        let lost = lines.queue.get().unwrap().error_counter();
        assert_eq!((lost.dropped_lines(), lines.waiting()), (3, 11));
        assert!(!lines.drained());
        drop(opener);
        assert!(lines.drained());
        drop(guard);
        let all: Vec<u8> = lines_written.try_iter().flatten().collect();
        assert_eq!(all, b"0123456789a");
    }

    #[test]
    fn losses_are_told_once_a_second_and_at_the_end() {
        let mut losses = Losses::default();
        let start = Instant::now();
        assert_eq!(losses.due(0, start, true), None);
        assert_eq!(losses.due(5, start, false), Some(5));
        let soon = start + LOSS_INTERVAL - Duration::from_millis(1);
        assert_eq!(losses.due(7, soon, false), None);
        assert_eq!(losses.due(7, start + LOSS_INTERVAL, false), Some(2));
        assert_eq!(losses.due(8, start + LOSS_INTERVAL, true), Some(1));
    }
}
