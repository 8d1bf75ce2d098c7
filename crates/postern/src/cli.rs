//! The command line.

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// A gateway for server-to-server postbacks.
#[derive(Debug, Parser)]
#[command(name = "postern", version, about, max_term_width = 100)]
pub struct Cli {
    /// Configuration file; without it postern.toml in the working directory, if there is one.
    /// Environment variables POSTERN__SECTION__KEY come after it.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take postbacks and clicks over HTTP, publish them to Kafka, answer.
    Ingress,
    /// Read clicks and postbacks from Kafka, decide, write, send verdicts.
    Consumer,
    /// Tell what was recorded over HTTP.
    Reports,
    /// Everything in one process, with an embedded broker and store in one directory.
    #[cfg(feature = "standalone")]
    Standalone,
    /// Bring the store's schema up to this release.
    Migrate,
    /// The Kafka topics.
    Topics {
        #[command(subcommand)]
        command: TopicsCommand,
    },
}

/// What to do with the topics.
#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// Make the topics that don't exist.
    Create,
    /// Hold the topics against what they must be; fails where a promise is broken.
    Check,
}
