//! What became of the postbacks: the log, the conversions and the waiting ones are what the
//! records on the topics come to.

use super::evidence::{Conversion, Spoken, Step, Stored};
use super::index::Index;
use super::outlook::{End, Expected};
use super::report::{Fault, Report};
use serde_json::Value;
use std::collections::HashMap;

/// The log has come to what is expected of each postback.
pub(super) fn log(index: &Index<'_>, report: &mut Report) {
    for (id, row) in &index.log {
        if row.change.is_some() && row.first.outcome != "click_not_found" {
            let sentence = format!(
                "a postback that was {} was decided again",
                row.first.outcome
            );
            report.add(Fault::LogDiffers, &[id], sentence);
        }
        if let Some(expected) = index.expected(id) {
            step(id, row.last(), expected, report);
        }
    }
}

fn step(id: &str, step: &Step, expected: &Expected<'_>, report: &mut Report) {
    let wanted = match expected.end {
        End::Open => return,
        End::Converts => ("converted", Some(id), None),
        End::Duplicates(first) => ("duplicate", Some(first), None),
        End::Updates(first, status) => ("updated", Some(first), Some(status)),
        End::Expired => ("click_expired", None, None),
        End::Forbidden => ("forbidden", None, None),
        End::Unknown => ("click_not_found", None, None),
    };
    let (conversion_id, status) = (step.conversion_id.as_deref(), step.status.as_deref());
    let found = (step.outcome.as_str(), conversion_id, status);
    if found != wanted {
        let sentence = format!("the log has come to {found:?}, the topics to {wanted:?}");
        report.add(confused(wanted.0, found.0), &[id], sentence);
        return;
    }
    if step.campaign_id != expected.campaign_id {
        let sentence = format!(
            "the log says campaign {:?}, the click {:?}",
            step.campaign_id, expected.campaign_id
        );
        report.add(Fault::LogDiffers, &[id], sentence);
    }
    // Why a postback waits, or doesn't, is held against the waiting ones.
    if expected.end != End::Unknown && step.why.as_deref() != expected.why {
        let sentence = format!("the log says why: {:?}, not {:?}", step.why, expected.why);
        report.add(Fault::LogDiffers, &[id], sentence);
    }
    let observed = expected.observed.join(",");
    if step.observed.as_deref().unwrap_or_default() != observed {
        let sentence = format!(
            "observed is {:?}, to be seen was {observed:?}",
            step.observed
        );
        report.add(Fault::WrongObserved, &[id], sentence);
    }
}

/// What it is when one outcome is logged in the place of another.
fn confused(wanted: &str, found: &str) -> Fault {
    match (wanted, found) {
        ("forbidden", "converted" | "duplicate" | "updated" | "click_expired") => {
            Fault::ForgedTaken
        }
        ("click_expired", "converted") => Fault::ExpiredTaken,
        (_, "forbidden" | "click_expired") => Fault::WronglyRefused,
        ("updated", "updated" | "duplicate") | ("duplicate", "updated") => Fault::WrongStatus,
        _ => Fault::LogDiffers,
    }
}

/// One conversion per key, that of the first postback, with what the records say.
pub(super) fn conversions(index: &Index<'_>, report: &mut Report) {
    for (id, expected) in &index.outlook.postbacks {
        let is_there = index.conversions.contains_key(id);
        if expected.end == End::Converts && !is_there {
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
    let ids = [
        conversion.conversion_id.as_str(),
        conversion.clickid.as_str(),
    ];
    let (Some(postback), Some(click)) = (index.postbacks.get(ids[0]), index.clicks.get(ids[1]))
    else {
        let sentence = "a conversion without its postback on the topic, or without its click";
        report.add(Fault::ConversionDiffers, &ids, sentence);
        return;
    };
    let expected = index.expected(ids[0]);
    let (fault, sentence) = match expected.map(|one| one.end) {
        None | Some(End::Converts | End::Open) => (None, String::new()),
        Some(End::Duplicates(first) | End::Updates(first, _)) => {
            let sentence = format!("{first} came first in partition order");
            (Some(Fault::NotTheFirst), sentence)
        }
        Some(End::Unknown) => {
            let sentence = "a postback that found no room to wait became a conversion";
            (Some(Fault::NotTheFirst), sentence.to_owned())
        }
        Some(End::Forbidden) => {
            let why = expected.and_then(|one| one.why).unwrap_or_default();
            (
                Some(Fault::ForgedTaken),
                format!("converted in spite of {why}"),
            )
        }
        Some(End::Expired) => {
            let sentence = "converted after the attribution window";
            (Some(Fault::ExpiredTaken), sentence.to_owned())
        }
    };
    if let Some(fault) = fault {
        report.add(fault, &ids, sentence);
    }
    if let Some(version) = expected.and_then(|one| one.version)
        && version != conversion.policy_version
    {
        let has = conversion.policy_version;
        let sentence = format!("the conversion says version {has}, the log {version}");
        report.add(Fault::PolicyVersion, &ids, sentence);
    }
    let policy = index.policy_of(conversion);
    // What has a fault of its own, with what it is and should be.
    for (fault, what, has, wanted) in [
        (
            Fault::WrongTime,
            "created at",
            &conversion.created_at.to_string(),
            &postback.received_at.to_string(),
        ),
        (
            Fault::WrongRevenue,
            "the millionths",
            &conversion.micros.to_string(),
            &postback.micros.to_string(),
        ),
        (
            Fault::WrongCurrency,
            "the currency",
            &conversion.currency,
            &policy.currency(postback).to_owned(),
        ),
        (
            Fault::WrongStatus,
            "the status that it came with",
            &conversion.status.status,
            &policy.first_status(postback).to_owned(),
        ),
        (
            Fault::PolicyVersion,
            "the dedupe policy",
            &conversion.dedupe,
            &policy.dedupe,
        ),
    ] {
        if has != wanted {
            report.add(fault, &ids, format!("{what} is {has}, not {wanted}"));
        }
    }
    let wanted = Conversion {
        status: Spoken {
            at: conversion.created_at,
            id: ids[0].to_owned(),
            status: conversion.status.status.clone(),
        },
        clickid: postback.clickid.clone(),
        event: postback.event.clone().unwrap_or_default(),
        campaign_id: click.campaign_id,
        labels: click.labels.clone(),
        currency_sent: postback.currency_sent,
        external_id: postback.external_id.clone(),
        subids: postback.subids.clone(),
        clicked_at: click.clicked_at.unwrap_or_default(),
        // Compared above.
        ..conversion.clone()
    };
    if *conversion != wanted || stored.partition != postback.place.partition {
        let sentence = format!("stored is {stored:?}, its records say {wanted:?}");
        report.add(Fault::ConversionDiffers, &ids, sentence);
    }
}

/// The waiting postbacks are those that the log calls so, whole.
pub(super) fn waiting(index: &Index<'_>, report: &mut Report) {
    let mut rows = HashMap::new();
    for row in &index.evidence.store.unmatched {
        let id = row.request_id.as_str();
        rows.insert(id, row);
        let waits = index.log.get(id).is_some_and(|logged| {
            logged.change.is_none() && logged.first.why.as_deref() == Some("unmatched")
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
        let waits = row.change.is_none() && row.first.why.as_deref() == Some("unmatched");
        if waits && row.first.outcome == "click_not_found" && !rows.contains_key(id) {
            let sentence = "the log calls a postback unmatched that doesn't wait";
            report.add(Fault::Unmatched, &[id], sentence);
        }
    }
}
