//! The maps that the rules share: the evidence by id, and what it must come to.

use super::evidence::{
    Click, Conversion, Evidence, Logged, Postback, Spoken, Statement, Store, Stored,
};
use super::outlook::{End, Expected, Outlook, Sources};
use super::policies::{Keys, Policies, Policy};
use super::report::{Fault, Report};
use std::collections::HashMap;

/// The evidence, found by id, and what it must come to.
pub(super) struct Index<'a> {
    pub evidence: &'a Evidence,
    pub policies: &'a Policies,
    /// The first record of each request id.
    pub postbacks: HashMap<&'a str, &'a Postback>,
    pub log: HashMap<&'a str, &'a Logged>,
    pub conversions: HashMap<&'a str, &'a Stored>,
    /// By the postback that stated it.
    pub statements: HashMap<&'a str, &'a Statement>,
    /// Stored clicks by clickid.
    pub clicks: HashMap<&'a str, &'a Click>,
    pub outlook: Outlook<'a>,
}

impl<'a> Index<'a> {
    /// Indexes, and reports ids that stand for two things.
    pub fn new(evidence: &'a Evidence, policies: &'a Policies, report: &mut Report) -> Self {
        let mut index = Self {
            evidence,
            policies,
            postbacks: HashMap::new(),
            log: HashMap::new(),
            conversions: HashMap::new(),
            statements: HashMap::new(),
            clicks: HashMap::new(),
            outlook: Outlook::default(),
        };
        for click in &evidence.store.clicks {
            index.clicks.insert(&click.clickid, click);
        }
        let mut in_order: Vec<&Postback> = evidence.topics.postbacks.iter().collect();
        in_order.sort_by_key(|postback| postback.place);
        for postback in &in_order {
            let id = postback.request_id.as_str();
            let first = *index.postbacks.entry(id).or_insert(postback);
            if first.value != postback.value || first.key != postback.key {
                let sentence = format!(
                    "a request id stands for two different records, at {:?} and {:?}",
                    first.place, postback.place
                );
                report.add(Fault::RequestTwice, &[id], sentence);
            }
        }
        for row in &evidence.store.log {
            if index.log.insert(&row.request_id, row).is_some() {
                let sentence = "a request id stands twice in the log";
                report.add(Fault::RequestTwice, &[&row.request_id], sentence);
            }
        }
        for statement in &evidence.store.statements {
            let id = statement.spoken.id.as_str();
            if index.statements.insert(id, statement).is_some() {
                let sentence = "a postback stated two statuses";
                report.add(Fault::WrongStatus, &[id], sentence);
            }
        }
        index.conversions(report);
        let sources = Sources {
            clicks: &index.clicks,
            log: &index.log,
            policies,
        };
        index.outlook = Outlook::new(sources, &in_order);
        let expected = index.outlook.postbacks.values();
        report.looked.misplaced = expected.filter(|one| one.end == End::Open).count();
        index
    }

    pub fn expected(&self, id: &str) -> Option<&Expected<'a>> {
        self.outlook.postbacks.get(id)
    }

    /// The policy that a conversion was decided by.
    pub fn policy_of(&self, conversion: &Conversion) -> &'a Policy {
        let version = Some(conversion.policy_version);
        self.policies.of(conversion.campaign_id, version)
    }

    /// Two that are the same by the policy that the later one was decided by.
    fn conversions(&mut self, report: &mut Report) {
        let mut of_click: HashMap<&str, Vec<&'a Stored>> = HashMap::new();
        for stored in &self.evidence.store.conversions {
            let conversion = &stored.conversion;
            let id = conversion.conversion_id.as_str();
            of_click
                .entry(&conversion.clickid)
                .or_default()
                .push(stored);
            if self.conversions.insert(id, stored).is_some() {
                report.add(Fault::TwoConversions, &[id], "two conversions with one id");
            }
        }
        for (clickid, mut stored) in of_click {
            stored.sort_by_key(|one| one.sequence);
            for (place, later) in stored.iter().enumerate() {
                let policy = self.policy_of(&later.conversion);
                let (event, external) = names(&later.conversion);
                let same = stored[..place].iter().find(|first| {
                    let (event_then, external_then) = names(&first.conversion);
                    let keys = Keys {
                        event: event_then,
                        external: external_then,
                        dedupe: &self.policy_of(&first.conversion).dedupe,
                    };
                    policy.is_same(keys, event, external)
                });
                if let Some(first) = same {
                    let ids = [&later.conversion, &first.conversion].map(|one| &one.conversion_id);
                    let sentence = format!(
                        "two conversions that are one by the dedupe policy {}",
                        policy.dedupe
                    );
                    report.add(Fault::TwoConversions, &[clickid, ids[0], ids[1]], sentence);
                }
            }
        }
    }
}

fn names(conversion: &Conversion) -> (&str, &str) {
    let external = conversion.external_id.as_deref().unwrap_or_default();
    (&conversion.event, external)
}

/// The present status of each conversion by the rows of the store alone.
pub(super) fn present(store: &Store) -> HashMap<&str, &Spoken> {
    let mut present: HashMap<&str, &Spoken> = HashMap::new();
    let own = store.conversions.iter().map(|stored| &stored.conversion);
    let own = own.map(|conversion| (conversion.conversion_id.as_str(), &conversion.status));
    let later = store.statements.iter();
    let later = later.map(|one| (one.conversion_id.as_str(), &one.spoken));
    for (id, spoken) in own.chain(later) {
        let latest = present.entry(id).or_insert(spoken);
        if (spoken.at, &spoken.id) > (latest.at, &latest.id) {
            *latest = spoken;
        }
    }
    present
}
