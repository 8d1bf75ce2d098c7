//! The built binary as a child process.

use crate::wait;
use crate::{directory, http};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, SyncSender};
use std::time::Duration;

/// Names the binary where it isn't the one of this build.
const BINARY: &str = "POSTERN_TEST_BINARY";

/// What happens at which failpoint, as crates/failpoint reads it.
pub const FAILPOINTS: &str = "FAILPOINTS";

/// What the system's loader and libraries read, not Postern.
const FOREIGN: &[&str] = &["LD_PRELOAD", "FAKETIME"];

/// Settings by the name of their environment variable, without the prefix: `HTTP__LISTEN`; and
/// [`FAILPOINTS`], and what is meant for the loader.
pub type Settings = BTreeMap<String, String>;

/// Settings from pairs.
#[must_use]
pub fn settings(pairs: &[(&str, &str)]) -> Settings {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// The tested binary.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os(BINARY) {
        return path.into();
    }
    // Test binaries stand in target/PROFILE/deps.
    let path = std::env::current_exe()
        .unwrap()
        .ancestors()
        .nth(2)
        .unwrap()
        .join("postern");
    assert!(
        path.exists(),
        "{} is not there: build it with `cargo build`, or run `make test`",
        path.display()
    );
    path
}

fn command(arguments: &[&str], settings: &Settings, dir: &Path) -> Command {
    // Children die with the thread that started them, see `spawn`.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(binary());
    command
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null());
    equip(&mut command, settings);
    command
}

/// Gives a command the settings, and none of this process' own.
pub fn equip(command: &mut Command, settings: &Settings) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("POSTERN_") {
            command.env_remove(name);
        }
    }
    command.env_remove(FAILPOINTS);
    for (name, value) in settings {
        if name == FAILPOINTS || FOREIGN.iter().any(|foreign| name.starts_with(foreign)) {
            command.env(name, value);
        } else {
            command.env(format!("POSTERN__{name}"), value);
        }
    }
}

type Job = (Command, SyncSender<std::io::Result<Child>>);

/// Starts a child that the kernel kills when this process has ended. The kernel looks at the
/// thread that started it, so that is one that lives to the end.
pub fn spawn(command: Command) -> Child {
    static STARTER: OnceLock<SyncSender<Job>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, jobs) = mpsc::sync_channel::<Job>(16);
        std::thread::spawn(move || {
            for (mut command, reply) in jobs {
                // The asker waits for it.
                let _ = reply.send(command.spawn());
            }
        });
        sender
    });
    let (reply, started) = mpsc::sync_channel(1);
    starter.send((command, reply)).unwrap();
    started
        .recv()
        .unwrap()
        .expect("setpriv of util-linux starts")
}

/// Runs a command of the binary to its end.
#[must_use]
pub fn run(arguments: &[&str], settings: &Settings) -> Output {
    let dir = directory::fresh("command");
    let mut command = command(arguments, settings, &dir);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn(command).wait_with_output().unwrap()
}

/// A running role. Killed when dropped.
pub struct Postern {
    name: String,
    child: Child,
    /// Its working directory.
    pub dir: PathBuf,
    /// The admin listener.
    pub admin: SocketAddr,
    /// The HTTP listener of ingress, reports and standalone; the admin listener for a consumer.
    pub http: SocketAddr,
    /// The embedded broker.
    pub broker: Option<SocketAddr>,
}

impl Postern {
    /// Starts a role in a directory of its own and waits until it listens.
    pub async fn start(role: &str, settings: &Settings) -> Self {
        Self::start_in(&directory::fresh(role), role, settings).await
    }

    /// Starts a role in a directory, which may be that of an earlier one.
    pub async fn start_in(dir: &Path, role: &str, settings: &Settings) -> Self {
        let mut postern = Self::launch(dir, role, settings);
        postern.find_addresses().await;
        if settings.contains_key(FAILPOINTS) {
            assert!(
                postern.log().contains("failpoint set"),
                "{} has no failpoints: build it with --features postern/failpoints",
                binary().display()
            );
        }
        postern
    }

    fn launch(dir: &Path, role: &str, settings: &Settings) -> Self {
        let mut all = self::settings(&[
            ("HTTP__LISTEN", "127.0.0.1:0"),
            ("ADMIN__LISTEN", "127.0.0.1:0"),
            ("LOG__FILTER", "info,postern=debug"),
        ]);
        if role == "standalone" {
            all.insert("BROKER__LISTEN".to_owned(), "127.0.0.1:0".to_owned());
        }
        all.extend(settings.clone());
        let mut command = command(&[role], &all, dir);
        // Each start has its own log: addresses are read from it.
        for name in ["stdout", "stderr"] {
            keep_earlier(&dir.join(name));
        }
        command
            .stdout(File::create(dir.join("stdout")).unwrap())
            .stderr(File::create(dir.join("stderr")).unwrap());
        Self {
            name: role.to_owned(),
            child: spawn(command),
            dir: dir.to_owned(),
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            http: SocketAddr::from(([127, 0, 0, 1], 0)),
            broker: None,
        }
    }

    /// Starts it again, where it was and under its addresses, after it has ended.
    pub async fn start_again(&mut self, settings: &Settings) {
        self.launch_again(settings);
        self.find_addresses().await;
    }

    /// As [`Self::start_again`], without waiting for anything: it may be about to die.
    pub fn launch_again(&mut self, settings: &Settings) {
        self.kill();
        let mut all = settings.clone();
        all.insert("ADMIN__LISTEN".to_owned(), self.admin.to_string());
        if self.name != "consumer" {
            all.insert("HTTP__LISTEN".to_owned(), self.http.to_string());
        }
        if let Some(broker) = self.broker {
            all.insert("BROKER__LISTEN".to_owned(), broker.to_string());
        }
        let (admin, http, broker) = (self.admin, self.http, self.broker);
        *self = Self::launch(&self.dir.clone(), &self.name.clone(), &all);
        (self.admin, self.http, self.broker) = (admin, http, broker);
    }

    async fn find_addresses(&mut self) {
        let serves = self.name != "consumer";
        let (admin, http, broker) = wait::until("the role listens", async || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} ended with {status}:\n{}", self.name, self.log());
            }
            let log = self.log();
            let find = |message: &str| {
                log.lines().find_map(|line| {
                    let line: serde_json::Value = serde_json::from_str(line).ok()?;
                    (line["message"] == message)
                        .then(|| line["address"].as_str()?.parse::<SocketAddr>().ok())?
                })
            };
            let admin = find("admin server listens")?;
            let http = if serves { find("listens")? } else { admin };
            Some((admin, http, find("embedded broker started")))
        })
        .await;
        (self.admin, self.http, self.broker) = (admin, http, broker);
    }

    /// Waits until `/readyz` says so; for what consumes, until it owns partitions too.
    pub async fn ready(&mut self) {
        let consumes = matches!(self.name.as_str(), "consumer" | "standalone");
        let mut last = String::new();
        let deadline = tokio::time::Instant::now() + wait::PATIENCE;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} ended with {status}:\n{}", self.name, self.log());
            }
            let answer = http::get(self.admin, "/readyz").await;
            if answer.status == 200
                && (!consumes || self.metric("postern_partitions_owned").await > Some(0.0))
            {
                return;
            }
            if answer.body != last {
                last = answer.body;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{} is not ready: {last}",
                self.name
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// `/readyz` as it is now.
    pub async fn readiness(&self) -> (u16, serde_json::Value) {
        let answer = http::get(self.admin, "/readyz").await;
        (answer.status, answer.json())
    }

    /// The value of one series, with its labels as they are printed.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let mut connection = http::Connection::open(self.admin).await.ok()?;
        let answer = connection.request("GET", "/metrics", &[], None).await;
        answer.ok()?.body.lines().find_map(|line| {
            line.strip_prefix(series)?
                .strip_prefix(' ')?
                .trim()
                .parse()
                .ok()
        })
    }

    /// What it wrote to standard error.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(self.dir.join("stderr"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// What it wrote to standard output.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.dir.join("stdout")).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        // The shell's own kill; a number is all that goes in.
        let script = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &script]).status().unwrap();
        assert!(status.success(), "{} could not be signalled", self.name);
    }

    /// The state that the system has it in: `T` where it is stopped.
    #[must_use]
    pub fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.unwrap_or_default();
        // Behind the name, which may hold anything.
        let (_, rest) = stat.rsplit_once(") ").unwrap_or_default();
        rest.chars().next().unwrap_or('?')
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        wait::within(limit, &what, async || self.child.try_wait().ok().flatten()).await
    }

    /// SIGTERM, and waits until everything is drained.
    pub async fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.ended(Duration::from_secs(30)).await
    }

    /// Shows the end of its log, for a test that failed.
    pub fn show(&self) {
        const LINES: usize = 60;
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let shown = lines[lines.len().saturating_sub(LINES)..].join("\n");
        let _ = writeln!(
            std::io::stderr(),
            "---- {} {}, last of {} lines:\n{shown}",
            self.name,
            self.dir.display(),
            lines.len()
        );
    }
}

/// Moves a file out of the way of the next one with its name.
fn keep_earlier(path: &Path) {
    let earlier = |number: usize| path.with_extension(number.to_string());
    if path.exists() {
        let number = (1..).find(|number| !earlier(*number).exists()).unwrap();
        std::fs::rename(path, earlier(number)).unwrap();
    }
}

impl Drop for Postern {
    fn drop(&mut self) {
        // A consumer that leaves its group spares the next one the wait for its session's end.
        if self.name == "consumer" && self.runs() {
            self.terminate();
            for _ in 0..150 {
                if !self.runs() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        self.kill();
    }
}
