//! The binary: command line, configuration, assembly of roles. Nothing is decided here.

mod cli;
mod commands;
mod config;
mod kafka_metrics;
mod random;
mod roles;
mod startup;
mod store_metrics;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _};
use cli::{
    CampaignCommand, Cli, Command, ConfigCommand, SpoolCommand, TokenCommand, TopicsCommand,
};
use config::{Role, Settings};
use mimalloc::MiMalloc;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Logs may not be set up yet, and whoever started us reads this.
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "postern: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let file = cli.config.as_deref();
    let role = match &cli.command {
        Command::Config { command } => {
            return match command {
                ConfigCommand::Check { roles } => commands::configuration::check(file, roles),
                ConfigCommand::Reference => commands::configuration::show_reference(),
            };
        }
        Command::Completions { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(*shell, &mut command, "postern", &mut std::io::stdout());
            return Ok(());
        }
        other => other.role(),
    };
    // With huge pages an ingress holds twice as much, and isn't faster. A system that doesn't know
    // them needs not be told.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let settings = Settings::load(file, role)?;
    postern_runtime::telemetry::init(&settings.log.filter, settings.log.format)
        .context("log.filter")?;
    #[cfg(feature = "failpoints")]
    postern_failpoint::set_up();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the async runtime could not be started")?;
    let done = runtime.block_on(async {
        match &cli.command {
            Command::Ingress => roles::ingress::run(settings).await,
            Command::Consumer => roles::consumer::run(settings).await,
            Command::Reports => roles::reports::run(settings).await,
            #[cfg(feature = "standalone")]
            Command::Standalone => roles::standalone::run(settings).await,
            Command::Migrate => commands::migrate(&settings).await,
            Command::Topics { command } => match command {
                TopicsCommand::Create => commands::create_topics(&settings).await,
                TopicsCommand::Check => commands::check_topics(&settings).await,
            },
            Command::Campaign { command } => match command {
                CampaignCommand::Set(args) => commands::campaign::set(&settings, args).await,
                CampaignCommand::Show { id, version } => {
                    commands::campaign::show(&settings, *id, *version).await
                }
                CampaignCommand::List { json } => commands::campaign::list(&settings, *json).await,
                CampaignCommand::Import { file } => {
                    commands::campaign::import(&settings, file).await
                }
            },
            Command::Doctor => commands::doctor::doctor(&settings).await,
            Command::Replay(args) => commands::replay::replay(&settings, args).await,
            Command::Send(args) => commands::send::send(&settings, args).await,
            Command::Parse { url } => commands::parse::parse(&settings, url),
            Command::Spool { command } => match command {
                SpoolCommand::Inspect { place, records } => {
                    commands::spool::inspect(&settings, place.directory.as_deref(), *records)
                }
                SpoolCommand::Drain { place } => {
                    commands::spool::drain(&settings, place.directory.as_deref()).await
                }
            },
            Command::Token { command } => match command {
                TokenCommand::Create(args) => commands::token::create(&settings, args).await,
                TokenCommand::List => commands::token::list(&settings).await,
                TokenCommand::Revoke { id } => commands::token::revoke(&settings, id).await,
            },
            // These ended above, before anything was configured.
            Command::Config { .. } | Command::Completions { .. } => Ok(()),
        }
    });
    // A thread that is stuck in a library must not hold the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

impl Command {
    fn role(&self) -> Role {
        match self {
            Self::Ingress => Role::Ingress,
            Self::Consumer => Role::Consumer,
            Self::Reports => Role::Reports,
            #[cfg(feature = "standalone")]
            Self::Standalone => Role::Standalone,
            Self::Migrate => Role::Migrate,
            Self::Topics { .. } | Self::Spool { .. } | Self::Doctor => Role::Topics,
            Self::Campaign { .. } | Self::Token { .. } | Self::Replay(_) => Role::Admin,
            Self::Parse { .. }
            | Self::Send { .. }
            | Self::Config { .. }
            | Self::Completions { .. } => Role::Rules,
        }
    }
}
