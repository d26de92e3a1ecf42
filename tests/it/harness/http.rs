//! HTTP as a program of few lines speaks it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use super::DEADLINE;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and fields, in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a field, which is there at most once.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| {
            let (field, value) = line.split_once(": ")?;
            (field == name).then_some(value)
        });
        let value = fields.next();
        assert_eq!(fields.next(), None, "{name} twice");
        value
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// The JSON of a success.
    #[track_caller]
    pub(crate) fn success(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.json()
    }

    /// Asserts a refusal, of which the text has this in it.
    #[track_caller]
    pub(crate) fn assert_refused(&self, status: u16, text: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let error = self.json();
        let error = error["error"].as_str().expect("an error");
        assert!(error.contains(text), "{error}");
    }
}

/// Asks over a Unix socket.
#[track_caller]
pub(crate) fn ask_socket(path: &Path, method: &str, target: &str, body: &str) -> Answer {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    exchange(stream, method, target, &[], body)
}

/// Asks over TCP, with header fields.
#[track_caller]
pub(crate) fn ask_tcp(
    server: SocketAddr,
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
    body: &str,
) -> Answer {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    exchange(stream, method, target, fields, body)
}

fn exchange(
    mut stream: impl Read + Write,
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
    body: &str,
) -> Answer {
    let fields: String = fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{fields}\r\n{body}",
        body.len()
    );
    // The server may answer, and end the connection, before it has read everything.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}
