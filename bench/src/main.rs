//! An open-loop load generator for the main path: clicks first, then one known postback for each
//! of them at fixed times, every answer read and judged.
//!
//! A latency counts from the time at which the request was due, not from the one at which a
//! connection was free for it: a server that stalls can't slow its own measurement down. An error
//! counts as slow, however fast it came. The generator speaks to loopback addresses only.

mod answer;
mod client;
mod load;
mod prepare;
mod report;
mod target;

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::answer::Kind;
use crate::target::Target;

/// Most postbacks in one run.
const MOST: u64 = 2_000_000;

/// Sends distinct known postbacks at a fixed rate and tells what was answered, and how fast.
///
/// The table goes to standard error, the JSON to standard output. Fails where an answer was wrong:
/// other values than were sent, or click_not_found for a click that had been acknowledged.
#[derive(Debug, Parser)]
#[command(name = "postern-bench", version, max_term_width = 100)]
struct Options {
    /// Ingresses, as http://HOST:PORT; connections are spread over them.
    #[arg(long, value_delimiter = ',', required = true)]
    ingress: Vec<Target>,
    /// The clicks token.
    #[arg(long)]
    token: String,
    /// Postbacks per second.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=50_000))]
    rate: u64,
    /// How long is measured.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How long the same load runs before it is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=120))]
    warmup: u64,
    /// Connections, kept alive.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1024))]
    connections: u64,
    /// Names the run in its results.
    #[arg(long, default_value = "")]
    label: String,
    /// Appends the run to this file as a row of a Markdown table.
    #[arg(long, value_name = "FILE")]
    append: Option<PathBuf>,
}

/// What a run is about.
#[derive(Debug)]
struct Plan {
    targets: Vec<Target>,
    token: String,
    rate: u64,
    connections: u64,
    /// Requests that are sent and not measured.
    warmup: u64,
    /// All requests.
    total: u64,
    /// Sets this run's clickids apart from those of every other run.
    run: u64,
}

impl Plan {
    /// The clickid of one request.
    fn clickid(&self, number: u64) -> String {
        format!("{:016x}{number:016x}", self.run)
    }

    /// The revenue of one request as it is sent: two fraction digits.
    fn revenue(number: u64) -> String {
        format!("{}.{:02}", number % 700 / 100, number % 100)
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let plan = plan(&options)?;
    // One thread: the machine's others are the server's.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    let results = runtime.block_on(async {
        prepare::clicks(&plan).await?;
        prepare::settle(&plan).await?;
        load::run(&plan).await
    })?;
    let report = report::Report::of(&options, &results);
    let mut out = std::io::stdout();
    writeln!(out, "{}", serde_json::to_string(&report)?)?;
    write!(std::io::stderr(), "{}", report.table())?;
    if let Some(path) = &options.append {
        report
            .append(path)
            .with_context(|| format!("{} can't be written", path.display()))?;
    }
    let untrue = results.count(Kind::Wrong) + results.count(Kind::NotFound);
    Ok(if untrue == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn plan(options: &Options) -> anyhow::Result<Plan> {
    let total = options.rate * (options.seconds + options.warmup);
    ensure!(
        total <= MOST,
        "{total} postbacks are more than {MOST}: lower --rate or --seconds"
    );
    if options.token.bytes().any(|byte| !byte.is_ascii_graphic()) || options.token.is_empty() {
        bail!("--token is not a token");
    }
    let run = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_micros();
    Ok(Plan {
        targets: options.ingress.clone(),
        token: options.token.clone(),
        rate: options.rate,
        connections: options.connections,
        warmup: options.rate * options.warmup,
        total,
        run: u64::try_from(run).unwrap_or_default(),
    })
}
