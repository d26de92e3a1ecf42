//! The certificates of a server that runs: read again when their files change, or when somebody asks
//! for it, and watched for their end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::ServerConfig;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::config::{Config, read_pair};
use crate::metrics::Metrics;
#[cfg(feature = "dtls")]
use crate::tls::dtls_context;
use crate::tls::{Certificates, ConfigError, Files, Pair, Stamp, server_config};

/// How often it is looked whether files have changed. A change is taken when it is one look old, so
/// that a tool has written the key too by then.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// From so many days before its end on a certificate is told of: renewal is due with a third of the
/// life left, 30 days of Let's Encrypt's 90, and has failed for more than a week by then.
pub(super) const EXPIRY_DAYS: i64 = 21;

/// How often it is told of, in seconds.
const EXPIRY_INTERVAL_S: i64 = 86_400;

/// What TLS is spoken with.
pub(super) struct Tls {
    pub(super) certificates: Arc<Certificates>,
    pub(super) config: Arc<ServerConfig>,
    #[cfg(feature = "dtls")]
    pub(super) dtls: openssl::ssl::SslContext,
}

impl Tls {
    /// # Errors
    /// If the system has no random numbers, or OpenSSL none of what DTLS needs.
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let certificates = Arc::new(Certificates::new(config.tls.pairs.clone()));
        let config = server_config(&certificates, config.tls.acme.answers_by_tls())?;
        Ok(Self {
            #[cfg(feature = "dtls")]
            dtls: dtls_context(&certificates)?,
            certificates,
            config,
        })
    }
}

/// Puts certificates in force, and in the metrics.
pub(super) fn put_in_force(certificates: &Certificates, metrics: &Metrics, pairs: Vec<Arc<Pair>>) {
    let expiry = |pair: &Arc<Pair>| {
        let file = pair.files().cert.display().to_string();
        (file, pair.not_after_unix_s())
    };
    let expiries = pairs.iter().map(expiry).collect();
    certificates.replace(pairs);
    metrics.certificates().set_expiries(expiries);
}

/// What a reload has read, but for pairs that have taken the place of those in force before it: they
/// were read meanwhile, and nobody would look at their files again.
pub(super) fn newest(
    read: &[Arc<Pair>],
    before: &[Arc<Pair>],
    now: &[Arc<Pair>],
) -> Vec<Arc<Pair>> {
    let is_before = |pair: &Arc<Pair>| before.iter().any(|it| Arc::ptr_eq(it, pair));
    let of = |read: &Arc<Pair>| {
        let mut meanwhile = now.iter().filter(|pair| !is_before(pair));
        let newer = meanwhile.find(|pair| pair.files() == read.files());
        Arc::clone(newer.unwrap_or(read))
    };
    read.iter().map(of).collect()
}

/// Unix time in seconds.
pub(super) fn unix_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

/// What the files of a pair were like at the last look.
#[derive(Debug)]
struct Seen {
    files: Files,
    stamp: Stamp,
    /// Whether they were read in this state, whatever came of it.
    is_read: bool,
}

/// Looks after certificates.
#[derive(Debug)]
pub(super) struct Keeper {
    certificates: Arc<Certificates>,
    metrics: Arc<Metrics>,
    /// The file of one that somebody else looks after.
    issued: Option<PathBuf>,
    seen: Vec<Seen>,
    /// Those that are in force although their files hold something else, or nothing that can be read.
    outdated: Vec<Arc<Pair>>,
    tell_expiry_at_unix_s: i64,
}

impl Keeper {
    pub(super) fn new(
        certificates: Arc<Certificates>,
        metrics: Arc<Metrics>,
        issued: Option<PathBuf>,
    ) -> Self {
        Self {
            certificates,
            metrics,
            issued,
            seen: Vec::new(),
            outdated: Vec::new(),
            tell_expiry_at_unix_s: 0,
        }
    }

    /// Looks after them for ever, and reads them all when `asked`.
    pub(super) async fn keep(mut self, asked: Arc<Notify>) {
        let mut interval = tokio::time::interval(LOOK_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = interval.tick() => {
                    self.tell_expiry(unix_s());
                    self.look().await;
                }
                () = asked.notified() => self.read_again().await,
            }
        }
    }

    /// Reads pairs whose files have changed and rest since.
    async fn look(&mut self) {
        let pairs = self.certificates.pairs();
        self.seen
            .retain(|seen| pairs.iter().any(|pair| *pair.files() == seen.files));
        let pairs: Vec<_> = pairs.iter().filter(|pair| !self.is_issued(pair)).collect();
        let files: Vec<_> = pairs.iter().map(|pair| pair.files().clone()).collect();
        let stamps = off_thread(move || files.iter().map(Stamp::of).collect::<Vec<_>>()).await;
        for (pair, stamp) in pairs.into_iter().zip(stamps.unwrap_or_default()) {
            if self.is_due(pair, stamp) {
                self.read(pair).await;
            }
        }
        self.tell_outdated();
    }

    fn failed_to_read(&mut self, in_force: &Arc<Pair>) {
        self.metrics.certificates().count_failure();
        if !self.outdated.iter().any(|it| Arc::ptr_eq(it, in_force)) {
            self.outdated.push(Arc::clone(in_force));
        }
    }

    /// Whatever takes the place of one, a reload too, was read from its files.
    fn tell_outdated(&mut self) {
        let pairs = self.certificates.pairs();
        self.outdated
            .retain(|it| pairs.iter().any(|pair| Arc::ptr_eq(pair, it)));
        let count = self.outdated.len() as u64;
        self.metrics.certificates().set_outdated(count);
    }

    /// Whether who looks after it need not be told: it may have been made for a few days.
    fn is_renewed_in_time(&self, pair: &Pair, now_unix_s: i64) -> bool {
        let life = pair.not_after_unix_s() - pair.not_before_unix_s();
        self.is_issued(pair) && pair.not_after_unix_s() - now_unix_s > life / 4
    }

    fn is_issued(&self, pair: &Pair) -> bool {
        self.issued.as_ref() == Some(&pair.files().cert)
    }

    /// Whether a pair is to be read: its files are what they were a look ago, and have not been tried
    /// in this state.
    fn is_due(&mut self, pair: &Pair, stamp: Stamp) -> bool {
        let files = pair.files();
        let Some(seen) = self.seen.iter_mut().find(|seen| seen.files == *files) else {
            // Read once more whatever it is: a process that has become somebody may not be able to, and
            // that had better show before the renewal.
            self.seen.push(Seen {
                files: files.clone(),
                stamp,
                is_read: false,
            });
            return false;
        };
        if seen.stamp != stamp {
            (seen.stamp, seen.is_read) = (stamp, stamp == pair.stamp());
            return false;
        }
        !std::mem::replace(&mut seen.is_read, true)
    }

    /// Reads every pair because somebody wants it, and says what came of it.
    async fn read_again(&mut self) {
        let pairs = self.certificates.pairs();
        let pairs: Vec<_> = pairs.iter().filter(|pair| !self.is_issued(pair)).collect();
        if pairs.is_empty() {
            tracing::warn!("SIGUSR2 ignored: there are no certificates to read again");
            return;
        }
        let mut read = 0;
        for pair in &pairs {
            read += usize::from(self.read(pair).await);
        }
        self.tell_outdated();
        tracing::info!("certificates read again: {read} of {}", pairs.len());
    }

    /// Reads a pair, and puts it in the place of the one there is. Returns whether it can be used.
    async fn read(&mut self, old: &Arc<Pair>) -> bool {
        let file = old.files().cert.display();
        let files = old.files().clone();
        let Some(read) = off_thread(move || read_pair(&files)).await else {
            return false;
        };
        let new = match read {
            Ok(new) => Arc::new(new),
            Err(error) => {
                self.failed_to_read(old);
                let at = old.files().path(error.part).display();
                tracing::error!(
                    "{at} {error}. The certificate of {file} that was read before stays in force"
                );
                return false;
            }
        };
        if new.is_expired(unix_s()) && !old.is_expired(unix_s()) {
            // A slip, as of a restored backup: every client refuses the one, and none the other.
            self.failed_to_read(old);
            tracing::error!(
                "{file} has expired, so clients refuse it; renew it. The certificate that was read before \
                 is good and stays in force"
            );
            return false;
        }
        let is_other = new != *old;
        let (names, expiry) = (new.names().join(", "), days(new.days_left(unix_s())));
        let pairs = self.certificates.pairs();
        if !pairs.iter().any(|pair| Arc::ptr_eq(pair, old)) {
            // A reload was faster, and has read it too.
            return true;
        }
        let pairs = pairs.iter().map(|pair| match Arc::ptr_eq(pair, old) {
            true => Arc::clone(&new),
            false => Arc::clone(pair),
        });
        put_in_force(&self.certificates, &self.metrics, pairs.collect());
        if is_other {
            self.metrics.certificates().count_replaced();
            tracing::info!(file = %file, names, expires = expiry, "certificate replaced");
            for flaw in new.flaws(unix_s()) {
                tracing::warn!("{file} {}; {}", flaw.what(), flaw.remedy());
            }
        }
        true
    }

    /// Once a day: those that end soon, or have ended.
    fn tell_expiry(&mut self, now_unix_s: i64) {
        if now_unix_s < self.tell_expiry_at_unix_s {
            return;
        }
        self.tell_expiry_at_unix_s = now_unix_s + EXPIRY_INTERVAL_S;
        for pair in self.certificates.pairs().iter() {
            let left = pair.days_left(now_unix_s);
            if left < EXPIRY_DAYS && !self.is_renewed_in_time(pair, now_unix_s) {
                let (file, names) = (pair.files().cert.display(), pair.names().join(", "));
                let expires = days(left);
                tracing::warn!(file = %file, names, expires, "a certificate is due for renewal");
            }
        }
    }
}

/// Work on files: a file system that does not answer must not keep the thread of everything else.
/// `None` if it was given up, at the end of the process.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// When something ends, of which so many days are left.
pub(super) fn days(left: i64) -> String {
    match left {
        -1 => "1 day ago".to_owned(),
        ..0 => format!("{} days ago", left.unsigned_abs()),
        0 => "today".to_owned(),
        1 => "in 1 day".to_owned(),
        left => format!("in {left} days"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::pin::pin;
    use std::sync::mpsc::channel;
    use std::task::{Context, Waker};

    use tempfile::TempDir;
    use tokio::runtime::Runtime;

    use super::*;
    use crate::metrics::Process;
    use crate::tls::testing::{Authority, DAY_S, Made, NOW_UNIX_S};
    use crate::turn::{PortPool, Shared};

    const NAME: &str = "turn.example.org";

    /// As that of the server, with one thread for files.
    fn runtime() -> Runtime {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.max_blocking_threads(1).build().unwrap()
    }

    struct Trial {
        keeper: Keeper,
        runtime: Runtime,
        files: Files,
        authority: Authority,
        _home: TempDir,
    }

    impl Trial {
        fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            let files = Files {
                cert: home.path().join("cert.pem"),
                key: home.path().join("key.pem"),
            };
            let authority = Authority::new();
            authority.issue(&[NAME]).write(&files);
            let pairs = vec![Arc::new(read_pair(&files).unwrap())];
            let certificates = Arc::new(Certificates::new(pairs));
            let shared = Arc::new(Shared::new(PortPool::new(&[], 50_000..=50_009, &[])));
            let metrics = Arc::new(Metrics::new(1, shared, Process::open()));
            Self {
                keeper: Keeper::new(certificates, metrics, None),
                runtime: runtime(),
                files,
                authority,
                _home: home,
            }
        }

        fn look(&mut self) {
            self.runtime.block_on(self.keeper.look());
        }

        fn read_again(&mut self) {
            self.runtime.block_on(self.keeper.read_again());
        }

        fn in_force(&self) -> Arc<Pair> {
            Arc::clone(&self.keeper.certificates.pairs()[0])
        }

        /// Whether two looks, which see files at rest, put another certificate in force.
        fn changes(&mut self) -> bool {
            let before = self.in_force();
            self.look();
            assert_eq!(self.in_force(), before, "not before it rests");
            self.look();
            self.in_force() != before
        }

        fn counted(&self, result: &str) -> u64 {
            let name = "turnstone_tls_certificate_reloads_total";
            let line = format!("{name}{{result=\"{result}\"}} ");
            let text = self.keeper.metrics.to_text();
            let number = text.lines().find_map(|it| it.strip_prefix(&line));
            number.unwrap().parse().unwrap()
        }

        fn outdated(&self) -> u64 {
            let text = self.keeper.metrics.to_text();
            let mut lines = text.lines();
            let number =
                lines.find_map(|it| it.strip_prefix("turnstone_tls_certificates_outdated "));
            number.unwrap().parse().unwrap()
        }

        fn made(&self) -> Made {
            self.authority.issue(&[NAME])
        }
    }

    /// TLS-03: in every way in which tools replace files.
    #[test]
    fn new_files_come_into_force() {
        let mut trial = Trial::new();
        assert!(!trial.changes(), "nothing has");
        trial.made().write(&trial.files);
        assert!(trial.changes(), "renamed");
        let made = trial.made();
        fs::write(&trial.files.cert, &made.cert).unwrap();
        fs::write(&trial.files.key, &made.key).unwrap();
        assert!(trial.changes(), "written in place");
        // As certbot does it: links that point to the next file.
        let made = trial.made();
        for (path, text) in [
            (&trial.files.cert, &made.cert),
            (&trial.files.key, &made.key),
        ] {
            let (next, link) = (path.with_extension("2"), path.with_extension("link"));
            fs::write(&next, text).unwrap();
            std::os::unix::fs::symlink(&next, &link).unwrap();
            fs::rename(&link, path).unwrap();
        }
        assert!(trial.changes(), "linked");
        assert!(!trial.changes() && !trial.changes());
        assert_eq!((trial.counted("success"), trial.counted("failure")), (3, 0));
        let expiry = trial.in_force().not_after_unix_s() as f64;
        let text = trial.keeper.metrics.to_text();
        assert!(text.contains(&format!("}} {expiry:?}\n")), "{text}");
    }

    /// TLS-03: half a pair, or none, leaves the one before, and is tried once until it changes.
    #[test]
    fn a_broken_pair_keeps_the_old_one() {
        let mut trial = Trial::new();
        assert!(!trial.changes());
        let made = trial.made();
        fs::write(&trial.files.cert, &made.cert).unwrap();
        assert!(!trial.changes(), "the key is another one's");
        assert_eq!(trial.counted("failure"), 1);
        assert!(!trial.changes() && !trial.changes());
        assert_eq!(trial.counted("failure"), 1, "told once");
        fs::write(&trial.files.key, "").unwrap();
        assert!(!trial.changes());
        assert_eq!(trial.counted("failure"), 2);
        fs::write(&trial.files.key, &made.key).unwrap();
        assert!(trial.changes(), "it is whole now");
        fs::remove_file(&trial.files.cert).unwrap();
        assert!(!trial.changes());
        assert_eq!((trial.counted("success"), trial.counted("failure")), (1, 3));
    }

    /// A backup that was restored over the renewal, say: every client would refuse it.
    #[test]
    fn an_expired_pair_does_not_replace_a_good_one() {
        let mut trial = Trial::new();
        let today = (unix_s() - NOW_UNIX_S) / DAY_S;
        let of_days = |from: i64, until: i64| {
            let kind = &rcgen::PKCS_ECDSA_P256_SHA256;
            trial
                .authority
                .issue_of(kind, &[NAME], today + from, today + until)
        };
        let [good, old, older] = [of_days(-1, 90), of_days(-90, -2), of_days(-90, -3)];
        good.write(&trial.files);
        trial.read_again();
        assert!(!trial.changes());
        let good = trial.in_force();
        assert!(!good.is_expired(unix_s()));
        old.write(&trial.files);
        assert!(!trial.changes(), "the good one stays");
        assert_eq!((trial.counted("failure"), trial.outdated()), (1, 1));
        trial.read_again();
        assert_eq!(trial.in_force(), good, "not even for who asks");
        // Nothing is lost by one for another.
        old.write(&trial.files);
        let pairs = vec![Arc::new(read_pair(&trial.files).unwrap())];
        put_in_force(&trial.keeper.certificates, &trial.keeper.metrics, pairs);
        older.write(&trial.files);
        assert!(trial.changes());
        assert_eq!(trial.outdated(), 0);
    }

    /// TLS-03: for as long as it is so, unlike the counter, of which a scrape may see no change.
    #[test]
    fn what_cannot_be_read_is_told_until_it_can() {
        let mut trial = Trial::new();
        let key = fs::read(&trial.files.key).unwrap();
        fs::remove_file(&trial.files.key).unwrap();
        trial.look();
        assert_eq!(trial.outdated(), 0, "it rests first");
        for _ in 0..3 {
            trial.look();
            assert_eq!(trial.outdated(), 1);
        }
        fs::write(&trial.files.key, key).unwrap();
        assert!(!trial.changes(), "it is the same one");
        assert_eq!(trial.outdated(), 0);
        fs::remove_file(&trial.files.cert).unwrap();
        trial.read_again();
        trial.read_again();
        assert_eq!(trial.outdated(), 1);
        // As a reload does.
        trial.made().write(&trial.files);
        let pairs = vec![Arc::new(read_pair(&trial.files).unwrap())];
        put_in_force(&trial.keeper.certificates, &trial.keeper.metrics, pairs);
        trial.look();
        assert_eq!(trial.outdated(), 0);
    }

    /// A server that has become somebody may not be able to read what it has read.
    #[test]
    fn files_are_read_once_more_after_the_start() {
        let mut trial = Trial::new();
        fs::remove_file(&trial.files.key).unwrap();
        for expected in [0, 1, 1] {
            trial.look();
            assert_eq!(trial.counted("failure"), expected);
        }
    }

    /// TLS-03: SIGUSR2 does not wait for files to rest.
    #[test]
    fn who_asks_gets_it_at_once() {
        let mut trial = Trial::new();
        let before = trial.in_force();
        trial.made().write(&trial.files);
        trial.read_again();
        assert_ne!(trial.in_force(), before);
        fs::write(&trial.files.cert, "").unwrap();
        let before = trial.in_force();
        trial.read_again();
        assert_eq!(trial.in_force(), before);
        assert_eq!((trial.counted("success"), trial.counted("failure")), (1, 1));
    }

    /// A certificate of ACME may be for some days, and is renewed with a third of them left.
    #[test]
    fn what_is_renewed_in_time_is_not_told_of() {
        let mut trial = Trial::new();
        let pair = trial.in_force();
        let life = pair.not_after_unix_s() - pair.not_before_unix_s();
        let late = pair.not_after_unix_s() - life / 4;
        assert!(!trial.keeper.is_renewed_in_time(&pair, late - 1));
        trial.keeper.issued = Some(trial.files.cert.clone());
        assert!(trial.keeper.is_renewed_in_time(&pair, late - 1));
        assert!(!trial.keeper.is_renewed_in_time(&pair, late));
    }

    /// TLS-03: signals and reloads are of the same thread, which does not wait for a disk.
    #[test]
    fn files_that_do_not_answer_hold_nobody_up() {
        let trial = Trial::new();
        let Trial {
            mut keeper,
            runtime,
            files,
            authority,
            _home,
        } = trial;
        let before = Arc::clone(&keeper.certificates.pairs()[0]);
        authority.issue(&[NAME]).write(&files);
        let certificates = Arc::clone(&keeper.certificates);
        let is_new = || *certificates.pairs()[0] != *before;
        runtime.block_on(async {
            let mut context = Context::from_waker(Waker::noop());
            for is_asked in [true, false] {
                let (answer, answered) = channel::<()>();
                let disk = tokio::task::spawn_blocking(move || answered.recv());
                let mut work = pin!(async {
                    match is_asked {
                        true => keeper.read_again().await,
                        false => keeper.look().await,
                    }
                });
                let polled = work.as_mut().poll(&mut context);
                assert!(
                    polled.is_pending(),
                    "{is_asked}: it was done on this thread"
                );
                assert_eq!(is_new(), !is_asked);
                drop(answer);
                let _ = disk.await;
                work.await;
            }
        });
        assert!(is_new());
    }

    /// TLS-03: a reload that takes its time puts no old certificate back.
    #[test]
    fn what_is_read_during_a_reload_stays() {
        let mut trial = Trial::new();
        let before = trial.keeper.certificates.pairs();
        let read = [Arc::new(read_pair(&trial.files).unwrap())];
        let chosen = |trial: &Trial| newest(&read, &before, &trial.keeper.certificates.pairs());
        assert!(
            Arc::ptr_eq(&chosen(&trial)[0], &read[0]),
            "nothing has changed"
        );
        trial.made().write(&trial.files);
        trial.read_again();
        assert!(Arc::ptr_eq(&chosen(&trial)[0], &trial.in_force()));
        assert!(!trial.changes());
    }

    #[test]
    fn expiry_is_told_once_a_day() {
        let mut trial = Trial::new();
        let end = trial.in_force().not_after_unix_s();
        for (now, next) in [
            (end - 30 * DAY_S, end - 29 * DAY_S),
            (end - 30 * DAY_S + 1, end - 29 * DAY_S),
            (end - 29 * DAY_S, end - 28 * DAY_S),
        ] {
            trial.keeper.tell_expiry(now);
            assert_eq!(trial.keeper.tell_expiry_at_unix_s, next);
        }
    }

    #[test]
    fn days_are_told_in_words() {
        for (left, text) in [
            (-2, "2 days ago"),
            (-1, "1 day ago"),
            (0, "today"),
            (1, "in 1 day"),
            (20, "in 20 days"),
        ] {
            assert_eq!(days(left), text);
        }
    }
}
