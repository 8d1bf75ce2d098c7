//! Postern with everything around it: `postern standalone`, or the three roles on Apache Kafka
//! and PostgreSQL. A scenario doesn't know which.

use crate::http::{self, Answer};
use crate::kcat::{self, Broker, Record, To};
use crate::process::{Postern, Settings, run, settings};
use crate::real::World;
use crate::wait;
use serde_json::Value;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::SystemTime;
use tokio::sync::{Mutex, OnceCell, OwnedMutexGuard};

/// What a stack is made of.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Embedded,
    Real,
}

/// The clicks token of every stack.
pub const TOKEN: &str = "e2e-clicks-token-0123456789";

/// A running Postern.
pub struct Stack {
    pub kind: Kind,
    /// The process that takes postbacks and clicks.
    pub ingress: Postern,
    /// Where they are processes of their own.
    pub consumer: Option<Postern>,
    pub reports: Option<Postern>,
    /// Bootstrap brokers.
    pub bootstrap: String,
    /// Partitions of clicks and postbacks.
    pub partitions: i32,
    /// What all its processes are told.
    pub settings: Settings,
    /// Kafka and PostgreSQL.
    pub world: Option<Arc<World>>,
    /// Who answers status questions where we have no process for it.
    lent_reports: Option<std::net::SocketAddr>,
    turn: Option<Turn>,
}

impl Stack {
    /// The stack that scenarios share which neither stop nor reconfigure anything: they keep
    /// apart by clickids that nobody else uses.
    pub async fn shared(kind: Kind) -> &'static Self {
        static EMBEDDED: OnceCell<Stack> = OnceCell::const_new();
        static REAL: OnceCell<Stack> = OnceCell::const_new();
        match kind {
            Kind::Embedded => {
                let start = async || Self::embedded(&Settings::new()).await;
                EMBEDDED.get_or_init(start).await
            }
            Kind::Real => {
                let start = async || {
                    let world = Arc::new(World::given());
                    Self::real(world, &Settings::new(), None).await
                };
                REAL.get_or_init(start).await
            }
        }
    }

    /// A stack for one scenario, which may break it. On real parts one at a time.
    pub async fn alone(kind: Kind, extra: &Settings) -> Self {
        match kind {
            Kind::Embedded => Self::embedded(extra).await,
            Kind::Real => {
                let turn = Turn::wait().await;
                let world = turn.world();
                Self::real(world, extra, Some(turn)).await
            }
        }
    }

    /// A stack on parts that nobody else uses; they end with the scenario, not with the stack.
    pub async fn on(world: Arc<World>, extra: &Settings) -> Self {
        Self::real(world, extra, None).await
    }

    async fn embedded(extra: &Settings) -> Self {
        let mut all = settings(&[
            ("CLICKS__TOKEN", TOKEN),
            ("CONSUMER__SESSION_TIMEOUT", "6s"),
            // All scenarios have one address.
            ("REPORTS__FAILURES_PER_ADDRESS", "1000000"),
            // Some scenarios bring rows of long ago.
            ("RETENTION__CLICKS", LONG),
            ("RETENTION__LOG", LONG),
            // More than the default, so that partitions are told apart here too.
            ("KAFKA__PARTITIONS", &PARTITIONS.to_string()),
        ]);
        all.extend(extra.clone());
        let mut ingress = Postern::start("standalone", &all).await;
        ingress.ready().await;
        Self {
            kind: Kind::Embedded,
            bootstrap: ingress.broker.unwrap().to_string(),
            partitions: PARTITIONS,
            ingress,
            consumer: None,
            reports: None,
            settings: all,
            world: None,
            lent_reports: None,
            turn: None,
        }
    }

    async fn real(world: Arc<World>, extra: &Settings, turn: Option<Turn>) -> Self {
        let mut all = real_settings(&world);
        all.extend(extra.clone());
        for command in [&["migrate"][..], &["topics", "create"]] {
            let output = run(command, &all);
            assert!(
                output.status.success(),
                "{command:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let (mut ingress, mut consumer, mut reports) = tokio::join!(
            Postern::start("ingress", &all),
            Postern::start("consumer", &all),
            Postern::start("reports", &all),
        );
        tokio::join!(ingress.ready(), consumer.ready(), reports.ready());
        Self {
            kind: Kind::Real,
            bootstrap: world.bootstrap.clone(),
            partitions: PARTITIONS,
            ingress,
            consumer: Some(consumer),
            reports: Some(reports),
            settings: all,
            world: Some(world),
            lent_reports: None,
            turn,
        }
    }

    /// The same with other settings: one more ingress, or where that can't be another standalone.
    pub async fn variant(&self, extra: &[(&str, &str)]) -> Self {
        if self.kind == Kind::Embedded {
            return Self::embedded(&settings(extra)).await;
        }
        let mut all = self.settings.clone();
        all.extend(settings(extra));
        let mut ingress = Postern::start("ingress", &all).await;
        ingress.ready().await;
        Self {
            kind: self.kind,
            ingress,
            consumer: None,
            reports: None,
            bootstrap: self.bootstrap.clone(),
            partitions: self.partitions,
            settings: all,
            world: self.world.clone(),
            lent_reports: Some(self.reports_address()),
            turn: None,
        }
    }

    /// Starts the process that takes postbacks again, in its directory, after it has ended.
    pub async fn start_ingress_again(&mut self) {
        let role = match self.kind {
            Kind::Embedded => "standalone",
            Kind::Real => "ingress",
        };
        let dir = self.ingress.dir.clone();
        self.ingress.kill();
        self.ingress = Postern::start_in(&dir, role, &self.settings).await;
        self.ingress.ready().await;
        if let Some(broker) = self.ingress.broker {
            self.bootstrap = broker.to_string();
        }
    }

    /// The process that consumes.
    pub fn consuming(&mut self) -> &mut Postern {
        self.consumer.as_mut().unwrap_or(&mut self.ingress)
    }

    /// A series of the process that consumes.
    pub async fn consumer_metric(&self, series: &str) -> f64 {
        let process = self.consumer.as_ref().unwrap_or(&self.ingress);
        process.metric(series).await.unwrap_or(0.0)
    }

    /// Where status questions go.
    #[must_use]
    pub fn reports_address(&self) -> std::net::SocketAddr {
        self.lent_reports
            .or(self.reports.as_ref().map(|reports| reports.http))
            .unwrap_or(self.ingress.http)
    }

    /// A GET to the ingress.
    pub async fn get(&self, target: &str) -> Answer {
        http::get(self.ingress.http, target).await
    }

    /// A postback as the API page describes it.
    pub async fn postback(&self, query: &str) -> Answer {
        self.get(&format!("/v1/postback.php?{query}")).await
    }

    /// A POST to the ingress.
    pub async fn post(&self, target: &str, content_type: &str, body: &[u8]) -> Answer {
        let headers: &[_] = match content_type {
            "" => &[],
            content_type => &[("content-type", content_type)],
        };
        http::request(self.ingress.http, "POST", target, headers, Some(body)).await
    }

    /// Posts clicks with the token.
    pub async fn post_clicks(&self, body: &str) -> Answer {
        let token = format!("Bearer {TOKEN}");
        let headers = [("authorization", token.as_str())];
        let body = Some(body.as_bytes());
        http::request(self.ingress.http, "POST", "/v1/clicks", &headers, body).await
    }

    /// Announces a click.
    pub async fn click(&self, clickid: &str, campaign_id: i64) {
        let click = format!(r#"{{"clickid":"{clickid}","campaign_id":{campaign_id}}}"#);
        self.post_clicks(&click).await.is(
            200,
            r#"{"status":"ok","accepted":1,"refused":0,"refusals":[]}"#,
        );
    }

    /// Announces a new click of campaign 18 and gives its id.
    pub async fn new_click(&self) -> String {
        let clickid = unique("click");
        self.click(&clickid, 18).await;
        clickid
    }

    /// A new id whose records stand in a certain partition.
    #[must_use]
    pub fn id_in_partition(&self, wanted: i32) -> String {
        loop {
            let id = unique("partition");
            if kcat::murmur2_partition(&id, self.partitions) == wanted {
                return id;
            }
        }
    }

    /// Runs a command beside the processes, as an operator would.
    pub fn command(&self, arguments: &[&str]) -> Output {
        run(arguments, &self.command_settings())
    }

    /// What such a command is told.
    #[must_use]
    pub fn command_settings(&self) -> Settings {
        let mut all = self.settings.clone();
        if self.kind == Kind::Embedded {
            let data = self.ingress.dir.join("data");
            all.insert("DATA_DIR".to_owned(), data.display().to_string());
        }
        all
    }

    /// The same; it must succeed. Gives what it says.
    #[track_caller]
    pub fn said(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Sets campaigns, a JSON object per line, as an operator would.
    #[track_caller]
    pub fn import(&self, lines: &str) {
        let file = self.ingress.dir.join(unique("campaigns"));
        std::fs::write(&file, lines).unwrap();
        self.said(&["campaign", "import", &file.to_string_lossy()]);
    }

    /// A new admin token.
    #[must_use]
    pub fn admin_token(&self) -> String {
        let said = self.said(&["token", "create", "--admin", "--name", "e2e"]);
        said.trim().to_owned()
    }

    /// Asks for a campaign, or sets it where there is a body.
    pub async fn campaign(&self, token: &str, id: i64, body: Option<&str>) -> Answer {
        let method = if body.is_some() { "PUT" } else { "GET" };
        let target = format!("/v1/campaigns/{id}");
        let token = format!("Bearer {token}");
        let headers = [("authorization", token.as_str())];
        let body = body.map(str::as_bytes);
        http::request(self.reports_address(), method, &target, &headers, body).await
    }

    /// What status says now.
    pub async fn status(&self, request_id: &str) -> Answer {
        let target = format!("/v1/postback/status?request_id={request_id}");
        http::get(self.reports_address(), &target).await
    }

    /// What status says in the end.
    pub async fn outcome(&self, request_id: &str) -> Value {
        wait::until(&format!("the outcome of {request_id}"), async || {
            let answer = self.status(request_id).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            Some(answer.json()).filter(|json| json["outcome"] != "pending")
        })
        .await
    }

    /// Waits until status says `outcome`.
    pub async fn becomes(&self, request_id: &str, outcome: &str) -> Value {
        wait::until(&format!("{request_id} becomes {outcome}"), async || {
            let answer = self.status(request_id).await;
            Some(answer.json()).filter(|json| json["outcome"] == outcome)
        })
        .await
    }

    /// The broker, for another program.
    #[must_use]
    pub fn broker(&self) -> Broker<'_> {
        Broker {
            bootstrap: &self.bootstrap,
            embedded: self.kind == Kind::Embedded,
        }
    }

    /// Another program writes a record.
    pub fn produce(&self, topic: &str, to: To, key: &str, value: &[u8]) {
        kcat::produce(self.broker(), topic, to, key, value);
    }

    /// Leaves what it has done to Kafka and PostgreSQL to nobody else.
    pub fn spoil(&mut self) {
        if let Some(turn) = &mut self.turn {
            turn.spoilt = true;
        }
    }

    /// Waits until records of a topic are found; gives those.
    pub async fn records(&self, topic: &str, wanted: impl Fn(&Record) -> bool) -> Vec<Record> {
        wait::until(&format!("records of {topic}"), async || {
            let mut found = kcat::read(self.broker(), topic);
            found.retain(&wanted);
            (!found.is_empty()).then_some(found)
        })
        .await
    }

    /// Shows the ends of the logs, for a test that failed.
    pub fn show(&self) {
        let others = [&self.consumer, &self.reports].into_iter().flatten();
        for process in std::iter::once(&self.ingress).chain(others) {
            process.show();
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show();
        } else if let Some(turn) = &mut self.turn {
            turn.give_back();
        }
    }
}

/// Partitions of clicks and postbacks on real parts.
pub const PARTITIONS: i32 = 4;

/// Longer ago than any scenario's rows.
const LONG: &str = "20000d";

/// What the roles are told on real parts.
#[must_use]
pub fn real_settings(world: &World) -> Settings {
    settings(&[
        ("KAFKA__BROKERS", &world.bootstrap),
        ("KAFKA__ALLOW_SINGLE_REPLICA", "true"),
        ("KAFKA__PARTITIONS", &PARTITIONS.to_string()),
        ("KAFKA__VERDICT_PARTITIONS", "2"),
        ("STORE__URL", &world.store),
        ("CLICKS__TOKEN", TOKEN),
        ("CONSUMER__SESSION_TIMEOUT", "6s"),
        ("REPORTS__FAILURES_PER_ADDRESS", "1000000"),
        ("RETENTION__CLICKS", LONG),
        ("RETENTION__LOG", LONG),
    ])
}

/// The right to break the second world. One that a failed test leaves behind isn't used again.
struct Turn {
    kept: OwnedMutexGuard<Option<Arc<World>>>,
    world: Arc<World>,
    spoilt: bool,
}

impl Turn {
    async fn wait() -> Self {
        static WORLD: OnceCell<Arc<Mutex<Option<Arc<World>>>>> = OnceCell::const_new();
        let mutex = WORLD.get_or_init(async || Arc::default()).await.clone();
        let mut kept = mutex.lock_owned().await;
        let world = kept.take().unwrap_or_else(|| Arc::new(World::own()));
        Self {
            kept,
            world,
            spoilt: false,
        }
    }

    fn world(&self) -> Arc<World> {
        self.world.clone()
    }

    fn give_back(&mut self) {
        if self.spoilt {
            self.world.end();
        } else {
            *self.kept = Some(self.world.clone());
        }
    }
}

/// A campaign that no other test has.
#[must_use]
pub fn unique_campaign() -> i64 {
    static NEXT: AtomicI64 = AtomicI64::new(0);
    500_000 + i64::from(std::process::id()) * 100 + NEXT.fetch_add(1, Ordering::Relaxed)
}

/// An id that no other test and no earlier run has used.
#[must_use]
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    static START: std::sync::OnceLock<u128> = std::sync::OnceLock::new();
    let start = START.get_or_init(|| {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_micros()
    });
    format!(
        "{prefix}-{start:x}-{}",
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}
