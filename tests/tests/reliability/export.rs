//! Exports of many rows: whole, and in little memory.

use crate::{full, on_fleets, say};
use postern_tests::checker::{Installation, StoreAccess};
use postern_tests::fleet::Fleet;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

on_fleets!(&[]; memory_of_an_export);

/// What a process may take beyond what it had, in bytes.
const GROWTH: f64 = 32.0 * 1024.0 * 1024.0;
const RESIDENT: &str = "process_resident_memory_bytes";

/// Exports everything as csv and as ndjson: every row arrives, the process that serves them grows
/// by less than 32 MiB, and a caller that leaves in the middle ends its export.
async fn memory_of_an_export(fleet: &mut Fleet) {
    let rows = if full() { 1_000_000 } else { 100_000 };
    let stack = &fleet.stack;
    let store = Installation::from(stack).store;
    let _rows = Rows::fill(&store, rows);
    let token = stack.admin_token();
    let url = |query: &str| {
        let reports = stack.reports_address();
        format!("http://{reports}/v1/conversions?token={token}&campaign_id=77&{query}")
    };
    // What a first question brings about isn't counted.
    let one = curl(&format!(
        "curl -sS --fail '{}'",
        url("format=csv&limit=1000")
    ));
    assert_eq!(
        one.stdout.iter().filter(|byte| **byte == b'\n').count(),
        1_001
    );

    let process = stack.reports.as_ref().unwrap_or(&stack.ingress);
    let before = process.metric(RESIDENT).await.unwrap();
    for (format, lines) in [("csv", rows + 1), ("ndjson", rows)] {
        let done = Arc::new(AtomicBool::new(false));
        let export = {
            // pipefail: an export that breaks off is an error of curl's.
            let export = url(&format!("format={format}"));
            let script = format!("set -o pipefail; curl -sS --fail '{export}' | wc -l");
            let done = Arc::clone(&done);
            std::thread::spawn(move || {
                let output = curl(&script);
                done.store(true, Ordering::Relaxed);
                output
            })
        };
        let mut most = before;
        while !done.load(Ordering::Relaxed) {
            most = most.max(process.metric(RESIDENT).await.unwrap());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let output = export.join().unwrap();
        let counted = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_eq!(counted, lines.to_string());
        let growth = most - before;
        say(&format!(
            "{rows} rows as {format}, {:?}: {:.1} MiB more",
            stack.kind,
            growth / 1024.0 / 1024.0
        ));
        assert!(growth < GROWTH, "{format}: {growth} bytes more");
    }
    // Four may run at a time: more callers than that leave in the middle.
    for _ in 0..8 {
        let part = curl(&format!(
            "curl -sS --fail '{}' | head -n 5",
            url("format=csv")
        ));
        assert_eq!(part.stdout.iter().filter(|byte| **byte == b'\n').count(), 5);
    }
    let end = curl(&format!(
        "curl -sS --fail '{}'",
        url("format=ndjson&limit=1")
    ));
    assert!(!end.stdout.is_empty());
}

fn curl(script: &str) -> Output {
    let output = Command::new("bash").args(["-c", script]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {error}");
    output
}

/// Conversions of a campaign of their own, in a partition that no consumer has. They go at the
/// end, also of a test that fails: the scenarios after it are checked against the whole store,
/// and no postback was ever made for these.
struct Rows<'a>(&'a StoreAccess);

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        self.0
            .execute("DELETE FROM conversions WHERE kafka_partition = 1077");
    }
}

impl<'a> Rows<'a> {
    fn fill(store: &'a StoreAccess, rows: u32) -> Self {
        let columns = "conversion_id, clickid, event, status, campaign_id, site_id, source, \
                       publisher_id, traffic_log_id, revenue_micros, currency, currency_sent, \
                       external_id, subid0, subid4, created_at, clicked_at, policy_version, \
                       kafka_partition, sequence, dedupe";
        let (numbers, id, time, yes) = match store {
            StoreAccess::Postgres(_) => (
                format!("generate_series(1::bigint, {rows}) AS t(n)"),
                "md5(n::text)::uuid",
                "timestamptz '2026-01-01' + n * interval '1 second'",
                "true",
            ),
            StoreAccess::Sqlite(_) => (
                format!(
                    "(WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < {rows}) \
                     SELECT n FROM t) AS t"
                ),
                "printf('%08x-0000-7000-8000-%012x', n, n)",
                "1767225600000000 + n * 1000000",
                "1",
            ),
        };
        store.execute(&format!(
            "INSERT INTO conversions ({columns}) \
             SELECT {id}, 'export-' || n, '', 'approved', 77, 'site-' || n % 100, 'popunder', '', '', \
                    n * 10000, 'USD', {yes}, 'tx-' || n, 'US', 'user-' || n, {time}, {time}, 1, 1077, \
                    n, 'click' FROM {numbers}"
        ));
        Self(store)
    }
}
