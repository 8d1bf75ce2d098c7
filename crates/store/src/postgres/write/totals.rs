//! The totals of new conversions and changed statuses, turned on their side.

use super::Part;
use crate::statistics::{Total, TotalKey};
use jiff::Timestamp;
use postern_core::status::Status;
use std::collections::BTreeMap;
use tokio_postgres::types::ToSql;

/// Rows of `conversion_totals`.
#[derive(Default)]
pub(super) struct ConversionTotals<'a> {
    slot: i32,
    campaigns: Vec<i64>,
    buckets: Vec<Timestamp>,
    currencies: Vec<&'a str>,
    /// Of each status conversions, whole units and millionths.
    sums: [[Vec<i64>; 3]; Status::ALL.len()],
}

impl<'a> ConversionTotals<'a> {
    pub(super) fn of(totals: &BTreeMap<TotalKey<'a>, Total>, slot: i32) -> Self {
        let mut columns = Self {
            slot,
            ..Self::default()
        };
        for ((campaign_id, bucket, currency), total) in totals {
            columns.campaigns.push(*campaign_id);
            columns.buckets.push(*bucket);
            columns.currencies.push(currency);
            for ([conversions, whole, micros], sum) in columns.sums.iter_mut().zip(total) {
                conversions.push(sum.conversions);
                whole.push(sum.revenue_whole);
                micros.push(sum.revenue_micros);
            }
        }
        columns
    }
}

impl Part for ConversionTotals<'_> {
    const SQL: &'static str = "\
INSERT INTO conversion_totals AS v (campaign_id, bucket, currency, slot,
    approved, approved_whole, approved_micros,
    pending, pending_whole, pending_micros,
    rejected, rejected_whole, rejected_micros,
    reversed, reversed_whole, reversed_micros)
SELECT t.c1, t.c2, t.c3, $4::int, t.c5, t.c6, t.c7, t.c8, t.c9, t.c10, t.c11, t.c12, t.c13, t.c14, t.c15, t.c16
  FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[])
       AS t(c1, c2, c3, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16)
ON CONFLICT (campaign_id, bucket, currency, slot) DO UPDATE SET
    approved = v.approved + excluded.approved,
    approved_whole = v.approved_whole + excluded.approved_whole,
    approved_micros = v.approved_micros + excluded.approved_micros,
    pending = v.pending + excluded.pending,
    pending_whole = v.pending_whole + excluded.pending_whole,
    pending_micros = v.pending_micros + excluded.pending_micros,
    rejected = v.rejected + excluded.rejected,
    rejected_whole = v.rejected_whole + excluded.rejected_whole,
    rejected_micros = v.rejected_micros + excluded.rejected_micros,
    reversed = v.reversed + excluded.reversed,
    reversed_whole = v.reversed_whole + excluded.reversed_whole,
    reversed_micros = v.reversed_micros + excluded.reversed_micros";

    fn is_empty(&self) -> bool {
        self.campaigns.is_empty()
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        let mut params: Vec<&(dyn ToSql + Sync)> =
            vec![&self.campaigns, &self.buckets, &self.currencies, &self.slot];
        for column in self.sums.iter().flatten() {
            params.push(column);
        }
        params
    }
}
