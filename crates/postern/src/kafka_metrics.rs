//! What Kafka's clients say of themselves, as metrics.

use postern_kafka::{ClientStatistics, Observer};
use postern_runtime::metrics::{GaugeVec, IntCounterVec, IntGaugeVec, Metrics, MetricsError};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

struct KafkaMetrics {
    queue_records: IntGaugeVec,
    queue_bytes: IntGaugeVec,
    retries: IntCounterVec,
    errors: IntCounterVec,
    up: IntGaugeVec,
    round_trip: GaugeVec,
    /// Retries and errors that each client told of last.
    last: Mutex<HashMap<String, (u64, u64)>>,
}

/// Registers the metrics; gives who is to hear of the clients.
pub fn observer(metrics: &Metrics) -> Result<Observer, MetricsError> {
    let kafka = KafkaMetrics {
        queue_records: metrics.gauges(
            "kafka_client_queue_records",
            "Records that a client of Kafka has to send, or whose acknowledgement it waits for.",
            &["client"],
        )?,
        queue_bytes: metrics.gauges(
            "kafka_client_queue_bytes",
            "Bytes of the records in a client's queue.",
            &["client"],
        )?,
        retries: metrics.counters(
            "kafka_client_retries_total",
            "Requests to Kafka that were sent again, by client.",
            &["client"],
        )?,
        errors: metrics.counters(
            "kafka_client_request_errors_total",
            "Requests to Kafka that failed or timed out, by client.",
            &["client"],
        )?,
        up: metrics.gauges(
            "kafka_client_brokers_up",
            "Brokers that a client is connected to.",
            &["client"],
        )?,
        round_trip: metrics.float_gauges(
            "kafka_broker_round_trip_seconds",
            "Mean and 99th percentile of the last seconds' round trips to a broker, by client.",
            &["client", "broker", "stat"],
        )?,
        last: Mutex::default(),
    };
    Ok(Arc::new(move |client, statistics| {
        kafka.take(client, statistics);
    }))
}

impl KafkaMetrics {
    fn take(&self, client: &str, statistics: &ClientStatistics) {
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.queue_records
            .with_label_values(&[client])
            .set(whole(statistics.queue_messages));
        self.queue_bytes
            .with_label_values(&[client])
            .set(whole(statistics.queue_bytes));
        let up = statistics.brokers.values().filter(|broker| broker.up);
        self.up
            .with_label_values(&[client])
            .set(whole(up.count() as u64));
        for (id, broker) in &statistics.brokers {
            let id = id.to_string();
            let told = [("mean", broker.rtt_mean), ("p99", broker.rtt_p99)];
            for (stat, seconds) in told {
                // An idle client has none to tell of: the last one stands.
                if let Some(seconds) = seconds {
                    self.round_trip
                        .with_label_values(&[client, &id, stat])
                        .set(seconds);
                }
            }
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (retries, errors) = last.entry(client.to_owned()).or_default();
        self.retries
            .with_label_values(&[client])
            .inc_by(since(retries, statistics.retries));
        self.errors
            .with_label_values(&[client])
            .inc_by(since(errors, statistics.errors));
    }
}

/// What a client's own count has grown by. A client that was replaced begins anew.
fn since(last: &mut u64, now: u64) -> u64 {
    let grown = now.checked_sub(*last).unwrap_or(now);
    *last = now;
    grown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use postern_kafka::BrokerStatistics;

    #[test]
    fn counts_go_on_where_a_client_is_replaced() {
        let metrics = Metrics::new("postern").unwrap();
        let observer = observer(&metrics).unwrap();
        let mut told = ClientStatistics {
            queue_messages: 3,
            retries: 5,
            ..ClientStatistics::default()
        };
        let broker = BrokerStatistics {
            up: true,
            rtt_mean: Some(0.25),
            rtt_p99: None,
        };
        told.brokers.insert(1, broker);
        told.brokers.insert(2, BrokerStatistics::default());
        observer("ingress", &told);
        told.retries = 2;
        observer("ingress", &told);
        told.retries = 4;
        observer("ingress", &told);
        let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
        for line in [
            "postern_kafka_client_queue_records{client=\"ingress\"} 3",
            "postern_kafka_client_retries_total{client=\"ingress\"} 9",
            "postern_kafka_client_brokers_up{client=\"ingress\"} 1",
            "postern_kafka_broker_round_trip_seconds{broker=\"1\",client=\"ingress\",stat=\"mean\"} 0.25",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in {text}");
        }
    }
}
