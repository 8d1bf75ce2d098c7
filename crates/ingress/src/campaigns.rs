//! What the ingress knows of campaigns: read from their topic, whole at the start, then as they
//! change.

use crate::metrics::IngressMetrics;
use crate::verdicts::patiently;
use postern_core::record::DecodeError;
use postern_core::record::campaign::CampaignRecord;
use postern_kafka::{CAMPAIGNS, Connection, KafkaError, Tail};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The one partition of the topic.
const PARTITION: i32 = 0;

/// The campaigns that were set, as many as operators set. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Campaigns(Arc<RwLock<Table>>);

#[derive(Debug, Default)]
struct Table {
    campaigns: HashMap<i64, Arc<CampaignRecord>>,
    /// Whether all that stood on the topic at the start has been read.
    is_read: bool,
}

/// What is known of a campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It was set.
    Set(Arc<CampaignRecord>),
    /// Nobody set it.
    Unset,
    /// The topic hasn't been read yet.
    NotYet,
}

impl Campaigns {
    pub(crate) fn get(&self, campaign_id: i64) -> Known {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if !table.is_read {
            // What is known so far may be a version that a later record takes back.
            return Known::NotYet;
        }
        let known = table.campaigns.get(&campaign_id);
        known.map_or(Known::Unset, |record| Known::Set(record.clone()))
    }

    /// Takes a record in, unless a newer one is known; gives how many campaigns there are.
    fn take(&self, record: CampaignRecord) -> usize {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match table.campaigns.entry(record.campaign_id) {
            Entry::Occupied(known) if known.get().version > record.version => {}
            Entry::Occupied(mut known) => {
                known.insert(Arc::new(record));
            }
            Entry::Vacant(place) => {
                place.insert(Arc::new(record));
            }
        }
        table.campaigns.len()
    }

    fn all_read(&self) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        table.is_read = true;
    }
}

/// Reads campaigns from Kafka for one ingress. Blocks: give it a thread.
pub struct CampaignReader {
    tail: Tail,
    campaigns: Campaigns,
    metrics: IngressMetrics,
}

impl CampaignReader {
    /// Makes the reader.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Config`].
    pub fn new(
        connection: &Connection,
        campaigns: Campaigns,
        metrics: IngressMetrics,
    ) -> Result<Self, KafkaError> {
        Ok(Self {
            tail: Tail::whole(connection, "campaigns", CAMPAIGNS)?,
            campaigns,
            metrics,
        })
    }

    /// Reads from the first record until `stop`; calls `ready` once all that stood there at the
    /// start is known. Kafka being away, or the topic, is retried; `waiting` hears why.
    pub fn run(
        mut self,
        stop: &CancellationToken,
        mut waiting: impl FnMut(&KafkaError),
        mut ready: impl FnMut(),
    ) {
        loop {
            let start = |patience| self.tail.start_from_first(PARTITION, patience);
            let Some((first, end)) = patiently(stop, &mut waiting, start) else {
                return;
            };
            let Err(gone) = self.read(stop, first, end, &mut ready) else {
                return;
            };
            // What is known stays.
            waiting(&gone);
            if let Err(error) = self.tail.renew() {
                waiting(&error);
            }
        }
    }

    /// Reads until `stop`, or until there is nothing to read from.
    fn read(
        &mut self,
        stop: &CancellationToken,
        first: i64,
        end: i64,
        ready: &mut impl FnMut(),
    ) -> Result<(), KafkaError> {
        let mut ready = Some(ready);
        let mut next = Some(first);
        while !stop.is_cancelled() {
            if next >= Some(end)
                && let Some(ready) = ready.take()
            {
                self.campaigns.all_read();
                ready();
            }
            match self.tail.next(Duration::from_millis(100)) {
                Ok(None) => {}
                Ok(Some(record)) => self.take(&record.value, record.offset),
                Err(gone @ KafkaError::Topics(_)) => return Err(gone),
                Err(error) => tracing::debug!(%error, "reading campaigns"),
            }
            // Compaction may have left nothing right before the end.
            next = self.tail.position(PARTITION).or(next);
        }
        Ok(())
    }

    /// A record that can't be read leaves its campaign as it was known.
    fn take(&self, value: &[u8], offset: i64) {
        match CampaignRecord::decode(value) {
            Ok(record) => {
                let count = self.campaigns.take(record);
                self.metrics
                    .campaigns
                    .set(i64::try_from(count).unwrap_or(i64::MAX));
            }
            Err(error @ DecodeError::NewerVersion { .. }) => {
                tracing::error!(offset, %error, "a campaign was not taken: upgrade this ingress");
            }
            Err(error) => tracing::error!(offset, %error, "a campaign's record can't be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_core::campaign::Activity;

    fn record(version: i64, status: Activity) -> CampaignRecord {
        CampaignRecord {
            campaign_id: 18,
            version,
            status,
            tracking_url: None,
        }
    }

    #[test]
    fn the_highest_version_holds() {
        let campaigns = Campaigns::default();
        assert_eq!(campaigns.get(18), Known::NotYet);
        campaigns.take(record(2, Activity::Paused));
        campaigns.take(record(1, Activity::Active));
        assert_eq!(campaigns.get(18), Known::NotYet, "not all has been read");
        campaigns.all_read();
        let known = Known::Set(Arc::new(record(2, Activity::Paused)));
        assert_eq!(campaigns.get(18), known);
        assert_eq!(campaigns.get(19), Known::Unset);
        assert_eq!(campaigns.take(record(3, Activity::Closed)), 1);
        let known = Known::Set(Arc::new(record(3, Activity::Closed)));
        assert_eq!(campaigns.get(18), known);
    }
}
