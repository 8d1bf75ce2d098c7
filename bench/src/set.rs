//! The click set: which clickid, campaign and site each number has, and what each postback is about. Functions of the
//! seed alone, so a set of ten million needs no memory and no file, and whoever loads it needs not be who uses it.

use clap::ValueEnum;
use jiff::{SignedDuration, Timestamp};
use std::io::{self, Write};
use std::ops::Range;

/// Campaigns of a set.
const CAMPAIGNS: u64 = 20;
/// Sites of each.
const SITES: u64 = 10;
/// A duplicate repeats the postback that was sent so many before it: long ago against what is under way.
const BEHIND: u64 = 20_000;
/// In seconds.
const DAY: u64 = 24 * 60 * 60;

/// A click set.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    pub seed: u64,
}

/// What share of the postbacks isn't a known click's first, in per cent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mix {
    pub duplicates: u64,
    pub unknown: u64,
    pub storm: Option<Storm>,
}

/// All postbacks alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Storm {
    /// One clickid, again and again.
    Duplicate,
    /// Clickids that nobody knows.
    NotFound,
}

/// What a postback is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// The first of this click.
    First(u64),
    /// Of a click that had one.
    Again(u64),
    /// Of this click, whose first is among them.
    Same(u64),
    /// Of no click.
    Unknown(u64),
}

impl Aim {
    /// The number whose clickid and revenue it has.
    pub fn number(self) -> u64 {
        match self {
            Self::First(number)
            | Self::Again(number)
            | Self::Same(number)
            | Self::Unknown(number) => number,
        }
    }
}

/// The finalizer of SplitMix64: neighbours have nothing in common.
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Set {
    /// 32 hexadecimal digits, in no order.
    pub fn clickid(self, number: u64) -> String {
        let first = mix(self.seed ^ mix(number));
        format!("{first:016x}{:016x}", mix(first))
    }

    pub fn campaign(self, number: u64) -> i64 {
        i64::try_from(mix(number ^ 0x00ca_4a19) % CAMPAIGNS + 1).unwrap_or(1)
    }

    fn site(self, number: u64) -> u64 {
        mix(number ^ 0x0051_7e00) % SITES
    }

    /// As it is sent: two fraction digits.
    pub fn revenue(self, number: u64) -> String {
        format!("{}.{:02}", number % 700 / 100, number % 100)
    }

    /// The click as `POST /v1/clicks` takes it.
    pub fn click(self, number: u64) -> String {
        format!(
            r#"{{"v":1,"clickid":"{}","campaign_id":{},"site_id":"{}","source":"bench"}}"#,
            self.clickid(number),
            self.campaign(number),
            self.site(number)
        )
    }

    /// What the postback `number` of a run that began with `first` is about.
    pub fn aim(self, number: u64, first: u64, shares: Mix) -> Aim {
        match shares.storm {
            Some(Storm::Duplicate) => return Aim::Same(first),
            Some(Storm::NotFound) => return Aim::Unknown(u64::MAX - number),
            None => {}
        }
        let draw = |number: u64| mix(number ^ self.seed ^ 0x000d_1ce0) % 100;
        let drawn = draw(number);
        if drawn < shares.unknown {
            return Aim::Unknown(u64::MAX - number);
        }
        let other = shares.unknown + shares.duplicates;
        match number.checked_sub(BEHIND) {
            Some(earlier) if drawn < other && earlier >= first && draw(earlier) >= other => {
                Aim::Again(earlier)
            }
            _ => Aim::First(number),
        }
    }

    /// Writes clicks as lines for PostgreSQL's COPY, for the columns clickid, campaign_id, site_id, source,
    /// clicked_at. The last one was clicked a minute before `now`, the ones before it earlier: a day for each million,
    /// at most 25 days.
    pub fn write(
        self,
        out: &mut impl Write,
        numbers: Range<u64>,
        now: Timestamp,
    ) -> io::Result<()> {
        let total = numbers.end;
        for number in numbers {
            let age = ((total - number) * DAY / 1_000_000).min(25 * DAY) + 60;
            let at = now - SignedDuration::from_secs(i64::try_from(age).unwrap_or(0));
            let (clickid, campaign, site) = (
                self.clickid(number),
                self.campaign(number),
                self.site(number),
            );
            writeln!(out, "{clickid}\t{campaign}\t{site}\tbench\t{at}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const SET: Set = Set { seed: 1 };

    #[test]
    fn clickids_are_apart() {
        let many: BTreeSet<_> = (0..10_000).map(|number| SET.clickid(number)).collect();
        assert_eq!(many.len(), 10_000);
        assert!(many.iter().all(|id| id.len() == 32));
        assert_ne!(SET.clickid(7), Set { seed: 2 }.clickid(7));
    }

    #[test]
    fn a_duplicate_repeats_a_first_one() {
        let shares = Mix {
            duplicates: 10,
            unknown: 5,
            storm: None,
        };
        let (first, end) = (1_000, 201_000);
        let aims: Vec<_> = (first..end).map(|n| SET.aim(n, first, shares)).collect();
        let firsts: BTreeSet<u64> = aims
            .iter()
            .filter_map(|aim| match aim {
                Aim::First(number) => Some(*number),
                _ => None,
            })
            .collect();
        let mut again = 0;
        let mut unknown = 0;
        for (number, aim) in (first..end).zip(&aims) {
            match aim {
                Aim::Again(earlier) => {
                    assert!(firsts.contains(earlier) && earlier + BEHIND == number);
                    again += 1;
                }
                Aim::Unknown(_) => unknown += 1,
                _ => {}
            }
        }
        // Of the duplicates, those whose earlier one was a first; the beginning has none.
        assert!((14_000..17_000).contains(&again), "{again}");
        assert!((9_000..11_000).contains(&unknown), "{unknown}");
    }
}
