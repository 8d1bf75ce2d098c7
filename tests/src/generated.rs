//! Conversions and clicks that are made up, the same in each run: a set for reports to be tested
//! on, and what reports must say of it.
//!
//! [`load`] puts a set into the store past Postern, with the sums that Postern would have kept;
//! [`question`] answers from the list what is asked over HTTP, [`sums`] what statistics are;
//! [`answers`] and [`csv`] read what comes back.

pub mod answers;
pub mod csv;
pub mod load;
pub mod question;
pub mod sums;
pub mod texts;
pub mod zone;

use std::collections::HashSet;
use texts::{CAMPAIGNS, CURRENCIES, EVENTS, ODD, SOURCES};

/// By their place in this list statuses are told here.
pub const STATUSES: [&str; 4] = ["approved", "pending", "rejected", "reversed"];

pub const SECOND: i64 = 1_000_000;
pub const QUARTER: i64 = 15 * 60 * SECOND;
const HOUR: i64 = 4 * QUARTER;
const DAY: i64 = 24 * HOUR;

/// 2026-10-25T01:00:00Z: in Berlin it is three o'clock, and then two once more.
pub const CLOCKS_GO_BACK: i64 = 1_792_890_000 * SECOND;
/// So many conversions lie on this microsecond that it fills whole pages.
pub const CROWDED: i64 = CLOCKS_GO_BACK - 1;
/// The same of clicks: a full quarter of an hour.
const CROWDED_CLICKS: i64 = CLOCKS_GO_BACK - 2 * QUARTER;

/// A click. Times are microseconds since 1970.
#[derive(Clone, Debug)]
pub struct Click {
    pub clickid: String,
    pub campaign: i64,
    pub site: String,
    pub source: String,
    pub at: i64,
}

/// What a later postback said of a conversion's status.
#[derive(Clone, Debug)]
pub struct Said {
    pub at: i64,
    pub id: String,
    pub status: usize,
}

#[derive(Clone, Debug)]
pub struct Conversion {
    pub id: String,
    pub click: Click,
    pub event: String,
    pub external_id: Option<String>,
    pub subids: [Option<String>; 5],
    pub micros: i64,
    pub currency: &'static str,
    pub created_at: i64,
    /// The status that it came with.
    pub first: usize,
    pub said: Vec<Said>,
}

impl Conversion {
    /// The status that was said last, by time, then by id.
    #[must_use]
    pub fn present(&self) -> usize {
        let own = (self.created_at, &self.id, self.first);
        let said = self
            .said
            .iter()
            .map(|said| (said.at, &said.id, said.status));
        said.chain([own]).max().map_or(self.first, |last| last.2)
    }
}

/// What a set is made of.
#[derive(Copy, Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub conversions: usize,
    /// Clicks that don't convert.
    pub clicks: usize,
    /// The first day, counted from the one on which the clocks go back, and the last.
    pub days: (i64, i64),
    /// Keeps its rows apart from those that Postern wrote.
    pub partition: i32,
}

#[derive(Debug)]
pub struct Set {
    pub plan: Plan,
    pub conversions: Vec<Conversion>,
    /// Those that converted first.
    pub clicks: Vec<Click>,
    /// How many of these converted.
    pub converted: usize,
}

impl Set {
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let mut making = Making {
            plan,
            chance: Chance(plan.seed),
            keys: HashSet::new(),
            clicks: Vec::new(),
        };
        let conversions = (0..plan.conversions).map(|_| making.conversion());
        let conversions = conversions.collect();
        let converted = making.clicks.len();
        for _ in 0..plan.clicks {
            let at = making.time();
            making.click(at);
        }
        Self {
            plan,
            conversions,
            clicks: making.clicks,
            converted,
        }
    }
}

/// Numbers that look random and are the same in each run (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn within(&mut self, from: i64, to: i64) -> i64 {
        from + (self.next() % (to - from).unsigned_abs()).cast_signed()
    }

    fn percent(&mut self, part: usize) -> bool {
        self.below(100) < part
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// An id in no order of time.
    fn id(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-7{:03x}-8{:03x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            low >> 52,
            low & 0xffff_ffff_ffff
        )
    }
}

struct Making {
    plan: Plan,
    chance: Chance,
    /// Of a key there is one conversion: clickid, event, external id or blank.
    keys: HashSet<(String, String, String)>,
    clicks: Vec<Click>,
}

impl Making {
    /// A time of a conversion or of a click that doesn't convert.
    fn time(&mut self) -> i64 {
        let (first, last) = self.plan.days;
        let (from, to) = (CLOCKS_GO_BACK + first * DAY, CLOCKS_GO_BACK + last * DAY);
        let near = (CLOCKS_GO_BACK - DAY, CLOCKS_GO_BACK + DAY);
        let has_change = from <= near.0 && near.1 <= to;
        let (chosen, mut at) = (self.chance.below(100), self.chance.within(from, to));
        if has_change && chosen < 25 {
            at = self.chance.within(near.0, near.1);
        }
        let quarter = at - at.rem_euclid(QUARTER);
        match chosen {
            0..3 if has_change => CROWDED,
            3..12 | 30..50 => quarter,
            50..55 => quarter - 1,
            _ => at,
        }
    }

    fn click(&mut self, at: i64) -> Click {
        let number = self.clicks.len();
        let odd = match self.chance.percent(3) {
            true => self.chance.of(&["=", "'", "a,\"b\" ", "😀", "@", "-"]),
            false => "",
        };
        let click = Click {
            clickid: format!("{odd}generated-{}-{number}", self.plan.seed),
            campaign: match self.chance.percent(30) {
                true => CAMPAIGNS[0],
                false => self.chance.of(&CAMPAIGNS[1..]),
            },
            site: match self.chance.below(30) {
                0 => String::new(),
                1 => "=HYPERLINK(\"x\",1)".to_owned(),
                2 => "Größe, 7".to_owned(),
                number => format!("site-{number}"),
            },
            source: self.chance.of(&SOURCES).to_owned(),
            at,
        };
        self.clicks.push(click.clone());
        click
    }

    fn clicked_at(&mut self, created_at: i64) -> i64 {
        let before = match self.chance.below(100) {
            // The clocks of two machines.
            0 => self.chance.within(-HOUR, 0),
            1..50 => self.chance.within(60 * SECOND, HOUR),
            50..80 => self.chance.within(HOUR, DAY),
            _ => self.chance.within(DAY, 12 * DAY),
        };
        let at = created_at - before;
        if (CROWDED_CLICKS..CROWDED_CLICKS + 3 * DAY).contains(&created_at)
            && self.chance.percent(10)
        {
            return CROWDED_CLICKS;
        }
        match self.chance.percent(20) {
            true => at - at.rem_euclid(QUARTER),
            false => at,
        }
    }

    fn conversion(&mut self) -> Conversion {
        let event = self.chance.of(&EVENTS).to_owned();
        let external_id = match self.chance.below(20) {
            0..4 => None,
            4 => Some(String::new()),
            5..8 => Some(self.chance.of(&ODD).to_owned()),
            _ => Some(format!("order-{}", self.chance.below(50_000))),
        };
        let created_at = self.time();
        let known = match self.clicks.is_empty() || !self.chance.percent(15) {
            true => None,
            false => {
                let number = self.chance.below(self.clicks.len());
                Some(self.clicks[number].clone())
            }
        };
        let blank = external_id.clone().unwrap_or_default();
        let key = |click: &Click| (click.clickid.clone(), event.clone(), blank.clone());
        let click = match known.filter(|click| !self.keys.contains(&key(click))) {
            Some(click) => click,
            None => {
                let at = self.clicked_at(created_at);
                self.click(at)
            }
        };
        self.keys.insert(key(&click));
        let first = self.status();
        Conversion {
            id: self.chance.id(),
            click,
            event,
            external_id,
            subids: self.subids(),
            micros: self.micros(),
            currency: match self.chance.percent(60) {
                true => CURRENCIES[0],
                false => self.chance.of(&CURRENCIES[1..]),
            },
            created_at,
            first,
            said: self.said(created_at),
        }
    }

    fn status(&mut self) -> usize {
        match self.chance.below(10) {
            0..6 => 0,
            6..8 => 1,
            8 => 2,
            _ => 3,
        }
    }

    /// Mostly nothing. What was said before the conversion came, in a postback that was held up,
    /// changes nothing.
    fn said(&mut self, created_at: i64) -> Vec<Said> {
        if !self.chance.percent(12) {
            return Vec::new();
        }
        let count = 1 + self.chance.below(3);
        let said = (0..count).map(|_| Said {
            at: match self.chance.below(10) {
                0 => created_at,
                1 => created_at - self.chance.within(1, HOUR),
                _ => created_at + self.chance.within(1, 5 * DAY),
            },
            id: self.chance.id(),
            status: self.status(),
        });
        said.collect()
    }

    fn subids(&mut self) -> [Option<String>; 5] {
        let odd = self.chance.of(&ODD).to_owned();
        let some = |text: String, is_there: bool| is_there.then_some(text);
        [
            some(format!("s{}", self.chance.below(40)), true),
            some(odd, self.chance.percent(80)),
            some(
                format!("{}", self.chance.below(1_000)),
                self.chance.percent(50),
            ),
            some(String::new(), self.chance.percent(30)),
            some(self.chance.of(&ODD).repeat(3), self.chance.percent(4)),
        ]
    }

    fn micros(&mut self) -> i64 {
        match self.chance.below(1_000) {
            // Two of these leave 64 bits.
            0 => 9_000_000_000_000 * SECOND,
            1..100 => 0,
            100..110 => 1,
            110..500 => self.chance.within(1, 50_000) * 10_000,
            _ => self.chance.within(1, 500 * SECOND),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_reports_could_get_wrong() {
        let plan = Plan {
            seed: 1,
            conversions: 5_000,
            clicks: 1_000,
            days: (-24, 18),
            partition: 1_000,
        };
        let set = Set::new(plan);
        let again = Set::new(plan);
        assert_eq!(format!("{set:?}"), format!("{again:?}"));
        let count =
            |is: &dyn Fn(&Conversion) -> bool| set.conversions.iter().filter(|one| is(one)).count();
        assert!(count(&|one| one.created_at == CROWDED) > 100);
        assert!(count(&|one| one.click.at == CROWDED_CLICKS) > 20);
        assert!(count(&|one| one.created_at % QUARTER == 0) > 1_000);
        assert!(count(&|one| one.present() != one.first) > 100);
        assert!(count(&|one| one.external_id.is_none()) > 500);
        assert!(count(&|one| one.external_id.as_deref() == Some("")) > 100);
        let large = count(&|one| one.click.campaign == CAMPAIGNS[0]);
        assert!((1_400..1_600).contains(&large), "{large}");
        let ids: HashSet<_> = set.conversions.iter().map(|one| &one.id).collect();
        assert_eq!(ids.len(), 5_000);
        let clickids: HashSet<_> = set.clicks.iter().map(|one| &one.clickid).collect();
        assert_eq!(clickids.len(), set.clicks.len());
    }
}
