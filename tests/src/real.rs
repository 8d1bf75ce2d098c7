//! Apache Kafka and PostgreSQL: given by the caller, or started through the scripts in deploy/.

use crate::directory;
use crate::proxy::Proxy;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// Bootstrap brokers of a Kafka to use instead of one of our own.
pub const KAFKA: &str = "POSTERN_TEST_KAFKA";
/// URL of a PostgreSQL to use; its role may create databases.
pub const POSTGRES: &str = "POSTERN_TEST_POSTGRES";

/// The disk of a PostgreSQL that can be filled.
const STORE_BYTES: u64 = 3 * 1024 * 1024 * 1024;

/// A Kafka and a PostgreSQL.
#[derive(Debug)]
pub struct World {
    pub bootstrap: String,
    /// URL of a database that nobody else uses.
    pub store: String,
    /// Proxies before them, where they were asked for.
    pub proxies: Option<Proxies>,
    kafka: Option<PathBuf>,
    postgres: Option<PathBuf>,
}

/// What stands before Kafka and PostgreSQL.
#[derive(Debug)]
pub struct Proxies {
    pub kafka: Proxy,
    pub store: Proxy,
}

impl World {
    /// What the caller gave, the rest of our own.
    #[must_use]
    pub fn given() -> Self {
        Self::start(std::env::var(KAFKA).ok(), std::env::var(POSTGRES).ok())
    }

    /// All of our own, to be stopped and started at will.
    #[must_use]
    pub fn own() -> Self {
        Self::start(None, None)
    }

    /// All of our own, a proxy before each.
    #[must_use]
    pub fn proxied() -> Self {
        let proxies = Proxies {
            kafka: Proxy::start(),
            store: Proxy::start(),
        };
        let kafka = directory::fresh("kafka");
        let advertised = proxies.kafka.address.port().to_string();
        let line = script(
            "kafka/kafka.sh",
            "start",
            &kafka,
            &["--advertise", &advertised],
        );
        proxies
            .kafka
            .lead_to(value(&line, "bootstrap=").parse().unwrap());
        // Of its own size, so that it can be filled.
        let postgres = directory::limited("postgres", STORE_BYTES)
            .unwrap_or_else(|| directory::fresh("postgres"));
        let line = script("postgres/postgres.sh", "start", &postgres, &[]);
        let server = value(&line, "url=");
        let mut world = Self::start(Some(proxies.kafka.address.to_string()), Some(server));
        world.postgres = Some(postgres);
        let (before, rest) = world.store.split_once('@').unwrap();
        let (server, database) = rest.split_once('/').unwrap();
        proxies.store.lead_to(server.parse().unwrap());
        world.store = format!("{before}@{}/{database}", proxies.store.address);
        world.kafka = Some(kafka);
        world.proxies = Some(proxies);
        world
    }

    /// All of our own, with three brokers: replication 3, two of them in sync at least.
    #[must_use]
    pub fn three_brokers() -> Self {
        let kafka = directory::fresh("kafka");
        let line = script("kafka/kafka.sh", "start", &kafka, &["--brokers", "3"]);
        let mut world = Self::start(Some(value(&line, "bootstrap=")), None);
        world.kafka = Some(kafka);
        world
    }

    fn start(kafka: Option<String>, postgres: Option<String>) -> Self {
        let mut world = Self {
            bootstrap: String::new(),
            store: String::new(),
            proxies: None,
            kafka: None,
            postgres: None,
        };
        world.bootstrap = kafka.unwrap_or_else(|| {
            let dir = directory::fresh("kafka");
            let line = script("kafka/kafka.sh", "start", &dir, &[]);
            world.kafka = Some(dir);
            value(&line, "bootstrap=")
        });
        let server = postgres.unwrap_or_else(|| {
            let dir = directory::fresh("postgres");
            let line = script("postgres/postgres.sh", "start", &dir, &[]);
            world.postgres = Some(dir);
            value(&line, "url=")
        });
        world.store = database(&server);
        world
    }

    /// Ends PostgreSQL, disconnecting everybody.
    pub fn stop_store(&self) {
        self.store_script("stop");
    }

    /// Starts PostgreSQL again, on its port.
    pub fn start_store(&self) {
        self.store_script("start");
    }

    /// Ends Kafka as a crash would.
    pub fn kill_kafka(&self) {
        self.kafka_script("kill", &[]);
    }

    /// Starts Kafka again, on its ports.
    pub fn start_kafka(&self) {
        self.kafka_script("start", &[]);
    }

    /// Ends both for good.
    pub fn end(&self) {
        self.kill_kafka();
        self.store_script("kill");
    }

    /// A Kafka tool on this cluster; gives its output.
    pub fn kafka_script(&self, command: &str, arguments: &[&str]) -> String {
        let dir = self.kafka.as_ref().expect("a Kafka of our own");
        script("kafka/kafka.sh", command, dir, arguments)
    }

    /// What kafka.sh says of the brokers, also where some are down.
    #[must_use]
    pub fn kafka_status(&self) -> String {
        let path = directory::repository().join("deploy/kafka/kafka.sh");
        let dir = self.kafka.as_ref().expect("a Kafka of our own");
        let output = Command::new(path)
            .args(["status", "--dir"])
            .arg(dir)
            .output();
        String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
    }

    /// Asks the store.
    #[must_use]
    pub fn query(&self, sql: &str) -> String {
        let output = Command::new("psql")
            .args(["-q", "-X", "-A", "-t", "-c", sql, &self.store])
            .output()
            .expect("psql of postgresql-client starts");
        succeeded("psql", &output)
    }

    /// Whether Kafka is one of our own.
    #[must_use]
    pub fn owns_kafka(&self) -> bool {
        self.kafka.is_some()
    }

    /// Takes what is left of the store's disk; gives how much that was.
    pub fn fill_store(&self) -> u64 {
        let ballast = self.store_dir().join("ballast");
        let mut file = std::fs::File::create(ballast).unwrap();
        let zeros = vec![0; 1024 * 1024];
        let mut taken = 0;
        // In ever smaller pieces, to the last byte.
        let mut piece = zeros.len();
        while piece > 0 {
            match file.write(&zeros[..piece]) {
                Ok(written @ 1..) => taken += written as u64,
                _ => piece /= 2,
            }
        }
        taken
    }

    /// Gives it back.
    pub fn empty_store(&self) {
        std::fs::remove_file(self.store_dir().join("ballast")).unwrap();
    }

    /// Whether the store has a disk of its own that can be filled.
    #[must_use]
    pub fn store_is_limited(&self) -> bool {
        let mounted = Command::new("mountpoint")
            .arg("-q")
            .arg(self.store_dir())
            .status();
        mounted.is_ok_and(|status| status.success())
    }

    /// Copies the stopped store's files away.
    pub fn back_up_store(&self) {
        self.copy_store("data", "backup");
    }

    /// Puts the copy in the place of the stopped store's files.
    pub fn restore_store(&self) {
        std::fs::remove_dir_all(self.store_dir().join("data")).unwrap();
        self.copy_store("backup", "data");
    }

    fn copy_store(&self, from: &str, to: &str) {
        let dir = self.store_dir();
        let copied = Command::new("cp")
            .arg("-a")
            .args([dir.join(from), dir.join(to)])
            .status();
        assert!(copied.unwrap().success());
    }

    fn store_dir(&self) -> &Path {
        self.postgres.as_ref().expect("a PostgreSQL of our own")
    }

    /// postgres.sh's commands: kill, freeze, continue, start.
    pub fn store_script(&self, command: &str) {
        script("postgres/postgres.sh", command, self.store_dir(), &[]);
    }
}

fn script(name: &str, command: &str, dir: &Path, arguments: &[&str]) -> String {
    let path = directory::repository().join("deploy").join(name);
    let output = Command::new(&path)
        .arg(command)
        .arg("--dir")
        .arg(dir)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    succeeded(&format!("{name} {command}"), &output)
}

/// The directory of Kafka's jars.
#[must_use]
pub fn kafka_jars() -> String {
    let path = directory::repository().join("deploy/kafka/kafka.sh");
    let output = Command::new(path).arg("fetch").output().unwrap();
    succeeded("kafka.sh fetch", &output).trim().to_owned()
}

fn succeeded(what: &str, output: &Output) -> String {
    assert!(
        output.status.success(),
        "{what}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn value(output: &str, name: &str) -> String {
    output
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_else(|| panic!("no {name} in {output:?}"))
        .to_owned()
}

/// A database of its own on the server.
fn database(server: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "postern_test_{}_{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let sql = format!("CREATE DATABASE {name}");
    let output = Command::new("psql")
        .args(["-q", "-X", "-v", "ON_ERROR_STOP=1", "-c", &sql, server])
        .output()
        .expect("psql of postgresql-client starts");
    succeeded("psql", &output);
    let (server, options) = match server.split_once('?') {
        Some((server, options)) => (server, format!("?{options}")),
        None => (server, String::new()),
    };
    let host = server.rfind('/').map_or(server, |end| &server[..end]);
    format!("{host}/{name}{options}")
}

/// What is missing for the real parts and how to get it; `None` where all is there. With
/// `CI=true` nothing may be missing.
pub fn missing(kafka_and_postgres: bool) -> Option<String> {
    let mut missing = Vec::new();
    let mut need = |there: bool, package: &'static str| {
        if !there && !missing.contains(&package) {
            missing.push(package);
        }
    };
    need(found("kcat"), "kcat");
    need(found("sqlite3"), "sqlite3");
    if kafka_and_postgres {
        need(found("psql"), "postgresql");
        if std::env::var_os(KAFKA).is_none() {
            need(found("java"), "default-jre-headless");
            need(found("mvn"), "maven");
        }
        if std::env::var_os(POSTGRES).is_none() {
            let server = std::env::var_os("PGBIN").is_some()
                || std::fs::read_dir("/usr/lib/postgresql")
                    .is_ok_and(|mut versions| versions.next().is_some());
            need(server, "postgresql");
        }
    }
    if missing.is_empty() {
        return None;
    }
    let text = format!(
        "missing: {}; get it with: deploy/parts.sh install",
        missing.join(" ")
    );
    left_out("what needs real parts", &text);
    Some(text)
}

/// Says that something isn't tested, and why; an error where nothing may be missing.
pub fn left_out(what: &str, why: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{what}: {why} (nothing may be missing where CI=true)"
    );
    // Past the capture of test output: a test that is left out should be seen.
    let _ = writeln!(std::io::stderr(), "not tested: {what}: {why}");
}

fn found(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}
