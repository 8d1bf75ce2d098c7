//! The topics: what they must be, making them, and checking them.

use crate::client::{Connection, refused};
use crate::consumer::Lag;
use crate::error::KafkaError;
use crate::topic_id;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaErrorCode as Code;
use std::time::Duration;

/// Clicks and barriers, keyed by clickid.
pub const CLICKS: &str = "postern.clicks";
/// Normalized postbacks, keyed by clickid.
pub const POSTBACKS: &str = "postern.postbacks";
/// Batches of verdicts, per ingress instance.
pub const VERDICTS: &str = "postern.verdicts";
/// Conversion events for downstream systems, keyed by clickid.
pub const CONVERSIONS: &str = "postern.conversions";
/// What the ingress must know of campaigns, compacted.
pub const CAMPAIGNS: &str = "postern.campaigns";
/// What was refused or could not be processed.
pub const REJECTS: &str = "postern.rejects";

/// How long each topic keeps its records.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Attribution window and replay horizon.
    pub clicks: Duration,
    /// How far back a replay can go.
    pub postbacks: Duration,
    /// For downstream systems.
    pub conversions: Duration,
}

/// What the topics shall be.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TopicPlan {
    /// Partitions of clicks, postbacks and conversions.
    pub partitions: i32,
    /// Partitions of verdicts.
    pub verdict_partitions: i32,
    /// Copies of each record; 1 only with `kafka.allow_single_replica`.
    pub replication: i32,
    /// How long records are kept.
    pub retention: Retention,
}

/// One topic as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: &'static str,
    /// Its partitions.
    pub partitions: i32,
    /// Its settings.
    pub settings: Vec<(&'static str, String)>,
}

impl TopicPlan {
    /// Every topic with its settings.
    #[must_use]
    pub fn specs(&self) -> Vec<TopicSpec> {
        let kept = |name, partitions, retention: Duration| TopicSpec {
            name,
            partitions,
            settings: vec![
                ("cleanup.policy", "delete".to_owned()),
                ("message.timestamp.type", "LogAppendTime".to_owned()),
                ("retention.ms", retention.as_millis().to_string()),
                ("min.insync.replicas", self.min_insync().to_string()),
                ("unclean.leader.election.enable", "false".to_owned()),
            ],
        };
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let mut verdicts = kept(VERDICTS, self.verdict_partitions, Duration::from_secs(600));
        // A segment is deleted whole: a small one lets minutes of retention mean minutes.
        verdicts.settings.push(("segment.ms", "600000".to_owned()));
        let mut campaigns = kept(CAMPAIGNS, 1, DAY);
        campaigns
            .settings
            .retain(|(name, _)| *name != "retention.ms");
        campaigns.settings[0].1 = "compact".to_owned();
        vec![
            kept(CLICKS, self.partitions, self.retention.clicks),
            kept(POSTBACKS, self.partitions, self.retention.postbacks),
            verdicts,
            kept(CONVERSIONS, self.partitions, self.retention.conversions),
            campaigns,
            kept(REJECTS, 1, 30 * DAY),
        ]
    }

    fn min_insync(&self) -> i32 {
        if self.replication >= 3 { 2 } else { 1 }
    }
}

/// Something about a topic that must or should be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The topic.
    pub topic: &'static str,
    /// Whether a promise is broken by it, so that no role may start.
    pub fatal: bool,
    /// What is found, and what to do.
    pub what: String,
}

/// Makes, checks and measures topics. Its calls block, except where they are `async`.
pub struct TopicAdmin {
    admin: AdminClient<DefaultClientContext>,
    reader: BaseConsumer,
    timeout: Duration,
}

impl TopicAdmin {
    /// Makes the clients; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Config`] where librdkafka refuses the options.
    pub fn new(connection: &Connection, timeout: Duration) -> Result<Self, KafkaError> {
        Ok(Self {
            admin: connection
                .config("admin")
                .create()
                .map_err(|error| refused("kafka admin", &error))?,
            reader: connection
                .config("admin")
                .create()
                .map_err(|error| refused("kafka admin", &error))?,
            timeout,
        })
    }

    /// Whether a broker answers.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Unavailable`].
    pub fn ping(&self) -> Result<(), KafkaError> {
        self.reader
            .fetch_metadata(Some(POSTBACKS), self.timeout)
            .map(|_| ())
            .map_err(|error| KafkaError::Unavailable(error.to_string()))
    }

    /// Makes the topics that don't exist; gives their names. Existing ones stay as they are.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Topics`] says which could not be made and why.
    pub async fn create(&self, plan: &TopicPlan) -> Result<Vec<String>, KafkaError> {
        let specs = plan.specs();
        let mut missing = Vec::new();
        for spec in &specs {
            if self.described(spec.name)?.is_none() {
                missing.push(spec);
            }
        }
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let topics: Vec<NewTopic<'_>> = missing
            .into_iter()
            .map(|spec| {
                let replication = TopicReplication::Fixed(plan.replication);
                let mut topic = NewTopic::new(spec.name, spec.partitions, replication);
                for (name, value) in &spec.settings {
                    topic = topic.set(name, value);
                }
                topic
            })
            .collect();
        let results = self
            .admin
            .create_topics(&topics, &self.options())
            .await
            .map_err(|error| KafkaError::Unavailable(error.to_string()))?;
        let mut created = Vec::new();
        let mut failed = Vec::new();
        for result in results {
            match result {
                Ok(name) => created.push(name),
                Err((_, Code::TopicAlreadyExists)) => {}
                Err((name, Code::InvalidReplicationFactor)) => failed.push(format!(
                    "{name}: the cluster has fewer than {} brokers; add brokers, or accept one \
                     copy with kafka.allow_single_replica",
                    plan.replication
                )),
                Err((name, code)) => failed.push(format!("{name}: {code}")),
            }
        }
        if failed.is_empty() {
            Ok(created)
        } else {
            Err(KafkaError::Topics(failed.join("; ")))
        }
    }

    /// Holds the topics against the plan.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Unavailable`] where the cluster can't be asked.
    pub async fn check(&self, plan: &TopicPlan) -> Result<Vec<Finding>, KafkaError> {
        let mut findings = Vec::new();
        for spec in plan.specs() {
            match self.described(spec.name)? {
                None => findings.push(Finding {
                    topic: spec.name,
                    fatal: true,
                    what: "does not exist: run postern topics create".to_owned(),
                }),
                Some((partitions, replication)) => {
                    check_shape(&mut findings, plan, &spec, partitions, replication);
                }
            }
        }
        let clicks = self.described(CLICKS)?.map(|(partitions, _)| partitions);
        let postbacks = self.described(POSTBACKS)?.map(|(partitions, _)| partitions);
        if let (Some(clicks), Some(postbacks)) = (clicks, postbacks)
            && clicks != postbacks
        {
            findings.push(Finding {
                topic: CLICKS,
                fatal: true,
                what: format!(
                    "has {clicks} partitions and {POSTBACKS} has {postbacks}: they must have the \
                     same number, so that a click and its postbacks meet"
                ),
            });
        }
        self.check_settings(plan, &mut findings).await?;
        Ok(findings)
    }

    async fn check_settings(
        &self,
        plan: &TopicPlan,
        findings: &mut Vec<Finding>,
    ) -> Result<(), KafkaError> {
        let specs: Vec<TopicSpec> = plan
            .specs()
            .into_iter()
            .filter(|spec| !findings.iter().any(|f| f.topic == spec.name && f.fatal))
            .collect();
        let names: Vec<ResourceSpecifier<'_>> = specs
            .iter()
            .map(|spec| ResourceSpecifier::Topic(spec.name))
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        let found = self
            .admin
            .describe_configs(&names, &self.options())
            .await
            .map_err(|error| KafkaError::Unavailable(error.to_string()))?;
        for (spec, resource) in specs.iter().zip(found) {
            let resource: ConfigResource =
                resource.map_err(|code| KafkaError::Unavailable(code.to_string()))?;
            let entries = resource.entry_map();
            for (name, wanted) in &spec.settings {
                let Some(value) = entries.get(name).and_then(|entry| entry.value.as_deref()) else {
                    continue;
                };
                if value != wanted {
                    findings.push(Finding {
                        topic: spec.name,
                        fatal: match *name {
                            "message.timestamp.type" => true,
                            // With one copy there is nothing that these could keep.
                            "min.insync.replicas" | "unclean.leader.election.enable" => {
                                plan.replication > 1
                            }
                            _ => false,
                        },
                        what: format!("{name} is {value}, expected {wanted}"),
                    });
                }
            }
        }
        Ok(())
    }

    /// Partition count and smallest number of copies of a topic, if it exists.
    fn described(&self, topic: &str) -> Result<Option<(i32, i32)>, KafkaError> {
        let metadata = blocking(|| self.reader.fetch_metadata(Some(topic), self.timeout))
            .map_err(|error| KafkaError::Unavailable(error.to_string()))?;
        let Some(found) = metadata
            .topics()
            .iter()
            .find(|found| found.name() == topic && !found.partitions().is_empty())
        else {
            return Ok(None);
        };
        let replicas = found
            .partitions()
            .iter()
            .map(|partition| partition.replicas().len())
            .min()
            .unwrap_or(0);
        Ok(Some((
            i32::try_from(found.partitions().len()).unwrap_or(i32::MAX),
            i32::try_from(replicas).unwrap_or(i32::MAX),
        )))
    }

    /// Partition count of a topic.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Topics`] where it doesn't exist, [`KafkaError::Unavailable`].
    pub fn partitions(&self, topic: &str) -> Result<i32, KafkaError> {
        blocking(|| crate::tail::partition_count(&self.reader, topic, self.timeout))
    }

    /// Kafka's id of a topic, which changes when it is deleted and made anew; `None` where the
    /// broker doesn't tell.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Unavailable`].
    pub fn topic_id(&self, topic: &str) -> Result<Option<String>, KafkaError> {
        blocking(|| topic_id::of(self.admin.inner(), topic, self.timeout))
    }

    /// The partitions' ends.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Unavailable`].
    pub fn ends(&self, topic: &str) -> Result<Vec<Lag>, KafkaError> {
        (0..self.partitions(topic)?)
            .map(|partition| {
                let (_, end) = self
                    .reader
                    .fetch_watermarks(topic, partition, self.timeout)
                    .map_err(|error| KafkaError::Unavailable(error.to_string()))?;
                Ok(Lag {
                    topic: topic.to_owned(),
                    partition,
                    end,
                })
            })
            .collect()
    }

    fn options(&self) -> AdminOptions {
        AdminOptions::new()
            .request_timeout(Some(self.timeout))
            .operation_timeout(Some(self.timeout))
    }
}

/// librdkafka's questions block: on a thread of the runtime, the others' tasks move elsewhere.
fn blocking<T>(question: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(question)
}

fn check_shape(
    findings: &mut Vec<Finding>,
    plan: &TopicPlan,
    spec: &TopicSpec,
    partitions: i32,
    replication: i32,
) {
    if partitions != spec.partitions {
        findings.push(Finding {
            topic: spec.name,
            // Clicks and postbacks are compared with each other and with the store.
            fatal: spec.name == CAMPAIGNS,
            what: format!("has {partitions} partitions, expected {}", spec.partitions),
        });
    }
    if replication < plan.replication {
        findings.push(Finding {
            topic: spec.name,
            fatal: true,
            what: format!(
                "has {replication} copies of each record, expected {}: add replicas, or accept \
                 it with kafka.allow_single_replica",
                plan.replication
            ),
        });
    }
}
