//! Counts by campaign, for the campaigns with the most postbacks: series are few, campaigns many.

use postern_core::record::verdict::Outcome;
use postern_runtime::metrics::IntCounterVec;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Campaigns that have series of their own.
const TOP: usize = 50;
/// Campaigns whose postbacks are weighed; further ones count as others until some are forgotten.
const KNOWN: usize = 10_000;
/// A campaign takes the place of another one with so many times its postbacks.
const HEAVIER: u64 = 2;
/// After this, earlier postbacks weigh half.
const HALF_LIFE: Duration = Duration::from_secs(600);
/// The label of all without series of their own.
const OTHER: &str = "other";
/// Of those outcomes that tell their campaign.
const OUTCOMES: [&str; 5] = [
    "converted",
    "duplicate",
    "updated",
    "click_expired",
    "forbidden",
];

/// Counts by campaign and outcome.
pub(crate) type Counts = BTreeMap<(i64, &'static str), u64>;

/// Adds an outcome that has a campaign.
pub(crate) fn add(counts: &mut Counts, outcome: &Outcome) {
    if let Some(campaign) = outcome.campaign_id() {
        *counts.entry((campaign, outcome.word())).or_default() += 1;
    }
}

/// The series; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Campaigns {
    series: IntCounterVec,
    top: Arc<Mutex<Top>>,
}

#[derive(Debug)]
struct Top {
    weights: HashMap<i64, u64>,
    own: BTreeSet<i64>,
    halved: Instant,
}

impl Campaigns {
    pub(crate) fn new(series: IntCounterVec) -> Self {
        for outcome in OUTCOMES {
            series.with_label_values(&[OTHER, outcome]);
        }
        Self {
            series,
            top: Arc::new(Mutex::new(Top {
                weights: HashMap::new(),
                own: BTreeSet::new(),
                halved: Instant::now(),
            })),
        }
    }

    pub(crate) fn count(&self, counts: &Counts) {
        let mut top = self.top.lock().unwrap_or_else(PoisonError::into_inner);
        top.forget(Instant::now());
        for ((campaign, outcome), number) in counts {
            let (own, out) = top.place(*campaign, *number);
            if let Some(out) = out {
                let out = out.to_string();
                for outcome in OUTCOMES {
                    // Not every campaign has had each of them.
                    let _ = self.series.remove_label_values(&[&out, outcome]);
                }
            }
            let campaign = campaign.to_string();
            let label = if own { campaign.as_str() } else { OTHER };
            self.series
                .with_label_values(&[label, outcome])
                .inc_by(*number);
        }
    }
}

impl Top {
    /// Whether the campaign has series of its own, and which one lost them to it.
    fn place(&mut self, campaign: i64, number: u64) -> (bool, Option<i64>) {
        let room = self.weights.len() < KNOWN;
        let weight = match self.weights.get_mut(&campaign) {
            Some(weight) => {
                *weight += number;
                *weight
            }
            None if room => {
                self.weights.insert(campaign, number);
                number
            }
            None => number,
        };
        if self.own.contains(&campaign) {
            return (true, None);
        }
        if self.own.len() < TOP {
            self.own.insert(campaign);
            return (true, None);
        }
        let weigh = |id: &i64| self.weights.get(id).copied().unwrap_or(0);
        let lightest = self.own.iter().copied().min_by_key(|id| weigh(id));
        match lightest {
            Some(lightest) if weight > weigh(&lightest) * HEAVIER => {
                self.own.remove(&lightest);
                self.own.insert(campaign);
                (true, Some(lightest))
            }
            _ => (false, None),
        }
    }

    fn forget(&mut self, now: Instant) {
        while now.saturating_duration_since(self.halved) >= HALF_LIFE {
            self.halved += HALF_LIFE;
            self.weights.retain(|_, weight| {
                *weight /= 2;
                *weight > 0
            });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use postern_runtime::metrics::Metrics;

    fn lines(metrics: &Metrics) -> Vec<String> {
        let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
        let series = text.lines().filter(|line| line.contains("campaign=\""));
        series.map(str::to_owned).collect()
    }

    #[test]
    fn the_largest_have_series_of_their_own_and_no_postback_is_missing() {
        let metrics = Metrics::new("postern").unwrap();
        let series = metrics
            .counters("postbacks_total", "Postbacks.", &["campaign", "outcome"])
            .unwrap();
        let campaigns = Campaigns::new(series);
        let count = |campaign, number| {
            campaigns.count(&Counts::from([((campaign, "converted"), number)]));
        };
        let small = i64::try_from(TOP).unwrap() + 100;
        for campaign in 0..small {
            count(campaign, 2);
        }
        assert_eq!(lines(&metrics).len(), TOP + OUTCOMES.len());
        // It has to be much larger than one that has series.
        count(small - 1, 2);
        let own = |campaign: i64| format!("campaign=\"{campaign}\"");
        let has = |campaign| {
            lines(&metrics)
                .iter()
                .any(|line| line.contains(&own(campaign)))
        };
        assert!(!has(small - 1));
        count(small - 1, 30);
        assert!(has(small - 1));
        assert!(!has(0));
        assert_eq!(lines(&metrics).len(), TOP + OUTCOMES.len());
        let counted: f64 = lines(&metrics)
            .iter()
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
            .sum();
        // But for those of the series that ended, whose counts were read before.
        assert_eq!(counted, (2 * small + 32 - 2) as f64);
    }

    #[test]
    fn old_weight_is_forgotten() {
        let mut top = Top {
            weights: HashMap::from([(1, 5), (2, 1)]),
            own: BTreeSet::from([1]),
            halved: Instant::now(),
        };
        top.forget(top.halved + HALF_LIFE);
        assert_eq!(top.weights, HashMap::from([(1, 2)]));
        top.forget(top.halved + 2 * HALF_LIFE);
        assert!(top.weights.is_empty());
    }
}
