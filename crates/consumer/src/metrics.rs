//! What a consumer measures.

use crate::campaigns::Campaigns;
use postern_runtime::metrics::{Metrics, MetricsError};
use prometheus::{
    GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};

const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
const RECORDS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0,
];

const OUTCOMES: [&str; 11] = [
    "converted",
    "duplicate",
    "updated",
    "click_not_found",
    "click_expired",
    "forbidden",
    "converted_late",
    "duplicate_late",
    "updated_late",
    "click_expired_late",
    "forbidden_late",
];

/// What campaigns that only observe would have refused.
const OBSERVED: [&str; 4] = [
    "address",
    "signature_missing",
    "signature_wrong",
    "click_expired",
];

/// The metrics of a consumer.
#[derive(Clone, Debug)]
pub struct ConsumerMetrics {
    pub(crate) outcomes: IntCounterVec,
    pub(crate) campaigns: Campaigns,
    pub(crate) clicks: IntCounter,
    pub(crate) misplaced_clicks: IntCounter,
    pub(crate) rejects: IntCounterVec,
    pub(crate) unmatched: IntGaugeVec,
    pub(crate) unmatched_dropped: IntCounterVec,
    pub(crate) lag: IntGaugeVec,
    pub(crate) lag_seconds: GaugeVec,
    pub(crate) batch_records: Histogram,
    pub(crate) batch_seconds: HistogramVec,
    pub(crate) barriers: IntCounter,
    pub(crate) dropped: IntCounterVec,
    pub(crate) owned: IntGauge,
    pub(crate) stopped: IntGaugeVec,
    pub(crate) verdicts_lost: IntCounter,
    pub(crate) refused_logged: IntCounter,
    pub(crate) observed: IntCounterVec,
    pub(crate) unknown_statuses: IntCounter,
    pub(crate) expired: IntCounterVec,
    pub(crate) oldest: GaugeVec,
}

impl ConsumerMetrics {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// A name is registered already.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        let batch_seconds = metrics.histograms(
            "batch_seconds",
            "Time of a batch's phases: reading what is known of it, waiting behind a barrier, committing.",
            &["phase"],
            SECONDS,
        )?;
        for phase in ["load", "barrier", "commit"] {
            batch_seconds.with_label_values(&[phase]);
        }
        Ok(Self {
            outcomes: metrics.counters_of(
                "postbacks_decided_total",
                "Postbacks decided and committed, by outcome; late is what waited for its click.",
                &["outcome"],
                OUTCOMES.map(|outcome| [outcome]),
            )?,
            campaigns: Campaigns::new(metrics.counters(
                "campaign_postbacks_total",
                "Postbacks decided and committed, of the campaigns with the most of them; other is all the rest.",
                &["campaign", "outcome"],
            )?),
            clicks: metrics.counter("clicks_stored_total", "Clicks stored.")?,
            misplaced_clicks: metrics.counter(
                "clicks_misplaced_total",
                "Clicks stored that their producer put into another partition than murmur2 would.",
            )?,
            rejects: metrics.counters_of(
                "records_rejected_total",
                "Records that went to postern.rejects, by reason.",
                &["reason"],
                [["malformed_record"], ["refused_by_store"], ["click_conflict"]],
            )?,
            expired: metrics.counters_of(
                "expired_rows_total",
                "Rows removed because they were older than retention allows, by kind.",
                &["kind"],
                [["clicks"], ["log"], ["unmatched"]],
            )?,
            oldest: metrics.float_gauges(
                "oldest_row_seconds",
                "Age of the oldest row after the last removal, by kind.",
                &["kind"],
            )?,
            unmatched: metrics.gauges(
                "unmatched_postbacks",
                "Postbacks that wait for their click.",
                &["partition"],
            )?,
            unmatched_dropped: metrics.counters(
                "unmatched_dropped_total",
                "Unmatched postbacks that were not kept because a limit was reached, by limit.",
                &["limit"],
            )?,
            lag: metrics.gauges(
                "consumer_lag_records",
                "Records between the committed position and the end of the partition.",
                &["topic", "partition"],
            )?,
            lag_seconds: metrics.float_gauges(
                "consumer_lag_seconds",
                "How far what is committed is behind, in time; 0 where nothing waits.",
                &["topic", "partition"],
            )?,
            batch_records: metrics.histogram("batch_records", "Records per batch.", RECORDS)?,
            batch_seconds,
            barriers: metrics.counter(
                "barriers_total",
                "Barriers written before a click was called unknown.",
            )?,
            dropped: metrics.counters_of(
                "batches_dropped_total",
                "Batches dropped and read again, by cause.",
                &["cause"],
                [["rebalance"], ["stopping"], ["fenced"], ["store"], ["kafka"], ["publish"]],
            )?,
            owned: metrics.gauge("partitions_owned", "Partitions that this process consumes.")?,
            stopped: metrics.gauges(
                "partition_stopped",
                "1 where a partition is not consumed because something is wrong with it.",
                &["partition"],
            )?,
            verdicts_lost: metrics.counter(
                "verdicts_unsent_total",
                "Verdicts that could not be handed to Kafka; their callers are answered queued.",
            )?,
            refused_logged: metrics.counter(
                "refused_logged_total",
                "Refused postbacks written into the log.",
            )?,
            observed: metrics.counters_of(
                "postbacks_observed_total",
                "Postbacks taken that a check of their campaign would have refused, by check.",
                &["check"],
                OBSERVED.map(|check| [check]),
            )?,
            unknown_statuses: metrics.counter(
                "unknown_statuses_total",
                "Postbacks with a status word that status.words doesn't have.",
            )?,
        })
    }
}
