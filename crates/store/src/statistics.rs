//! The statistics that a batch adds up to: pure, and the same for both engines.
//!
//! Rows come out in the order of their keys, so that transactions which share a row lock it in
//! the same order.

use jiff::Timestamp;
use postern_core::decision::{PlacedClick, Writes};
use postern_core::money::Revenue;
use postern_core::status::Status;
use std::collections::BTreeMap;

const MICROS_PER_UNIT: i64 = 1_000_000;

/// What a row of `conversion_stats` is found by.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConversionKey<'a> {
    pub(crate) campaign_id: i64,
    pub(crate) bucket: Timestamp,
    pub(crate) site_id: &'a str,
    pub(crate) source: &'a str,
    pub(crate) currency: &'a str,
    /// As its word sorts, so do its rows.
    pub(crate) status: &'static str,
    pub(crate) partition: i32,
}

/// What is added to it. Whole units and millionths are summed apart: nine trillion twice would
/// leave 64 bits as millionths.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConversionSum {
    pub(crate) conversions: i64,
    pub(crate) revenue_whole: i64,
    pub(crate) revenue_micros: i64,
}

impl ConversionSum {
    /// One conversion more, or less where `count` is below 0.
    fn add(&mut self, count: i64, revenue: Revenue) {
        let micros = revenue.micros();
        self.conversions += count;
        self.revenue_whole += count * (micros / MICROS_PER_UNIT);
        self.revenue_micros += count * (micros % MICROS_PER_UNIT);
    }
}

impl std::ops::AddAssign for ConversionSum {
    fn add_assign(&mut self, other: Self) {
        self.conversions += other.conversions;
        self.revenue_whole += other.revenue_whole;
        self.revenue_micros += other.revenue_micros;
    }
}

/// What a row of `conversion_totals` is found by: campaign, bucket and currency; the writer's slot
/// comes to it.
pub(crate) type TotalKey<'a> = (i64, Timestamp, &'a str);

/// What is added to it, by status in the order of the columns.
pub(crate) type Total = [ConversionSum; Status::ALL.len()];

/// What a row of `click_stats` is found by.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClickKey<'a> {
    pub(crate) campaign_id: i64,
    pub(crate) bucket: Timestamp,
    pub(crate) site_id: &'a str,
    pub(crate) source: &'a str,
    pub(crate) partition: i32,
}

/// Sums of conversions, by the bucket of their `created_at` and their status; one whose status
/// changed leaves the row that it counted in. Sums of nothing are left out.
pub(crate) fn conversions(writes: &Writes) -> BTreeMap<ConversionKey<'_>, ConversionSum> {
    let mut sums = BTreeMap::<_, ConversionSum>::new();
    for (partition, _, conversion) in &writes.conversions {
        let key = ConversionKey {
            campaign_id: conversion.campaign_id,
            bucket: postern_core::time::bucket(conversion.created_at),
            site_id: &conversion.site_id,
            source: &conversion.source,
            currency: conversion.currency.as_str(),
            status: conversion.status.word(),
            partition: *partition,
        };
        sums.entry(key).or_default().add(1, conversion.revenue);
    }
    for change in &writes.statuses {
        let stored = &change.stored;
        let key = |status: Status| ConversionKey {
            campaign_id: stored.campaign_id,
            bucket: postern_core::time::bucket(stored.created_at),
            site_id: &stored.site_id,
            source: &stored.source,
            currency: stored.currency.as_str(),
            status: status.word(),
            partition: change.partition,
        };
        let revenue = stored.revenue;
        sums.entry(key(change.before)).or_default().add(-1, revenue);
        sums.entry(key(stored.status)).or_default().add(1, revenue);
    }
    sums.retain(|_, sum| *sum != ConversionSum::default());
    sums
}

/// The same without site, source and partition.
pub(crate) fn conversion_totals<'a>(
    sums: &BTreeMap<ConversionKey<'a>, ConversionSum>,
) -> BTreeMap<TotalKey<'a>, Total> {
    let mut totals = BTreeMap::<_, Total>::new();
    for (key, sum) in sums {
        let total = totals
            .entry((key.campaign_id, key.bucket, key.currency))
            .or_default();
        for (of_status, status) in total.iter_mut().zip(Status::ALL) {
            if status.word() == key.status {
                *of_status += *sum;
            }
        }
    }
    totals.retain(|_, total| *total != Total::default());
    totals
}

/// Counts of clicks, by the bucket of their `clicked_at`. Only for clicks that were really
/// inserted: one that the store held before was counted then.
pub(crate) fn clicks<'a>(
    clicks: impl IntoIterator<Item = &'a PlacedClick>,
) -> BTreeMap<ClickKey<'a>, i64> {
    let mut counts = BTreeMap::new();
    for placed in clicks {
        *counts.entry(click_key(placed)).or_default() += 1;
    }
    counts
}

/// The same without site, source and partition: campaign and bucket.
pub(crate) fn click_totals(
    counts: &BTreeMap<ClickKey<'_>, i64>,
) -> BTreeMap<(i64, Timestamp), i64> {
    let mut totals = BTreeMap::new();
    for (key, count) in counts {
        *totals.entry((key.campaign_id, key.bucket)).or_default() += count;
    }
    totals
}

/// The row that a click counts in.
pub(crate) fn click_key(placed: &PlacedClick) -> ClickKey<'_> {
    ClickKey {
        campaign_id: placed.click.campaign_id,
        bucket: postern_core::time::bucket(placed.click.clicked_at),
        site_id: &placed.click.site_id,
        source: &placed.click.source,
        partition: placed.partition,
    }
}
