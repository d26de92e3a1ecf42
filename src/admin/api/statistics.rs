//! `/v1/statistics`: what the dashboard draws.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::Api;
use super::info::{DrainingNow, RelayPorts};
use crate::admin::statistics::{Point, SAMPLE_INTERVAL, Totals};
use crate::turn::{CloseReason, FailedAuthentication, Limit, PeerRefusal};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/v1/statistics", get(show))
}

#[derive(Serialize)]
struct Statistics {
    now: Now,
    interval_s: u64,
    series: Series,
    /// Since the server started, by name.
    authentication_failures: Numbers,
    limits_reached: Numbers,
    refused_peers: Numbers,
    drops: Numbers,
    ended: Numbers,
}

#[derive(Serialize)]
struct Now {
    allocations: u32,
    tcp_connections: u32,
    relay_ports: RelayPorts,
    draining: Option<DrainingNow>,
    workers_respond: bool,
    packets_to_peers: u64,
    bytes_to_peers: u64,
    packets_to_client: u64,
    bytes_to_client: u64,
    failures: u64,
    drops: u64,
}

/// One array for each number, the oldest first.
#[derive(Default, Serialize)]
struct Series {
    unix_s: Vec<u64>,
    allocations: Vec<u32>,
    bits_per_s_to_peers: Vec<u64>,
    bits_per_s_to_client: Vec<u64>,
    failures: Vec<u64>,
    drops: Vec<u64>,
}

impl FromIterator<Point> for Series {
    fn from_iter<I: IntoIterator<Item = Point>>(points: I) -> Self {
        let mut series = Self::default();
        for point in points {
            series.unix_s.push(point.unix_s);
            series.allocations.push(point.allocations);
            series.bits_per_s_to_peers.push(point.bits_per_s_to_peers);
            series.bits_per_s_to_client.push(point.bits_per_s_to_client);
            series.failures.push(point.failures);
            series.drops.push(point.drops);
        }
        series
    }
}

/// Numbers by name, those that are 0 too: the names are few, and known.
struct Numbers(Vec<(&'static str, u64)>);

impl Serialize for Numbers {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (name, number) in &self.0 {
            map.serialize_entry(name, number)?;
        }
        map.end()
    }
}

fn numbers<T: Copy>(all: &[T], of: impl Fn(T) -> (&'static str, u64)) -> Numbers {
    Numbers(all.iter().map(|&it| of(it)).collect())
}

async fn show(State(api): State<Arc<Api>>) -> Json<Statistics> {
    let sample = api.statistics.now();
    let counters = &sample.protocol;
    let totals = Totals::of(&sample);
    let relayed = totals.relayed;
    let failed = |it: FailedAuthentication| (it.name(), counters.failed(it));
    Json(Statistics {
        now: Now {
            allocations: api.control.shared().quota.total(),
            tcp_connections: api.control.tcp_connections(),
            relay_ports: RelayPorts::of(&api.control),
            draining: api.drain.state().map(DrainingNow::from),
            workers_respond: api.statistics.is_well(),
            packets_to_peers: relayed.packets_to_peers,
            bytes_to_peers: relayed.bytes_to_peers,
            packets_to_client: relayed.packets_to_client,
            bytes_to_client: relayed.bytes_to_client,
            failures: totals.failures,
            drops: totals.drops,
        },
        interval_s: SAMPLE_INTERVAL.as_secs(),
        series: api.statistics.points().into_iter().collect(),
        authentication_failures: numbers(FailedAuthentication::ALL, failed),
        limits_reached: numbers(Limit::ALL, |it| (it.name(), counters.limited(it))),
        refused_peers: numbers(PeerRefusal::ALL, |it| {
            (it.name(), counters.peers_refused(it))
        }),
        drops: Numbers(sample.drops().collect()),
        ended: numbers(CloseReason::ALL, |it| (it.name(), counters.closed(it))),
    })
}
