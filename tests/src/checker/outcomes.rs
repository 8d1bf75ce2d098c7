//! What became of the postbacks: the log, the conversions, their events and the waiting ones are
//! what the records on the topics come to.

use super::evidence::{Conversion, Stored};
use super::index::{Expected, Index};
use super::report::{Fault, Report};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// The log has come to what is expected of each postback.
pub(super) fn log(index: &Index<'_>, report: &mut Report) {
    for (id, row) in &index.log {
        if row.change.is_some() && row.outcome != "click_not_found" {
            let sentence = format!("a postback that was {} was decided again", row.outcome);
            report.add(Fault::LogDiffers, &[id], sentence);
        }
        let wanted = match index.expected.get(id) {
            None | Some(Expected::Open) => continue,
            Some(Expected::Converts) => ("converted", Some(*id)),
            Some(Expected::Duplicates(first)) => ("duplicate", Some(*first)),
            Some(Expected::Unknown) => ("click_not_found", None),
        };
        if row.last() != wanted {
            let sentence = format!(
                "the log has come to {:?}, the topics to {wanted:?}",
                row.last()
            );
            report.add(Fault::LogDiffers, &[id], sentence);
        }
    }
}

/// One conversion per key, that of the first postback, with what the records say.
pub(super) fn conversions(index: &Index<'_>, report: &mut Report) {
    for (id, expected) in &index.expected {
        let is_there = index.conversions.contains_key(id);
        if *expected == Expected::Converts && !is_there {
            let clickid = index.postbacks.get(id).map_or("", |one| &one.clickid);
            let sentence = "the first postback of a stored click has no conversion";
            report.add(Fault::ConversionMissing, &[id, clickid], sentence);
        }
    }
    for stored in &index.evidence.store.conversions {
        conversion(stored, index, report);
    }
}

fn conversion(stored: &Stored, index: &Index<'_>, report: &mut Report) {
    let conversion = &stored.conversion;
    let (id, clickid) = (
        conversion.conversion_id.as_str(),
        conversion.clickid.as_str(),
    );
    let (Some(postback), Some(click)) = (index.postbacks.get(id), index.clicks.get(clickid)) else {
        let sentence = "a conversion without its postback on the topic, or without its click";
        report.add(Fault::ConversionDiffers, &[id, clickid], sentence);
        return;
    };
    match index.expected.get(id) {
        Some(Expected::Duplicates(first)) => {
            let sentence = format!("{first} came first in partition order");
            report.add(Fault::NotTheFirst, &[id, clickid], sentence);
        }
        Some(Expected::Unknown) => {
            let sentence = "a postback that found no room to wait became a conversion";
            report.add(Fault::NotTheFirst, &[id, clickid], sentence);
        }
        _ => {}
    }
    if conversion.created_at != postback.received_at {
        let sentence = format!(
            "created_at {} is not the time of receipt {}",
            conversion.created_at, postback.received_at
        );
        report.add(Fault::WrongTime, &[id], sentence);
    }
    if conversion.micros != postback.micros {
        let sentence = format!(
            "{} millionths are stored, {} came",
            conversion.micros, postback.micros
        );
        report.add(Fault::WrongRevenue, &[id], sentence);
    }
    // What is told apart above and what the policy says is not compared again.
    let wanted = Conversion {
        conversion_id: id.to_owned(),
        clickid: postback.clickid.clone(),
        event: conversion.event.clone(),
        campaign_id: click.campaign_id,
        labels: click.labels.clone(),
        micros: conversion.micros,
        currency: postback.currency.clone(),
        currency_sent: postback.currency_sent,
        external_id: postback.external_id.clone(),
        subids: postback.subids.clone(),
        created_at: conversion.created_at,
        clicked_at: click.clicked_at.unwrap_or_default(),
        policy_version: conversion.policy_version,
    };
    if *conversion != wanted || stored.partition != postback.place.partition {
        let sentence = format!("stored is {stored:?}, its records say {wanted:?}");
        report.add(Fault::ConversionDiffers, &[id, clickid], sentence);
    }
}

/// Each conversion was told at least once, as it is, and nothing else was.
pub(super) fn events(index: &Index<'_>, report: &mut Report) {
    let mut told: HashSet<&str> = HashSet::new();
    for event in &index.evidence.topics.events {
        let id = event.conversion_id.as_str();
        told.insert(id);
        match index.conversions.get(id) {
            None => {
                let sentence = "an event without a conversion";
                report.add(Fault::EventDiffers, &[id, &event.clickid], sentence);
            }
            Some(stored) if stored.conversion != *event => {
                let sentence = format!(
                    "the event {event:?} is not its conversion {:?}",
                    stored.conversion
                );
                report.add(Fault::EventDiffers, &[id], sentence);
            }
            Some(_) => {}
        }
    }
    for (id, stored) in &index.conversions {
        if !told.contains(id) {
            let sentence = format!(
                "number {} of partition {} has no event",
                stored.sequence, stored.partition
            );
            report.add(Fault::EventMissing, &[id], sentence);
        }
    }
}

/// The waiting postbacks are those that the log calls so, whole.
pub(super) fn waiting(index: &Index<'_>, report: &mut Report) {
    let mut rows = HashMap::new();
    for row in &index.evidence.store.unmatched {
        let id = row.request_id.as_str();
        rows.insert(id, row);
        let waits = index.log.get(id).is_some_and(|logged| {
            logged.change.is_none() && logged.reason.as_deref() == Some("unmatched")
        });
        if !waits {
            let sentence = "a postback waits that the log doesn't call unmatched";
            report.add(Fault::Unmatched, &[id, &row.clickid], sentence);
        }
        if let Some(postback) = index.postbacks.get(id) {
            let json = |text: &str| serde_json::from_str::<Value>(text).ok();
            if row.place != postback.place
                || row.clickid != postback.clickid
                || json(&row.postback) != json(&postback.value)
            {
                let sentence = "a waiting postback is not what its record says";
                report.add(Fault::Unmatched, &[id, &row.clickid], sentence);
            }
        }
    }
    for (id, row) in &index.log {
        let waits = row.change.is_none() && row.reason.as_deref() == Some("unmatched");
        if waits && row.outcome == "click_not_found" && !rows.contains_key(id) {
            let sentence = "the log calls a postback unmatched that doesn't wait";
            report.add(Fault::Unmatched, &[id], sentence);
        }
    }
}
