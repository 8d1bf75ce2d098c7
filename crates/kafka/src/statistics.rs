//! What librdkafka counts of itself, in the few numbers that an operator asks for.

use rdkafka::Statistics;
use rdkafka::client::ClientContext;
use rdkafka::consumer::ConsumerContext;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What a client says of itself every few seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientStatistics {
    /// Records that wait to be sent or acknowledged.
    pub queue_messages: u64,
    /// Bytes of those.
    pub queue_bytes: u64,
    /// Requests that were sent again, since the client was made.
    pub retries: u64,
    /// Requests that failed or timed out, and answers that could not be read, since then.
    pub errors: u64,
    /// By broker id.
    pub brokers: BTreeMap<i32, BrokerStatistics>,
}

/// Of one broker.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct BrokerStatistics {
    /// Whether there is a working connection.
    pub up: bool,
    /// Mean round trip of the last interval, in seconds; `None` where nothing was asked.
    pub rtt_mean: Option<f64>,
    /// 99th percentile of it.
    pub rtt_p99: Option<f64>,
}

impl ClientStatistics {
    fn of(statistics: &Statistics) -> Self {
        let mut all = Self {
            queue_messages: statistics.msg_cnt,
            queue_bytes: statistics.msg_size,
            ..Self::default()
        };
        for broker in statistics.brokers.values() {
            all.retries += broker.txretries;
            all.errors += broker.txerrs + broker.rxerrs + broker.req_timeouts;
            // Addresses to begin with, and the coordinator once more, have no id of their own.
            if broker.nodeid < 0 || broker.nodename.is_empty() {
                continue;
            }
            let rtt = broker.rtt.as_ref().filter(|rtt| rtt.cnt > 0);
            let of = BrokerStatistics {
                up: broker.state == "UP",
                rtt_mean: rtt.map(|rtt| seconds(rtt.avg)),
                rtt_p99: rtt.map(|rtt| seconds(rtt.p99)),
            };
            all.brokers.insert(broker.nodeid, of);
        }
        all
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds of a round trip are far below 2^53"
)]
fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

/// Hears of a client, by the name that it was made with.
pub type Observer = Arc<dyn Fn(&str, &ClientStatistics) + Send + Sync>;

/// Tells the observer of one client.
#[derive(Clone, Default)]
pub(crate) struct Observed(Option<(String, Observer)>);

impl Observed {
    pub(crate) fn new(client: &str, observer: Option<&Observer>) -> Self {
        Self(observer.map(|observer| (client.to_owned(), observer.clone())))
    }

    pub(crate) fn tell(&self, statistics: &Statistics) {
        if let Some((client, observer)) = &self.0 {
            observer(client, &ClientStatistics::of(statistics));
        }
    }
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observed")
            .field(&self.0.as_ref().map(|(client, _)| client))
            .finish()
    }
}

/// The context of a client that has nothing else to hear.
impl ClientContext for Observed {
    fn stats(&self, statistics: Statistics) {
        self.tell(&statistics);
    }
}

impl ConsumerContext for Observed {}
