//! Postbacks that an operator sends once more.

use super::memory::HERE;
use super::*;

fn again(mut postback: Postback) -> Postback {
    postback.replayed = true;
    postback
}

fn change(store: &mut Store, campaign: i64, change: impl Fn(&mut Campaign)) {
    let mut changed = Campaign::clone(&store.campaigns[&campaign]);
    changed.version += 1;
    change(&mut changed);
    store.campaigns.insert(campaign, Arc::new(changed));
}

/// What each later step of a postback came to.
fn steps(store: &Store) -> Vec<(u128, &'static str, &'static str)> {
    let steps = store.changes.iter();
    steps
        .map(|step| {
            let number = step.request_id.as_uuid().as_u128();
            (number, step.known.outcome.word(), step.reason)
        })
        .collect()
}

#[test]
fn what_was_refused_by_settings_is_decided_by_those_of_now() {
    let mut store = store();
    // Unsigned, and too late: the one campaign takes neither, the other doesn't take the second.
    let forbidden = postback(2, "a", "1", None);
    let expired = postback(59, "b", "1", None);
    store.batch(
        &[click("a", GUARDED, 0), click("b", EVENT, 0)],
        &[forbidden.clone(), expired.clone()],
    );
    assert_eq!(words(&store), ["forbidden", "click_expired"]);
    store.batch(&[], &[again(forbidden.clone()), again(expired.clone())]);
    assert_eq!(words(&store)[2..], ["forbidden", "click_expired"]);
    assert_eq!(store.changes, [], "nothing is different now");
    change(&mut store, GUARDED, |campaign| {
        campaign.settings.networks.clear();
        campaign.secret = None;
    });
    change(&mut store, EVENT, |campaign| {
        campaign.settings.attribution_window = None;
    });
    // Without the mark they are what they were.
    store.batch(&[], &[forbidden.clone(), expired.clone()]);
    assert_eq!(words(&store)[4..], ["forbidden", "click_expired"]);
    store.batch(&[], &[again(forbidden.clone()), again(expired.clone())]);
    assert_eq!(words(&store)[6..], ["converted", "converted"]);
    assert_eq!(converted(&store), [2, 59]);
    assert_eq!(store.conversions[1].created_at, at(59), "their own times");
    let expected = [(2, "converted", "replay"), (59, "converted", "replay")];
    assert_eq!(steps(&store), expected);
    // Once.
    store.batch(&[], &[again(forbidden), again(expired)]);
    assert_eq!(words(&store)[8..], ["converted", "converted"]);
    assert_eq!(steps(&store), expected);
    assert_eq!(store.log.len(), 2);
}

#[test]
fn what_converted_stays() {
    let mut store = store();
    let first = postback(2, "a", "1", None);
    store.batch(&[click("a", CLICK, 0)], from_ref(&first));
    let before = store.outcomes();
    change(&mut store, CLICK, |campaign| {
        campaign.settings.networks = vec!["198.51.100.0/24".parse().unwrap()];
        campaign.settings.attribution_window = Some(1);
    });
    store.batch(&[], &[again(first)]);
    assert_eq!(words(&store), ["converted", "converted"]);
    assert_eq!(store.outcomes(), before);
}

#[test]
fn a_duplicate_converts_where_the_policy_now_tells_it_apart() {
    let mut store = store();
    let postbacks = [
        postback(2, "a", "1", Some("x")),
        postback(3, "a", "2", Some("y")),
        postback(4, "a", "3", Some("x")),
    ];
    store.batch(&[click("a", CLICK, 0)], &postbacks);
    assert_eq!(words(&store), ["converted", "duplicate", "duplicate"]);
    change(&mut store, CLICK, |campaign| {
        campaign.settings.dedupe = crate::campaign::Dedupe::Txid;
    });
    store.batch(&[], &postbacks.map(again));
    assert_eq!(words(&store)[3..], ["converted", "converted", "duplicate"]);
    assert_eq!(converted(&store), [2, 3]);
    assert_eq!(steps(&store), [(3, "converted", "replay")]);
}

#[test]
fn one_whose_click_is_missing_waits_on() {
    let mut store = store();
    store.limits.unmatched_per_click = 1;
    let (waits, dropped) = (
        postback(2, "a", "1", None),
        postback(3, "a", "1", Some("x")),
    );
    store.batch(&[], &[waits.clone(), dropped.clone()]);
    store.batch(&[], &[again(waits.clone())]);
    assert_eq!(words(&store), ["click_not_found"; 3]);
    assert_eq!(store.state().unmatched, 1);
    // The click finds the one that waits, in the same batch in which the other is sent again.
    store.batch(&[click("a", TXID, 0)], &[again(dropped), again(waits)]);
    assert_eq!(words(&store)[3..], ["converted", "converted"]);
    let expected = [(2, "converted", "late_click"), (3, "converted", "replay")];
    assert_eq!(steps(&store), expected);
    assert_eq!(store.state().unmatched, 0);
}

/// Its click stands in a partition whose owner doesn't know that it waits.
#[test]
fn one_that_waits_for_a_misplaced_click_finds_it() {
    let mut store = store();
    let waits = postback(2, "a", "1", None);
    store.batch(&[], from_ref(&waits));
    let prepared = store.prepare(&[(HERE + 1, vec![click("a", CLICK, 0)], Vec::new())]);
    store.commit(prepared);
    assert_eq!(store.state().unmatched, 1, "nobody told it");
    store.batch(&[], &[again(waits)]);
    assert_eq!(words(&store)[1..], ["converted"]);
    assert_eq!(store.state().unmatched, 0);
}

#[test]
fn a_refused_one_is_logged_anew() {
    let mut state = store().state();
    let refused = again(postback(2, "a", "1", None));
    let mut view = View::default();
    view.refused.insert(refused.request_id);
    view.clicks.insert(clickid("a"), click("a", PLAIN, 0));
    let placed = placed_postbacks(&state, &[refused.clone(), refused.clone()]);
    let decided = decide(
        &mut state,
        Vec::new(),
        placed,
        &mut view,
        &Limits::default(),
    );
    assert_eq!(decided.writes.unrefused, [refused.request_id]);
    assert_eq!(decided.writes.log.len(), 1);
    assert_eq!(decided.writes.conversions.len(), 1);
}
