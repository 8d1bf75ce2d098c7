//! What the checker found.

use crate::history::Counts;
use std::collections::BTreeMap;
use std::fmt;

/// What was broken.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Not at rest within the patience.
    Unsettled,
    /// A postback whose answer promised it is not on the topic.
    PostbackLost,
    /// A postback is not in the log.
    NotLogged,
    /// An acknowledged click is not on the topic, or a published one not in the store.
    ClickLost,
    /// A postback that converts has no conversion.
    ConversionMissing,
    /// Of a refused postback something was made.
    RefusedKept,
    /// A request id stands for two different postbacks, or twice in the log.
    RequestTwice,
    /// Two conversions that are one under the policy that they were decided by.
    TwoConversions,
    /// A conversion that isn't that of the first postback in partition order.
    NotTheFirst,
    /// Not in the partition of its clickid.
    WrongPartition,
    /// Two standard answers for one dedupe key.
    TwoStandard,
    /// A standard answer that isn't that of a stored conversion.
    UntrueStandard,
    /// A duplicate that doesn't tell the stored conversion.
    UntrueDuplicate,
    /// `click_not_found`, although the click was acknowledged before.
    FalseNotFound,
    /// An answer of no documented form, with a wrong code or without an id.
    WrongForm,
    /// What was promised as queued has no outcome.
    Unresolved,
    /// The status endpoint and the log disagree.
    StatusDiffers,
    /// The log and the answer, or the log and the records, disagree.
    LogDiffers,
    /// A record that doesn't hold what was sent.
    NotAsSent,
    /// A stored click that isn't the first record.
    ClickDiffers,
    /// A conversion that isn't what its records say.
    ConversionDiffers,
    /// `created_at` is not the time of receipt.
    WrongTime,
    /// A revenue is not the sent one to the last millionth.
    WrongRevenue,
    /// Statistics of conversions are not the sum of the conversions.
    ConversionStatistics,
    /// Statistics of clicks are not their count.
    ClickStatistics,
    /// Totals are not the statistics without site, source and partition.
    Totals,
    /// The conversions and changes of statuses of a partition are not numbered from 1 to its
    /// sequence, or not in their order.
    Sequence,
    /// Waiting postbacks are not those that the log calls so.
    Unmatched,
    /// A conversion, or a change of its status, without an event.
    EventMissing,
    /// An event without its conversion, or another than it was at that status.
    EventDiffers,
    /// A postback that its campaign must not take was taken, or told of what is stored.
    ForgedTaken,
    /// A postback that came after its window was converted.
    ExpiredTaken,
    /// A postback was refused that its campaign's settings don't refuse.
    WronglyRefused,
    /// What the log says was observed is not what was to be seen.
    WrongObserved,
    /// A status that isn't the one said last, or not kept as it was said.
    WrongStatus,
    /// A status without its postback or its conversion.
    StatusUnfounded,
    /// An answer of a change that wasn't made.
    UntrueUpdate,
    /// Neither the currency that was sent nor the campaign's default.
    WrongCurrency,
    /// A version of settings that never was, that goes back, or that isn't the one that decided.
    PolicyVersion,
}

impl Fault {
    /// The invariant of the design, section 4, that it breaks.
    #[must_use]
    pub fn invariant(self) -> u8 {
        match self {
            Self::PostbackLost
            | Self::ClickLost
            | Self::ConversionMissing
            | Self::UntrueStandard
            | Self::UntrueUpdate
            | Self::Unresolved
            | Self::WrongForm
            | Self::NotAsSent => 1,
            Self::RequestTwice
            | Self::TwoConversions
            | Self::NotTheFirst
            | Self::TwoStandard
            | Self::UntrueDuplicate
            | Self::ClickDiffers
            | Self::RefusedKept => 2,
            Self::FalseNotFound | Self::WrongPartition => 3,
            Self::Unsettled
            | Self::NotLogged
            | Self::StatusDiffers
            | Self::LogDiffers
            | Self::ConversionStatistics
            | Self::ClickStatistics
            | Self::Totals
            | Self::Sequence
            | Self::Unmatched
            | Self::EventMissing
            | Self::EventDiffers
            | Self::StatusUnfounded => 4,
            Self::ConversionDiffers
            | Self::WrongTime
            | Self::ForgedTaken
            | Self::ExpiredTaken
            | Self::WronglyRefused
            | Self::WrongObserved
            | Self::WrongStatus
            | Self::PolicyVersion => 5,
            Self::WrongRevenue | Self::WrongCurrency => 9,
        }
    }
}

/// One breach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub fault: Fault,
    /// Request ids, clickids, or what else names what is concerned.
    pub ids: Vec<String>,
    /// A sentence for people.
    pub sentence: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invariant {}, {:?}: {} ({})",
            self.fault.invariant(),
            self.fault,
            self.sentence,
            self.ids.join(", ")
        )
    }
}

/// How much was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    pub clicks: usize,
    pub postbacks: usize,
    pub logged: usize,
    pub conversions: usize,
    /// What later postbacks said of them.
    pub statements: usize,
    pub waiting: usize,
    pub events: usize,
    pub statuses: usize,
    pub unreadable: usize,
    /// Clickids that were left out of the rules about the click: their click stands in another
    /// partition than they do.
    pub misplaced: usize,
}

/// The result of a check.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub violations: Vec<Violation>,
    pub answers: Counts,
    pub looked: Looked,
}

impl Report {
    pub(super) fn add(&mut self, fault: Fault, ids: &[&str], sentence: impl Into<String>) {
        self.violations.push(Violation {
            fault,
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            sentence: sentence.into(),
        });
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// How many breaches of which kind.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<Fault, usize> {
        let mut totals = BTreeMap::new();
        for violation in &self.violations {
            *totals.entry(violation.fault).or_default() += 1;
        }
        totals
    }

    /// Whether a breach of this kind was found.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        self.violations.iter().any(|one| one.fault == fault)
    }

    /// Panics with what was found.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "the check found breaches\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        let looked = &self.looked;
        writeln!(
            f,
            "{}; looked at {} clicks, {} postbacks, {} log rows, {} conversions, {} \
             statements, {} waiting, {} events, {} statuses; {} unreadable records, {} misplaced clicks",
            self.answers,
            looked.clicks,
            looked.postbacks,
            looked.logged,
            looked.conversions,
            looked.statements,
            looked.waiting,
            looked.events,
            looked.statuses,
            looked.unreadable,
            looked.misplaced,
        )?;
        let totals = self.totals();
        write!(f, "{} breaches", self.violations.len())?;
        for (fault, count) in &totals {
            write!(f, ", {count} {fault:?}")?;
        }
        writeln!(f)?;
        // Some of each kind: a flood of one shouldn't hide another.
        let each = (SHOWN / totals.len().max(1)).max(1);
        let mut shown = BTreeMap::<Fault, usize>::new();
        let some = self.violations.iter().filter(|violation| {
            let count = shown.entry(violation.fault).or_default();
            *count += 1;
            *count <= each
        });
        for violation in some.take(SHOWN) {
            writeln!(f, "{violation}")?;
        }
        Ok(())
    }
}
