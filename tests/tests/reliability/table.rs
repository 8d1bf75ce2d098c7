//! What callers saw of each fault, and what the checker found of it, in lines for people.

use crate::say;
use postern_tests::checker::Report;
use postern_tests::history::{History, Reply};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What is counted for one fault, over all the times that it was there.
#[derive(Clone, Debug, Default)]
pub struct Line {
    times: Vec<(Instant, Instant)>,
    sent: usize,
    acknowledged: usize,
    /// Longest time without any answer.
    silent: Duration,
    evidence: Vec<String>,
    found: Found,
}

/// Breaches, by what they mean for who pays and is paid.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    lost: usize,
    doubled: usize,
    false_: usize,
}

/// A line for each fault by its name.
#[derive(Default)]
pub struct Table {
    lines: BTreeMap<String, Line>,
    /// Breaches of nothing that began while a fault was there.
    otherwise: Found,
    /// Postbacks that were answered 200 or 202, with a fault and without.
    acknowledged: usize,
}

/// How many of those whose calls ended within these moments were acknowledged.
pub fn acknowledged(history: &History, from: Instant, to: Instant) -> usize {
    let recorded = history.recorded();
    let calls = recorded.postbacks.iter();
    let within = calls.filter(|call| (from..=to).contains(&call.ended));
    within.filter(|call| taken(&call.reply)).count()
}

fn taken(reply: &Reply) -> bool {
    matches!(reply, Reply::Answer(answer) if matches!(answer.status, 200 | 202))
}

impl Table {
    /// Adds a fault that was there from one moment to another.
    pub fn add(
        &mut self,
        name: &str,
        history: &History,
        from: Instant,
        to: Instant,
        evidence: String,
    ) {
        let mut ends = vec![from, to];
        let mut sent = 0;
        for call in &history.recorded().postbacks {
            sent += usize::from((from..=to).contains(&call.began));
            if matches!(call.reply, Reply::Answer(_)) && (from..=to).contains(&call.ended) {
                ends.push(call.ended);
            }
        }
        ends.sort_unstable();
        let gaps = ends.windows(2).map(|pair| pair[1] - pair[0]);
        let silent = gaps.max().unwrap_or_default();
        let acknowledged = acknowledged(history, from, to);
        say(&format!(
            "{name}: {:.0} s, {sent} sent, {acknowledged} acknowledged, none answered for {:.1} s; {evidence}",
            (to - from).as_secs_f64(),
            silent.as_secs_f64(),
        ));
        let line = self.lines.entry(name.to_owned()).or_default();
        line.times.push((from, to));
        line.sent += sent;
        line.acknowledged += acknowledged;
        line.silent = line.silent.max(silent);
        line.evidence.push(evidence);
    }

    /// Adds what the checker found: to the faults that were there when what it names was sent.
    pub fn judge(&mut self, history: &History, report: &Report) {
        let recorded = history.recorded();
        let began = recorded.postbacks.iter();
        self.acknowledged += began.filter(|call| taken(&call.reply)).count();
        for breach in &report.violations {
            let concerns =
                |id: &str| !id.is_empty() && breach.ids.iter().any(|other| other.as_str() == id);
            let calls = recorded.postbacks.iter().filter(|call| {
                concerns(&call.sent.clickid) || call.request_id().is_some_and(concerns)
            });
            let clicks = recorded
                .clicks
                .iter()
                .filter(|call| concerns(&call.clickid));
            let moments: Vec<Instant> = calls
                .map(|call| call.began)
                .chain(clicks.map(|call| call.began))
                .collect();
            let mut other = true;
            for line in self.lines.values_mut() {
                let there = |at: &Instant| {
                    let mut times = line.times.iter();
                    times.any(|(from, to)| (from..=to).contains(&at))
                };
                if moments.iter().any(there) {
                    line.found.add(breach.fault.invariant());
                    other = false;
                }
            }
            if other {
                self.otherwise.add(breach.fault.invariant());
            }
        }
    }

    /// How many postbacks were acknowledged while this fault was there.
    pub fn acknowledged(&self, name: &str) -> usize {
        self.lines.get(name).map_or(0, |line| line.acknowledged)
    }

    /// The least of these over all faults, and all of them together, with calm times.
    pub fn least_and_all(&self) -> (usize, usize) {
        let least = self.lines.values().map(|line| line.acknowledged).min();
        (least.unwrap_or(0), self.acknowledged)
    }

    /// As Markdown.
    pub fn show(&self) {
        if self.lines.is_empty() {
            return;
        }
        say(
            "| fault | times | sent | acknowledged meanwhile | lost | doubled | false | longest time without an answer | that it bit |",
        );
        say("|---|--:|--:|--:|--:|--:|--:|--:|---|");
        for (name, line) in &self.lines {
            say(&format!(
                "| {name} | {} | {} | {} | {} | {} | {} | {:.1} s | {} |",
                line.times.len(),
                line.sent,
                line.acknowledged,
                line.found.lost,
                line.found.doubled,
                line.found.false_,
                line.silent.as_secs_f64(),
                line.evidence.join("; "),
            ));
        }
        say(&format!(
            "{} acknowledged in all; breaches of what was sent without a fault: {} lost, {} doubled, {} false",
            self.acknowledged, self.otherwise.lost, self.otherwise.doubled, self.otherwise.false_,
        ));
    }

    /// Panics if anything was found.
    #[track_caller]
    pub fn assert_clean(&self) {
        let lines = self.lines.values().map(|line| line.found);
        let mut found = lines.chain([self.otherwise]);
        assert!(
            found.all(|found| found == Found::default()),
            "the check found breaches: they are above"
        );
    }
}

impl Found {
    fn add(&mut self, invariant: u8) {
        match invariant {
            1 => self.lost += 1,
            2 => self.doubled += 1,
            _ => self.false_ += 1,
        }
    }
}
