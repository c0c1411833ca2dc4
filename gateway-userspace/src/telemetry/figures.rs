//! Numbers with their names and what they mean, and the text that Prometheus reads.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder, text},
    metrics::{MetricType, histogram::Histogram},
    registry::Registry,
};

/// In front of every name.
const PREFIX: &str = "ringsteer";

/// Figures at one moment. Names are without `ringsteer_` in front, counters' without `_total` behind.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    families: Vec<Family>,
}

/// All that goes by one name.
#[derive(Clone, Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    samples: Samples,
}

#[derive(Clone, Debug)]
enum Samples {
    Numbers(Vec<(Labels, f64)>),
    Histogram(Histogram),
}

/// Labels and their values.
type Labels = Vec<(&'static str, String)>;

// === impl Figures ===

impl Figures {
    /// Something that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: impl Number) {
        self.gauges(name, help, [(vec![], value)]);
    }

    /// The same, by labels.
    pub fn gauges(
        &mut self,
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, impl Number)>,
    ) {
        self.family(name, help, MetricType::Gauge, samples);
    }

    /// Something that only goes up, and begins at zero when the program does.
    pub fn counter(&mut self, name: &'static str, help: &'static str, value: impl Number) {
        self.counters(name, help, [(vec![], value)]);
    }

    /// The same, by labels.
    pub fn counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, impl Number)>,
    ) {
        self.family(name, help, MetricType::Counter, samples);
    }

    /// How often something was how large.
    pub fn histogram(&mut self, name: &'static str, help: &'static str, values: &Histogram) {
        let samples = Samples::Histogram(values.clone());
        self.families.push(Family { name, help, kind: MetricType::Histogram, samples });
    }

    /// Something that is text: it stands in the labels, and the value is 1.
    pub fn info(&mut self, name: &'static str, help: &'static str, labels: Labels) {
        self.family(name, help, MetricType::Gauge, [(labels, 1u64)]);
    }

    fn family(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: MetricType,
        samples: impl IntoIterator<Item = (Labels, impl Number)>,
    ) {
        let samples = samples.into_iter().map(|(labels, value)| (labels, value.number())).collect();
        self.families.push(Family { name, help, kind, samples: Samples::Numbers(samples) });
    }

    /// The text that Prometheus reads (OpenMetrics 1.0).
    pub fn to_text(&self) -> String {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(self.clone()));
        let mut text = String::new();
        text::encode(&mut text, &registry).expect("writing to a String does not fail");
        text
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Family { name, help, kind, samples } in &self.families {
            let mut family = encoder.encode_descriptor(name, help, None, *kind)?;
            let numbers = match samples {
                Samples::Numbers(numbers) => numbers,
                Samples::Histogram(values) => {
                    values.encode(family)?;
                    continue;
                }
            };
            for (labels, value) in numbers {
                // Without labels there is no family, and no empty braces.
                if labels.is_empty() {
                    sample(&mut family, *kind, value)?;
                } else {
                    sample(&mut family.encode_family(labels)?, *kind, value)?;
                }
            }
        }
        Ok(())
    }
}

fn sample(metric: &mut MetricEncoder<'_>, kind: MetricType, value: &f64) -> fmt::Result {
    match kind {
        MetricType::Counter => metric.encode_counter::<Labels, _, f64>(value, None),
        _ => metric.encode_gauge(value),
    }
}

/// What a figure can be.
pub trait Number {
    /// As Prometheus keeps it. Counts beyond 2⁵³ lose their last digits there.
    fn number(self) -> f64;
}

impl Number for f64 {
    fn number(self) -> f64 {
        self
    }
}

impl Number for u64 {
    fn number(self) -> f64 {
        self as f64
    }
}

impl Number for u32 {
    fn number(self) -> f64 {
        self.into()
    }
}

impl Number for usize {
    fn number(self) -> f64 {
        self as f64
    }
}

impl Number for bool {
    fn number(self) -> f64 {
        f64::from(u8::from(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let mut figures = Figures::default();
        figures.gauge("ready", "Whether others may rely on this node", true);
        figures.counters(
            "packets",
            "Packets, by what became of them",
            [("tunnelled", 7u64), ("not\"ours\"\n", 0)]
                .map(|(verdict, count)| (vec![("verdict", verdict.into())], count)),
        );
        let values = Histogram::new([0.5, 1.0]);
        [0.25, 0.75, 3.0].iter().for_each(|&value| values.observe(value));
        figures.histogram("pause_seconds", "How long it paused", &values);
        figures.info("build", "The program", vec![("version", "0.1.0".into())]);
        assert_eq!(
            figures.to_text(),
            "# HELP ringsteer_ready Whether others may rely on this node\n\
             # TYPE ringsteer_ready gauge\n\
             ringsteer_ready 1.0\n\
             # HELP ringsteer_packets Packets, by what became of them\n\
             # TYPE ringsteer_packets counter\n\
             ringsteer_packets_total{verdict=\"tunnelled\"} 7.0\n\
             ringsteer_packets_total{verdict=\"not\\\"ours\\\"\\n\"} 0.0\n\
             # HELP ringsteer_pause_seconds How long it paused\n\
             # TYPE ringsteer_pause_seconds histogram\n\
             ringsteer_pause_seconds_sum 4.0\n\
             ringsteer_pause_seconds_count 3\n\
             ringsteer_pause_seconds_bucket{le=\"0.5\"} 1\n\
             ringsteer_pause_seconds_bucket{le=\"1.0\"} 2\n\
             ringsteer_pause_seconds_bucket{le=\"+Inf\"} 3\n\
             # HELP ringsteer_build The program\n\
             # TYPE ringsteer_build gauge\n\
             ringsteer_build{version=\"0.1.0\"} 1.0\n\
             # EOF\n"
        );
    }
}
