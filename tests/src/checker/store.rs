//! Reading the store: one look at all tables at one moment, by the engine's own program.

use super::evidence::{
    Campaign, Click, Conversion, Key, Logged, Partition, Place, Spoken, Statement, Step, Store,
    Stored, Sum, Version, Waiting,
};
use super::records::Row;
use serde_json::Value;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// How the store is reached.
#[derive(Clone, Debug)]
pub enum StoreAccess {
    /// By URL.
    Postgres(String),
    /// Standalone's file.
    Sqlite(PathBuf),
}

/// Each table with its columns; those that end in `_at`, and `bucket`, are times.
const TABLES: [(&str, &str); 13] = [
    ("topics", "partitions"),
    (
        "partitions",
        "partition, clicks, postbacks, sequence, published, unmatched",
    ),
    ("campaigns", "campaign_id, version, settings, secret"),
    (
        "campaign_versions",
        "campaign_id, version, settings, secret_set",
    ),
    (
        "clicks",
        "clickid, campaign_id, site_id, source, publisher_id, traffic_log_id, clicked_at, \
         kafka_partition, kafka_offset",
    ),
    (
        "conversions",
        "conversion_id, clickid, event, campaign_id, site_id, source, publisher_id, \
         traffic_log_id, revenue_micros, currency, currency_sent, external_id, subid0, subid1, \
         subid2, subid3, subid4, created_at, clicked_at, policy_version, kafka_partition, sequence, \
         status, dedupe, present, present_at, present_id",
    ),
    (
        "conversion_statuses",
        "conversion_id, status_at, status_id, status, policy_version, kafka_partition, sequence",
    ),
    (
        "postback_log",
        "request_id, received_at, outcome, reason, conversion_id, campaign_id, status, observed, \
         policy_version, clickid, revenue_micros, currency, external_id, event, status_word, \
         kafka_partition, kafka_offset, changed_outcome, changed_reason, changed_conversion_id, \
         changed_campaign_id, changed_status, changed_observed, changed_policy_version",
    ),
    (
        "unmatched",
        "request_id, clickid, partition, kafka_offset, postback",
    ),
    (
        "conversion_stats",
        "campaign_id, bucket, site_id, source, currency, status, partition, conversions, \
         revenue_whole, revenue_micros",
    ),
    (
        "click_stats",
        "campaign_id, bucket, site_id, source, partition, clicks",
    ),
    (
        "conversion_totals",
        "campaign_id, bucket, site_id, source, currency, status, partition, conversions, \
         revenue_whole, revenue_micros",
    ),
    (
        "click_totals",
        "campaign_id, bucket, site_id, source, partition, clicks",
    ),
];

/// Totals of all slots, the columns of each status as a row.
const CONVERSION_TOTALS: &str = "(SELECT t.campaign_id, t.bucket, '' AS site_id, '' AS source, \
    t.currency, s.status, 0 AS partition, \
    CASE s.status WHEN 'approved' THEN t.a WHEN 'pending' THEN t.p WHEN 'rejected' THEN t.r \
        ELSE t.v END AS conversions, \
    CASE s.status WHEN 'approved' THEN t.aw WHEN 'pending' THEN t.pw WHEN 'rejected' THEN t.rw \
        ELSE t.vw END AS revenue_whole, \
    CASE s.status WHEN 'approved' THEN t.am WHEN 'pending' THEN t.pm WHEN 'rejected' THEN t.rm \
        ELSE t.vm END AS revenue_micros \
    FROM (SELECT campaign_id, bucket, currency, sum(approved) AS a, sum(pending) AS p, \
        sum(rejected) AS r, sum(reversed) AS v, sum(approved_whole) AS aw, \
        sum(pending_whole) AS pw, sum(rejected_whole) AS rw, sum(reversed_whole) AS vw, \
        sum(approved_micros) AS am, sum(pending_micros) AS pm, sum(rejected_micros) AS rm, \
        sum(reversed_micros) AS vm FROM conversion_totals GROUP BY 1, 2, 3) t \
    CROSS JOIN (SELECT 'approved' AS status UNION ALL SELECT 'pending' UNION ALL \
        SELECT 'rejected' UNION ALL SELECT 'reversed') s) t";

/// Totals of all slots.
const CLICK_TOTALS: &str = "(SELECT campaign_id, bucket, '' AS site_id, '' AS source, \
    0 AS partition, sum(clicks) AS clicks FROM click_totals GROUP BY 1, 2) t";

/// The log with the latest change of each row beside it.
const LOG: &str = "(SELECT l.*, c.outcome AS changed_outcome, c.detail AS changed_reason, \
                   c.conversion_id AS changed_conversion_id, c.campaign_id AS changed_campaign_id, \
                   c.status AS changed_status, c.observed AS changed_observed, \
                   c.policy_version AS changed_policy_version \
                   FROM postback_log l LEFT JOIN postback_changes c \
                   ON c.request_id = l.request_id AND c.step = (SELECT max(step) \
                   FROM postback_changes m WHERE m.request_id = l.request_id)) l";

/// Conversions with their present status beside their own.
const CONVERSIONS: &str = "(SELECT v.*, c.status AS present, c.status_at AS present_at, \
                           c.status_id AS present_id FROM conversions v \
                           JOIN current_conversions c ON c.conversion_id = v.conversion_id) v";

impl StoreAccess {
    /// All tables, as of one moment.
    ///
    /// # Errors
    ///
    /// What the engine's program says.
    pub fn read(&self) -> Result<Store, String> {
        let queries: Vec<String> = TABLES
            .iter()
            .map(|(table, columns)| self.select(table, columns))
            .collect();
        let mut store = Store::default();
        for row in self.run(&queries)? {
            take(&mut store, &row).ok_or_else(|| format!("a row of an unknown form: {row}"))?;
        }
        Ok(store)
    }

    /// Where the partitions stand.
    ///
    /// # Errors
    ///
    /// What the engine's program says.
    pub fn partitions(&self) -> Result<Vec<Partition>, String> {
        let (table, columns) = TABLES[1];
        let rows = self.run(&[self.select(table, columns)])?;
        Ok(rows.iter().filter_map(partition).collect())
    }

    /// All rows of a table, as text.
    #[must_use]
    pub fn dump(&self, table: &str) -> String {
        let rows = self.run(&[format!("SELECT * FROM {table}")]);
        Value::from(rows.unwrap_or_else(|error| panic!("{table}: {error}"))).to_string()
    }

    /// Changes something, past Postern: for tests that plant a fault.
    pub fn execute(&self, sql: &str) {
        let mut command = match self {
            Self::Postgres(_) => self.psql(),
            Self::Sqlite(path) => {
                let mut command = Command::new("sqlite3");
                command.args(["-bail", "-cmd", ".timeout 10000"]).arg(path);
                command
            }
        };
        output(&mut command, sql).unwrap_or_else(|error| panic!("{sql:.500}: {error}"));
    }

    fn select(&self, table: &str, columns: &str) -> String {
        let column = |name: &str| {
            let is_time = name.ends_with("_at") || name == "bucket";
            match self {
                Self::Postgres(_) if is_time => {
                    format!("(extract(epoch FROM {name}) * 1000000)::bigint AS {name}")
                }
                _ => name.to_owned(),
            }
        };
        let columns: Vec<String> = columns.split(", ").map(column).collect();
        let from = match table {
            "postback_log" => LOG,
            "conversions" => CONVERSIONS,
            "conversion_totals" => CONVERSION_TOTALS,
            "click_totals" => CLICK_TOTALS,
            table => table,
        };
        format!(
            "SELECT '{table}' AS \"table\", {} FROM {from}",
            columns.join(", ")
        )
    }

    /// The rows of all queries, read in one transaction.
    fn run(&self, queries: &[String]) -> Result<Vec<Value>, String> {
        let (mut command, script) = match self {
            Self::Postgres(_) => {
                let mut script =
                    "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;\n".to_owned();
                for query in queries {
                    script.push_str(&format!("SELECT row_to_json(t) FROM ({query}) t;\n"));
                }
                (self.psql(), script)
            }
            Self::Sqlite(path) => {
                let mut command = Command::new("sqlite3");
                command
                    .args(["-readonly", "-bail", "-json", "-cmd", ".timeout 10000"])
                    .arg(path);
                (command, format!("BEGIN;\n{};\n", queries.join(";\n")))
            }
        };
        let text = output(&mut command, &script)?;
        let mut rows = Vec::new();
        for value in serde_json::Deserializer::from_slice(&text).into_iter() {
            match value.map_err(|error| format!("{command:?}: {error}"))? {
                // One row by itself, or all of a query.
                Value::Array(list) => rows.extend(list),
                row => rows.push(row),
            }
        }
        Ok(rows)
    }

    fn psql(&self) -> Command {
        let mut command = Command::new("psql");
        command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"]);
        if let Self::Postgres(url) = self {
            command.arg(url);
        }
        command
    }
}

fn output(command: &mut Command, script: &str) -> Result<Vec<u8>, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{command:?}: {error}"))?;
    // Short enough for the pipe; one that ended early says why on its standard error.
    let fed = child
        .stdin
        .take()
        .map(|mut input| input.write_all(script.as_bytes()));
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    let error = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || !matches!(fed, Some(Ok(()))) {
        return Err(format!("{:?}: {error}", command.get_program()));
    }
    Ok(output.stdout)
}

fn take(store: &mut Store, json: &Value) -> Option<()> {
    let row = Row(json);
    match row.text("table")?.as_str() {
        "topics" => store.topic_partitions = row.number("partitions")?,
        "partitions" => store.partitions.push(partition(json)?),
        "campaigns" => store.campaigns.push(Campaign {
            campaign_id: row.number("campaign_id")?,
            version: row.number("version")?,
            settings: row.json("settings")?,
            secret: row.text("secret"),
        }),
        "campaign_versions" => store.versions.push(Version {
            campaign_id: row.number("campaign_id")?,
            version: row.number("version")?,
            settings: row.json("settings")?,
            secret_set: row.flag("secret_set")?,
        }),
        "clicks" => store.clicks.push(Click {
            place: kafka_place(&row)?,
            clickid: row.text("clickid")?,
            campaign_id: row.number("campaign_id")?,
            labels: labels(&row)?,
            clicked_at: Some(row.number("clicked_at")?),
        }),
        "conversions" => store.conversions.push(Stored {
            partition: row.number("kafka_partition")?,
            sequence: row.number("sequence")?,
            conversion: conversion(&row)?,
            present: Spoken {
                at: row.number("present_at")?,
                id: row.text("present_id")?,
                status: row.text("present")?,
            },
        }),
        "conversion_statuses" => store.statements.push(Statement {
            conversion_id: row.text("conversion_id")?,
            spoken: Spoken {
                at: row.number("status_at")?,
                id: row.text("status_id")?,
                status: row.text("status")?,
            },
            policy_version: row.number("policy_version")?,
            partition: row.number("kafka_partition")?,
            sequence: row.number("sequence"),
        }),
        "postback_log" => store.log.push(logged(&row)?),
        "unmatched" => store.unmatched.push(Waiting {
            request_id: row.text("request_id")?,
            clickid: row.text("clickid")?,
            place: Place {
                partition: row.number("partition")?,
                offset: row.number("kafka_offset")?,
            },
            postback: row.text("postback")?,
        }),
        "conversion_stats" => store.conversion_stats.push(conversion_sum(&row)?),
        "conversion_totals" => store.conversion_totals.push(conversion_sum(&row)?),
        "click_stats" => store.click_stats.push(click_sum(&row)?),
        "click_totals" => store.click_totals.push(click_sum(&row)?),
        _ => return None,
    }
    Some(())
}

fn conversion_sum(row: &Row) -> Option<Sum> {
    Some(Sum {
        key: key(row)?,
        count: row.number("conversions")?,
        whole: row.number("revenue_whole")?,
        micros: row.number("revenue_micros")?,
    })
}

fn click_sum(row: &Row) -> Option<Sum> {
    Some(Sum {
        key: key(row)?,
        count: row.number("clicks")?,
        whole: 0,
        micros: 0,
    })
}

fn partition(json: &Value) -> Option<Partition> {
    let row = Row(json);
    Some(Partition {
        partition: row.number("partition")?,
        clicks: row.number("clicks")?,
        postbacks: row.number("postbacks")?,
        sequence: row.number("sequence")?,
        published: row.number("published")?,
        unmatched: row.number("unmatched")?,
    })
}

fn kafka_place(row: &Row<'_>) -> Option<Place> {
    Some(Place {
        partition: row.number("kafka_partition")?,
        offset: row.number("kafka_offset")?,
    })
}

fn labels(row: &Row<'_>) -> Option<[String; 4]> {
    Some([
        row.text("site_id")?,
        row.text("source")?,
        row.text("publisher_id")?,
        row.text("traffic_log_id")?,
    ])
}

fn key(row: &Row<'_>) -> Option<Key> {
    Some(Key {
        campaign_id: row.number("campaign_id")?,
        bucket: row.number("bucket")?,
        site_id: row.text("site_id")?,
        source: row.text("source")?,
        currency: row.text("currency"),
        status: row.text("status"),
        partition: row.number("partition")?,
    })
}

fn conversion(row: &Row<'_>) -> Option<Conversion> {
    let subids = ["subid0", "subid1", "subid2", "subid3", "subid4"];
    let conversion_id = row.text("conversion_id")?;
    Some(Conversion {
        // The one that it came with is its own postback's.
        status: Spoken {
            at: row.number("created_at")?,
            id: conversion_id.clone(),
            status: row.text("status")?,
        },
        conversion_id,
        clickid: row.text("clickid")?,
        event: row.text("event")?,
        campaign_id: row.number("campaign_id")?,
        labels: labels(row)?,
        micros: row.number("revenue_micros")?,
        currency: row.text("currency")?,
        currency_sent: row.flag("currency_sent")?,
        external_id: row.text("external_id"),
        subids: subids.iter().map(|name| row.text(name)).collect(),
        created_at: row.number("created_at")?,
        clicked_at: row.number("clicked_at")?,
        policy_version: row.number("policy_version")?,
        dedupe: row.text("dedupe")?,
    })
}

fn logged(row: &Row<'_>) -> Option<Logged> {
    Some(Logged {
        request_id: row.text("request_id")?,
        received_at: row.number("received_at")?,
        first: step(row, "")?,
        change: step(row, "changed_"),
        clickid: row.text("clickid"),
        micros: row.number("revenue_micros"),
        currency: row.text("currency"),
        external_id: row.text("external_id"),
        event: row.text("event"),
        status_word: row.text("status_word"),
        place: kafka_place(row),
    })
}

/// The columns of a step; none where there was no such step.
fn step(row: &Row<'_>, prefix: &str) -> Option<Step> {
    let name = |name: &str| format!("{prefix}{name}");
    Some(Step {
        outcome: row.text(&name("outcome"))?,
        why: row.text(&name("reason")),
        conversion_id: row.text(&name("conversion_id")),
        campaign_id: row.number(&name("campaign_id")),
        status: row.text(&name("status")),
        observed: row.text(&name("observed")),
        policy_version: row.number(&name("policy_version"))?,
    })
}
