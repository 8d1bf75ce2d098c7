//! The metrics registry: owned, handed around, never static, so that tests and
//! several roles in one process do not meet in one global table.
//!
//! Names are given without the namespace; `requests_total` in the namespace
//! `postern` is exported as `postern_requests_total`. The process's own figures
//! keep the names that dashboards know (`process_…`).

mod process;

use prometheus::core::Collector;
use prometheus::{Encoder, HistogramOpts, Opts, Registry, TextEncoder};

pub use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};

/// Content type of [`Metrics::encode`].
pub const TEXT_FORMAT: &str = prometheus::TEXT_FORMAT;

/// Buckets in seconds for latencies from half a millisecond to ten seconds.
pub const LATENCY_BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25,
    0.5, 1.0, 2.0, 5.0, 10.0,
];

/// Buckets for counts of things, such as records in a batch.
pub const COUNT_BUCKETS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0,
];

/// A name or label that can't be used, or a name that is taken: a mistake in
/// the program, found at start.
#[derive(Debug, thiserror::Error)]
#[error("metric {name} can't be registered")]
pub struct MetricsError {
    name: String,
    #[source]
    source: prometheus::Error,
}

/// A registry of metrics; clones share it.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    namespace: String,
}

impl Metrics {
    /// A registry with the process's own metrics in it.
    ///
    /// # Errors
    ///
    /// Never for a namespace of letters, digits and underscores.
    pub fn new(namespace: &str) -> Result<Self, MetricsError> {
        let metrics = Self {
            registry: Registry::new(),
            namespace: namespace.to_owned(),
        };
        let process = process::ProcessCollector::new().map_err(named("process"))?;
        metrics.add("process", process)?;
        Ok(metrics)
    }

    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        let metric = IntCounter::with_opts(self.opts(name, help)).map_err(named(name))?;
        self.add(name, metric)
    }

    /// Values of labels must come from a small fixed set, never from a request.
    pub fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, MetricsError> {
        let metric = IntCounterVec::new(self.opts(name, help), labels).map_err(named(name))?;
        self.add(name, metric)
    }

    /// The same; these values of its labels are there from the start, at 0: a rate is known from the
    /// first event on, and a panel is not empty before it.
    pub fn counters_of(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        known: impl IntoIterator<Item = impl AsRef<[&'static str]>>,
    ) -> Result<IntCounterVec, MetricsError> {
        let metric = self.counters(name, help, labels)?;
        for values in known {
            metric
                .get_metric_with_label_values(values.as_ref())
                .map_err(named(name))?;
        }
        Ok(metric)
    }

    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        let metric = IntGauge::with_opts(self.opts(name, help)).map_err(named(name))?;
        self.add(name, metric)
    }

    pub fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, MetricsError> {
        let metric = IntGaugeVec::new(self.opts(name, help), labels).map_err(named(name))?;
        self.add(name, metric)
    }

    /// A gauge that is no whole number, such as an age in seconds.
    pub fn float_gauge(&self, name: &str, help: &str) -> Result<Gauge, MetricsError> {
        let metric = Gauge::with_opts(self.opts(name, help)).map_err(named(name))?;
        self.add(name, metric)
    }

    pub fn float_gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<GaugeVec, MetricsError> {
        let metric = GaugeVec::new(self.opts(name, help), labels).map_err(named(name))?;
        self.add(name, metric)
    }

    pub fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Histogram, MetricsError> {
        let opts = self.histogram_opts(name, help, buckets);
        let metric = Histogram::with_opts(opts).map_err(named(name))?;
        self.add(name, metric)
    }

    pub fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, MetricsError> {
        let opts = self.histogram_opts(name, help, buckets);
        let metric = HistogramVec::new(opts, labels).map_err(named(name))?;
        self.add(name, metric)
    }

    /// Everything in Prometheus text format 0.0.4.
    pub fn encode(&self) -> Result<Vec<u8>, MetricsError> {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .map_err(named("(all)"))?;
        Ok(text)
    }

    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(name, help).namespace(&self.namespace)
    }

    fn histogram_opts(&self, name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
        HistogramOpts::new(name, help)
            .namespace(&self.namespace)
            .buckets(buckets.to_vec())
    }

    fn add<C: Collector + Clone + 'static>(
        &self,
        name: &str,
        metric: C,
    ) -> Result<C, MetricsError> {
        self.registry
            .register(Box::new(metric.clone()))
            .map_err(named(name))?;
        Ok(metric)
    }
}

fn named(name: &str) -> impl FnOnce(prometheus::Error) -> MetricsError {
    let name = name.to_owned();
    move |source| MetricsError { name, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn text(metrics: &Metrics) -> String {
        String::from_utf8(metrics.encode().unwrap()).unwrap()
    }

    #[test]
    fn handles_and_export_share_the_value() {
        let metrics = Metrics::new("postern").unwrap();
        let counter = metrics.counter("things_total", "Things.").unwrap();
        let labelled = metrics
            .counters("outcomes_total", "Outcomes.", &["outcome"])
            .unwrap();
        let seconds = metrics
            .histogram("answer_seconds", "Latency.", LATENCY_BUCKETS)
            .unwrap();
        counter.inc_by(3);
        labelled.with_label_values(&["ok"]).inc();
        seconds.observe(0.004);
        let text = text(&metrics);
        assert!(text.contains("postern_things_total 3\n"), "{text}");
        assert!(text.contains("postern_outcomes_total{outcome=\"ok\"} 1\n"));
        assert!(text.contains("postern_answer_seconds_bucket{le=\"0.005\"} 1\n"));
        assert!(text.contains("postern_answer_seconds_bucket{le=\"0.003\"} 0\n"));
    }

    #[test]
    fn a_name_is_registered_once_per_registry() {
        let metrics = Metrics::new("postern").unwrap();
        metrics.gauge("depth", "Depth.").unwrap();
        let error = metrics.clone().gauge("depth", "Depth.").unwrap_err();
        assert!(error.to_string().contains("depth"));
        Metrics::new("postern")
            .unwrap()
            .gauge("depth", "Depth.")
            .unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_reports_itself() {
        let metrics = Metrics::new("postern").unwrap();
        let text = text(&metrics);
        let value = |name: &str| -> f64 {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
                .unwrap_or_else(|| panic!("{name} in {text}"))
                .parse()
                .unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") > value("process_open_fds"));
        let age = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs_f64()
            - value("process_start_time_seconds");
        assert!((-2.0..3600.0).contains(&age), "{age}");
        assert!(value("process_threads") >= 1.0);
    }
}
