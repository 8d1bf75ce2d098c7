//! What an ingress measures.

use crate::spooled::Topic;
use postern_runtime::metrics::{Metrics, MetricsError};
use prometheus::{
    Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};

/// Seconds; from half a millisecond to past the default answer timeout.
const LATENCY: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0,
];

/// Answers to postbacks, by outcome and HTTP status.
const ANSWERS: [[&str; 2]; 8] = [
    ["converted", "200"],
    ["duplicate", "200"],
    ["updated", "200"],
    ["queued", "202"],
    ["click_not_found", "404"],
    ["click_expired", "410"],
    ["forbidden", "403"],
    ["internal_error", "503"],
];
const UNACKNOWLEDGED: [&str; 3] = ["queue_full", "undelivered", "too_large"];
const SPOOLED: [[&str; 1]; 3] = [
    [Topic::Clicks.word()],
    [Topic::Postbacks.word()],
    [Topic::Rejects.word()],
];

/// The metrics of an ingress.
#[derive(Clone, Debug)]
pub struct IngressMetrics {
    pub(crate) requests: IntCounterVec,
    pub(crate) answer_seconds: HistogramVec,
    pub(crate) verdict_wait: Histogram,
    pub(crate) limits: IntGaugeVec,
    pub(crate) publish_seconds: Histogram,
    pub(crate) publish_failures: IntCounterVec,
    pub(crate) in_flight: IntGauge,
    pub(crate) breaker_open: IntGauge,
    pub(crate) overload: IntCounterVec,
    pub(crate) verdicts_late: IntCounter,
    pub(crate) refusals_suppressed: IntCounterVec,
    pub(crate) clicks: IntCounterVec,
    pub(crate) redirects: IntCounterVec,
    pub(crate) redirect_seconds: Histogram,
    pub(crate) campaigns: IntGauge,
    pub(crate) publish_breaker_open: IntGauge,
    pub(crate) spool_entries: IntGauge,
    pub(crate) spool_bytes: IntGauge,
    pub(crate) spool_oldest: Gauge,
    pub(crate) spool_set_aside: IntGauge,
    pub(crate) spool_records_set_aside: IntCounter,
    pub(crate) spool_appended: IntCounterVec,
    pub(crate) spool_drained: IntCounterVec,
    pub(crate) spool_failures: IntCounterVec,
}

impl IngressMetrics {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// A name is registered already.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        Ok(Self {
            requests: metrics.counters_of(
                "http_requests_total",
                "Requests answered, by route, outcome and HTTP status.",
                &["route", "outcome", "status"],
                ANSWERS.map(|[outcome, status]| ["postback", outcome, status]),
            )?,
            answer_seconds: answer_seconds(metrics)?,
            verdict_wait: metrics.histogram(
                "verdict_wait_seconds",
                "Time from Kafka's acknowledgement of a postback to its verdict, or to the end of the wait for it; without callers who left.",
                LATENCY,
            )?,
            limits: metrics.gauges(
                "limit",
                "What an ingress may have at a time: requests in flight, bytes of bodies, bytes in its spool.",
                &["limit"],
            )?,
            publish_seconds: metrics.histogram(
                "publish_seconds",
                "Time from handing a postback to Kafka's producer to its acknowledgement.",
                LATENCY,
            )?,
            publish_failures: metrics.counters_of(
                "publish_failures_total",
                "Records that Kafka did not acknowledge, by topic and reason.",
                &["topic", "reason"],
                [Topic::Clicks, Topic::Postbacks, Topic::Rejects]
                    .into_iter()
                    .flat_map(|topic| UNACKNOWLEDGED.map(|reason| [topic.name(), reason])),
            )?,
            in_flight: metrics.gauge("requests_in_flight", "Requests that are being answered.")?,
            breaker_open: metrics.gauge(
                "verdict_breaker_open",
                "Postbacks partitions whose verdicts have stopped coming, or come late.",
            )?,
            overload: metrics.counters_of(
                "overload_refusals_total",
                "Requests refused because a limit was reached, by limit.",
                &["limit"],
                [["in_flight"], ["queued_bytes"], ["rate"]],
            )?,
            verdicts_late: metrics.counter(
                "verdicts_late_total",
                "Verdicts that came after their postback had been answered queued.",
            )?,
            refusals_suppressed: metrics.counters_of(
                "refusals_suppressed_total",
                "Refused postbacks that are not in the log, by reason.",
                &["reason"],
                [["address_cap"], ["total_cap"], ["not_published"]],
            )?,
            clicks: metrics.counters_of(
                "clicks_posted_total",
                "Lines posted to /v1/clicks, by result.",
                &["result"],
                [["accepted"], ["refused"], ["not_published"]],
            )?,
            redirects: metrics.counters_of(
                "click_redirects_total",
                "Clicks redirected: acknowledged by Kafka before the visitor left, late, spooled, or lost.",
                &["result"],
                [["acknowledged"], ["late"], ["spooled"], ["lost"]],
            )?,
            redirect_seconds: metrics.histogram(
                "click_redirect_seconds",
                "Time from reading a click to its redirect.",
                LATENCY,
            )?,
            campaigns: metrics.gauge("campaigns_known", "Campaigns that this ingress knows.")?,
            publish_breaker_open: metrics.gauge(
                "publish_breaker_open",
                "Partitions that don't acknowledge, and one more where none does: records go straight to the spool.",
            )?,
            spool_entries: metrics.gauge("spool_records", "Records in the spool.")?,
            spool_bytes: metrics.gauge("spool_bytes", "Bytes that the spool's segments take.")?,
            spool_oldest: metrics.float_gauge(
                "spool_oldest_seconds",
                "Age of the oldest record in the spool; 0 where it is empty.",
            )?,
            spool_set_aside: metrics.gauge(
                "spool_set_aside_bytes",
                "Bytes of the spool that could not be used since the start.",
            )?,
            spool_records_set_aside: metrics.counter(
                "spool_set_aside_records_total",
                "Acknowledged records that Kafka can't be given, kept apart on the spool's disk.",
            )?,
            spool_appended: metrics.counters_of(
                "spool_appended_total",
                "Records that were fsynced in the spool, by topic.",
                &["topic"],
                SPOOLED,
            )?,
            spool_drained: metrics.counters_of(
                "spool_drained_total",
                "Records of the spool that Kafka acknowledged, by topic.",
                &["topic"],
                SPOOLED,
            )?,
            spool_failures: metrics.counters_of(
                "spool_failures_total",
                "Records that the spool did not take, by reason.",
                &["reason"],
                [["full"], ["busy"], ["too_large"], ["disk"], ["slow"]],
            )?,
        })
    }

    /// Tells what the ingress is allowed, so that what it has can be held against it.
    pub(crate) fn limit(&self, name: &str, most: usize) {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.limits.with_label_values(&[name]).set(most);
    }
}

fn answer_seconds(metrics: &Metrics) -> Result<HistogramVec, MetricsError> {
    let seconds = metrics.histograms(
        "answer_seconds",
        "Time from reading a postback to its answer, by outcome.",
        &["outcome"],
        LATENCY,
    )?;
    for [outcome, _] in ANSWERS {
        seconds.with_label_values(&[outcome]);
    }
    Ok(seconds)
}
