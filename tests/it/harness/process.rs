//! The server as a process of its own, with its log.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustix::pipe::fcntl_setpipe_size;
use rustix::process::Signal;
use tempfile::TempDir;

use super::{DEADLINE, eventually};

/// The least that a pipe holds, so that a log that is not read stalls soon.
const PIPE: usize = 4096;

pub(crate) struct Process {
    child: Child,
    pub(crate) home: TempDir,
    lines: Receiver<String>,
    /// Held by who wants the log not to be read.
    pub(crate) reading: Arc<Mutex<()>>,
    /// Every line so far.
    pub(crate) log: Vec<String>,
    pub(crate) udp: Vec<SocketAddr>,
    pub(crate) tcp: Vec<SocketAddr>,
    pub(crate) tls: Vec<SocketAddr>,
    pub(crate) metrics: Option<SocketAddr>,
}

impl Process {
    /// Starts the binary on a configuration and waits until it serves.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_with(config, "")
    }

    /// The same after a line of shell.
    pub(crate) fn start_with(config: &str, first: &str) -> Self {
        let mut process = Self::spawn(config, first);
        let line = process.wait_for("serving");
        let addresses = |key: &str| -> Vec<SocketAddr> {
            // As text or as JSON: addresses behind the name, up to whatever is none.
            let (_, rest) = line.split_once(key).unwrap();
            let rest = rest.trim_start_matches(['"', '=', ':']);
            let words = rest.split([',', ' ', '"']).filter(|word| !word.is_empty());
            words.map_while(|word| word.parse().ok()).collect()
        };
        process.udp = addresses("udp");
        process.tcp = addresses("tcp");
        if line.contains("tls=") {
            process.tls = addresses("tls=");
        }
        if line.contains("metrics") {
            process.metrics = addresses("metrics").first().copied();
        }
        process
    }

    pub(crate) fn spawn(config: &str, first: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("turnserver.toml");
        fs::write(&path, config).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let mut command = Command::new("sh");
        let inherited = std::env::vars_os().map(|(name, _)| name);
        for name in inherited.filter(|name| name.to_string_lossy().starts_with("TURNSERVER_")) {
            command.env_remove(name);
        }
        let script = format!("{first}\nexec \"$0\" run --config \"$1\" 2>&1");
        let mut child = command
            .args(["-c", &script, env!("CARGO_BIN_EXE_turnstone")])
            .arg(&path)
            // Servers side by side must not meet at the default socket and port.
            .env("RUNTIME_DIRECTORY", home.path())
            .env("TURNSERVER_METRICS__LISTEN", "127.0.0.1:0")
            .env_remove("STATE_DIRECTORY")
            .env_remove("NOTIFY_SOCKET")
            .env_remove("RUST_LOG")
            .env("NO_COLOR", "1")
            .env("XDG_STATE_HOME", home.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        fcntl_setpipe_size(&output, PIPE).unwrap();
        let (sender, lines) = channel();
        let reading = Arc::new(Mutex::new(()));
        let may_read = Arc::clone(&reading);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                drop(may_read.lock());
                if line.map(|line| sender.send(line)).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            home,
            lines,
            reading,
            log: vec![],
            udp: vec![],
            tcp: vec![],
            tls: vec![],
            metrics: None,
        }
    }

    /// Has whoever the server runs as read its files, as reloading needs. Tests may run as root.
    pub(crate) fn let_read(&self) {
        let everybody = |mode| fs::Permissions::from_mode(mode);
        fs::set_permissions(self.home.path(), everybody(0o755)).unwrap();
        fs::set_permissions(self.home.path().join("turnserver.toml"), everybody(0o644)).unwrap();
    }

    /// Puts another configuration in the place of the one there is, as editors and tools do.
    pub(crate) fn configure(&self, config: &str) {
        let (new, path) = ("turnserver.toml.new", "turnserver.toml");
        let (new, path) = (self.home.path().join(new), self.home.path().join(path));
        fs::write(&new, config).unwrap();
        fs::rename(&new, &path).unwrap();
        self.let_read();
    }

    /// Has another configuration read, and returns the line that says what came of it.
    #[track_caller]
    pub(crate) fn reload(&mut self, config: &str) -> String {
        self.configure(config);
        self.signal(Signal::HUP);
        self.wait_for(" reloaded")
    }

    /// Waits for a line that has this in it.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no {text:?} in the log:\n{}", self.log.join("\n"));
            };
            self.log.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the end, and reads the rest of the log.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let rest: VecDeque<String> = self.lines.iter().collect();
        self.log.extend(rest);
        self.child.wait().unwrap()
    }

    /// Waits for the end without reading the log.
    pub(crate) fn wait_unread(&mut self) -> ExitStatus {
        let mut ended = None;
        eventually("the end of the server", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    /// A directory of its own, in which its operators' socket is unless it is told otherwise.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
