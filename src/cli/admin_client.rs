//! The client of the admin API, by which commands ask a server that runs.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use zeroize::Zeroizing;

use super::output;
use super::sources::configured_admin_socket;
use crate::config::Environment;

/// Bytes of an answer at most: a page of a thousand allocations has half a million.
const ANSWER_LEN_MAX: usize = 16 << 20;

/// How long an answer may take. The server needs a second for rates, and ends a connection after ten.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);

/// Which server is asked.
#[derive(clap::Args)]
pub(super) struct ServerArgs {
    /// The server's Unix socket [default: admin.socket of the configuration, else
    /// $XDG_RUNTIME_DIR/turnstone/admin.sock if there is one, else /run/turnstone/admin.sock]
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    socket: Option<PathBuf>,

    /// The server's admin.listen instead, e.g. http://127.0.0.1:8479
    #[arg(long, value_name = "URL", requires = "token_file")]
    url: Option<Uri>,

    /// A file with the server's admin.token
    #[arg(long, value_name = "FILE", requires = "url")]
    token_file: Option<PathBuf>,

    /// Print the server's answer as it is, in JSON
    #[arg(long)]
    json: bool,
}

/// Asks a server, and prints its answer: as it is, or as `told` puts it.
pub(super) fn ask_and_print<T: DeserializeOwned, D: fmt::Display>(
    server: ServerArgs,
    method: Method,
    path: &str,
    body: String,
    told: impl FnOnce(T) -> D,
) -> ExitCode {
    let printed = AdminClient::new(server).and_then(|server| {
        let text = server.ask_for_text(method, path, body)?;
        Ok(if server.is_json {
            output::print(text)
        } else {
            output::print(told(read(&text)?))
        })
    });
    printed.unwrap_or_else(|failure| failure.tell())
}

/// Why there is no answer, with the remedy.
#[derive(Debug)]
pub(super) struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Failure {
    /// Prints it, and returns the exit code for it.
    pub(super) fn tell(&self) -> ExitCode {
        output::complain(format_args!("turnstone: {self}"));
        ExitCode::FAILURE
    }
}

enum Place {
    Socket(PathBuf),
    Tcp {
        authority: String,
        token: Zeroizing<String>,
    },
}

/// A server that runs.
pub(super) struct AdminClient {
    place: Place,
    is_json: bool,
    runtime: tokio::runtime::Runtime,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl AdminClient {
    pub(super) fn new(args: ServerArgs) -> Result<Self, Failure> {
        let place = match (args.url, args.token_file) {
            (Some(url), Some(file)) => tcp(&url, &file)?,
            _ => Place::Socket(args.socket.map_or_else(socket, Ok)?),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure(format!("cannot start: {error}")))?;
        Ok(Self {
            place,
            is_json: args.json,
            runtime,
        })
    }

    /// Whether answers are printed as they are.
    pub(super) const fn is_json(&self) -> bool {
        self.is_json
    }

    /// The answer as the server has written it.
    pub(super) fn ask_for_text(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<String, Failure> {
        let request = self.request(method, path, body)?;
        let answer = async {
            let asked = tokio::time::timeout(ANSWER_TIME_MAX, self.exchange(request));
            asked.await.unwrap_or_else(|_| {
                let seconds = ANSWER_TIME_MAX.as_secs();
                Err(Failure(format!("{self}: no answer within {seconds} s")))
            })
        };
        let (status, text) = self.runtime.block_on(answer)?;
        if status.is_success() {
            return Ok(text);
        }
        match serde_json::from_str(&text) {
            Ok(Refusal { error }) => Err(Failure(error)),
            Err(_) => Err(Failure(format!("{self} answers {status}"))),
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let request = Request::builder().method(method).uri(path);
        let request = match &self.place {
            Place::Socket(_) => request.header(HOST, "localhost"),
            Place::Tcp { authority, token } => request
                .header(HOST, authority)
                .header(AUTHORIZATION, format!("Bearer {}", **token)),
        };
        let request = request.body(Full::from(body));
        request.map_err(|error| Failure(format!("cannot ask for {path}: {error}")))
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, String), Failure> {
        match &self.place {
            Place::Socket(path) => {
                let stream = UnixStream::connect(path).await;
                let stream = stream.map_err(|error| no_socket(path, &error))?;
                self.over(stream, request).await
            }
            Place::Tcp { authority, .. } => {
                let stream = TcpStream::connect(authority).await;
                let stream = stream.map_err(|error| {
                    Failure(format!(
                        "cannot connect to {authority} ({error}); is the server running, and is \
                         this its admin.listen?"
                    ))
                })?;
                self.over(stream, request).await
            }
        }
    }

    async fn over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, String), Failure> {
        let failed = |error: &dyn fmt::Display| Failure(format!("{self}: {error}"));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
        let answer = async {
            let response = sender.send_request(request).await;
            let response = response.map_err(|error| failed(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_LEN_MAX).collect();
            let body = body.await.map_err(|error| failed(&error))?.to_bytes();
            let text = String::from_utf8_lossy(&body).into_owned();
            Ok((status, text))
        };
        tokio::pin!(answer, connection);
        // The connection may end before the answer has been read.
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            _ = &mut connection => {}
        }
        answer.await
    }
}

impl fmt::Display for AdminClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Socket(path) => path.display().fmt(f),
            Place::Tcp { authority, .. } => f.write_str(authority),
        }
    }
}

/// What an answer says.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure(format!(
            "the server's answer is not understood ({error}); is it of another version?"
        ))
    })
}

/// A text as part of a path or of its parameters.
pub(super) fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn tcp(url: &Uri, file: &Path) -> Result<Place, Failure> {
    let Some(authority) = url.authority().filter(|_| url.scheme_str() == Some("http")) else {
        let text = format!("--url {url}: write it like http://127.0.0.1:8479");
        return Err(Failure(text));
    };
    let port = authority.port_u16().unwrap_or(80);
    let text = std::fs::read_to_string(file).map(Zeroizing::new);
    let text = text.map_err(|error| {
        Failure(format!(
            "--token-file {}: cannot be read ({error})",
            file.display()
        ))
    })?;
    Ok(Place::Tcp {
        authority: format!("{}:{port}", authority.host()),
        token: Zeroizing::new(text.trim().to_owned()),
    })
}

/// Where the server of this machine has its socket.
fn socket() -> Result<PathBuf, Failure> {
    if let Some(path) = configured_admin_socket() {
        return Ok(path);
    }
    let paths = Environment::of_process().admin_sockets();
    // What may not be looked at may be there.
    let there = |path: &&PathBuf| path.try_exists().unwrap_or(true);
    if let Some(path) = paths.iter().find(there) {
        return Ok(path.clone());
    }
    let paths: Vec<_> = paths.iter().map(|path| path.display()).collect();
    Err(Failure(format!(
        "no server runs here, as far as can be seen: there is no {}; name the server's admin.socket \
         with --socket",
        paths
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" and no ")
    )))
}

fn no_socket(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    Failure(match error.kind() {
        ErrorKind::NotFound => format!(
            "{path}: there is no such socket; is the server running? Name its admin.socket with \
             --socket"
        ),
        ErrorKind::PermissionDenied => format!(
            "{path}: only the server's user and root may open this socket; use sudo, or name \
             another server's with --socket"
        ),
        ErrorKind::ConnectionRefused => {
            format!("{path}: nobody answers on this socket; the server that made it is not running")
        }
        _ => format!("{path}: {error}"),
    })
}
