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
//! that the product promises to follow: per clickid the first postback converts, all later ones
//! are duplicates of it. A caller without an answer was promised nothing; whatever became of its
//! postback must still be right in itself.

mod answers;
mod collect;
mod durable;
pub mod evidence;
pub mod exact;
mod index;
mod ledger;
mod outcomes;
mod report;
pub mod said;
mod store;
#[cfg(test)]
mod tests;

pub use collect::{Installation, Options};
pub use evidence::Evidence;
pub use report::{Fault, Looked, Report, Violation};
pub use said::AnswerKind;
pub use store::StoreAccess;

use crate::history::History;
use index::Index;

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
    let index = Index::new(evidence, &mut report);
    durable::clicks(&recorded, &index, &mut report);
    durable::postbacks(&index, &mut report);
    outcomes::log(&index, &mut report);
    outcomes::conversions(&index, &mut report);
    outcomes::events(&index, &mut report);
    outcomes::waiting(&index, &mut report);
    answers::answers(&recorded, &calls, &index, &mut report);
    answers::statuses(&calls, &index, &mut report);
    ledger::statistics(evidence, &mut report);
    ledger::partitions(evidence, &mut report);
    report
}
