//! The steps over one transport, in the order in which a client takes them.

mod relay;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::address::is_public;
use super::client::{Allocation, Client, printable};
use super::clock::Reading;
use super::credentials::Credentials;
use super::failure::{Answer, Context, Failure};
use super::login::{Diagnosis, diagnose, relation};
use super::report::{Cause, Outcome, Step, TransportReport};
use super::tls::Tls;
use super::transport::{Link, Transport};
use crate::wire::{ErrorCode, Family};

use relay::join;

/// Seconds by which a clock may be wrong before that is worth a warning.
const CLOCK_AHEAD_MAX_S: u64 = 60;

/// How long an answer to plain STUN is waited for where there is no TLS.
const PATIENCE: Duration = Duration::from_secs(2);

/// A check over one transport.
#[derive(Debug)]
pub(super) struct Probe<'c> {
    context: Context<'c>,
    deadline: Instant,
    traffic_s: u32,
    /// How long the packets took.
    measured: Duration,
    report: TransportReport,
    failures: Vec<(&'static str, Failure)>,
}

impl<'c> Probe<'c> {
    /// Without credentials only Binding is checked. The packets of `traffic_s` seconds are sent
    /// whenever their turn comes, and the deadline moves by the time that takes.
    pub(super) const fn new(
        transport: Transport,
        server: SocketAddr,
        tls: Option<&'c Tls>,
        credentials: Option<&'c Credentials>,
        deadline: Instant,
        traffic_s: u32,
    ) -> Self {
        Self {
            context: Context {
                transport,
                server,
                tls,
                credentials,
                answered: false,
                diagnosis: None,
                ahead_s: None,
                outside_works: None,
                hairpin_works: None,
            },
            deadline,
            traffic_s,
            measured: Duration::ZERO,
            report: TransportReport::new(transport),
            failures: Vec::new(),
        }
    }

    /// Takes the steps until one fails that the others need. Returns how long the packets took, too.
    pub(super) fn run(mut self) -> (TransportReport, Duration) {
        // What happened is in the report; `None` says only that there was no going on.
        let _ = self.take_steps();
        self.report.works = self.failures.is_empty();
        self.report.causes = self.causes();
        let first = self.report.causes.first();
        self.report.verdict = first.map_or_else(|| self.success(), |cause| cause.text.clone());
        (self.report, self.measured)
    }

    fn take_steps(&mut self) -> Option<()> {
        let mut client = self.connect()?;
        let Some(credentials) = self.context.credentials else {
            return self.binding(&mut client, self.deadline);
        };
        // Some servers answer no Binding, and relay; silence here leaves half of the time for that.
        let now = Instant::now();
        let half = now + self.deadline.saturating_duration_since(now) / 2;
        if self.binding(&mut client, half).is_none() && self.is_cut_off() {
            return None;
        }
        self.step("challenge", || {
            let realm = client.challenge(credentials)?;
            let realm = printable(realm.as_bytes());
            Ok(((), format!("401, realm \"{realm}\"")))
        })?;
        let context = self.context;
        let deadline = self.deadline;
        let first_clock = client.clock();
        // As a browser asks for it: IPv4, and only if there is none, IPv6.
        let allocated = self.allocate("allocate", || match client.allocate(None) {
            Err(failure) if failure.is_refusal(ErrorCode::AddressFamilyNotSupported) => {
                // On another socket, because coturn does not recover from refusing the first one.
                let (other, allocation) = join(&context, credentials, Family::V6, deadline)?;
                client = other;
                Ok(allocation)
            }
            result => result,
        });
        let Some(near_address) = allocated else {
            self.look_behind_401(credentials, first_clock);
            return None;
        };
        self.outside(&mut client, near_address);

        let mut far = None;
        let relayed = self.relay(&mut client, near_address, &mut far, credentials);
        self.delete(client, far);
        relayed
    }

    /// Opens the socket; for UDP that is no step worth a line unless it fails.
    fn connect(&mut self) -> Option<Client<'c>> {
        let Context {
            transport, server, ..
        } = self.context;
        let started = Instant::now();
        let link = Link::open(transport, server, self.deadline);
        let elapsed = started.elapsed();
        match link {
            Ok(mut link) => {
                if link.is_stream() {
                    let detail = format!("connected to {server}");
                    self.note(Outcome::Ok, "connect", elapsed, detail);
                }
                if let Some(tls) = self.context.tls {
                    self.shake_hands(&mut link, tls)?;
                }
                Some(Client::new(link, self.deadline))
            }
            Err(failure) => {
                self.fail("connect", elapsed, failure);
                None
            }
        }
    }

    fn shake_hands(&mut self, link: &mut Link, tls: &Tls) -> Option<()> {
        let started = Instant::now();
        // Silence here leaves half of the time to find out what the port does speak.
        let half = started + self.deadline.saturating_duration_since(started) / 2;
        let result = link.shake_hands(tls, half);
        let elapsed = started.elapsed();
        let handshake = match result {
            Ok(handshake) => handshake,
            Err(failure) => {
                let failure = self.look_behind_no_tls(failure);
                self.fail("handshake", elapsed, failure);
                return None;
            }
        };
        let warning = handshake.expiry_warning();
        let outcome = match warning {
            Some(_) => Outcome::Warn,
            None => Outcome::Ok,
        };
        self.note(outcome, "handshake", elapsed, handshake.to_string());
        if let Some(text) = warning {
            self.warn("certificate-expiry", "handshake", text);
        }
        self.report.tls = Some(handshake);
        Some(())
    }

    /// Whether plain STUN is spoken where TLS is not. Many servers close on what they do not know.
    fn look_behind_no_tls(&self, failure: Failure) -> Failure {
        if !matches!(
            failure,
            Failure::HandshakeClosed | Failure::HandshakeTimeout { .. } | Failure::NoTls(_)
        ) {
            return failure;
        }
        let Context { server, .. } = self.context;
        let now = Instant::now();
        let deadline = now + self.deadline.saturating_duration_since(now).min(PATIENCE);
        let link = Link::open(Transport::Tcp, server, deadline);
        let answer = link.and_then(|link| Client::new(link, deadline).binding(deadline));
        match answer {
            Ok(_) => Failure::NoTls(Answer::Stun),
            Err(Failure::Http(what)) => Failure::NoTls(Answer::Http(what)),
            Err(other) if other.is_from_server() => Failure::NoTls(Answer::Stun),
            Err(_) => failure,
        }
    }

    fn binding(&mut self, client: &mut Client<'_>, deadline: Instant) -> Option<()> {
        let mapped_address = self.step("binding", || {
            let mapped_address = client.binding(deadline)?;
            Ok((mapped_address, format!("mapped address {mapped_address}")))
        })?;
        self.report.mapped_address = Some(mapped_address);
        let (server, mapped) = (self.context.server.ip(), mapped_address.ip());
        let is_ours = client.link.local_ip() == Some(mapped);
        if is_public(server) && !is_public(mapped) && !is_ours {
            let text = format!(
                "the server is public, but sees this machine as {mapped}: a proxy or NAT in front \
                 of the server hides its clients (docker-proxy, a load balancer), so the address \
                 that STUN tells them is of no use, and limits take them all for one; let the \
                 server see them (Docker: host network)"
            );
            self.warn("mapped-private", "binding", text);
        }
        Some(())
    }

    fn allocate(
        &mut self,
        name: &'static str,
        action: impl FnOnce() -> Result<Allocation, Failure>,
    ) -> Option<SocketAddr> {
        let relayed_address = self.step(name, || {
            let Allocation {
                relayed_address,
                lifetime_s,
            } = action()?;
            let detail = format!("relayed address {relayed_address}, {lifetime_s} s");
            Ok((relayed_address, detail))
        })?;
        self.report.relayed_addresses.push(relayed_address);
        Some(relayed_address)
    }

    /// Whether it is the secret or a clock, after a 401 to credentials of our own making.
    fn look_behind_401(&mut self, credentials: &'c Credentials, first: Option<Reading>) {
        let is_401 = |(_, failure): &(_, Failure)| failure.is_refusal(ErrorCode::Unauthenticated);
        if !self.failures.last().is_some_and(is_401) {
            return;
        }
        // A second nonce, to see whether the first one told the time.
        let second = self.context.open(self.deadline).and_then(|link| {
            let mut client = Client::new(link, self.deadline);
            client.challenge(credentials)?;
            Ok(client.clock())
        });
        self.clock(first, second.unwrap_or(None));
        let Some(minted) = credentials.minted() else {
            return;
        };
        let started = Instant::now();
        let diagnosis = diagnose(&self.context, minted, self.context.ahead_s, self.deadline);
        let elapsed = started.elapsed();
        let Some(diagnosis) = diagnosis else {
            return;
        };
        self.context.diagnosis = Some(diagnosis);
        if let Diagnosis::ClockAhead { least_s, most_s } = diagnosis {
            self.report.clock_ahead_between_s = Some([least_s, most_s]);
        }
        if let Some(detail) = diagnosis.detail() {
            self.note(Outcome::Ok, "expiry", elapsed, detail);
        }
    }

    /// What two nonces say of the server's clock; no line where they say nothing.
    fn clock(&mut self, first: Option<Reading>, second: Option<Reading>) {
        let ahead_s = first
            .zip(second)
            .and_then(|(first, second)| first.agree(second));
        let Some(ahead_s) = ahead_s else {
            return;
        };
        self.context.ahead_s = Some(ahead_s);
        self.report.clock_ahead_s = Some(ahead_s);
        let is_wrong = ahead_s.unsigned_abs() > CLOCK_AHEAD_MAX_S;
        let detail = format!("the server's {}", relation(ahead_s));
        let outcome = if is_wrong { Outcome::Warn } else { Outcome::Ok };
        self.note(outcome, "clock", Duration::ZERO, detail);
        // The cause of a failure tells more.
        if is_wrong && self.failures.is_empty() {
            let effect = if ahead_s > 0 {
                "expire that much sooner than was meant"
            } else {
                "are good for that much longer than was meant"
            };
            let text = format!(
                "the server's clock {}: time-limited credentials {effect}; set both clocks (NTP)",
                relation(ahead_s)
            );
            self.warn("clock", "clock", text);
        }
    }

    /// Takes a step and its time; `None` if it failed.
    fn step<T>(
        &mut self,
        name: &'static str,
        action: impl FnOnce() -> Result<(T, String), Failure>,
    ) -> Option<T> {
        let started = Instant::now();
        let result = action();
        let elapsed = started.elapsed();
        match result {
            Ok((value, detail)) => {
                self.context.answered = true;
                self.note(Outcome::Ok, name, elapsed, detail);
                Some(value)
            }
            Err(failure) => {
                self.fail(name, elapsed, failure);
                None
            }
        }
    }

    fn note(&mut self, outcome: Outcome, name: &'static str, elapsed: Duration, detail: String) {
        self.report.add(Step::new(outcome, name, elapsed, detail));
    }

    fn warn(&mut self, code: &str, step: &'static str, text: String) {
        let code = code.to_owned();
        self.report.warnings.push(Cause { code, step, text });
    }

    fn fail(&mut self, name: &'static str, elapsed: Duration, failure: Failure) {
        self.context.answered |= failure.is_from_server();
        self.note(Outcome::Fail, name, elapsed, failure.to_string());
        self.failures.push((name, failure));
    }

    /// Whether the last failure leaves nobody to talk to.
    fn is_cut_off(&self) -> bool {
        let last = self.failures.last();
        last.is_some_and(|(_, failure)| failure.is_cut_off())
    }

    fn causes(&self) -> Vec<Cause> {
        let failures = self.failures.iter();
        // Several waits for a server that says nothing at all are one.
        let waits: Option<Vec<Duration>> = failures
            .clone()
            .map(|(_, failure)| failure.silence())
            .collect();
        if let Some(waits) = waits.filter(|_| !self.context.answered)
            && let Some((step, failure)) = self.failures.first()
        {
            return vec![Cause {
                code: failure.code(),
                step,
                text: Failure::no_answer(&self.context, waits.iter().sum()),
            }];
        }
        let causes = failures.map(|(step, failure)| Cause {
            code: failure.code(),
            step,
            text: failure.verdict(&self.context),
        });
        causes.collect()
    }

    fn success(&self) -> String {
        if self.report.data.is_none() {
            return "answers Binding requests".to_owned();
        }
        match self.context.outside_works {
            Some(_) => "relays data both ways, inside and from outside".to_owned(),
            None => "relays data both ways".to_owned(),
        }
    }
}
