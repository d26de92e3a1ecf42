//! The result of a check, as a table for people and as JSON for programs.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::tls::Handshake;
use super::traffic::Traffic;
use super::transport::Transport;

/// Columns of the table.
const WIDTH: usize = 80;

/// The result of a check. `Display` is the table: a line a step, what is wrong with each transport
/// and what to do, and the total on the last line.
#[derive(Debug, Serialize)]
pub struct Report {
    url: String,
    works: bool,
    verdict: String,
    /// The address that was checked.
    server: Option<SocketAddr>,
    resolve: Option<Step>,
    transports: Vec<TransportReport>,
}

/// The result over one transport.
#[derive(Debug, Serialize)]
pub(super) struct TransportReport {
    transport: Transport,
    pub(super) works: bool,
    /// What works, or the first cause.
    pub(super) verdict: String,
    /// Why it does not work.
    pub(super) causes: Vec<Cause>,
    /// What works, and should be looked at.
    pub(super) warnings: Vec<Cause>,
    /// What the handshake agreed on; `None` but for TLS.
    pub(super) tls: Option<Handshake>,
    pub(super) mapped_address: Option<SocketAddr>,
    pub(super) relayed_addresses: Vec<SocketAddr>,
    /// How far the server's clock is ahead of this machine's, in seconds, by its nonces.
    pub(super) clock_ahead_s: Option<i64>,
    /// The same at least and at most, by the credentials that it takes.
    pub(super) clock_ahead_between_s: Option<[u64; 2]>,
    pub(super) data: Option<Traffic>,
    steps: Vec<Step>,
}

/// Something that is wrong, and what to do about it.
#[derive(Debug, Serialize)]
pub(super) struct Cause {
    /// For programs; a code keeps its meaning.
    pub(super) code: String,
    pub(super) step: &'static str,
    pub(super) text: String,
}

/// One line of the table.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    result: Outcome,
    step: &'static str,
    #[serde(rename = "ms", serialize_with = "serialize_ms")]
    elapsed: Duration,
    detail: String,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    Ok,
    /// It works, and should be looked at.
    Warn,
    /// It could not be tried.
    Skip,
    Fail,
}

impl Report {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            works: false,
            verdict: String::new(),
            server: None,
            resolve: None,
            transports: Vec::new(),
        }
    }

    pub(super) fn resolved(&mut self, step: Step, server: SocketAddr) {
        self.resolve = Some(step);
        self.server = Some(server);
    }

    pub(super) fn unresolved(&mut self, step: Step, verdict: String) {
        self.verdict = verdict;
        self.resolve = Some(step);
    }

    pub(super) fn add(&mut self, transport: TransportReport) {
        self.transports.push(transport);
        self.works = self.transports.iter().all(|transport| transport.works);
        self.verdict = self.total();
    }

    /// Whether no step failed.
    pub const fn works(&self) -> bool {
        self.works
    }

    /// One JSON object, on several lines.
    ///
    /// # Panics
    /// Never: every field has a representation in JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("every field has a representation in JSON")
    }

    fn total(&self) -> String {
        let names = |works| {
            let transports = self.transports.iter().filter(|t| t.works == works);
            Vec::from_iter(transports.map(|t| t.transport.name())).join(" and ")
        };
        match (names(true), names(false)) {
            (good, bad) if bad.is_empty() => format!("works over {good}"),
            (good, bad) if good.is_empty() => format!("fails over {bad}"),
            (good, bad) => format!("works over {good}, fails over {bad}"),
        }
    }
}

impl TransportReport {
    pub(super) const fn new(transport: Transport) -> Self {
        Self {
            transport,
            works: false,
            verdict: String::new(),
            causes: Vec::new(),
            warnings: Vec::new(),
            tls: None,
            mapped_address: None,
            relayed_addresses: Vec::new(),
            clock_ahead_s: None,
            clock_ahead_between_s: None,
            data: None,
            steps: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, step: Step) {
        self.steps.push(step);
    }
}

impl Step {
    pub(super) const fn new(
        result: Outcome,
        step: &'static str,
        elapsed: Duration,
        detail: String,
    ) -> Self {
        Self {
            result,
            step,
            elapsed,
            detail,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.url)?;
        if let Some(step) = &self.resolve {
            writeln!(f, "{step}")?;
        }
        for transport in &self.transports {
            writeln!(f, "\n{transport}")?;
        }
        let lead = format!("{}: ", word(self.works));
        write!(f, "\n{}", folded(&lead, "", &self.verdict))
    }
}

impl fmt::Display for TransportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.transport.name())?;
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "{}", folded("  warn: ", "    ", &warning.text))?;
        }
        if self.works {
            return f.write_str(&folded("  ok: ", "    ", &self.verdict));
        }
        let causes = self.causes.iter();
        let lines = causes.map(|cause| folded("  FAIL: ", "    ", &cause.text));
        f.write_str(&Vec::from_iter(lines).join("\n"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            result,
            step,
            elapsed,
            detail,
        } = self;
        let result = match result {
            Outcome::Ok => "ok",
            Outcome::Warn => "warn",
            Outcome::Skip => "skip",
            Outcome::Fail => "FAIL",
        };
        let ms = elapsed.as_secs_f64() * 1e3;
        let lead = format!("  {result:<4}  {step:<10} {ms:>7.1} ms  ");
        let indent = " ".repeat(lead.len());
        f.write_str(&folded(&lead, &indent, detail))
    }
}

/// A text on lines of the table's width.
fn folded(lead: &str, indent: &str, text: &str) -> String {
    // What a server wrote may be long and without a space.
    let options = textwrap::Options::new(WIDTH)
        .initial_indent(lead)
        .subsequent_indent(indent)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::fill(text, options)
}

const fn word(ok: bool) -> &'static str {
    if ok { "ok" } else { "FAIL" }
}

/// Milliseconds with three decimals: the clock knows no more that means anything.
fn serialize_ms<S: Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(elapsed.as_micros() as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("turn:a.example");
        let ms = Duration::from_millis;
        let step = |result, name, elapsed, detail: &str| {
            Step::new(result, name, elapsed, detail.to_owned())
        };
        let server = "203.0.113.9:3478".parse().unwrap();
        let resolve = step(Outcome::Ok, "resolve", ms(12), "203.0.113.9:3478");
        report.resolved(resolve, server);
        let mut udp = TransportReport::new(Transport::Udp);
        let elapsed = Duration::from_micros(20_449);
        udp.add(step(Outcome::Ok, "binding", elapsed, "mapped"));
        udp.add(step(
            Outcome::Warn,
            "outside",
            ms(3),
            "a detail that is too long for the eighty columns of a table, and goes on",
        ));
        udp.warnings.push(Cause {
            code: "loss".to_owned(),
            step: "outside",
            text: "look at this".to_owned(),
        });
        udp.works = true;
        udp.verdict = "relays data both ways".to_owned();
        report.add(udp);
        let mut tcp = TransportReport::new(Transport::Tcp);
        tcp.add(step(
            Outcome::Fail,
            "connect",
            ms(1000),
            "connection refused",
        ));
        let text = "nothing listens, and this sentence says at such length why that is so that it \
                    needs two lines";
        tcp.causes.push(Cause {
            code: "connection-refused".to_owned(),
            step: "connect",
            text: text.to_owned(),
        });
        report.add(tcp);
        report
    }

    #[test]
    fn table() {
        let expected = "\
turn:a.example
  ok    resolve       12.0 ms  203.0.113.9:3478

UDP
  ok    binding       20.4 ms  mapped
  warn  outside        3.0 ms  a detail that is too long for the eighty columns
                               of a table, and goes on
  warn: look at this
  ok: relays data both ways

TCP
  FAIL  connect     1000.0 ms  connection refused
  FAIL: nothing listens, and this sentence says at such length why that is so
    that it needs two lines

FAIL: works over UDP, fails over TCP";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn json() {
        let json: serde_json::Value = serde_json::from_str(&report().to_json()).unwrap();
        assert_eq!(json["works"], false);
        assert_eq!(json["server"], "203.0.113.9:3478");
        assert_eq!(json["transports"][0]["transport"], "udp");
        assert_eq!(json["transports"][0]["steps"][0]["ms"], 20.449);
        assert_eq!(json["transports"][0]["steps"][1]["result"], "warn");
        assert_eq!(json["transports"][0]["warnings"][0]["code"], "loss");
        assert_eq!(json["transports"][1]["steps"][0]["result"], "fail");
        let cause = &json["transports"][1]["causes"][0];
        assert_eq!(cause["code"], "connection-refused");
        assert_eq!(cause["step"], "connect");
    }
}
