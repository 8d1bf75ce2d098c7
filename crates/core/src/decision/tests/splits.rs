//! However two logs are cut into batches, they come to the same.

use super::model::{Cell, statistics};
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};

#[derive(Clone, Debug)]
enum Event {
    Click(Click),
    Postback(Box<Postback>),
}

/// Both logs of one partition, and for each postback how many clicks were published before it.
#[derive(Clone, Debug, Default)]
struct Logs {
    clicks: Vec<Click>,
    postbacks: Vec<Postback>,
    before: Vec<usize>,
}

impl Logs {
    fn of(events: &[Event]) -> Self {
        let mut logs = Self::default();
        for event in events {
            match event {
                Event::Click(click) => logs.clicks.push(click.clone()),
                Event::Postback(postback) => {
                    logs.postbacks.push(postback.as_ref().clone());
                    logs.before.push(logs.clicks.len());
                }
            }
        }
        logs
    }
}

/// What must not depend on the cut.
#[derive(Debug, PartialEq)]
struct End {
    conversions: BTreeMap<RequestId, Conversion>,
    statistics: BTreeMap<Cell, (u64, u64, i64)>,
    outcomes: BTreeMap<RequestId, Known>,
    waiting: BTreeSet<RequestId>,
}

fn end(store: &Store) -> End {
    let waiting = store.unmatched.iter().map(|one| one.postback.request_id);
    End {
        conversions: store.converted(),
        statistics: store.statistics(),
        outcomes: store.outcomes(),
        waiting: waiting.collect(),
    }
}

/// The rules said another way, with both logs at hand: the first click of an id, and of the
/// postbacks with one dedupe key the first.
fn expected(logs: &Logs) -> End {
    let policies: HashMap<i64, Policy> = POLICIES.into_iter().collect();
    let mut clicks: HashMap<&ClickId, &Click> = HashMap::new();
    for click in &logs.clicks {
        clicks.entry(&click.clickid).or_insert(click);
    }
    let mut firsts: HashMap<(&ClickId, &str), Conversion> = HashMap::new();
    let mut outcomes = BTreeMap::new();
    let mut waiting = BTreeSet::new();
    for postback in &logs.postbacks {
        let id = postback.request_id;
        if outcomes.contains_key(&id) {
            continue;
        }
        let Some(click) = clicks.get(&postback.clickid) else {
            waiting.insert(id);
            let known = Known {
                outcome: Outcome::ClickNotFound,
                conversion_id: None,
                policy_version: 0,
            };
            outcomes.insert(id, known);
            continue;
        };
        let policy = policies
            .get(&click.campaign_id)
            .copied()
            .unwrap_or_default();
        let key = match policy.dedupe {
            Dedupe::Click => "",
            Dedupe::Txid => postback.external_id.as_deref().unwrap_or(""),
        };
        let stored = firsts.entry((&postback.clickid, key));
        let stored = stored.or_insert_with(|| Conversion::of(postback, click, policy.version));
        let (campaign_id, revenue) = (stored.campaign_id, stored.revenue);
        let currency = stored.currency.clone();
        let outcome = if stored.conversion_id == id {
            Outcome::Converted {
                campaign_id,
                revenue,
                currency,
                created_at: postback.received_at,
            }
        } else {
            Outcome::Duplicate {
                campaign_id,
                revenue,
                currency,
            }
        };
        let known = Known {
            outcome,
            conversion_id: Some(stored.conversion_id),
            policy_version: policy.version,
        };
        outcomes.insert(id, known);
    }
    let conversions: BTreeMap<_, _> = firsts
        .into_values()
        .map(|conversion| (conversion.conversion_id, conversion))
        .collect();
    End {
        statistics: statistics(clicks.into_values(), conversions.values()),
        conversions,
        outcomes,
        waiting,
    }
}

/// Takes up to so many clicks and postbacks per batch, over and over, until both logs are read.
/// With `barrier` a batch with an unknown click reads on through every click that was published
/// before its last postback, as the consumer does.
fn run(logs: &Logs, cuts: &[(usize, usize)], limits: Limits, barrier: bool) -> Store {
    let mut store = store();
    store.limits = limits;
    let (mut clicks, mut postbacks) = (0, 0);
    let mut cuts = cuts.iter().cycle();
    while clicks < logs.clicks.len() || postbacks < logs.postbacks.len() {
        let (more_clicks, more_postbacks) = cuts.next().unwrap();
        let mut clicks_to = (clicks + more_clicks).min(logs.clicks.len());
        let postbacks_to = (postbacks + more_postbacks).min(logs.postbacks.len());
        let part = &logs.postbacks[postbacks..postbacks_to];
        if barrier && !part.is_empty() {
            let fresh = placed_clicks(&store.state, &logs.clicks[clicks..clicks_to]);
            let placed = placed_postbacks(&store.state, part);
            let view = store.view(&fresh, &placed);
            if !unresolved(&view, &fresh, &placed).is_empty() {
                clicks_to = clicks_to.max(logs.before[postbacks_to - 1]);
            }
        }
        store.batch(&logs.clicks[clicks..clicks_to], part);
        (clicks, postbacks) = (clicks_to, postbacks_to);
    }
    store
}

/// No postback is told that its click is unknown where that was published before it, and of all
/// postbacks with one key at most one is told that it is the conversion.
fn answers_are_true(logs: &Logs, store: &Store) -> Result<(), TestCaseError> {
    let mut received = HashMap::new();
    let mut converted = HashMap::new();
    for ((postback, before), verdict) in
        logs.postbacks.iter().zip(&logs.before).zip(&store.verdicts)
    {
        // A redelivered postback was received when its first record was.
        let before = *received.entry(postback.request_id).or_insert(*before);
        let published = logs.clicks[..before]
            .iter()
            .any(|click| click.clickid == postback.clickid);
        match &verdict.outcome {
            Outcome::ClickNotFound => prop_assert!(!published, "false: {:?}", postback),
            Outcome::Converted { campaign_id, .. } => {
                let key = if *campaign_id == TXID {
                    postback.external_key()
                } else {
                    ""
                };
                let by = converted
                    .entry((&postback.clickid, key))
                    .or_insert(postback.request_id);
                prop_assert_eq!(*by, postback.request_id);
            }
            Outcome::Duplicate { .. } => {}
        }
    }
    Ok(())
}

/// Few clickids, so that they meet; a number stands for one postback, so that some come twice.
fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0..5_u32, PLAIN..=TXID, 0..40_u32).prop_map(|(name, campaign, minute)| {
            // Mostly the same click again, sometimes one that conflicts.
            let campaign = if minute < 30 { i64::from(name) % 3 + 1 } else { campaign };
            Event::Click(click(&format!("c{name}"), campaign, minute % 3 * 20))
        }),
        3 => (0..24_u32).prop_map(|number| {
            let txid = [None, Some("x"), Some("y"), Some("")][(number / 5 % 4) as usize];
            let txid = txid.filter(|txid| !txid.is_empty());
            let revenue = format!("{}.5", number % 7);
            Event::Postback(Box::new(postback(number, &format!("c{}", number % 5), &revenue, txid)))
        }),
    ]
}

fn cuts() -> impl Strategy<Value = Vec<(usize, usize)>> {
    proptest::collection::vec((0..5_usize, 0..5_usize), 1..8)
        .prop_filter("moves in both logs", |cuts| {
            cuts.iter().any(|cut| cut.0 > 0) && cuts.iter().any(|cut| cut.1 > 0)
        })
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(500)
    })]

    #[test]
    fn any_split_comes_to_the_same(
        events in proptest::collection::vec(event(), 0..40),
        splits in proptest::collection::vec(cuts(), 4),
    ) {
        let logs = Logs::of(&events);
        let expected = expected(&logs);
        let all = vec![(usize::MAX / 2, usize::MAX / 2)];
        let single = vec![(1, 0), (0, 1)];
        let clicks_last = vec![(0, 1000), (1000, 0)];
        for cuts in splits.iter().chain([&all, &single, &clicks_last]) {
            for barrier in [true, false] {
                let store = run(&logs, cuts, Limits::default(), barrier);
                prop_assert_eq!(&end(&store), &expected, "{:?} {}", cuts, barrier);
                if barrier {
                    answers_are_true(&logs, &store)?;
                }
            }
        }
    }

    /// Where no room is left the cut decides what waits, but never more than the limits, and
    /// never what an answer promised.
    #[test]
    fn limits_hold_under_any_split(
        events in proptest::collection::vec(event(), 0..40),
        cuts in cuts(),
        (unmatched_per_click, unmatched_per_partition) in (0..3_usize, 0..5_i64),
    ) {
        let logs = Logs::of(&events);
        let limits = Limits { unmatched_per_click, unmatched_per_partition };
        let store = run(&logs, &cuts, limits, true);
        answers_are_true(&logs, &store)?;
        let mut waiting: HashMap<&ClickId, usize> = HashMap::new();
        for one in &store.unmatched {
            *waiting.entry(&one.postback.clickid).or_default() += 1;
        }
        prop_assert!(waiting.values().all(|count| *count <= unmatched_per_click));
        prop_assert!(store.state.unmatched <= unmatched_per_partition);
        let full = store.log.iter().filter(|entry| entry.reason == Some("unmatched_full"));
        prop_assert_eq!(full.count() as u64, store.dropped);
    }
}

/// All cuts there are, of logs in which everything meets: a conflict, a redelivery, both
/// policies, a late click.
#[test]
fn every_split_comes_to_the_same() {
    let logs = Logs::of(&[
        Event::Postback(Box::new(postback(9, "a", "1", None))),
        Event::Click(click("b", TXID, 0)),
        Event::Postback(Box::new(postback(2, "b", "2", Some("x")))),
        Event::Postback(Box::new(postback(9, "a", "1", None))),
        Event::Click(click("a", CLICK, 1)),
        Event::Click(click("a", TXID, 2)),
        Event::Postback(Box::new(postback(3, "a", "3", Some("x")))),
        Event::Postback(Box::new(postback(4, "b", "4", None))),
    ]);
    let expected = expected(&logs);
    let mut leaves = 0;
    let mut open = vec![(store(), 0, 0)];
    while let Some((store, clicks, postbacks)) = open.pop() {
        if (clicks, postbacks) == (logs.clicks.len(), logs.postbacks.len()) {
            assert_eq!(end(&store), expected);
            leaves += 1;
        }
        for clicks_to in clicks..=logs.clicks.len() {
            for postbacks_to in postbacks..=logs.postbacks.len() {
                if (clicks_to, postbacks_to) != (clicks, postbacks) {
                    let mut next = store.clone();
                    next.batch(
                        &logs.clicks[clicks..clicks_to],
                        &logs.postbacks[postbacks..postbacks_to],
                    );
                    open.push((next, clicks_to, postbacks_to));
                }
            }
        }
    }
    // The ordered ways of writing (3, 5) as a sum of pairs other than (0, 0).
    assert_eq!(leaves, 2208);
}
