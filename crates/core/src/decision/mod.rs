//! The decision: what becomes of a batch of clicks and postbacks of one partition.
//!
//! A pure function of the records and of the state that was committed before them. It is what
//! makes a redelivery harmless and an answer true, so it knows neither clock nor database.

mod state;
#[cfg(test)]
mod tests;

pub use state::{
    Change, Dedupe, Known, LogEntry, PartitionState, PlacedClick, PlacedPostback, Policy, Stored,
    Unmatched, View, Writes,
};

use crate::ids::{ClickId, RequestId};
use crate::record::click::Click;
use crate::record::conversion::Conversion;
use crate::record::postback::Postback;
use crate::record::verdict::{Outcome, Verdict};
use std::collections::HashSet;

/// How many postbacks of one clickid, and of one partition, are kept until their click comes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Per clickid.
    pub unmatched_per_click: usize,
    /// Per partition.
    pub unmatched_per_partition: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unmatched_per_click: 16,
            unmatched_per_partition: 100_000,
        }
    }
}

/// What one partition's part of a batch comes to.
#[derive(Clone, Debug, Default)]
pub struct Decided {
    /// What is to be written, all of it or nothing.
    pub writes: Writes,
    /// One per postback, in order.
    pub verdicts: Vec<Verdict>,
    /// Clicks that differ from the one that came first; they go to the rejects.
    pub conflicting_clicks: Vec<PlacedClick>,
    /// Postbacks whose click is unknown and for which no room was left: they stay in the log
    /// as `click_not_found`, but a late click won't find them.
    pub unmatched_dropped: u64,
}

/// Decides `clicks` and `postbacks` of the partition that `state` stands for.
///
/// Clicks go first: a postback that shares the batch with its click finds it. `view` must hold
/// what the store knows of every clickid and request id in the batch; it is updated, so that
/// partitions of one batch can share it.
pub fn decide(
    state: &mut PartitionState,
    clicks: Vec<PlacedClick>,
    postbacks: Vec<PlacedPostback>,
    view: &mut View,
    limits: &Limits,
) -> Decided {
    let mut decided = Decided::default();
    let mut turn = Turn {
        state,
        view,
        limits,
        out: &mut decided,
    };
    for click in clicks {
        turn.click(click);
    }
    for postback in postbacks {
        turn.postback(postback);
    }
    decided
}

struct Turn<'a> {
    state: &'a mut PartitionState,
    view: &'a mut View,
    limits: &'a Limits,
    out: &'a mut Decided,
}

impl Turn<'_> {
    fn click(&mut self, placed: PlacedClick) {
        self.state.clicks = placed.offset + 1;
        let click = &placed.click;
        if let Some(first) = self.view.clicks.get(&click.clickid) {
            if first != click {
                self.out.conflicting_clicks.push(placed);
            }
            return;
        }
        self.view
            .clicks
            .insert(click.clickid.clone(), click.clone());
        self.heal(click);
        self.out.writes.clicks.push(placed);
    }

    /// A late click: the postbacks that waited for it are decided again, in partition order.
    fn heal(&mut self, click: &Click) {
        let Some(waiting) = self.view.unmatched.remove(&click.clickid) else {
            return;
        };
        // Those of another partition are its owner's: their click was put where it doesn't belong.
        let here = self.state.partition;
        let (mut waiting, others): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|unmatched| unmatched.partition == here);
        if !others.is_empty() {
            self.view.unmatched.insert(click.clickid.clone(), others);
        }
        waiting.sort_by_key(|unmatched| unmatched.offset);
        for unmatched in waiting {
            let request_id = unmatched.postback.request_id;
            let (outcome, conversion) = self.resolve(&unmatched.postback, click);
            let known = Known {
                conversion_id: self.settle(conversion, &unmatched.postback),
                policy_version: self.view.policy(click.campaign_id).version,
                outcome,
            };
            self.view.known.insert(request_id, known.clone());
            self.out.writes.changes.push(Change {
                request_id,
                known,
                reason: "late_click",
            });
            self.out.writes.unmatched_removed.push(request_id);
            self.state.unmatched -= 1;
        }
    }

    fn postback(&mut self, placed: PlacedPostback) {
        self.state.postbacks = placed.offset + 1;
        let postback = placed.postback;
        let request_id = postback.request_id;
        if let Some(known) = self.view.known.get(&request_id) {
            // A redelivery or a spooled resend: nothing changes, the answer is the same.
            self.out.verdicts.push(Verdict {
                request_id,
                outcome: known.outcome.clone(),
            });
            return;
        }
        let mut reason = None;
        let known = match self.lookup(&postback) {
            Found::Duplicate(stored) => Known {
                policy_version: self.view.policy(stored.campaign_id).version,
                conversion_id: Some(stored.conversion_id),
                outcome: stored.as_duplicate(),
            },
            Found::Click(click) => {
                let (outcome, conversion) = self.resolve(&postback, &click);
                Known {
                    policy_version: self.view.policy(click.campaign_id).version,
                    conversion_id: self.settle(conversion, &postback),
                    outcome,
                }
            }
            Found::Nothing => {
                reason = Some(self.keep_unmatched(&postback, placed.offset));
                Known {
                    outcome: Outcome::ClickNotFound,
                    conversion_id: None,
                    policy_version: 0,
                }
            }
        };
        self.out.verdicts.push(Verdict {
            request_id,
            outcome: known.outcome.clone(),
        });
        self.view.known.insert(request_id, known.clone());
        self.out.writes.log.push(LogEntry {
            partition: self.state.partition,
            offset: placed.offset,
            postback,
            known,
            reason,
        });
    }

    /// Conversions are looked up before clicks: an expired click doesn't turn a duplicate into
    /// an unknown one.
    fn lookup(&self, postback: &Postback) -> Found {
        if let Some(stored) = self.view.duplicate_of(postback) {
            return Found::Duplicate(stored.clone());
        }
        match self.view.clicks.get(&postback.clickid) {
            Some(click) => Found::Click(Box::new(click.clone())),
            None => Found::Nothing,
        }
    }

    fn resolve(&self, postback: &Postback, click: &Click) -> (Outcome, Option<Conversion>) {
        if let Some(stored) = self.view.duplicate_of(postback) {
            return (stored.as_duplicate(), None);
        }
        let conversion =
            Conversion::of(postback, click, self.view.policy(click.campaign_id).version);
        let outcome = Outcome::Converted {
            campaign_id: conversion.campaign_id,
            revenue: conversion.revenue,
            currency: conversion.currency.clone(),
            created_at: conversion.created_at,
        };
        (outcome, Some(conversion))
    }

    /// Takes a new conversion in; gives the id of the conversion that the outcome speaks of.
    fn settle(&mut self, conversion: Option<Conversion>, postback: &Postback) -> Option<RequestId> {
        let Some(conversion) = conversion else {
            return self
                .view
                .duplicate_of(postback)
                .map(|stored| stored.conversion_id);
        };
        let conversion_id = conversion.conversion_id;
        self.state.sequence += 1;
        self.view
            .conversions
            .entry(conversion.clickid.clone())
            .or_default()
            .push(Stored::from(&conversion));
        self.out
            .writes
            .conversions
            .push((self.state.partition, self.state.sequence, conversion));
        Some(conversion_id)
    }

    fn keep_unmatched(&mut self, postback: &Postback, offset: i64) -> &'static str {
        let waiting = self
            .view
            .unmatched
            .entry(postback.clickid.clone())
            .or_default();
        let here = waiting.len()
            + self
                .view
                .unmatched_counts
                .get(&postback.clickid)
                .copied()
                .unwrap_or(0);
        if here >= self.limits.unmatched_per_click
            || self.state.unmatched >= self.limits.unmatched_per_partition
        {
            self.out.unmatched_dropped += 1;
            return "unmatched_full";
        }
        let unmatched = Unmatched {
            partition: self.state.partition,
            offset,
            postback: postback.clone(),
        };
        waiting.push(unmatched.clone());
        self.state.unmatched += 1;
        self.out.writes.unmatched_added.push(unmatched);
        "unmatched"
    }
}

enum Found {
    Duplicate(Stored),
    Click(Box<Click>),
    Nothing,
}

impl View {
    fn policy(&self, campaign_id: i64) -> Policy {
        self.policies.get(&campaign_id).copied().unwrap_or_default()
    }

    /// The stored conversion that makes `postback` a duplicate.
    fn duplicate_of(&self, postback: &Postback) -> Option<&Stored> {
        let stored = self.conversions.get(&postback.clickid)?;
        let first = stored.first()?;
        match self.policy(first.campaign_id).dedupe {
            Dedupe::Click => Some(first),
            Dedupe::Txid => stored
                .iter()
                .find(|one| one.external_key == postback.external_key()),
        }
    }
}

/// The clickids of `postbacks` that neither the view nor the batch's own clicks know: those
/// that need a barrier before anyone may say `click_not_found`.
#[must_use]
pub fn unresolved(
    view: &View,
    clicks: &[PlacedClick],
    postbacks: &[PlacedPostback],
) -> Vec<ClickId> {
    let fresh: HashSet<&ClickId> = clicks.iter().map(|placed| &placed.click.clickid).collect();
    let mut seen = HashSet::new();
    postbacks
        .iter()
        .map(|placed| &placed.postback)
        .filter(|postback| {
            !view.known.contains_key(&postback.request_id)
                && !view.clicks.contains_key(&postback.clickid)
                && view.duplicate_of(postback).is_none()
                && !fresh.contains(&postback.clickid)
        })
        .filter(|postback| seen.insert(&postback.clickid))
        .map(|postback| postback.clickid.clone())
        .collect()
}
