//! A run's figures: as JSON, and for people.

use crate::Load;
use crate::answer::Kind;
use crate::load::Results;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Milliseconds.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Spread {
    p50: f64,
    p95: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Spread {
    /// Of sorted microseconds: the smallest value that so many per mille don't exceed.
    fn of(sorted: &[u32]) -> Self {
        let Some(last) = sorted.len().checked_sub(1) else {
            return Self::default();
        };
        let at = |mille: usize| {
            let rank = (sorted.len() * mille).div_ceil(1000).max(1);
            millis(sorted[(rank - 1).min(last)])
        };
        Self {
            p50: at(500),
            p95: at(950),
            p99: at(990),
            p999: at(999),
            max: millis(sorted[last]),
        }
    }
}

fn millis(micros: u32) -> f64 {
    f64::from(micros) / 1_000.0
}

/// The figures.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Absent in a closed loop.
    rate: Option<u64>,
    connections: u64,
    idle: u64,
    seconds: f64,
    requests: u64,
    answers_per_second: f64,
    outcomes: BTreeMap<&'static str, u64>,
    /// The same with the warm-up's: what the store must hold.
    all: BTreeMap<&'static str, u64>,
    /// Answers with a verdict, in per cent.
    final_percent: f64,
    /// From due to answered, over all requests; an error counts as 10 s at least.
    latency_ms: Spread,
    /// From due to sent: what the generator added for lack of a free connection or of the
    /// processor. It is part of the latency.
    delay_ms: Spread,
    reasons: BTreeMap<String, u64>,
    /// The first number that was not used.
    next: u64,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn float(count: u64) -> f64 {
    count as f64
}

impl Report {
    pub fn of(options: &Load, results: &Results) -> Self {
        let counts = Kind::ALL.map(|kind| (kind.word(), results.count(kind)));
        let all = Kind::ALL.map(|kind| (kind.word(), results.all.get(&kind).copied().unwrap_or(0)));
        let requests: u64 = counts.iter().map(|(_, count)| count).sum();
        let of = |kinds: &[Kind]| float(kinds.iter().map(|kind| results.count(*kind)).sum());
        let verdicts = of(&[Kind::Standard, Kind::Duplicate, Kind::NotFound]);
        let seconds = results.took.as_secs_f64().max(0.001);
        Self {
            rate: options.rate,
            connections: options.connections,
            idle: options.idle,
            seconds,
            requests,
            answers_per_second: (verdicts + of(&[Kind::Queued])) / seconds,
            outcomes: counts.into(),
            all: all.into(),
            final_percent: verdicts * 100.0 / float(requests.max(1)),
            latency_ms: Spread::of(&results.latencies),
            delay_ms: Spread::of(&results.delays),
            reasons: results.reasons.clone(),
            next: results.next,
        }
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{} postbacks in {:.1} s over {} connections, {:.0} answers/s\n\n",
            self.requests, self.seconds, self.connections, self.answers_per_second
        );
        for kind in Kind::ALL {
            let count = self.outcomes[kind.word()];
            let _ = writeln!(text, "{:>12} {count:>9}", kind.word());
        }
        let _ = writeln!(
            text,
            "\n{:>12} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "ms", "p50", "p95", "p99", "p99.9", "max"
        );
        for (name, spread) in [
            ("answered", &self.latency_ms),
            ("sent late", &self.delay_ms),
        ] {
            let Spread {
                p50,
                p95,
                p99,
                p999,
                max,
            } = spread;
            let _ = writeln!(
                text,
                "{name:>12} {p50:>9.2} {p95:>9.2} {p99:>9.2} {p999:>9.2} {max:>9.2}"
            );
        }
        if !self.reasons.is_empty() {
            let _ = writeln!(text, "\nno verdict, warm-up included:");
            for (why, count) in &self.reasons {
                let _ = writeln!(text, "{count:>12} {why}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let sorted: Vec<u32> = (1..=2000).map(|n| n * 1_000).collect();
        let spread = Spread::of(&sorted);
        let expected = Spread {
            p50: 1000.0,
            p95: 1900.0,
            p99: 1980.0,
            p999: 1998.0,
            max: 2000.0,
        };
        assert_eq!(spread, expected);
        assert_eq!(Spread::of(&[]), Spread::default());
        assert_eq!(Spread::of(&[7_000]).p50.to_bits(), 7.0_f64.to_bits());
    }
}
