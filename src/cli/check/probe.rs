//! The steps over one transport, in the order in which a client takes them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::client::{Allocation, Client, printable};
use super::credentials::Credentials;
use super::data::{Echo, PACKET_LEN, echo, send_and_receive};
use super::failure::{Context, Failure};
use super::report::{Step, TransportReport};
use super::transport::{Link, Transport};
use crate::wire::{ChannelNumber, ErrorCode, Family};

/// The channels of the two allocations, different so that a mix-up shows.
const CHANNELS: (ChannelNumber, ChannelNumber) = (ChannelNumber::MIN, ChannelNumber::MAX);

/// A check over one transport.
#[derive(Debug)]
pub(super) struct Probe<'c> {
    context: Context<'c>,
    deadline: Instant,
    report: TransportReport,
    failures: Vec<Failure>,
}

impl<'c> Probe<'c> {
    /// Without credentials only Binding is checked.
    pub(super) const fn new(
        transport: Transport,
        server: SocketAddr,
        credentials: Option<&'c Credentials>,
        deadline: Instant,
    ) -> Self {
        Self {
            context: Context {
                transport,
                server,
                credentials,
                answered: false,
            },
            deadline,
            report: TransportReport::new(transport),
            failures: Vec::new(),
        }
    }

    /// Takes the steps until one fails that the others need.
    pub(super) fn run(mut self) -> TransportReport {
        // What happened is in the report; `None` says only that there was no going on.
        let _ = self.take_steps();
        self.report.verdict = self.verdict();
        self.report.works = self.failures.is_empty();
        self.report
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
        // As a browser asks for it: IPv4, and only if there is none, IPv6.
        let near_address = self.allocate("allocate", || match client.allocate(None) {
            Err(failure) if failure.is_refusal(ErrorCode::AddressFamilyNotSupported) => {
                // On another socket, because coturn does not recover from refusing the first one.
                let (other, allocation) = join(&context, credentials, Family::V6, deadline)?;
                client = other;
                Ok(allocation)
            }
            result => result,
        })?;
        self.check_reachability(near_address);

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
            Ok(link) => {
                if transport == Transport::Tcp {
                    let detail = format!("connected to {server}");
                    self.report.add(Step::passed("connect", elapsed, detail));
                }
                Some(Client::new(link, self.deadline))
            }
            Err(failure) => {
                self.fail("connect", elapsed, failure);
                None
            }
        }
    }

    fn binding(&mut self, client: &mut Client<'_>, deadline: Instant) -> Option<()> {
        let mapped_address = self.step("binding", || {
            let mapped_address = client.binding(deadline)?;
            Ok((mapped_address, format!("mapped address {mapped_address}")))
        })?;
        self.report.mapped_address = Some(mapped_address);
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
            let detail = format!("relayed address {relayed_address}, lifetime {lifetime_s} s");
            Ok((relayed_address, detail))
        })?;
        self.report.relayed_addresses.push(relayed_address);
        Some(relayed_address)
    }

    /// A step only where there is something to say.
    fn check_reachability(&mut self, relayed_address: SocketAddr) {
        if is_public(self.context.server.ip()) && !is_public(relayed_address.ip()) {
            let failure = Failure::UnreachableRelay { relayed_address };
            self.fail("reachability", Duration::ZERO, failure);
        }
    }

    /// Everything that takes a second allocation, whose client it puts into `far`.
    fn relay(
        &mut self,
        near: &mut Client<'_>,
        near_address: SocketAddr,
        far: &mut Option<Client<'c>>,
        credentials: &'c Credentials,
    ) -> Option<()> {
        let context = self.context;
        let deadline = self.deadline;
        let family = Family::of(near_address.ip());
        let far_address = self.allocate("allocate 2", || {
            let (client, allocation) = join(&context, credentials, family, deadline)?;
            *far = Some(client);
            Ok(allocation)
        })?;
        let far = far.as_mut()?;

        self.step("permission", || {
            near.create_permission(far_address)?;
            far.create_permission(near_address)?;
            Ok(((), "each permits the other".to_owned()))
        })?;
        self.step("send", || {
            send_and_receive((near, near_address), (far, far_address), deadline)?;
            Ok(((), "Send indication arrived as Data indication".to_owned()))
        })?;
        self.step("channel", || {
            near.channel_bind(CHANNELS.0, far_address)?;
            far.channel_bind(CHANNELS.1, near_address)?;
            Ok(((), "each bound a channel to the other".to_owned()))
        })?;
        let echo = self.step("data", || {
            let echo = echo((near, CHANNELS.0), (far, CHANNELS.1), deadline)?;
            let detail = describe(&echo);
            if echo.rtt_median_ms.is_none() {
                return Err(Failure::DataLost { detail });
            }
            Ok((echo, detail))
        })?;
        self.report.data = Some(echo);
        Some(())
    }

    /// Leaves nothing behind on the server, whatever failed before.
    fn delete(&mut self, near: Client<'_>, far: Option<Client<'_>>) {
        let mut clients: Vec<_> = [Some(near), far].into_iter().flatten().collect();
        let count = clients.len();
        let mut delete_all = || {
            let results = clients.iter_mut().map(Client::delete);
            // `and` does not stop at the first failure: every client has its try.
            results.fold(Ok(()), Result::and)
        };
        if self.is_cut_off() || Instant::now() >= self.deadline {
            // Another line would only repeat the failure before.
            let _ = delete_all();
            return;
        }
        self.step("refresh", || {
            delete_all()?;
            let detail = match count {
                1 => "lifetime 0: the allocation is deleted",
                _ => "lifetime 0: both allocations are deleted",
            };
            Ok(((), detail.to_owned()))
        });
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
                self.report.add(Step::passed(name, elapsed, detail));
                Some(value)
            }
            Err(failure) => {
                self.fail(name, elapsed, failure);
                None
            }
        }
    }

    fn fail(&mut self, name: &'static str, elapsed: Duration, failure: Failure) {
        self.context.answered |= failure.is_from_server();
        self.report
            .add(Step::failed(name, elapsed, failure.to_string()));
        self.failures.push(failure);
    }

    /// Whether the last failure leaves nobody to talk to.
    fn is_cut_off(&self) -> bool {
        self.failures.last().is_some_and(Failure::is_cut_off)
    }

    fn verdict(&self) -> String {
        if self.failures.is_empty() {
            return self.success();
        }
        // Several waits for a server that says nothing at all are one.
        let waits: Option<Vec<Duration>> = self.failures.iter().map(Failure::silence).collect();
        if let Some(waits) = waits.filter(|_| !self.context.answered) {
            return Failure::no_answer(self.context.transport, waits.iter().sum());
        }
        let sentences = self
            .failures
            .iter()
            .map(|failure| failure.verdict(&self.context));
        Vec::from_iter(sentences).join("; ")
    }

    fn success(&self) -> String {
        let Some(echo) = &self.report.data else {
            return "answers Binding requests".to_owned();
        };
        match echo.lost_there + echo.lost_back {
            0 => "relays data both ways".to_owned(),
            lost => format!(
                "relays data both ways, but lost {lost} of {} packets",
                2 * echo.sent - echo.lost_there
            ),
        }
    }
}

/// One more client with an allocation, after a challenge of its own: a nonce belongs to one client
/// address.
fn join<'c>(
    context: &Context<'_>,
    credentials: &'c Credentials,
    family: Family,
    deadline: Instant,
) -> Result<(Client<'c>, Allocation), Failure> {
    let link = Link::open(context.transport, context.server, deadline)?;
    let mut client = Client::new(link, deadline);
    client.challenge(credentials)?;
    let allocation = client.allocate((family == Family::V6).then_some(family))?;
    Ok((client, allocation))
}

fn describe(echo: &Echo) -> String {
    let packets = format!("{} packets of {PACKET_LEN} bytes", echo.sent);
    let lost = match (echo.lost_there, echo.lost_back) {
        (0, 0) => "none lost".to_owned(),
        (there, back) => format!("{there} lost on the way there, {back} on the way back"),
    };
    match (echo.rtt_min_ms, echo.rtt_median_ms) {
        (Some(min), Some(median)) => {
            format!("{packets}, {lost}; round trip {min:.1} ms minimum, {median:.1} ms median")
        }
        _ => format!("{packets}, {lost}"),
    }
}

/// Whether the rest of the world can reach an address.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            // RFC 6598: addresses behind a carrier's NAT.
            let shared = Ipv4Addr::new(100, 64, 0, 0).to_bits();
            let is_shared = ip.to_bits() & 0xFFC0_0000 == shared;
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || is_shared)
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unique_local()
                || ip.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_is_what_the_world_can_reach() {
        let cases = [
            ("203.0.113.9", true),
            ("100.63.255.255", true),
            ("100.128.0.0", true),
            ("2001:db8::1", true),
            ("100.64.0.1", false),
            ("100.127.255.255", false),
            ("10.0.0.1", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("127.0.0.1", false),
            ("169.254.0.1", false),
            ("0.0.0.0", false),
            ("::1", false),
            ("::", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("::ffff:10.0.0.1", false),
        ];
        for (ip, expected) in cases {
            assert_eq!(is_public(ip.parse().unwrap()), expected, "{ip}");
        }
    }
}
