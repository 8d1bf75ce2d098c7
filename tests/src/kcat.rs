//! Producers and consumers that know nothing of Postern: kcat, and Kafka's console producer where
//! kcat can't.

use serde_json::Value;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// A record as another program sees it.
#[derive(Clone, Debug)]
pub struct Record {
    pub partition: i64,
    pub offset: i64,
    /// `logappend` or `create`.
    pub time_type: String,
    /// Milliseconds since 1970; below 0 where it isn't told.
    pub time: i64,
    pub key: String,
    pub headers: Vec<(String, String)>,
    pub value: String,
}

impl Record {
    /// The value as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.value).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// How a broker is reached.
#[derive(Copy, Clone, Debug)]
pub struct Broker<'a> {
    pub bootstrap: &'a str,
    /// The embedded one: Debian's kcat can't read its answer to the newest form of the question
    /// which versions it speaks, so it isn't asked.
    pub embedded: bool,
}

impl Broker<'_> {
    fn command(self, mode: &str, topic: &str) -> Command {
        let mut command = Command::new("kcat");
        command.args([mode, "-b", self.bootstrap, "-t", topic]);
        if self.embedded {
            command.args(["-X", "api.version.request=false"]);
            command.args(["-X", "broker.version.fallback=0.9.0"]);
        }
        command
    }
}

/// All records of a topic, from the first to the end as it is now.
#[must_use]
pub fn read(broker: Broker<'_>, topic: &str) -> Vec<Record> {
    let output = broker
        .command("-C", topic)
        .args([
            "-o",
            "beginning",
            "-e",
            "-q",
            // For metadata, on a busy machine.
            "-m",
            "30",
            "-J",
            "-X",
            "fetch.wait.max.ms=20",
        ])
        .stdin(Stdio::null())
        .output()
        .expect("kcat starts");
    check(&output);
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(record)
        .collect()
}

fn record(line: &str) -> Record {
    let json: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let flat: Vec<String> = json["headers"]
        .as_array()
        .map(|list| list.iter().map(text).collect())
        .unwrap_or_default();
    Record {
        partition: json["partition"].as_i64().unwrap(),
        offset: json["offset"].as_i64().unwrap(),
        time_type: text(&json["tstype"]),
        time: json["ts"].as_i64().unwrap_or(-1),
        key: text(&json["key"]),
        headers: flat
            .chunks_exact(2)
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect(),
        value: text(&json["payload"]),
    }
}

/// Where a produced record goes.
#[derive(Copy, Clone, Debug)]
pub enum To {
    /// By its key, as Kafka's Java client does it.
    Murmur2,
    /// One of so many, against all rules.
    Partition { partition: i32, of: i32 },
}

/// Produces one record and waits for its acknowledgement.
pub fn produce(broker: Broker<'_>, topic: &str, to: To, key: &str, value: &[u8]) {
    if broker.embedded {
        return produce_by_java(broker, topic, to, key, value);
    }
    let mut command = broker.command("-P", topic);
    // The whole of standard input is one value.
    command.args(["-k", key, "-X", "acks=all", "-D", "\u{1}"]);
    match to {
        To::Murmur2 => command.args(["-X", "partitioner=murmur2_random"]),
        To::Partition { partition, .. } => command.args(["-p", &partition.to_string()]),
    };
    fed(command, value);
}

/// Kafka's console producer: the old form in which kcat could write to the embedded broker isn't
/// understood there. It takes lines, and chooses the partition by the key alone.
fn produce_by_java(broker: Broker<'_>, topic: &str, to: To, key: &str, value: &[u8]) {
    let key = match to {
        To::Murmur2 => key.to_owned(),
        To::Partition { partition, of } => (0..)
            .map(|number| format!("{key}~{number}"))
            .find(|key| murmur2_partition(key, of) == partition)
            .unwrap(),
    };
    let jars = crate::real::kafka_jars();
    let mut command = Command::new("java");
    command
        .args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .args(["-cp", &format!("{jars}/*")])
        .arg("org.apache.kafka.tools.ConsoleProducer")
        .args(["--bootstrap-server", broker.bootstrap, "--topic", topic])
        .args(["--reader-property", "parse.key=true"])
        .args(["--command-property", "acks=all"]);
    let line = [key.as_bytes(), b"\t", value, b"\n"].concat();
    fed(command, &line);
}

/// Runs it with `input` on its standard input.
fn fed(mut command: Command, input: &[u8]) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    check(&output);
    // The console producer reports a record that it lost and ends well all the same.
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!error.contains("ERROR"), "{command:?}: {error}");
}

fn check(output: &Output) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The partition that Kafka's Java client chooses, after its documentation: written anew here, to
/// hold the product against.
#[must_use]
pub fn murmur2_partition(key: &str, partitions: i32) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let bytes = key.as_bytes();
    let mut hash = 0x9747_b28c ^ u32::try_from(bytes.len()).unwrap();
    for chunk in bytes.chunks(4) {
        if let Ok(word) = <[u8; 4]>::try_from(chunk) {
            let mut k = u32::from_le_bytes(word).wrapping_mul(M);
            k ^= k >> 24;
            hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
        } else {
            for (place, byte) in chunk.iter().enumerate() {
                hash ^= u32::from(*byte) << (8 * place);
            }
            hash = hash.wrapping_mul(M);
        }
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^= hash >> 15;
    i32::try_from(hash & 0x7fff_ffff).unwrap() % partitions
}
