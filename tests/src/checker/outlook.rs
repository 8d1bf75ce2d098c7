//! What must have become of each postback, worked out anew from the records on the topics: in
//! partition order, each by the version of the settings that the store says decided it.

use super::evidence::{Click, Logged, Postback, Spoken};
use super::policies::{Keys, Policies, Policy};
use std::collections::HashMap;

/// What a postback must have become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expected<'a> {
    pub end: End<'a>,
    /// The click's campaign, where the click is there.
    pub campaign_id: Option<i64>,
    /// The version that the log says; the present one where that never was.
    pub version: Option<i64>,
    /// Why, where the outcome doesn't tell.
    pub why: Option<&'static str>,
    pub observed: Vec<&'static str>,
}

/// See [`Expected`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum End<'a> {
    /// The first of its dedupe key.
    Converts,
    /// About a conversion, of which it says nothing new.
    Duplicates(&'a str),
    /// It changed the status of that conversion.
    Updates(&'a str, &'a str),
    /// Its click is too old.
    Expired,
    /// The campaign doesn't take it from this caller.
    Forbidden,
    /// Its click isn't there.
    Unknown,
    /// Not to be told: its click is misplaced.
    Open,
}

/// A row that `conversion_statuses` must have, of a postback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stated<'a> {
    pub conversion_id: &'a str,
    pub spoken: Spoken,
    /// Whether it changed the status, and not only confirmed it.
    pub numbered: bool,
}

/// All of it, by request ids.
#[derive(Default)]
pub(super) struct Outlook<'a> {
    pub postbacks: HashMap<&'a str, Expected<'a>>,
    pub stated: HashMap<&'a str, Stated<'a>>,
    /// The present status of each conversion.
    pub present: HashMap<&'a str, Spoken>,
    /// Clickid and request id of what gets a number in its partition, in the order of a clickid.
    pub numbered: Vec<(&'a str, &'a str)>,
}

/// What the replay goes by.
pub(super) struct Sources<'r, 'a> {
    pub clicks: &'r HashMap<&'a str, &'a Click>,
    pub log: &'r HashMap<&'a str, &'a Logged>,
    pub policies: &'a Policies,
}

/// A conversion during the replay.
struct Held<'a> {
    id: &'a str,
    keys: Keys<'a>,
}

struct Replay<'r, 'a> {
    sources: Sources<'r, 'a>,
    held: HashMap<&'a str, Vec<Held<'a>>>,
    out: Outlook<'a>,
}

impl<'a> Outlook<'a> {
    /// `in_order` is all records of the topic by their places.
    pub fn new(sources: Sources<'_, 'a>, in_order: &[&'a Postback]) -> Self {
        let mut replay = Replay {
            sources,
            held: HashMap::new(),
            out: Self::default(),
        };
        for &postback in in_order {
            let id = postback.request_id.as_str();
            // A known request id changes nothing.
            if !replay.out.postbacks.contains_key(id) {
                let expected = replay.postback(postback);
                replay.out.postbacks.insert(id, expected);
            }
        }
        replay.out
    }
}

impl<'a> Replay<'_, 'a> {
    fn postback(&mut self, postback: &'a Postback) -> Expected<'a> {
        let row = self.sources.log.get(postback.request_id.as_str()).copied();
        let mut expected = Expected {
            end: End::Unknown,
            campaign_id: None,
            version: None,
            why: None,
            observed: Vec::new(),
        };
        let Some(click) = self.sources.clicks.get(postback.clickid.as_str()).copied() else {
            return expected;
        };
        if click.place.partition != postback.place.partition {
            expected.end = End::Open;
            return expected;
        }
        // One that found no room among the waiting ones is out of it.
        if row.is_some_and(|row| row.first.why.as_deref() == Some("unmatched_full")) {
            return expected;
        }
        let step = row.map(Logged::last);
        let campaign = click.campaign_id;
        expected.campaign_id = Some(campaign);
        expected.version = step.map(|step| step.policy_version);
        let policy = self.sources.policies.of(campaign, expected.version);
        let (forbidden, observed) = policy.callers(postback, step);
        expected.observed = observed;
        if forbidden.is_some() {
            (expected.end, expected.why) = (End::Forbidden, forbidden);
            return expected;
        }
        if let Some(place) = self.about(policy, postback) {
            (expected.end, expected.why) = self.repeat(policy, postback, place);
            return expected;
        }
        match policy.late(postback, click.clicked_at.unwrap_or_default()) {
            (true, true) => {
                expected.end = End::Expired;
                return expected;
            }
            (true, false) => expected.observed.push("click_expired"),
            (false, _) => {}
        }
        self.convert(policy, postback);
        expected.end = End::Converts;
        expected
    }

    /// Of several conversions the one with the postback's very event and external id, else the
    /// first that the policy doesn't tell apart from it.
    fn about(&self, policy: &Policy, postback: &Postback) -> Option<usize> {
        let held = self.held.get(postback.clickid.as_str())?;
        let (event, external) = names(postback);
        let exact = |one: &Held<'_>| (one.keys.event, one.keys.external) == (event, external);
        let first = || {
            held.iter()
                .position(|one| policy.is_same(one.keys, event, external))
        };
        held.iter().position(exact).or_else(first)
    }

    fn repeat(
        &mut self,
        policy: &'a Policy,
        postback: &'a Postback,
        place: usize,
    ) -> (End<'a>, Option<&'static str>) {
        let id = self.held[postback.clickid.as_str()][place].id;
        let Some(status) = policy.said(postback.said.as_ref()) else {
            return (End::Duplicates(id), None);
        };
        let spoken = spoken(postback, status);
        let present = self.out.present.entry(id).or_default();
        let changes = present.status != status;
        if (spoken.at, &spoken.id) <= (present.at, &present.id) {
            return (End::Duplicates(id), changes.then_some("superseded"));
        }
        *present = spoken.clone();
        let stated = Stated {
            conversion_id: id,
            spoken,
            numbered: changes,
        };
        self.out.stated.insert(&postback.request_id, stated);
        if changes {
            self.number(postback);
            (End::Updates(id, status), None)
        } else {
            (End::Duplicates(id), None)
        }
    }

    fn convert(&mut self, policy: &'a Policy, postback: &'a Postback) {
        let id = postback.request_id.as_str();
        let (event, external) = names(postback);
        let keys = Keys {
            event,
            external,
            dedupe: &policy.dedupe,
        };
        let held = self.held.entry(&postback.clickid).or_default();
        held.push(Held { id, keys });
        let first = spoken(postback, policy.first_status(postback));
        self.out.present.insert(id, first);
        self.number(postback);
    }

    fn number(&mut self, postback: &'a Postback) {
        let numbered = (postback.clickid.as_str(), postback.request_id.as_str());
        self.out.numbered.push(numbered);
    }
}

fn spoken(postback: &Postback, status: &str) -> Spoken {
    Spoken {
        at: postback.received_at,
        id: postback.request_id.clone(),
        status: status.to_owned(),
    }
}

/// Event and external id, none being a value.
fn names(postback: &Postback) -> (&str, &str) {
    (
        postback.event.as_deref().unwrap_or_default(),
        postback.external_id.as_deref().unwrap_or_default(),
    )
}
