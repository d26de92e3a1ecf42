//! `/v1/allocations`: what clients hold.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::input::{Named, Parameters};
use super::{Api, Error};
use crate::admin::to_its_end;
use crate::engine::{AllocationDetail, AllocationName, AllocationRecord, Cursor, Filter, PAGE_MAX};
use crate::turn::{CloseReason, Usage, parse_network};

/// How long rates are measured for.
const RATE_TIME: Duration = Duration::from_secs(1);

/// Allocations of a page that asks for no number.
const PAGE_DEFAULT: usize = 100;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/allocations", get(list).delete(end_matching))
        .route("/v1/allocations/{id}", get(show).delete(end))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListParameters {
    user: Option<Box<str>>,
    #[serde(default, deserialize_with = "network")]
    client: Option<IpNet>,
    min_age_s: Option<u32>,
    limit: Option<usize>,
    #[serde(default, deserialize_with = "cursor")]
    cursor: Option<Cursor>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndParameters {
    user: Option<Box<str>>,
    #[serde(default, deserialize_with = "network")]
    client: Option<IpNet>,
    min_age_s: Option<u32>,
}

/// A network, or an address.
fn network<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IpNet>, D::Error> {
    let text = String::deserialize(from)?;
    let network = parse_network(&text).map_err(|error| {
        let text = format!("{text:?} is no network ({error}); write one such as 192.0.2.0/24");
        de::Error::custom(text)
    });
    network.map(Some)
}

/// What [`written`] has written.
fn cursor<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Cursor>, D::Error> {
    let text = String::deserialize(from)?;
    let parts = text.split_once('-');
    let cursor = parts.and_then(|(worker, slot)| {
        Some(Cursor {
            worker: usize::from_str_radix(worker, 16).ok()?,
            slot: u32::from_str_radix(slot, 16).ok()?,
        })
    });
    let wrong = || de::Error::custom("not a cursor; take the one that the last page has as next");
    cursor.map(Some).ok_or_else(wrong)
}

fn written(cursor: Cursor) -> String {
    format!("{:x}-{:x}", cursor.worker, cursor.slot)
}

fn filter(user: Option<Box<str>>, client: Option<IpNet>, min_age_s: Option<u32>) -> Filter {
    Filter {
        user,
        client,
        min_age: Duration::from_secs(min_age_s.unwrap_or(0).into()),
    }
}

#[derive(Serialize)]
struct Page {
    allocations: Vec<Allocation>,
    next: Option<String>,
}

#[derive(Serialize)]
struct Allocation {
    id: String,
    user: Box<str>,
    username: Box<str>,
    client: SocketAddr,
    transport: String,
    server: SocketAddr,
    relayed: Vec<SocketAddr>,
    age_s: u64,
    idle_s: u64,
    expires_s: u32,
    #[serde(flatten)]
    holds: Holds,
    packets_to_peers: u64,
    bytes_to_peers: u64,
    packets_to_client: u64,
    bytes_to_client: u64,
    dropped_to_client: u64,
    limited_to_peers: u64,
    limited_to_client: u64,
}

/// Permissions and channels: how many, or each.
#[derive(Serialize)]
#[serde(untagged)]
enum Holds {
    Number {
        permissions: usize,
        channels: usize,
    },
    Each {
        permissions: Vec<Permission>,
        channels: Vec<Channel>,
        rates: Rates,
    },
}

#[derive(Serialize)]
struct Permission {
    address: IpAddr,
    expires_s: u32,
}

#[derive(Serialize)]
struct Channel {
    number: u16,
    peer: SocketAddr,
    expires_s: u32,
}

#[derive(Serialize)]
struct Rates {
    bits_per_s_to_peers: u64,
    bits_per_s_to_client: u64,
    packets_per_s_to_peers: u64,
    packets_per_s_to_client: u64,
}

impl Allocation {
    fn new(record: AllocationRecord, holds: Holds) -> Self {
        let usage = record.usage;
        Self {
            id: record.name.to_string(),
            user: record.user,
            username: record.username,
            client: record.five_tuple.client,
            transport: record.five_tuple.transport.to_string(),
            server: record.five_tuple.server,
            relayed: record.relayed.into_iter().flatten().collect(),
            age_s: record.age.as_secs(),
            idle_s: record.idle.as_secs(),
            expires_s: record.expires_s,
            holds,
            packets_to_peers: usage.packets_to_peers,
            bytes_to_peers: usage.bytes_to_peers,
            packets_to_client: usage.packets_to_client,
            bytes_to_client: usage.bytes_to_client,
            dropped_to_client: usage.dropped_to_client,
            limited_to_peers: usage.limited_to_peers,
            limited_to_client: usage.limited_to_client,
        }
    }

    fn in_list(record: AllocationRecord) -> Self {
        let (permissions, channels) = (record.permissions, record.channels);
        Self::new(
            record,
            Holds::Number {
                permissions,
                channels,
            },
        )
    }

    fn in_full(detail: AllocationDetail, rates: Rates) -> Self {
        let permissions = detail.permissions.into_iter();
        let permissions = permissions.map(|(address, expires_s)| Permission { address, expires_s });
        let channels = detail.channels.into_iter();
        let channels = channels.map(|(number, peer, expires_s)| Channel {
            number: number.get(),
            peer,
            expires_s,
        });
        let holds = Holds::Each {
            permissions: permissions.collect(),
            channels: channels.collect(),
            rates,
        };
        Self::new(detail.record, holds)
    }
}

impl Rates {
    /// Between two moments of an allocation's life.
    fn between(earlier: (Usage, Duration), later: (Usage, Duration)) -> Self {
        let ms = later.1.saturating_sub(earlier.1).as_millis().max(1);
        let rate = |earlier: u64, later: u64, factor: u64| {
            let counted = u128::from(later.saturating_sub(earlier)) * u128::from(factor);
            u64::try_from(counted * 1000 / ms).unwrap_or(u64::MAX)
        };
        let (before, after) = (earlier.0, later.0);
        Self {
            bits_per_s_to_peers: rate(before.bytes_to_peers, after.bytes_to_peers, 8),
            bits_per_s_to_client: rate(before.bytes_to_client, after.bytes_to_client, 8),
            packets_per_s_to_peers: rate(before.packets_to_peers, after.packets_to_peers, 1),
            packets_per_s_to_client: rate(before.packets_to_client, after.packets_to_client, 1),
        }
    }
}

async fn list(
    State(api): State<Arc<Api>>,
    Parameters(asked): Parameters<ListParameters>,
) -> Result<Json<Page>, Error> {
    let limit = asked.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        let text = format!("bad parameter: limit: write 1 to {PAGE_MAX}");
        return Err(Error::bad_request(text));
    }
    let filter = filter(asked.user, asked.client, asked.min_age_s);
    let from = asked.cursor.unwrap_or_default();
    let page = api.control.list(&filter, from, limit).await?;
    let allocations = page.records.into_iter().map(Allocation::in_list);
    Ok(Json(Page {
        allocations: allocations.collect(),
        next: page.next.map(written),
    }))
}

fn unknown(id: &str) -> Error {
    Error::not_found(format!("there is no allocation {id}, or not any more"))
}

async fn show(State(api): State<Arc<Api>>, Named(id): Named) -> Result<Json<Allocation>, Error> {
    let name: AllocationName = id.parse().map_err(|_| unknown(&id))?;
    let detail = || async { api.control.show(name).await?.ok_or_else(|| unknown(&id)) };
    let at = |record: &AllocationRecord| (record.usage, record.age);
    let earlier = at(&detail().await?.record);
    tokio::time::sleep(RATE_TIME).await;
    let later = detail().await?;
    let rates = Rates::between(earlier, at(&later.record));
    Ok(Json(Allocation::in_full(later, rates)))
}

#[derive(Serialize)]
struct Ended {
    ended: usize,
}

async fn end(State(api): State<Arc<Api>>, Named(id): Named) -> Result<Json<Ended>, Error> {
    let name = id.parse().map_err(|_| unknown(&id))?;
    if api.control.end(name, CloseReason::Ended).await? {
        Ok(Json(Ended { ended: 1 }))
    } else {
        Err(unknown(&id))
    }
}

async fn end_matching(
    State(api): State<Arc<Api>>,
    Parameters(asked): Parameters<EndParameters>,
) -> Result<Json<Ended>, Error> {
    let filter = filter(asked.user, asked.client, asked.min_age_s);
    if filter == Filter::default() {
        let text = "say which: user, client or min_age_s; client=0.0.0.0/0 is every IPv4 client";
        return Err(Error::bad_request(text));
    }
    let end = async move {
        let ended = api.control.end_all(&filter, CloseReason::Ended).await?;
        tracing::info!(ended, "an operator ended allocations");
        Ok::<_, Error>(Json(Ended { ended }))
    };
    to_its_end(end).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_by_the_time_that_went_by() {
        let usage = |bytes_to_peers, packets_to_client| Usage {
            bytes_to_peers,
            packets_to_client,
            ..Usage::default()
        };
        let earlier = (usage(1000, 5), Duration::from_millis(10_000));
        let rates = Rates::between(earlier, (usage(3500, 55), Duration::from_millis(11_250)));
        assert_eq!(rates.bits_per_s_to_peers, 16_000);
        assert_eq!(rates.packets_per_s_to_client, 40);
        assert_eq!(rates.bits_per_s_to_client, 0);
        // Two looks within a millisecond.
        let rates = Rates::between(earlier, (usage(1001, 5), Duration::from_millis(10_000)));
        assert_eq!(rates.bits_per_s_to_peers, 8000);
    }
}
