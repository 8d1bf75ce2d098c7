//! What the store tells of its calls, as metrics.

use postern_runtime::metrics::{LATENCY_BUCKETS, Metrics, MetricsError};
use postern_store::{Observer, StoreError};
use std::sync::Arc;

/// Registers the metrics; gives who is to hear of the calls.
pub fn observer(metrics: &Metrics) -> Result<Observer, MetricsError> {
    let seconds = metrics.histograms(
        "store_seconds",
        "Time of a call of the store, with the wait for a connection: of the roles' work, or of \
         reading what people ask.",
        &["purpose"],
        LATENCY_BUCKETS,
    )?;
    let errors = metrics.counters(
        "store_errors_total",
        "Calls of the store that failed, by kind of error.",
        &["purpose", "kind"],
    )?;
    let connections = metrics.gauges(
        "store_connections",
        "Connections to PostgreSQL that are used or idle, and calls that wait for one; each worker \
         has one more.",
        &["purpose", "state"],
    )?;
    for purpose in ["work", "reading"] {
        seconds.with_label_values(&[purpose]);
        for kind in StoreError::KINDS {
            errors.with_label_values(&[purpose, kind]);
        }
        for state in ["used", "idle", "waiting"] {
            connections.with_label_values(&[purpose, state]);
        }
    }
    Ok(Arc::new(move |call| {
        let purpose = call.purpose;
        seconds
            .with_label_values(&[purpose])
            .observe(call.took.as_secs_f64());
        if let Some(kind) = call.error {
            errors.with_label_values(&[purpose, kind]).inc();
        }
        if let Some(pool) = call.pool {
            for (state, count) in [
                ("used", pool.used),
                ("idle", pool.idle),
                ("waiting", pool.waiting),
            ] {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                connections.with_label_values(&[purpose, state]).set(count);
            }
        }
    }))
}
