//! The steps that take an allocation: from outside to it, and from it to a second one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Probe;
use crate::cli::check::address::is_public;
use crate::cli::check::client::{Allocation, Client};
use crate::cli::check::credentials::Credentials;
use crate::cli::check::data::send_and_receive;
use crate::cli::check::failure::{Context, Failure};
use crate::cli::check::outside::{self, knock};
use crate::cli::check::report::Outcome;
use crate::cli::check::traffic::exchange;
use crate::cli::check::transport::Transport;
use crate::cli::check::url::DEFAULT_PORT;
use crate::wire::{ChannelNumber, Family};

/// The channels of the two allocations, different so that a mix-up shows.
const CHANNELS: (ChannelNumber, ChannelNumber) = (ChannelNumber::MIN, ChannelNumber::MAX);

impl<'c> Probe<'c> {
    /// Whether the relay can be reached from where this machine is.
    pub(super) fn outside(&mut self, near: &mut Client<'_>, relayed_address: SocketAddr) {
        let server = self.context.server.ip();
        if is_public(server) && !is_public(relayed_address.ip()) {
            let failure = Failure::PrivateRelay { relayed_address };
            return self.fail("outside", Duration::ZERO, failure);
        }
        let started = Instant::now();
        let own_ip = match self.context.transport {
            Transport::Udp => self.report.mapped_address.map(|address| address.ip()),
            Transport::Tcp => outside::own_ip(self.context.server, self.deadline),
            // Behind the port of TLS there is no UDP.
            Transport::Tls => outside::own_ip((server, DEFAULT_PORT).into(), self.deadline),
        };
        let outcome = knock(near, server, relayed_address, own_ip, self.deadline);
        let elapsed = started.elapsed();
        match outcome {
            outside::Outcome::Open => {
                self.context.outside_works = Some(true);
                let detail = "a packet from here to the relay, and back".to_owned();
                self.note(Outcome::Ok, "outside", elapsed, detail);
            }
            outside::Outcome::Untried(why) => self.note(Outcome::Skip, "outside", elapsed, why),
            outside::Outcome::Failed(failure) => {
                self.context.outside_works = Some(false);
                self.fail("outside", elapsed, failure);
            }
        }
    }

    /// Everything that takes a second allocation, whose client it puts into `far`.
    pub(super) fn relay(
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
        self.clock(near.clock(), far.clock());

        self.step("permission", || {
            near.create_permission(far_address)?;
            far.create_permission(near_address)?;
            Ok(((), "each permits the other".to_owned()))
        })?;
        self.context.hairpin_works = Some(false);
        self.step("send", || {
            send_and_receive((near, near_address), (far, far_address), deadline)?;
            Ok(((), "a Send indication arrived as Data".to_owned()))
        })?;
        self.step("channel", || {
            near.channel_bind(CHANNELS.0, far_address)?;
            far.channel_bind(CHANNELS.1, near_address)?;
            Ok(((), "each bound a channel to the other".to_owned()))
        })?;
        self.traffic(near, far)
    }

    /// Packets on the channels, as many as fit into the time for them.
    fn traffic(&mut self, near: &mut Client<'_>, far: &mut Client<'_>) -> Option<()> {
        let started = Instant::now();
        let result = exchange((near, CHANNELS.0), (far, CHANNELS.1), self.traffic_s);
        let elapsed = started.elapsed();
        for deadline in [&mut self.deadline, &mut near.deadline, &mut far.deadline] {
            *deadline += elapsed;
        }
        self.measured = elapsed;
        let traffic = match result {
            Ok(traffic) => traffic,
            Err(failure) => {
                self.fail("data", elapsed, failure);
                return None;
            }
        };
        let detail = traffic.detail();
        self.report.data = Some(traffic);
        let Some(round_trips) = traffic.round_trips else {
            self.fail("data", elapsed, Failure::DataLost { detail });
            return None;
        };
        self.context.hairpin_works = Some(true);
        let lost = traffic.lost();
        let outcome = if lost > 0 { Outcome::Warn } else { Outcome::Ok };
        self.note(outcome, "data", elapsed, detail.clone());
        let time = |milliseconds: f64| Duration::from_secs_f64(milliseconds / 1e3);
        let median = time(round_trips.median);
        self.note(Outcome::Ok, "round trip", median, round_trips.detail());
        let detail_of_jitter = "mean difference between round trips".to_owned();
        self.note(
            Outcome::Ok,
            "jitter",
            time(round_trips.jitter),
            detail_of_jitter,
        );
        if lost > 0 {
            let text = format!(
                "packets are lost ({detail}): the network between, or a server or its bandwidth \
                 limit that is at its end; compare with another network, and over TCP"
            );
            self.warn("loss", "data", text);
        }
        Some(())
    }

    /// Leaves nothing behind on the server, whatever failed before.
    pub(super) fn delete(&mut self, near: Client<'_>, far: Option<Client<'_>>) {
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
}

/// One more client with an allocation, after a challenge of its own: a nonce belongs to one client
/// address.
pub(super) fn join<'c>(
    context: &Context<'_>,
    credentials: &'c Credentials,
    family: Family,
    deadline: Instant,
) -> Result<(Client<'c>, Allocation), Failure> {
    let link = context.open(deadline)?;
    let mut client = Client::new(link, deadline);
    client.challenge(credentials)?;
    let allocation = client.allocate((family == Family::V6).then_some(family))?;
    Ok((client, allocation))
}
