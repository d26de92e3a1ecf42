//! The table's rows as OpenMetrics text, which the library writes.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::Metrics;
use super::process::Memory;
use super::sample::Sample;
use super::table::{Definition, Kind, TABLE};

/// What the rows of the table take their numbers from.
pub(super) struct Source<'a> {
    pub(super) metrics: &'a Metrics,
    pub(super) total: Sample,
    pub(super) workers: &'a [Sample],
    pub(super) memory: Option<Memory>,
}

/// All metrics as text.
pub(super) fn text(metrics: Arc<Metrics>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Rows(metrics)));
    let mut text = String::new();
    encode(&mut text, &registry).expect("a String takes everything");
    text
}

#[derive(Debug)]
struct Rows(Arc<Metrics>);

impl Collector for Rows {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let workers: Vec<Sample> = self.0.of_each().collect();
        let source = Source {
            metrics: &self.0,
            total: self.0.total(),
            workers: &workers,
            memory: self.0.process.memory(),
        };
        for definition in TABLE {
            let (name, unit) = definition.stem();
            let kind = match definition.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
                Kind::Info => MetricType::Info,
            };
            let encoder = encoder.encode_descriptor(name, definition.help, unit.as_ref(), kind)?;
            let mut writer = Writer {
                encoder,
                definition,
            };
            (definition.write)(&source, &mut writer)?;
        }
        Ok(())
    }
}

impl Definition {
    /// The name without what the library adds, and the unit that it adds.
    fn stem(&self) -> (&'static str, Option<Unit>) {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        let name = name.strip_suffix("_info").unwrap_or(name);
        if let Some(stem) = name.strip_suffix("_bytes") {
            (stem, Some(Unit::Bytes))
        } else if let Some(stem) = name.strip_suffix("_seconds") {
            (stem, Some(Unit::Seconds))
        } else {
            (name, None)
        }
    }
}

/// A number of a counter or a gauge.
#[derive(Clone, Copy)]
pub(super) enum Number {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

/// Writes the samples of one metric.
pub(super) struct Writer<'a> {
    encoder: MetricEncoder<'a>,
    definition: &'static Definition,
}

impl Writer<'_> {
    /// One sample, with the values of the labels in their order.
    pub(super) fn number(&mut self, values: &[&str], number: impl Into<Number>) -> fmt::Result {
        let number = number.into();
        let kind = self.definition.kind;
        let labels = self.labels(values);
        let encode = |encoder: &mut MetricEncoder<'_>| match (kind, number) {
            (Kind::Counter, Number::Whole(number)) => {
                encoder.encode_counter::<NoLabelSet, u64, f64>(&number, None)
            }
            (Kind::Counter, Number::Real(number)) => {
                encoder.encode_counter::<NoLabelSet, f64, f64>(&number, None)
            }
            (Kind::Info, _) => encoder.encode_info(&labels),
            (_, Number::Whole(number)) => encoder.encode_gauge(&number),
            (_, Number::Real(number)) => encoder.encode_gauge(&number),
        };
        if labels.is_empty() || kind == Kind::Info {
            encode(&mut self.encoder)
        } else {
            encode(&mut self.encoder.encode_family(&labels)?)
        }
    }

    /// One histogram: the sum of all values, and how many are in each bucket, with its bound.
    pub(super) fn histogram(
        &mut self,
        values: &[&str],
        sum: f64,
        buckets: &[(f64, u64)],
    ) -> fmt::Result {
        let count = buckets.iter().map(|(_, count)| count).sum();
        let labels = self.labels(values);
        let encode = |encoder: &mut MetricEncoder<'_>| {
            encoder.encode_histogram::<NoLabelSet>(sum, count, buckets, None)
        };
        if labels.is_empty() {
            encode(&mut self.encoder)
        } else {
            encode(&mut self.encoder.encode_family(&labels)?)
        }
    }

    fn labels<'v>(&self, values: &[&'v str]) -> Vec<(&'static str, &'v str)> {
        let names = self.definition.labels;
        debug_assert_eq!(names.len(), values.len(), "{:?}", self.definition);
        names.iter().copied().zip(values.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::tests::metrics;
    use super::*;
    use crate::metrics::Host;

    /// The samples of a text: what stands before the number, and the number.
    fn samples(text: &str) -> Vec<(&str, &str)> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.rsplit_once(' ').unwrap()).collect()
    }

    #[test]
    fn every_metric_is_in_the_text_once_and_nothing_else() {
        let metrics = metrics(2);
        let certificates = [("/etc/tls/a.pem", 1_800_000_000), ("b", -1)];
        let certificates = certificates.map(|(file, unix_s)| (file.to_owned(), unix_s));
        metrics.certificates().set_expiries(certificates.to_vec());
        let text = metrics.to_text();
        let line = "_expiry_timestamp_seconds{file=\"/etc/tls/a.pem\"} 1800000000.0\n";
        assert!(text.contains(line), "{text}");
        assert!(text.ends_with("# EOF\n"));
        for definition in TABLE {
            let (stem, unit) = definition.stem();
            let unit = unit.map_or_else(String::new, |unit| format!("_{}", unit.as_str()));
            let kind = definition.kind.name();
            let line = format!("# TYPE {stem}{unit} {kind}\n");
            assert_eq!(text.matches(&line).count(), 1, "{line}");
            let sample = samples(&text).into_iter().find(|(name, _)| {
                let name = name.split('{').next().unwrap();
                name == definition.name
                    || (definition.kind == Kind::Histogram
                        && name == format!("{}_count", definition.name))
            });
            let is_built =
                cfg!(feature = "dtls") || !definition.name.starts_with("turnstone_dtls_");
            assert_eq!(sample.is_some(), is_built, "{definition:?} and its sample");
        }
        assert_eq!(text.matches("# TYPE ").count(), TABLE.len());
        let names: Vec<&str> = samples(&text).iter().map(|(name, _)| *name).collect();
        let unique: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names.len(), unique.len(), "a series twice");
        // Two for each worker, and one for each certificate.
        let others = names.len() - 2 * 2 - certificates.len();
        let told = format!("as with none: {others},");
        let page = include_str!("../../docs/metrics.md");
        // The page counts those of a build without features.
        assert!(
            page.contains(&told) || cfg!(feature = "dtls"),
            "docs/metrics.md has not {told:?}"
        );
    }

    #[test]
    fn numbers_stand_where_they_belong() {
        let metrics = metrics(2);
        let mut host = Host {
            tcp_half_open: 3,
            tcp_ended: std::array::from_fn(|ending| if ending == 4 { 4 } else { 0 }),
            cpu_ns: 1_500_000_000,
            relay_overflows: 6,
            ..Host::default()
        };
        host.listener_batches.count(3);
        host.listener_batches.count(64);
        host.tick_delays.count(std::time::Duration::from_millis(7));
        let protocol = Default::default();
        metrics.publish(1, Sample { protocol, host });
        metrics.reloads().count_failure();
        metrics.certificates().count_failure();
        let text = metrics.to_text();
        for line in [
            "turnstone_tcp_connections{state=\"half_open\"} 3",
            "turnstone_tcp_connections_ended_total{reason=\"no_first_message\"} 4",
            "turnstone_worker_cpu_seconds_total{worker=\"0\"} 0.0",
            "turnstone_worker_cpu_seconds_total{worker=\"1\"} 1.5",
            "turnstone_dropped_packets_total{cause=\"relay_overflow\"} 6",
            "turnstone_received_batch_datagrams_sum{socket=\"listener\"} 67.0",
            "turnstone_received_batch_datagrams_count{socket=\"listener\"} 2",
            "turnstone_received_batch_datagrams_bucket{le=\"2.0\",socket=\"listener\"} 0",
            "turnstone_received_batch_datagrams_bucket{le=\"4.0\",socket=\"listener\"} 1",
            "turnstone_received_batch_datagrams_bucket{le=\"+Inf\",socket=\"listener\"} 2",
            "turnstone_worker_tick_delay_seconds_bucket{le=\"0.005\"} 0",
            "turnstone_worker_tick_delay_seconds_bucket{le=\"0.01\"} 1",
            "turnstone_configuration_reloads_total{result=\"failure\"} 1",
            "turnstone_tls_certificate_reloads_total{result=\"failure\"} 1",
            "turnstone_tls_certificate_reloads_total{result=\"success\"} 0",
            "turnstone_relay_ports{state=\"free\"} 0",
        ] {
            assert!(text.lines().any(|it| it == line), "no {line}:\n{text}");
        }
        let version = format!(
            "turnstone_build_info{{version=\"{}\"}} 1",
            env!("CARGO_PKG_VERSION")
        );
        assert!(text.contains(&version));
    }
}
