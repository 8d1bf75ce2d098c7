//! The load generator behind docs/BENCHMARKS.md: a click set, and postbacks of it, every answer read and judged.
//!
//! In an open loop a latency counts from the time at which the request was due, not from the one at which a
//! connection was free for it: a server that stalls can't slow its own measurement down. An error counts as slow,
//! however fast it came. The generator speaks to loopback addresses only.

mod answer;
mod client;
mod load;
mod prepare;
mod report;
mod set;
mod target;

use anyhow::{Context as _, ensure};
use clap::{Args, Parser, Subcommand};
use std::io::{BufWriter, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use crate::answer::Kind;
use crate::set::{Mix, Set, Storm};
use crate::target::Target;

/// Clicks and postbacks of a set that is made of a seed.
#[derive(Debug, Parser)]
#[command(name = "postern-bench", version, max_term_width = 100)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints clicks for PostgreSQL's COPY: clickid, campaign_id, site_id, source, clicked_at.
    Clicks(Numbers),
    /// Publishes clicks through an ingress.
    Publish(Publish),
    /// Sends postbacks and tells what was answered, and how fast.
    ///
    /// The table goes to standard error, JSON to standard output. Fails where an answer was wrong.
    Load(Load),
}

#[derive(Debug, Args)]
struct Numbers {
    /// Of the set.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The first number.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many; of a load: at most so many.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    count: u64,
}

#[derive(Debug, Args)]
struct Publish {
    #[command(flatten)]
    numbers: Numbers,
    /// The ingress, as http://HOST:PORT.
    #[arg(long)]
    target: Target,
    /// The clicks token.
    #[arg(long)]
    token: String,
    /// Waits until all of them are read: sends probes until they convert.
    #[arg(long)]
    settle: bool,
}

#[derive(Debug, Args)]
struct Load {
    #[command(flatten)]
    numbers: Numbers,
    /// Servers, as http://HOST:PORT; connections are spread over them.
    #[arg(long, value_delimiter = ',', required = true)]
    target: Vec<Target>,
    /// Postbacks per second at fixed times; without it each connection sends one after the other.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=50_000))]
    rate: Option<u64>,
    /// How long is measured.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How long the same load runs before it is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=120))]
    warmup: u64,
    /// Connections, kept alive.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    connections: u64,
    /// Further connections that do nothing.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    idle: u64,
    /// Per cent of duplicates.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=50))]
    duplicates: u64,
    /// Per cent of unknown clickids.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=50))]
    unknown: u64,
    /// All of one kind.
    #[arg(long)]
    storm: Option<Storm>,
}

fn main() -> anyhow::Result<ExitCode> {
    match Options::parse().command {
        Command::Clicks(numbers) => {
            let set = Set { seed: numbers.seed };
            let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout());
            let range = numbers.from..numbers.from + numbers.count;
            set.write(&mut out, range, jiff::Timestamp::now())?;
            out.flush()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Publish(options) => {
            let token = &options.token;
            ensure!(
                !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()),
                "--token is not a token"
            );
            runtime()?.block_on(publish(&options))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Load(options) => load(&options),
    }
}

/// One thread: the machine's others are the server's.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")
}

async fn publish(options: &Publish) -> anyhow::Result<()> {
    let numbers = &options.numbers;
    let set = Set { seed: numbers.seed };
    let end = numbers.from + numbers.count;
    prepare::publish(&options.target, &options.token, set, numbers.from..end).await?;
    if options.settle {
        // Far from all numbers of loads.
        let probes = (1 << 40) + end;
        prepare::settle(&options.target, &options.token, set, probes).await?;
    }
    Ok(())
}

fn load(options: &Load) -> anyhow::Result<ExitCode> {
    let numbers = &options.numbers;
    let plan = load::Plan {
        targets: options.target.clone(),
        set: Set { seed: numbers.seed },
        shares: Mix {
            duplicates: options.duplicates,
            unknown: options.unknown,
            storm: options.storm,
        },
        first: numbers.from,
        count: numbers.count,
        rate: options.rate,
        connections: options.connections,
        idle: options.idle,
        warmup: Duration::from_secs(options.warmup),
        measured: Duration::from_secs(options.seconds),
    };
    let results = runtime()?.block_on(load::run(plan))?;
    let report = report::Report::of(options, &results);
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&report)?)?;
    write!(std::io::stderr(), "{}", report.table())?;
    Ok(if results.count(Kind::Wrong) == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
