//! Commands that do one thing and end.

pub mod campaign;
pub mod configuration;
pub mod doctor;
pub mod parse;
pub mod replay;
pub mod send;
pub mod spool;
pub mod token;

use crate::config::Settings;
use crate::roles::consumer::open_store;
use crate::startup::topic_admin;
use anyhow::{Context as _, bail};
use std::io::Write as _;

fn say(line: &str) {
    // Nobody may be there to read it.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// `postern migrate`.
pub async fn migrate(settings: &Settings) -> anyhow::Result<()> {
    let store = open_store(settings)?;
    let applied = store
        .migrate()
        .await
        .context("the store can't be migrated")?;
    for migrated in &applied {
        say(&format!("applied {:04} {}", migrated.number, migrated.name));
    }
    if applied.is_empty() {
        say("the schema is up to date");
    }
    Ok(())
}

/// `postern topics create`.
pub async fn create_topics(settings: &Settings) -> anyhow::Result<()> {
    let topics = topic_admin(&settings.kafka.connection()?)?;
    let created = topics.create(&settings.kafka.plan).await?;
    for topic in &created {
        say(&format!("made {topic}"));
    }
    if created.is_empty() {
        say("all topics exist");
    }
    Ok(())
}

/// `postern topics check`.
pub async fn check_topics(settings: &Settings) -> anyhow::Result<()> {
    let topics = topic_admin(&settings.kafka.connection()?)?;
    let findings = topics.check(&settings.kafka.plan).await?;
    for finding in &findings {
        let weight = if finding.fatal { "broken" } else { "differs" };
        say(&format!("{weight}: {} {}", finding.topic, finding.what));
    }
    if findings.iter().any(|finding| finding.fatal) {
        bail!("the topics can't be used as they are");
    }
    if findings.is_empty() {
        say("all topics are as they must be");
    }
    Ok(())
}
