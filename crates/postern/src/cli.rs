//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use postern_runtime::settings::Span;
use serde_json::{Map, Value};
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
    /// Settings of campaigns.
    Campaign {
        #[command(subcommand)]
        command: CampaignCommand,
    },
    /// Look at all that the roles need, a line for each thing: configuration, Kafka, topics, store,
    /// clock, directory; fails where something must be mended, and says how. Changes nothing.
    Doctor,
    /// The configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Send a postback, and tell what it is answered and what becomes of it; fails where it is
    /// refused. It counts like any other.
    Send(SendArgs),
    /// Tell how a postback's URL is understood, by the rules of the configuration; fails where the
    /// postback would be refused. Needs neither store nor Kafka.
    Parse {
        /// The URL, or what stands behind its question mark.
        url: String,
    },
    /// Decide postbacks once more, with their own ids and times, by the clicks and settings of now.
    /// What converted stays. Tells what each became.
    Replay(ReplayArgs),
    /// The spool of an ingress.
    Spool {
        #[command(subcommand)]
        command: SpoolCommand,
    },
    /// Tokens for the HTTP endpoints.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// A script that completes this command line, for a shell to read at its start.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read it as roles would at their start; fails where one would not start. Without names:
    /// ingress, consumer and reports.
    Check {
        /// The roles.
        roles: Vec<ConfigRole>,
    },
    /// All keys, their defaults and what they mean, as docs/CONFIGURATION.md has them.
    Reference,
}

/// Whom a configuration is for.
#[derive(Copy, Clone, Debug, ValueEnum)]
pub enum ConfigRole {
    Ingress,
    Consumer,
    Reports,
    #[cfg(feature = "standalone")]
    Standalone,
}

/// Which postbacks are decided again.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Those that were taken, or those that were refused, which are read anew first.
    #[arg(long)]
    pub topic: ReplayTopic,
    /// Received from then on: a time ago, for example 2h, or a date or timestamp in UTC.
    #[arg(long, value_name = "TIME")]
    pub from: String,
    /// Received before then; else up to now.
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Only those with clickid, request_id, address, reason (of a refused one), outcome (as it is now)
    /// or campaign_id as given; of several, all must fit.
    #[arg(long, value_name = "NAME=VALUE")]
    pub filter: Vec<String>,
    /// Only tell what each would become.
    #[arg(long)]
    pub dry_run: bool,
}

/// Where postbacks are read from.
#[derive(Copy, Clone, Debug, ValueEnum)]
pub enum ReplayTopic {
    Postbacks,
    Rejects,
}

/// What is sent where.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// The postback's URL, as its caller has it.
    #[arg(default_value = "http://127.0.0.1:8080/v1/postback.php")]
    pub url: String,
    /// First make a click of this campaign, and add its clickid to the URL. Needs clicks.token, or
    /// standalone's data_dir.
    #[arg(long, value_name = "ID")]
    pub campaign: Option<i64>,
    /// Where the role reports answers, if not where the URL points to.
    #[arg(long, value_name = "URL")]
    pub reports: Option<String>,
}

/// What to do with the topics.
#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// Make the topics that don't exist.
    Create,
    /// Hold the topics against what they must be; fails where a promise is broken.
    Check,
}

/// What to do with a spool.
#[derive(Debug, Subcommand)]
pub enum SpoolCommand {
    /// Tell what lies there, also while an ingress uses it.
    Inspect {
        #[command(flatten)]
        place: SpoolPlace,
        /// The records themselves, one JSON object per line.
        #[arg(long)]
        records: bool,
    },
    /// Hand what lies there to Kafka, where no ingress uses it any more.
    Drain {
        #[command(flatten)]
        place: SpoolPlace,
    },
}

/// Where a spool lies.
#[derive(Debug, Args)]
pub struct SpoolPlace {
    /// Its directory, for example that of a disk from another machine; else data_dir/spool.
    #[arg(long = "dir", value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
}

/// What to do with campaigns.
#[derive(Debug, Subcommand)]
pub enum CampaignCommand {
    /// Change what is named, leave the rest; tells how the campaign then stands.
    Set(Box<SetArgs>),
    /// Tell how a campaign stands.
    Show {
        /// The campaign.
        id: i64,
        /// What one of its versions said.
        #[arg(long)]
        version: Option<i64>,
    },
    /// List all campaigns, a line each.
    List {
        /// As one JSON object per line, which import takes.
        #[arg(long)]
        json: bool,
    },
    /// Set campaigns from a file of one JSON object per line, all or none; - is standard input.
    Import {
        /// The file.
        file: PathBuf,
    },
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and show it, this once.
    Create(TokenArgs),
    /// List all tokens, a line each: id, what it allows, state, when it was made, name.
    List,
    /// Make a token worth nothing, at once.
    Revoke {
        /// Its id, as list tells it.
        id: String,
    },
}

/// What a token allows, and for how long.
#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(flatten)]
    pub grant: GrantArgs,
    /// A time from now, for example 90d, or a date or timestamp in UTC. Without it for ever.
    #[arg(long, value_name = "TIME")]
    pub expires: Option<String>,
    /// Whose it is, for people.
    #[arg(long, default_value = "")]
    pub name: String,
}

/// One of the three.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct GrantArgs {
    /// Everything.
    #[arg(long)]
    pub admin: bool,
    /// Reading what belongs to the campaigns whose settings name this advertiser.
    #[arg(long, value_name = "ADVERTISER")]
    pub advertiser: Option<String>,
    /// Reading what belongs to these campaigns.
    #[arg(long, value_name = "ID", num_args = 1.., value_delimiter = ',')]
    pub campaign: Vec<i64>,
}

/// What is changed of a campaign. docs/API.md says what each setting means.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The campaign.
    pub id: i64,
    /// Who advertises.
    #[arg(long)]
    advertiser: Option<String>,
    /// What it is called.
    #[arg(long)]
    name: Option<String>,
    /// active, paused or closed.
    #[arg(long)]
    status: Option<String>,
    /// Where clicks are redirected to, with macros such as {clickid}.
    #[arg(long, value_name = "URL")]
    tracking_url: Option<String>,
    #[arg(long, conflicts_with = "tracking_url")]
    no_tracking_url: bool,
    /// Of postbacks that name none.
    #[arg(long, value_name = "CODE")]
    default_currency: Option<String>,
    /// click, txid or event.
    #[arg(long)]
    dedupe: Option<String>,
    /// Oldest click that converts, for example 30d.
    #[arg(long, value_name = "TIME")]
    attribution_window: Option<Span>,
    #[arg(long, conflicts_with = "attribution_window")]
    no_attribution_window: bool,
    /// enforce or observe.
    #[arg(long, value_name = "MODE")]
    window_check: Option<String>,
    /// Where postbacks may come from; given several times, all of these. Replaces those before.
    #[arg(long, value_name = "CIDR")]
    network: Vec<String>,
    #[arg(long, conflicts_with = "network")]
    no_networks: bool,
    /// enforce or observe.
    #[arg(long, value_name = "MODE")]
    network_check: Option<String>,
    /// Reads what postbacks are signed with; - is standard input.
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Makes a secret and shows it, this once.
    #[arg(long, conflicts_with = "secret_file")]
    pub new_secret: bool,
    /// Postbacks need not be signed any more.
    #[arg(long, conflicts_with_all = ["secret_file", "new_secret"])]
    pub no_secret: bool,
    /// enforce or observe.
    #[arg(long, value_name = "MODE")]
    signature_check: Option<String>,
    /// Whether postbacks name statuses.
    #[arg(long, value_name = "true|false")]
    statuses: Option<bool>,
    /// approved, pending, rejected or reversed.
    #[arg(long, value_name = "STATUS")]
    default_status: Option<String>,
}

impl SetArgs {
    /// Writes what is named over settings as the API has them.
    pub fn apply(&self, settings: &mut Map<String, Value>) {
        let mut set = |name: &str, value: Value| settings.insert(name.to_owned(), value);
        for (name, value) in [
            ("advertiser", &self.advertiser),
            ("name", &self.name),
            ("status", &self.status),
            ("tracking_url", &self.tracking_url),
            ("default_currency", &self.default_currency),
            ("dedupe", &self.dedupe),
            ("window_check", &self.window_check),
            ("network_check", &self.network_check),
            ("signature_check", &self.signature_check),
            ("default_status", &self.default_status),
        ] {
            if let Some(text) = value {
                set(name, text.as_str().into());
            }
        }
        if self.no_tracking_url {
            set("tracking_url", Value::Null);
        }
        if let Some(window) = self.attribution_window {
            // Parts of a second stay, to be refused rather than cut off.
            let whole = window.0.subsec_nanos() == 0;
            let value = match whole {
                true => window.0.as_secs().into(),
                false => window.0.as_secs_f64().into(),
            };
            set("attribution_window", value);
        }
        if self.no_attribution_window {
            set("attribution_window", Value::Null);
        }
        if !self.network.is_empty() || self.no_networks {
            set("networks", self.network.as_slice().into());
        }
        if let Some(statuses) = self.statuses {
            set("statuses", statuses.into());
        }
    }
}
