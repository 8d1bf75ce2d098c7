//! The decision: what becomes of a batch of clicks and postbacks of one partition.
//!
//! A pure function of the records and of the state that was committed before them. It is what
//! makes a redelivery harmless and an answer true, so it knows neither clock nor database.

mod checks;
mod state;
#[cfg(test)]
mod tests;

pub use state::{
    Change, Known, LogEntry, PartitionState, PlacedClick, PlacedPostback, StatusChange, Stored,
    Unmatched, View, Writes,
};

use crate::campaign::Campaign;
use crate::ids::{ClickId, RequestId};
use crate::record::click::Click;
use crate::record::conversion::Conversion;
use crate::record::postback::Postback;
use crate::record::verdict::{Outcome, Verdict};
use std::collections::HashSet;
use std::sync::Arc;

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

/// The limits on what waits for a click, in the order in which they are looked at: of an address,
/// of a clickid, of a partition.
pub const UNMATCHED_LIMITS: [&str; 3] = ["per_address", "per_click", "per_partition"];

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
    /// as `click_not_found`, but a late click won't find them. By [`UNMATCHED_LIMITS`].
    pub unmatched_dropped: [u64; UNMATCHED_LIMITS.len()],
    /// Status words that the map doesn't have; they were taken as the campaign's default.
    pub unknown_statuses: Vec<UnknownStatus>,
}

/// A status word that nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownStatus {
    /// The postback that brought it.
    pub request_id: RequestId,
    /// Its campaign.
    pub campaign_id: i64,
    /// The word.
    pub word: String,
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
            if !first.is_same(click) {
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
            let Some(decision) = self.resolve(&unmatched.postback) else {
                // The click is there.
                continue;
            };
            self.view.known.insert(request_id, decision.known.clone());
            self.out.writes.changes.push(Change {
                request_id,
                received_at: unmatched.postback.received_at,
                known: decision.known,
                reason: "late_click",
                detail: decision.reason,
                observed: decision.observed,
            });
            self.out.writes.unmatched_removed.push(request_id);
            self.state.unmatched -= 1;
        }
    }

    fn postback(&mut self, placed: PlacedPostback) {
        self.state.postbacks = placed.offset + 1;
        let postback = placed.postback;
        let request_id = postback.request_id;
        if let Some(known) = self.view.known.get(&request_id).cloned() {
            // A redelivery or a spooled resend: nothing changes, the answer is the same.
            let outcome = if postback.replayed {
                self.again(&postback, known)
            } else {
                known.outcome
            };
            self.out.verdicts.push(Verdict {
                request_id,
                outcome,
            });
            return;
        }
        if postback.replayed && self.view.refused.remove(&request_id) {
            self.out.writes.unrefused.push(request_id);
        }
        let decision = match self.resolve(&postback) {
            Some(decision) => decision,
            None => Decision {
                known: Known {
                    outcome: Outcome::ClickNotFound,
                    conversion_id: None,
                    policy_version: 0,
                },
                reason: Some(self.keep_unmatched(&postback, placed.offset)),
                observed: Vec::new(),
            },
        };
        self.out.verdicts.push(Verdict {
            request_id,
            outcome: decision.known.outcome.clone(),
        });
        self.view.known.insert(request_id, decision.known.clone());
        self.out.writes.log.push(LogEntry {
            partition: self.state.partition,
            offset: placed.offset,
            postback,
            known: decision.known,
            reason: decision.reason,
            observed: decision.observed,
        });
    }

    /// A postback that was decided before, and that an operator sent once more: settings or clicks
    /// may have come meanwhile. What it made of a conversion stays.
    fn again(&mut self, postback: &Postback, known: Known) -> Outcome {
        if matches!(
            known.outcome,
            Outcome::Converted { .. } | Outcome::Updated { .. }
        ) {
            return known.outcome;
        }
        let Some(decision) = self.resolve(postback) else {
            // Its click is still missing; where it waits, it waits on.
            return known.outcome;
        };
        self.wait_no_longer(postback);
        let outcome = decision.known.outcome.clone();
        if outcome == known.outcome && decision.known.conversion_id == known.conversion_id {
            return outcome;
        }
        let request_id = postback.request_id;
        self.view.known.insert(request_id, decision.known.clone());
        self.out.writes.changes.push(Change {
            request_id,
            received_at: postback.received_at,
            known: decision.known,
            reason: "replay",
            detail: decision.reason,
            observed: decision.observed,
        });
        outcome
    }

    /// Its click was there all the time, in a partition where nobody looks for those that wait.
    fn wait_no_longer(&mut self, postback: &Postback) {
        let Some(waiting) = self.view.unmatched.get_mut(&postback.clickid) else {
            return;
        };
        let before = waiting.len();
        waiting.retain(|one| one.postback.request_id != postback.request_id);
        if waiting.len() < before {
            self.out.writes.unmatched_removed.push(postback.request_id);
            self.state.unmatched -= 1;
        }
    }

    /// What becomes of a postback that wasn't decided before; `None` where its click is missing.
    ///
    /// Who may not speak is not told what is stored; what is stored comes before the click's age:
    /// a retry of what was paid is a duplicate, however late.
    fn resolve(&mut self, postback: &Postback) -> Option<Decision> {
        let campaign = self.view.campaign_of(postback)?;
        let mut observed = Vec::new();
        let decided = |outcome, conversion_id| Known {
            outcome,
            conversion_id,
            policy_version: campaign.version,
        };
        if let Some(reason) = checks::forgery(&campaign, postback, &mut observed) {
            let outcome = Outcome::Forbidden {
                campaign_id: campaign.campaign_id,
                reason,
            };
            return Some(Decision {
                known: decided(outcome, None),
                reason: Some(reason.word()),
                observed,
            });
        }
        if let Some(index) = self.view.same(&campaign, postback) {
            let (outcome, conversion_id, reason) = self.repeat(&campaign, postback, index)?;
            return Some(Decision {
                known: decided(outcome, Some(conversion_id)),
                reason,
                observed,
            });
        }
        let click = self.view.clicks.get(&postback.clickid)?;
        if checks::is_expired(&campaign, postback, click, &mut observed) {
            let outcome = Outcome::ClickExpired {
                campaign_id: campaign.campaign_id,
            };
            return Some(Decision {
                known: decided(outcome, None),
                reason: None,
                observed,
            });
        }
        let conversion = Conversion::of(postback, click, &campaign);
        let outcome = Outcome::Converted {
            campaign_id: conversion.campaign_id,
            revenue: conversion.revenue,
            currency: conversion.currency.clone(),
            created_at: conversion.created_at,
        };
        self.note_unknown_status(&campaign, postback);
        let conversion_id = self.store(conversion);
        Some(Decision {
            known: decided(outcome, Some(conversion_id)),
            reason: None,
            observed,
        })
    }

    /// The postback is about a conversion that is there: it changes its status, or nothing.
    ///
    /// A postback that names no status says nothing about it. The latest by receive time, then
    /// by request id, holds, so one that was held up on its way undoes nothing.
    fn repeat(
        &mut self,
        campaign: &Campaign,
        postback: &Postback,
        index: usize,
    ) -> Option<(Outcome, RequestId, Option<&'static str>)> {
        self.note_unknown_status(campaign, postback);
        let stored = self.view.conversions.get_mut(&postback.clickid)?;
        let stored = stored.get_mut(index)?;
        let id = stored.conversion_id;
        let said = match &postback.status {
            Some(said) if campaign.settings.statuses => {
                said.status.unwrap_or(campaign.settings.default_status)
            }
            _ => return Some((stored.as_duplicate(), id, None)),
        };
        let before = stored.status;
        if (postback.received_at, postback.request_id) <= (stored.status_at, stored.status_id) {
            let reason = (said != before).then_some("superseded");
            return Some((stored.as_duplicate(), id, reason));
        }
        stored.status = said;
        stored.status_at = postback.received_at;
        stored.status_id = postback.request_id;
        let changed = said != before;
        if changed {
            self.state.sequence += 1;
        }
        self.out.writes.statuses.push(StatusChange {
            partition: self.state.partition,
            sequence: changed.then_some(self.state.sequence),
            stored: stored.clone(),
            before,
            policy_version: campaign.version,
        });
        let outcome = if changed {
            stored.as_updated()
        } else {
            stored.as_duplicate()
        };
        Some((outcome, id, None))
    }

    fn note_unknown_status(&mut self, campaign: &Campaign, postback: &Postback) {
        if campaign.settings.statuses
            && let Some(said) = &postback.status
            && said.status.is_none()
        {
            self.out.unknown_statuses.push(UnknownStatus {
                request_id: postback.request_id,
                campaign_id: campaign.campaign_id,
                word: said.word.clone(),
            });
        }
    }

    /// Takes a new conversion in; gives its id.
    fn store(&mut self, conversion: Conversion) -> RequestId {
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
        conversion_id
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
        let reached = [
            !postback.may_wait,
            here >= self.limits.unmatched_per_click,
            self.state.unmatched >= self.limits.unmatched_per_partition,
        ];
        if let Some(limit) = reached.iter().position(|reached| *reached) {
            self.out.unmatched_dropped[limit] += 1;
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

/// What a postback comes to.
struct Decision {
    known: Known,
    reason: Option<&'static str>,
    observed: Vec<&'static str>,
}

impl View {
    /// The campaign that `postback` belongs to: its click's, or that of the conversions that
    /// outlived their click. `None` where neither is there.
    fn campaign_of(&self, postback: &Postback) -> Option<Arc<Campaign>> {
        let click = self.clicks.get(&postback.clickid);
        let campaign_id = click.map(|click| click.campaign_id).or_else(|| {
            let stored = self.conversions.get(&postback.clickid)?;
            Some(stored.first()?.campaign_id)
        })?;
        Some(match self.campaigns.get(&campaign_id) {
            Some(campaign) => campaign.clone(),
            // Nobody set it.
            None => Arc::new(Campaign {
                campaign_id,
                ..Campaign::default()
            }),
        })
    }

    /// Which of the clickid's conversions `postback` is about: of several, which a change of the
    /// policy can leave, the one with its event and external id, else the first.
    fn same(&self, campaign: &Campaign, postback: &Postback) -> Option<usize> {
        let stored = self.conversions.get(&postback.clickid)?;
        let (event, external) = (postback.event_key(), postback.external_key());
        let exact = |one: &Stored| one.event_key == event && one.external_key == external;
        let dedupe = campaign.settings.dedupe;
        stored.iter().position(exact).or_else(|| {
            stored
                .iter()
                .position(|one| one.is_same(dedupe, event, external))
        })
    }

    /// Whether nothing can be said of `postback` without its click.
    fn lacks_click(&self, postback: &Postback) -> bool {
        !self.clicks.contains_key(&postback.clickid)
            && self
                .campaign_of(postback)
                .is_none_or(|campaign| self.same(&campaign, postback).is_none())
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
                && !fresh.contains(&postback.clickid)
                && view.lacks_click(postback)
        })
        .filter(|postback| seen.insert(&postback.clickid))
        .map(|postback| postback.clickid.clone())
        .collect()
}
