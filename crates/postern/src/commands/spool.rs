//! `postern spool …`: looking into an ingress' spool, and emptying one that no ingress uses any
//! more, such as the disk of a machine that is gone.

use super::say;
use crate::config::Settings;
use crate::startup::{prepare_topics, topic_admin};
use anyhow::{Context as _, ensure};
use postern_ingress::{Drain, IngressMetrics, Spooled, Topic};
use postern_kafka::{Producer, ProducerOptions};
use postern_runtime::metrics::Metrics;
use postern_spool::{Spool, SpoolOptions};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `postern spool inspect`: what lies there. Changes nothing; an ingress may be using it.
pub fn inspect(settings: &Settings, directory: Option<&Path>, records: bool) -> anyhow::Result<()> {
    let directory = existing(settings, directory)?;
    let found = postern_spool::inspect(&directory)?;
    if records {
        for (_, _, payload) in &found.records {
            say(&String::from_utf8_lossy(payload));
        }
        return Ok(());
    }
    let mut topics: BTreeMap<Option<Topic>, usize> = BTreeMap::new();
    for (_, _, payload) in &found.records {
        let topic = Spooled::decode(payload).ok().map(|spooled| spooled.topic());
        *topics.entry(topic).or_default() += 1;
    }
    say(&format!("directory  {}", directory.display()));
    say(&format!(
        "segments   {}, {} bytes",
        found.segments, found.bytes
    ));
    say(&format!("records    {}", found.records.len()));
    for (topic, count) in topics {
        let name = topic.map_or("unreadable", Topic::name);
        say(&format!("           {count} {name}"));
    }
    if let (Some(first), Some(last)) = (found.records.first(), found.records.last()) {
        say(&format!("oldest     {}", first.1));
        say(&format!("newest     {}", last.1));
    }
    say(&format!("damaged    {} bytes", found.damaged));
    say(&format!("set aside  {} bytes", found.set_aside));
    Ok(())
}

/// `postern spool drain`: hands what lies there to Kafka.
pub async fn drain(settings: &Settings, directory: Option<&Path>) -> anyhow::Result<()> {
    let directory = existing(settings, directory)?;
    let opened = Spool::open(SpoolOptions {
        directory: directory.clone(),
        // Nothing is added to it.
        max_bytes: settings.spool_bytes.unwrap_or(u64::MAX),
    })?;
    for aside in &opened.set_aside {
        let (bytes, file) = (aside.bytes, aside.file.display());
        say(&format!("{bytes} damaged bytes were set aside in {file}"));
    }
    let spool = opened.spool;
    let connection = settings.kafka.connection()?;
    let topics = topic_admin(&connection)?;
    let partitions = prepare_topics(&settings.kafka, &topics)
        .await
        .context("the topics can't be used")?;
    let producer = Producer::new(
        &connection,
        &ProducerOptions {
            name: "drain".to_owned(),
            delivery_timeout: Duration::from_secs(30),
            queue_messages: 10_000,
        },
    )?;
    let metrics = IngressMetrics::new(&Metrics::new("postern")?)?;
    let drain = Drain::alone(producer, partitions, spool.clone(), metrics);
    let outcome = drain.until_empty().await;
    let left = spool.status();
    outcome.with_context(|| {
        let records = left.entries;
        format!("{records} records are left; nothing is lost, run it again")
    })?;
    say("the spool is empty");
    if left.set_aside > 0 {
        say("what was set aside stays where it is: it could not be read");
    }
    Ok(())
}

fn existing(settings: &Settings, directory: Option<&Path>) -> anyhow::Result<PathBuf> {
    let directory = directory.map_or_else(|| settings.spool_directory(), Path::to_owned);
    ensure!(
        directory.is_dir(),
        "{} is no directory: --dir says where the spool lies, else data_dir/spool",
        directory.display()
    );
    Ok(directory)
}
