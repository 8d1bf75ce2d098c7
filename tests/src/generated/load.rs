//! A set goes into the store past Postern: rows, and the sums that Postern keeps beside them.

use super::zone::rfc3339;
use super::{Click, Conversion, QUARTER, SECOND, STATUSES, Set};
use crate::checker::StoreAccess;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Rows of an INSERT.
const ROWS: usize = 200;

enum Cell<'a> {
    Null,
    Text(&'a str),
    Integer(i64),
    Time(i64),
    Flag(bool),
}

use Cell::{Flag, Integer, Null, Text, Time};

fn maybe(text: Option<&String>) -> Cell<'_> {
    text.map_or(Null, |text| Text(text))
}

/// Puts a whole set into the store, in one transaction.
pub fn load(store: &StoreAccess, set: &Set) {
    let partition = i64::from(set.plan.partition);
    let mut script = Script::new(store);
    let clicks = set.clicks.iter().zip(0..);
    script.table(
        "clicks",
        "clickid, campaign_id, site_id, source, publisher_id, traffic_log_id, clicked_at, \
         kafka_partition, kafka_offset",
        clicks.map(|(click, offset)| {
            vec![
                Text(&click.clickid),
                Integer(click.campaign),
                Text(&click.site),
                Text(&click.source),
                Text("publisher"),
                Text("traffic-log"),
                Time(click.at),
                Integer(partition),
                Integer(offset),
            ]
        }),
    );
    let conversions = set.conversions.iter().zip(0..);
    script.table(
        "conversions",
        "conversion_id, clickid, event, status, campaign_id, site_id, source, publisher_id, \
         traffic_log_id, revenue_micros, currency, currency_sent, external_id, subid0, subid1, \
         subid2, subid3, subid4, created_at, clicked_at, policy_version, kafka_partition, \
         sequence, dedupe",
        conversions.map(|(one, sequence)| conversion(one, partition, sequence)),
    );
    let said = set.conversions.iter();
    let said = said.flat_map(|one| one.said.iter().map(move |said| (one, said)));
    script.table(
        "conversion_statuses",
        "conversion_id, status_at, status_id, status, policy_version, kafka_partition, sequence",
        said.map(|(one, said)| {
            vec![
                Text(&one.id),
                Time(said.at),
                Text(&said.id),
                Text(STATUSES[said.status]),
                Integer(0),
                Integer(partition),
                Null,
            ]
        }),
    );
    conversion_sums(&mut script, set);
    click_sums(&mut script, set);
    script.run();
}

fn conversion(one: &Conversion, partition: i64, sequence: i64) -> Vec<Cell<'_>> {
    let mut cells = vec![
        Text(&one.id),
        Text(&one.click.clickid),
        Text(&one.event),
        Text(STATUSES[one.first]),
        Integer(one.click.campaign),
        Text(&one.click.site),
        Text(&one.click.source),
        Text("publisher"),
        Text("traffic-log"),
        Integer(one.micros),
        Text(one.currency),
        Flag(true),
        maybe(one.external_id.as_ref()),
    ];
    cells.extend(one.subids.iter().map(|subid| maybe(subid.as_ref())));
    cells.extend([
        Time(one.created_at),
        Time(one.click.at),
        Integer(0),
        Integer(partition),
        Integer(sequence),
        Text("event"),
    ]);
    cells
}

/// Conversions, whole units and millionths.
type Sum = [i64; 3];

/// A conversion counts with its present status; the row that it left stays behind, at nothing if
/// nobody else counts there.
fn conversion_sums(script: &mut Script<'_>, set: &Set) {
    let mut sites = BTreeMap::<_, Sum>::new();
    let mut totals = BTreeMap::<_, [Sum; STATUSES.len()]>::new();
    for one in &set.conversions {
        let Click {
            campaign,
            site,
            source,
            ..
        } = &one.click;
        let bucket = one.created_at - one.created_at.rem_euclid(QUARTER);
        let units = [1, one.micros / SECOND, one.micros % SECOND];
        let (first, present) = (one.first, one.present());
        let total = totals.entry((*campaign, bucket, one.currency)).or_default();
        for (number, sign) in [(first, 1), (first, -1), (present, 1)] {
            let status = STATUSES[number];
            let key = (*campaign, bucket, site, source, one.currency, status);
            let site = sites.entry(key).or_default();
            let total = &mut total[number];
            for (place, unit) in units.iter().enumerate() {
                site[place] += sign * unit;
                total[place] += sign * unit;
            }
        }
    }
    let partition = i64::from(set.plan.partition);
    script.table(
        "conversion_stats",
        "campaign_id, bucket, site_id, source, currency, status, partition, conversions, \
         revenue_whole, revenue_micros",
        sites.iter().map(
            |((campaign, bucket, site, source, currency, status), [count, whole, micros])| {
                vec![
                    Integer(*campaign),
                    Time(*bucket),
                    Text(site),
                    Text(source),
                    Text(currency),
                    Text(status),
                    Integer(partition),
                    Integer(*count),
                    Integer(*whole),
                    Integer(*micros),
                ]
            },
        ),
    );
    let mut columns: Vec<String> = ["campaign_id", "bucket", "currency", "slot"]
        .map(str::to_owned)
        .to_vec();
    for status in STATUSES {
        columns.extend(["", "_whole", "_micros"].map(|end| format!("{status}{end}")));
    }
    script.table(
        "conversion_totals",
        &columns.join(", "),
        totals.iter().map(|((campaign, bucket, currency), sums)| {
            let mut cells = vec![
                Integer(*campaign),
                Time(*bucket),
                Text(currency),
                Integer(partition),
            ];
            cells.extend(sums.iter().flatten().map(|sum| Integer(*sum)));
            cells
        }),
    );
}

fn click_sums(script: &mut Script<'_>, set: &Set) {
    let mut sites = BTreeMap::<_, i64>::new();
    let mut totals = BTreeMap::<_, i64>::new();
    for click in &set.clicks {
        let bucket = click.at - click.at.rem_euclid(QUARTER);
        let key = (click.campaign, bucket, &click.site, &click.source);
        *sites.entry(key).or_default() += 1;
        *totals.entry((click.campaign, bucket)).or_default() += 1;
    }
    let partition = i64::from(set.plan.partition);
    script.table(
        "click_stats",
        "campaign_id, bucket, site_id, source, partition, clicks",
        sites
            .iter()
            .map(|((campaign, bucket, site, source), count)| {
                vec![
                    Integer(*campaign),
                    Time(*bucket),
                    Text(site),
                    Text(source),
                    Integer(partition),
                    Integer(*count),
                ]
            }),
    );
    script.table(
        "click_totals",
        "campaign_id, bucket, slot, clicks",
        totals.iter().map(|((campaign, bucket), count)| {
            vec![
                Integer(*campaign),
                Time(*bucket),
                Integer(partition),
                Integer(*count),
            ]
        }),
    );
}

/// What the engine's program reads: COPY for psql, INSERTs for sqlite3.
struct Script<'a> {
    store: &'a StoreAccess,
    text: String,
}

impl<'a> Script<'a> {
    fn new(store: &'a StoreAccess) -> Self {
        Self {
            store,
            text: "BEGIN;\n".to_owned(),
        }
    }

    fn table<'c>(&mut self, name: &str, columns: &str, rows: impl Iterator<Item = Vec<Cell<'c>>>) {
        if let StoreAccess::Postgres(_) = self.store {
            self.push(format_args!(
                "COPY {name} ({columns}) FROM STDIN WITH (FORMAT csv);\n"
            ));
            for row in rows {
                self.row(&row, Self::copied);
                self.text.push('\n');
            }
            self.text.push_str("\\.\n");
            return;
        }
        for (number, row) in rows.enumerate() {
            match number % ROWS {
                0 if number == 0 => {
                    self.push(format_args!("INSERT INTO {name} ({columns}) VALUES\n("))
                }
                0 => self.push(format_args!(");\nINSERT INTO {name} ({columns}) VALUES\n(")),
                _ => self.text.push_str("),\n("),
            }
            self.row(&row, Self::inserted);
        }
        self.text.push_str(");\n");
    }

    fn row(&mut self, cells: &[Cell<'_>], write: fn(&mut Self, &Cell<'_>)) {
        for (number, cell) in cells.iter().enumerate() {
            if number > 0 {
                self.text.push(',');
            }
            write(self, cell);
        }
    }

    /// Nothing is NULL; so each text is quoted, the empty one too.
    fn copied(&mut self, cell: &Cell<'_>) {
        match cell {
            Null => {}
            Text(text) => self.push(format_args!("\"{}\"", text.replace('"', "\"\""))),
            Integer(number) => self.push(format_args!("{number}")),
            Time(micros) => self.text.push_str(&rfc3339(*micros)),
            Flag(flag) => self.push(format_args!("{flag}")),
        }
    }

    fn inserted(&mut self, cell: &Cell<'_>) {
        match cell {
            Null => self.text.push_str("NULL"),
            // sqlite3 makes other line ends of some.
            Text(text) if text.contains(char::is_control) => {
                self.text.push_str("CAST(X'");
                for byte in text.bytes() {
                    self.push(format_args!("{byte:02x}"));
                }
                self.text.push_str("' AS TEXT)");
            }
            Text(text) => self.push(format_args!("'{}'", text.replace('\'', "''"))),
            Integer(number) | Time(number) => self.push(format_args!("{number}")),
            Flag(flag) => self.push(format_args!("{}", i32::from(*flag))),
        }
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        let _ = self.text.write_fmt(text);
    }

    fn run(mut self) {
        self.text.push_str("COMMIT;\n");
        // Plans are made for a store that has been running for a while.
        if let StoreAccess::Postgres(_) = self.store {
            self.text.push_str("ANALYZE;\n");
        }
        self.store.execute(&self.text);
    }
}
