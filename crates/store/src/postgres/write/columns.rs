//! The batch turned on its side: one array per column, one statement per table. Here what
//! reports read: clicks, conversions, and their statistics.

use super::Part;
use crate::statistics::{self, ConversionKey, ConversionSum};
use jiff::Timestamp;
use postern_core::decision::PlacedClick;
use postern_core::record::conversion::Conversion;
use std::collections::BTreeMap;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// New clicks, and the statistics of those that were really new: a foreign producer may have put
/// a click into two partitions. Sorted by clickid, so that two transactions that meet in one
/// wait for each other instead of deadlocking.
#[derive(Default)]
pub(super) struct Clicks<'a> {
    clickids: Vec<&'a str>,
    campaigns: Vec<i64>,
    sites: Vec<&'a str>,
    sources: Vec<&'a str>,
    publishers: Vec<&'a str>,
    traffic_logs: Vec<&'a str>,
    clicked_at: Vec<Timestamp>,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
    buckets: Vec<Timestamp>,
    slot: i32,
}

impl<'a> Clicks<'a> {
    pub(super) fn of(clicks: &'a [PlacedClick], slot: i32) -> Self {
        let mut sorted: Vec<&PlacedClick> = clicks.iter().collect();
        sorted.sort_by(|a, b| a.click.clickid.cmp(&b.click.clickid));
        let mut columns = Self {
            slot,
            ..Self::default()
        };
        for placed in sorted {
            let click = &placed.click;
            let key = statistics::click_key(placed);
            columns.clickids.push(click.clickid.as_str());
            columns.campaigns.push(key.campaign_id);
            columns.sites.push(key.site_id);
            columns.sources.push(key.source);
            columns.publishers.push(&click.publisher_id);
            columns.traffic_logs.push(&click.traffic_log_id);
            columns.clicked_at.push(click.clicked_at);
            columns.partitions.push(key.partition);
            columns.offsets.push(placed.offset);
            columns.buckets.push(key.bucket);
        }
        columns
    }
}

impl Part for Clicks<'_> {
    const SQL: &'static str = "\
WITH input AS (
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[],
                         $6::text[], $7::timestamptz[], $8::int[], $9::bigint[],
                         $10::timestamptz[])
        AS t(clickid, campaign_id, site_id, source, publisher_id, traffic_log_id, clicked_at,
             kafka_partition, kafka_offset, bucket)
), inserted AS (
    INSERT INTO clicks (clickid, campaign_id, site_id, source, publisher_id, traffic_log_id,
                        clicked_at, kafka_partition, kafka_offset)
    SELECT clickid, campaign_id, site_id, source, publisher_id, traffic_log_id, clicked_at,
           kafka_partition, kafka_offset
      FROM input
    ON CONFLICT (clickid) DO NOTHING
    RETURNING clickid
), counted AS (
    INSERT INTO click_stats (campaign_id, bucket, site_id, source, partition, clicks)
    SELECT i.campaign_id, i.bucket, i.site_id, i.source, i.kafka_partition, count(*)
      FROM input i JOIN inserted n ON n.clickid = i.clickid
     GROUP BY i.campaign_id, i.bucket, i.site_id, i.source, i.kafka_partition
     ORDER BY i.campaign_id, i.bucket, i.site_id, i.source, i.kafka_partition
    ON CONFLICT (campaign_id, bucket, site_id, source, partition)
    DO UPDATE SET clicks = click_stats.clicks + excluded.clicks
)
INSERT INTO click_totals (campaign_id, bucket, slot, clicks)
SELECT i.campaign_id, i.bucket, $11::int, count(*)
  FROM input i JOIN inserted n ON n.clickid = i.clickid
 GROUP BY i.campaign_id, i.bucket
 ORDER BY i.campaign_id, i.bucket
ON CONFLICT (campaign_id, bucket, slot)
DO UPDATE SET clicks = click_totals.clicks + excluded.clicks";

    fn is_empty(&self) -> bool {
        self.clickids.is_empty()
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        vec![
            &self.clickids,
            &self.campaigns,
            &self.sites,
            &self.sources,
            &self.publishers,
            &self.traffic_logs,
            &self.clicked_at,
            &self.partitions,
            &self.offsets,
            &self.buckets,
            &self.slot,
        ]
    }
}

/// New conversions, in the order of their ids, which is that of time: in half of the indexes one
/// then follows the other. The arrays are taken apart in the list of columns, where no row is
/// stored in between, as it is in `FROM`.
#[derive(Default)]
pub(super) struct Conversions<'a> {
    ids: Vec<Uuid>,
    clickids: Vec<&'a str>,
    events: Vec<&'a str>,
    campaigns: Vec<i64>,
    labels: [Vec<&'a str>; 4],
    revenues: Vec<i64>,
    currencies: Vec<&'a str>,
    currencies_sent: Vec<bool>,
    external_ids: Vec<Option<&'a str>>,
    subids: [Vec<Option<&'a str>>; 5],
    created_at: Vec<Timestamp>,
    clicked_at: Vec<Timestamp>,
    policy_versions: Vec<i64>,
    partitions: Vec<i32>,
    sequences: Vec<i64>,
    statuses: Vec<&'a str>,
    dedupes: Vec<&'a str>,
}

impl<'a> Conversions<'a> {
    pub(super) fn of(conversions: &'a [(i32, i64, Conversion)]) -> Self {
        let mut sorted: Vec<_> = conversions.iter().collect();
        sorted.sort_unstable_by_key(|(_, _, conversion)| conversion.conversion_id);
        let mut columns = Self::default();
        for (partition, sequence, conversion) in sorted {
            columns.ids.push(conversion.conversion_id.as_uuid());
            columns.clickids.push(conversion.clickid.as_str());
            columns.events.push(&conversion.event);
            columns.campaigns.push(conversion.campaign_id);
            let labels = [
                &conversion.site_id,
                &conversion.source,
                &conversion.publisher_id,
                &conversion.traffic_log_id,
            ];
            for (column, label) in columns.labels.iter_mut().zip(labels) {
                column.push(label);
            }
            columns.revenues.push(conversion.revenue.micros());
            columns.currencies.push(conversion.currency.as_str());
            columns.currencies_sent.push(conversion.currency_sent);
            columns.external_ids.push(conversion.external_id.as_deref());
            for (column, subid) in columns.subids.iter_mut().zip(&conversion.subids) {
                column.push(subid.as_deref());
            }
            columns.created_at.push(conversion.created_at);
            columns.clicked_at.push(conversion.clicked_at);
            columns.policy_versions.push(conversion.policy_version);
            columns.partitions.push(*partition);
            columns.sequences.push(*sequence);
            columns.statuses.push(conversion.status.word());
            columns.dedupes.push(conversion.dedupe.word());
        }
        columns
    }
}

impl Part for Conversions<'_> {
    const SQL: &'static str = "\
INSERT INTO conversions (conversion_id, clickid, event, campaign_id, site_id, source, publisher_id,
    traffic_log_id, revenue_micros, currency, currency_sent, external_id, subid0, subid1, subid2,
    subid3, subid4, created_at, clicked_at, policy_version, kafka_partition, sequence, status,
    dedupe)
SELECT unnest($1::uuid[]), unnest($2::text[]), unnest($3::text[]), unnest($4::bigint[]),
    unnest($5::text[]), unnest($6::text[]), unnest($7::text[]), unnest($8::text[]),
    unnest($9::bigint[]), unnest($10::text[]), unnest($11::bool[]), unnest($12::text[]),
    unnest($13::text[]), unnest($14::text[]), unnest($15::text[]), unnest($16::text[]),
    unnest($17::text[]), unnest($18::timestamptz[]), unnest($19::timestamptz[]),
    unnest($20::bigint[]), unnest($21::int[]), unnest($22::bigint[]), unnest($23::text[]),
    unnest($24::text[])";

    fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        let [site, source, publisher, traffic_log] = &self.labels;
        let [subid0, subid1, subid2, subid3, subid4] = &self.subids;
        vec![
            &self.ids,
            &self.clickids,
            &self.events,
            &self.campaigns,
            site,
            source,
            publisher,
            traffic_log,
            &self.revenues,
            &self.currencies,
            &self.currencies_sent,
            &self.external_ids,
            subid0,
            subid1,
            subid2,
            subid3,
            subid4,
            &self.created_at,
            &self.clicked_at,
            &self.policy_versions,
            &self.partitions,
            &self.sequences,
            &self.statuses,
            &self.dedupes,
        ]
    }
}

/// What new conversions and changed statuses add to the statistics, or take from them.
#[derive(Default)]
pub(super) struct ConversionSums<'a> {
    campaigns: Vec<i64>,
    buckets: Vec<Timestamp>,
    sites: Vec<&'a str>,
    sources: Vec<&'a str>,
    currencies: Vec<&'a str>,
    statuses: Vec<&'a str>,
    partitions: Vec<i32>,
    conversions: Vec<i64>,
    whole: Vec<i64>,
    micros: Vec<i64>,
}

impl<'a> ConversionSums<'a> {
    pub(super) fn of(sums: &BTreeMap<ConversionKey<'a>, ConversionSum>) -> Self {
        let mut columns = Self::default();
        for (key, sum) in sums {
            columns.campaigns.push(key.campaign_id);
            columns.buckets.push(key.bucket);
            columns.sites.push(key.site_id);
            columns.sources.push(key.source);
            columns.currencies.push(key.currency);
            columns.statuses.push(key.status);
            columns.partitions.push(key.partition);
            columns.conversions.push(sum.conversions);
            columns.whole.push(sum.revenue_whole);
            columns.micros.push(sum.revenue_micros);
        }
        columns
    }
}

impl Part for ConversionSums<'_> {
    const SQL: &'static str = "\
INSERT INTO conversion_stats (campaign_id, bucket, site_id, source, currency, status, partition,
                              conversions, revenue_whole, revenue_micros)
SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[], $5::text[],
                     $6::text[], $7::int[], $8::bigint[], $9::bigint[], $10::bigint[])
ON CONFLICT (campaign_id, bucket, site_id, source, currency, status, partition)
DO UPDATE SET conversions = conversion_stats.conversions + excluded.conversions,
              revenue_whole = conversion_stats.revenue_whole + excluded.revenue_whole,
              revenue_micros = conversion_stats.revenue_micros + excluded.revenue_micros";

    fn is_empty(&self) -> bool {
        self.campaigns.is_empty()
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        vec![
            &self.campaigns,
            &self.buckets,
            &self.sites,
            &self.sources,
            &self.currencies,
            &self.statuses,
            &self.partitions,
            &self.conversions,
            &self.whole,
            &self.micros,
        ]
    }
}
