//! A run's figures: as JSON, for people, and as a row of a Markdown table.

use crate::Options;
use crate::answer::Kind;
use crate::load::Results;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

const HEADER: &str = "\
| | rate/s | requests | standard | queued | other | p50 ms | p90 ms | p99 ms | max ms |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|
";

/// Milliseconds.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Spread {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Spread {
    /// Of sorted microseconds: the smallest value that so many per cent don't exceed.
    fn of(sorted: &[u64]) -> Self {
        let Some(last) = sorted.len().checked_sub(1) else {
            return Self::default();
        };
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            millis(sorted[(rank - 1).min(last)])
        };
        Self {
            p50: at(50),
            p90: at(90),
            p99: at(99),
            max: millis(sorted[last]),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

/// The figures.
#[derive(Debug, Serialize)]
pub struct Report {
    label: String,
    rate: u64,
    seconds: u64,
    warmup: u64,
    connections: u64,
    requests: u64,
    outcomes: BTreeMap<&'static str, u64>,
    /// Of all requests, in per cent.
    standard_percent: f64,
    /// From due to answered, over all requests; an error counts as 10 s at least.
    latency_ms: Spread,
    /// From due to answered, over the standard answers.
    standard_ms: Spread,
    /// From due to sent: what the generator added for lack of a free connection or of the
    /// processor. It is part of the latency.
    delay_ms: Spread,
    warmup_other: u64,
    reasons: BTreeMap<String, u64>,
}

impl Report {
    pub fn of(options: &Options, results: &Results) -> Self {
        let counts = Kind::ALL.map(|kind| (kind.word(), results.count(kind)));
        let requests: u64 = counts.iter().map(|(_, count)| count).sum();
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let standard_percent =
            results.count(Kind::Standard) as f64 * 100.0 / requests.max(1) as f64;
        Self {
            label: options.label.clone(),
            rate: options.rate,
            seconds: options.seconds,
            warmup: options.warmup,
            connections: options.connections,
            requests,
            outcomes: counts.into(),
            standard_percent,
            latency_ms: Spread::of(&results.latencies),
            standard_ms: Spread::of(&results.standard),
            delay_ms: Spread::of(&results.delays),
            warmup_other: results.warmup_other,
            reasons: results.reasons.clone(),
        }
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{} postbacks, {}/s for {} s after {} s of warm-up, {} connections\n\n",
            self.requests, self.rate, self.seconds, self.warmup, self.connections
        );
        for kind in Kind::ALL {
            let count = self.outcomes[kind.word()];
            let _ = writeln!(text, "{:>12} {count:>9}", kind.word());
        }
        let _ = writeln!(
            text,
            "\n{:>12} {:>9} {:>9} {:>9} {:>9}",
            "ms", "p50", "p90", "p99", "max"
        );
        for (name, spread) in [
            ("all", &self.latency_ms),
            ("standard", &self.standard_ms),
            ("sent late", &self.delay_ms),
        ] {
            let Spread { p50, p90, p99, max } = spread;
            let _ = writeln!(
                text,
                "{name:>12} {p50:>9.2} {p90:>9.2} {p99:>9.2} {max:>9.2}"
            );
        }
        if !self.reasons.is_empty() {
            let _ = writeln!(text, "\nnot standard, warm-up included:");
            for (why, count) in &self.reasons {
                let _ = writeln!(text, "{count:>12} {why}");
            }
        }
        text
    }

    /// Adds a row to `path`, and the table's head where the file is new.
    pub fn append(&self, path: &Path) -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        let head = if file.metadata()?.len() == 0 {
            HEADER
        } else {
            ""
        };
        let (standard, queued) = (self.outcomes["standard"], self.outcomes["queued"]);
        let Spread { p50, p90, p99, max } = self.latency_ms;
        writeln!(
            file,
            "{head}| {} | {} | {} | {standard} ({:.2}%) | {queued} | {} \
             | {p50:.2} | {p90:.2} | {p99:.2} | {max:.2} |",
            self.label.replace('|', "/"),
            self.rate,
            self.requests,
            self.standard_percent,
            self.requests - standard - queued,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let sorted: Vec<u64> = (1..=200).map(|n| n * 1_000).collect();
        let spread = Spread::of(&sorted);
        let expected = Spread {
            p50: 100.0,
            p90: 180.0,
            p99: 198.0,
            max: 200.0,
        };
        assert_eq!(spread, expected);
        assert_eq!(Spread::of(&[]), Spread::default());
        assert_eq!(Spread::of(&[7_000]).p50.to_bits(), 7.0_f64.to_bits());
    }
}
