//! The checker: holds what callers were told against the store, the log, the topics and the
//! status endpoint, after everything has come to rest.
//!
//! ```text
//! let history = History::new();
//! // … callers record every click and postback in it, faults are injected …
//! let evidence = Evidence::collect(&Installation::from(&*stack), &history, &Options::default()).await;
//! checker::check(&history, &evidence).assert_clean();
//! ```
//!
//! What must be there is worked out anew from the records on the topics, which are the truth
//! that the product promises to follow: per clickid, in partition order, each postback by the
//! version of its campaign's settings that the log says decided it. Of these the store is believed,
//! and of a secret that isn't kept any more; the words that the ingress mapped to statuses are
//! taken from the record. A caller without an answer was promised nothing; whatever became of its
//! postback must still be right in itself.

mod answers;
mod collect;
mod durable;
mod events;
pub mod evidence;
pub mod exact;
mod index;
mod ledger;
mod outcomes;
mod outlook;
mod policies;
mod records;
mod report;
pub mod said;
mod statuses;
mod store;
#[cfg(test)]
mod tests;
mod told;
mod versions;

pub use collect::{Installation, Options};
pub use evidence::Evidence;
pub use report::{Fault, Looked, Report, Violation};
pub use said::AnswerKind;
pub use store::StoreAccess;

use crate::history::History;
use index::Index;
use policies::Policies;
pub(crate) use policies::sign;

/// Holds a history against the evidence. Reads nothing else.
#[must_use]
pub fn check(history: &History, evidence: &Evidence) -> Report {
    let (store, topics) = (&evidence.store, &evidence.topics);
    let recorded = history.recorded();
    let calls = answers::understand(&recorded);
    let mut report = Report {
        answers: calls
            .iter()
            .map(|(_, said)| said::kind(said.as_ref()))
            .collect(),
        looked: Looked {
            clicks: topics.clicks.len(),
            postbacks: topics.postbacks.len(),
            logged: store.log.len(),
            conversions: store.conversions.len(),
            statements: store.statements.len(),
            waiting: store.unmatched.len(),
            events: topics.events.len(),
            statuses: evidence.statuses.len(),
            unreadable: topics.unreadable,
            misplaced: 0,
        },
        ..Report::default()
    };
    for sentence in &evidence.unsettled {
        report.add(Fault::Unsettled, &[], sentence.clone());
    }
    let policies = Policies::new(store);
    let index = Index::new(evidence, &policies, &mut report);
    durable::clicks(&recorded, &index, &mut report);
    durable::postbacks(&index, &mut report);
    versions::versions(store, &policies, &mut report);
    outcomes::log(&index, &mut report);
    outcomes::conversions(&index, &mut report);
    outcomes::waiting(&index, &mut report);
    statuses::statements(&index, &mut report);
    statuses::latest(&index, &mut report);
    statuses::numbers(&index, &mut report);
    events::events(&index, &mut report);
    answers::answers(&recorded, &calls, &index, &mut report);
    told::statuses(&calls, &index, &mut report);
    ledger::statistics(evidence, &mut report);
    ledger::partitions(evidence, &mut report);
    report
}
