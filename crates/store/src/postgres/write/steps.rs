//! The batch turned on its side, the other half: what later batches go by. Changes of logged
//! postbacks, postbacks that wait, and the partitions' rows.

use super::Part;
use crate::{Advance, parts};
use jiff::Timestamp;
use postern_core::decision::{Change, PartitionState, StatusChange, Unmatched};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Later steps of logged postbacks, numbered after those that are there.
#[derive(Default)]
pub(super) struct Changes<'a> {
    request_ids: Vec<Uuid>,
    received_at: Vec<Timestamp>,
    outcomes: Vec<&'a str>,
    reasons: Vec<&'a str>,
    conversions: Vec<Option<Uuid>>,
    policy_versions: Vec<i64>,
    campaigns: Vec<Option<i64>>,
    statuses: Vec<Option<&'a str>>,
    details: Vec<Option<&'a str>>,
    observed: Vec<Option<String>>,
}

impl<'a> Changes<'a> {
    pub(super) fn of(changes: &'a [Change]) -> Self {
        let mut columns = Self::default();
        for change in changes {
            let known = &change.known;
            columns.request_ids.push(change.request_id.as_uuid());
            columns.received_at.push(change.received_at);
            columns.outcomes.push(known.outcome.word());
            columns.reasons.push(change.reason);
            columns
                .conversions
                .push(known.conversion_id.map(|id| id.as_uuid()));
            columns.policy_versions.push(known.policy_version);
            columns.campaigns.push(known.outcome.campaign_id());
            columns.statuses.push(parts::status_of(&known.outcome));
            columns.details.push(change.detail);
            columns
                .observed
                .push(parts::write_observed(&change.observed));
        }
        columns
    }
}

impl Part for Changes<'_> {
    const SQL: &'static str = "\
INSERT INTO postback_changes (request_id, step, outcome, reason, conversion_id, policy_version,
                              campaign_id, status, detail, observed, received_at)
SELECT t.request_id,
       coalesce((SELECT max(c.step) FROM postback_changes c WHERE c.request_id = t.request_id), 0)
           + (row_number() OVER (PARTITION BY t.request_id ORDER BY t.n))::int,
       t.outcome, t.reason, t.conversion_id, t.policy_version, t.campaign_id, t.status, t.detail,
       t.observed, t.received_at
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::bigint[], $6::bigint[],
              $7::text[], $8::text[], $9::text[], $10::timestamptz[]) WITH ORDINALITY
       AS t(request_id, outcome, reason, conversion_id, policy_version, campaign_id, status,
            detail, observed, received_at, n)";

    fn is_empty(&self) -> bool {
        self.request_ids.is_empty()
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        vec![
            &self.request_ids,
            &self.outcomes,
            &self.reasons,
            &self.conversions,
            &self.policy_versions,
            &self.campaigns,
            &self.statuses,
            &self.details,
            &self.observed,
            &self.received_at,
        ]
    }
}

/// What postbacks said of the statuses of conversions that were there before.
#[derive(Default)]
pub(super) struct Statuses<'a> {
    conversions: Vec<Uuid>,
    at: Vec<Timestamp>,
    ids: Vec<Uuid>,
    statuses: Vec<&'a str>,
    policy_versions: Vec<i64>,
    partitions: Vec<i32>,
    sequences: Vec<Option<i64>>,
}

impl<'a> Statuses<'a> {
    pub(super) fn of(changes: &'a [StatusChange]) -> Self {
        let mut columns = Self::default();
        for change in changes {
            let stored = &change.stored;
            columns.conversions.push(stored.conversion_id.as_uuid());
            columns.at.push(stored.status_at);
            columns.ids.push(stored.status_id.as_uuid());
            columns.statuses.push(stored.status.word());
            columns.policy_versions.push(change.policy_version);
            columns.partitions.push(change.partition);
            columns.sequences.push(change.sequence);
        }
        columns
    }
}

impl Part for Statuses<'_> {
    const SQL: &'static str = "\
INSERT INTO conversion_statuses (conversion_id, status_at, status_id, status, policy_version,
                                 kafka_partition, sequence)
SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::text[], $5::bigint[],
                     $6::int[], $7::bigint[])";

    fn is_empty(&self) -> bool {
        self.conversions.is_empty()
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        vec![
            &self.conversions,
            &self.at,
            &self.ids,
            &self.statuses,
            &self.policy_versions,
            &self.partitions,
            &self.sequences,
        ]
    }
}

/// Postbacks that now wait for their click.
#[derive(Default)]
pub(super) struct Waiting<'a> {
    request_ids: Vec<Uuid>,
    clickids: Vec<&'a str>,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
    received_at: Vec<Timestamp>,
    postbacks: Vec<String>,
}

impl<'a> Waiting<'a> {
    pub(super) fn of(added: &'a [Unmatched]) -> Self {
        let mut columns = Self::default();
        for unmatched in added {
            let postback = &unmatched.postback;
            columns.request_ids.push(postback.request_id.as_uuid());
            columns.clickids.push(postback.clickid.as_str());
            columns.partitions.push(unmatched.partition);
            columns.offsets.push(unmatched.offset);
            columns.received_at.push(postback.received_at);
            let record = postback.encode();
            columns
                .postbacks
                .push(String::from_utf8_lossy(&record).into_owned());
        }
        columns
    }
}

impl Part for Waiting<'_> {
    const SQL: &'static str = "\
INSERT INTO unmatched (request_id, clickid, partition, kafka_offset, received_at, postback)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::timestamptz[],
                     $6::text[])";

    fn is_empty(&self) -> bool {
        self.request_ids.is_empty()
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        vec![
            &self.request_ids,
            &self.clickids,
            &self.partitions,
            &self.offsets,
            &self.received_at,
            &self.postbacks,
        ]
    }
}

/// Partitions' rows; as a part, how they move.
#[derive(Default)]
pub(super) struct Positions {
    partitions: Vec<i32>,
    versions: Vec<i64>,
    clicks: Vec<i64>,
    postbacks: Vec<i64>,
    sequences: Vec<i64>,
    published: Vec<i64>,
    unmatched: Vec<i64>,
}

impl Positions {
    /// The rows as they shall be; the version is one higher than the expected one.
    pub(super) fn of(advances: &[&Advance]) -> Self {
        let rows: Vec<_> = advances
            .iter()
            .map(|advance| PartitionState {
                partition: advance.expected.partition,
                version: advance.expected.version + 1,
                ..advance.next
            })
            .collect();
        Self::of_rows(rows.iter())
    }

    pub(super) fn of_rows<'a>(rows: impl Iterator<Item = &'a PartitionState>) -> Self {
        let mut columns = Self::default();
        for row in rows {
            columns.partitions.push(row.partition);
            columns.versions.push(row.version);
            columns.clicks.push(row.clicks);
            columns.postbacks.push(row.postbacks);
            columns.sequences.push(row.sequence);
            columns.published.push(row.published);
            columns.unmatched.push(row.unmatched);
        }
        columns
    }
}

impl Part for Positions {
    const SQL: &'static str = "\
UPDATE partitions p
   SET version = t.version, clicks = t.clicks, postbacks = t.postbacks, sequence = t.sequence,
       published = t.published, unmatched = t.unmatched
  FROM unnest($1::int[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
              $7::bigint[])
       AS t(partition, version, clicks, postbacks, sequence, published, unmatched)
 WHERE p.partition = t.partition";

    fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        vec![
            &self.partitions,
            &self.versions,
            &self.clicks,
            &self.postbacks,
            &self.sequences,
            &self.published,
            &self.unmatched,
        ]
    }
}
