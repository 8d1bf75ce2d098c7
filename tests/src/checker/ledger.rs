//! Sums over everything: statistics to the last millionth, the numbers of the partitions.

use super::evidence::{Evidence, Key, Sum};
use super::exact;
use super::index::present;
use super::report::{Fault, Report};
use std::collections::BTreeMap;

const UNIT: i64 = 1_000_000;

/// A count, and whole units and millionths as one number.
type Total = (i64, i128);

/// Both statistics are what the conversions and the clicks add up to.
pub(super) fn statistics(evidence: &Evidence, report: &mut Report) {
    let present = present(&evidence.store);
    let mut sums: BTreeMap<Key, Total> = BTreeMap::new();
    for stored in &evidence.store.conversions {
        let conversion = &stored.conversion;
        let [site_id, source, ..] = conversion.labels.clone();
        let status = present.get(conversion.conversion_id.as_str());
        let key = Key {
            campaign_id: conversion.campaign_id,
            bucket: exact::quarter(conversion.created_at),
            site_id,
            source,
            currency: Some(conversion.currency.clone()),
            status: status.map(|spoken| spoken.status.clone()),
            partition: stored.partition,
        };
        let sum = sums.entry(key).or_default();
        sum.0 += 1;
        sum.1 += i128::from(conversion.micros);
    }
    let store = &evidence.store;
    compare(
        Fault::ConversionStatistics,
        &sums,
        &store.conversion_stats,
        report,
    );
    let totals = totals(&sums);
    compare(Fault::Totals, &totals, &store.conversion_totals, report);
    let mut sums: BTreeMap<Key, Total> = BTreeMap::new();
    for click in &evidence.store.clicks {
        let [site_id, source, ..] = click.labels.clone();
        let key = Key {
            campaign_id: click.campaign_id,
            bucket: exact::quarter(click.clicked_at.unwrap_or_default()),
            site_id,
            source,
            currency: None,
            status: None,
            partition: click.place.partition,
        };
        sums.entry(key).or_default().0 += 1;
    }
    compare(Fault::ClickStatistics, &sums, &store.click_stats, report);
    let totals = self::totals(&sums);
    compare(Fault::Totals, &totals, &store.click_totals, report);
}

/// The same without site, source and partition.
fn totals(sums: &BTreeMap<Key, Total>) -> BTreeMap<Key, Total> {
    let mut totals: BTreeMap<Key, Total> = BTreeMap::new();
    for (key, (count, micros)) in sums {
        let total = totals.entry(key.total()).or_default();
        total.0 += count;
        total.1 += micros;
    }
    totals
}

fn compare(fault: Fault, sums: &BTreeMap<Key, Total>, kept: &[Sum], report: &mut Report) {
    let mut rows: BTreeMap<&Key, Total> = BTreeMap::new();
    for row in kept {
        let total = i128::from(row.whole) * i128::from(UNIT) + i128::from(row.micros);
        if rows.insert(&row.key, (row.count, total)).is_some() {
            report.add(fault, &[&named(&row.key)], "a row stands twice");
        }
    }
    for (key, sum) in sums {
        let row = rows.remove(key).unwrap_or_default();
        if row != *sum {
            let sentence = format!("the statistics have {row:?}, the rows add up to {sum:?}");
            report.add(fault, &[&named(key)], sentence);
        }
    }
    for (key, row) in rows.into_iter().filter(|(_, row)| *row != (0, 0)) {
        let sentence = format!("the statistics have {row:?} where nothing is stored");
        report.add(fault, &[&named(key)], sentence);
    }
}

fn named(key: &Key) -> String {
    let kind = match (&key.currency, &key.status) {
        (Some(currency), Some(status)) => format!("{currency} {status}"),
        _ => "clicks".to_owned(),
    };
    format!(
        "campaign {} from {} site {:?} source {:?} {kind} partition {}",
        key.campaign_id,
        exact::printed(key.bucket),
        key.site_id,
        key.source,
        key.partition
    )
}

/// Each partition's conversions and changes of statuses are numbered together, without gaps up to
/// its sequence, and it counts its waiting postbacks.
pub(super) fn partitions(evidence: &Evidence, report: &mut Report) {
    let store = &evidence.store;
    let mut numbers: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for stored in &store.conversions {
        numbers
            .entry(stored.partition)
            .or_default()
            .push(stored.sequence);
    }
    for statement in &store.statements {
        if let Some(sequence) = statement.sequence {
            let numbers = numbers.entry(statement.partition).or_default();
            numbers.push(sequence);
        }
    }
    let mut waiting: BTreeMap<i64, i64> = BTreeMap::new();
    for row in &store.unmatched {
        *waiting.entry(row.place.partition).or_default() += 1;
    }
    for row in &store.partitions {
        let name = format!("partition {}", row.partition);
        let mut numbers = numbers.remove(&row.partition).unwrap_or_default();
        numbers.sort_unstable();
        let count = i64::try_from(numbers.len()).unwrap_or(i64::MAX);
        if row.sequence != count {
            let sentence = format!(
                "the sequence is {}, conversions and changes are {count}",
                row.sequence
            );
            report.add(Fault::Sequence, &[&name], sentence);
        }
        let odd = numbers.iter().zip(1..).find(|(have, want)| **have != *want);
        if let Some((have, want)) = odd {
            let sentence = format!("where {want} should be stands {have}");
            report.add(Fault::Sequence, &[&name], sentence);
        }
        let waiting = waiting.remove(&row.partition).unwrap_or(0);
        if row.unmatched != waiting {
            let sentence = format!(
                "it counts {} waiting postbacks, there are {waiting}",
                row.unmatched
            );
            report.add(Fault::Unmatched, &[&name], sentence);
        }
    }
    for partition in numbers.keys().chain(waiting.keys()) {
        let sentence = "conversions or waiting postbacks of a partition without a row";
        report.add(
            Fault::Sequence,
            &[&format!("partition {partition}")],
            sentence,
        );
    }
}
