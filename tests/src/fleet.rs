//! Two ingresses and two consumers, to be killed, stopped and started again while callers go on.
//! On the embedded parts all of them are one process.

use crate::process::{FAILPOINTS, Postern, Settings};
use crate::real::World;
use crate::stack::{Kind, Stack};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A process of the fleet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Who {
    Ingress(usize),
    Consumer(usize),
}

/// The fleet.
pub struct Fleet {
    /// Beside the stack's own; none where all is one process.
    second_ingress: Option<Postern>,
    consumers: Vec<Postern>,
    /// Dropped last: it gives Kafka and PostgreSQL to the next scenario.
    pub stack: Stack,
}

impl Fleet {
    /// Starts it; one at a time on real parts.
    pub async fn start(kind: Kind, settings: &Settings) -> Self {
        Self::around(Stack::alone(kind, settings).await).await
    }

    /// The same on parts that nobody else uses.
    pub async fn on(world: Arc<World>, settings: &Settings) -> Self {
        Self::around(Stack::on(world, settings).await).await
    }

    async fn around(stack: Stack) -> Self {
        let kind = stack.kind;
        let mut fleet = Self {
            second_ingress: None,
            consumers: Vec::new(),
            stack,
        };
        if kind == Kind::Real {
            let mut ingress = Postern::start("ingress", &fleet.stack.settings).await;
            ingress.ready().await;
            fleet.second_ingress = Some(ingress);
            fleet.add_consumer().await;
        }
        fleet
    }

    /// One more consumer, which needn't own anything yet.
    pub async fn add_consumer(&mut self) {
        let consumer = Postern::start("consumer", &self.stack.settings).await;
        self.consumers.push(consumer);
    }

    /// One consumer less, in order.
    pub async fn remove_consumer(&mut self) {
        let mut consumer = self.consumers.pop().expect("a second consumer");
        assert!(consumer.stop().await.success());
    }

    /// Where postbacks go.
    #[must_use]
    pub fn ingresses(&self) -> Vec<SocketAddr> {
        let second = self.second_ingress.as_ref().map(|ingress| ingress.http);
        std::iter::once(self.stack.ingress.http)
            .chain(second)
            .collect()
    }

    /// A process.
    pub fn process(&mut self, who: Who) -> &mut Postern {
        match who {
            _ if self.stack.kind == Kind::Embedded => &mut self.stack.ingress,
            Who::Ingress(0) => &mut self.stack.ingress,
            Who::Ingress(_) => self.second_ingress.as_mut().expect("a second ingress"),
            Who::Consumer(0) => self.stack.consumer.as_mut().expect("a consumer"),
            Who::Consumer(number) => &mut self.consumers[number - 1],
        }
    }

    /// Starts a process again.
    pub async fn start_again(&mut self, who: Who) {
        let settings = self.stack.settings.clone();
        self.process(who).start_again(&settings).await;
    }

    /// Starts a process again, with something set at failpoints.
    pub async fn start_with(&mut self, who: Who, failpoints: &str) {
        let mut settings = self.stack.settings.clone();
        settings.insert(FAILPOINTS.to_owned(), failpoints.to_owned());
        self.process(who).start_again(&settings).await;
    }

    /// Starts a process again that is to die at a failpoint, and waits until it has. Where it
    /// doesn't come past it by itself within `patience`, it is told to stop, which may lead it
    /// there.
    pub async fn die_at(&mut self, who: Who, place: &str, patience: Duration) {
        let process = self.launch_to_die(who, place);
        let deadline = Instant::now() + patience;
        while process.runs() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if process.runs() {
            process.terminate();
        }
        process.ended(Duration::from_secs(30)).await;
        assert!(has_died(process), "{who:?} didn't die at {place}");
    }

    /// The same at a place to which a busy consumer comes when it is told to stop, if its last
    /// batches had conversions, which it can only be tried.
    pub async fn die_in_the_end(&mut self, who: Who, place: &str) {
        for _ in 0..10 {
            let process = self.launch_to_die(who, place);
            crate::wait::until("conversions are decided", async || {
                let converted = r#"postern_postbacks_decided_total{outcome="converted"}"#;
                let decides = process.metric(converted).await > Some(0.0);
                (decides || !process.runs()).then_some(())
            })
            .await;
            if process.runs() {
                process.terminate();
            }
            process.ended(Duration::from_secs(30)).await;
            if has_died(process) {
                return;
            }
        }
        panic!("{who:?} didn't die at {place}");
    }

    fn launch_to_die(&mut self, who: Who, place: &str) -> &mut Postern {
        let mut settings = self.stack.settings.clone();
        let action = format!("{place}=1*return(kill)");
        settings.insert(FAILPOINTS.to_owned(), action);
        let process = self.process(who);
        process.launch_again(&settings);
        process
    }

    /// Starts a process again that is told something else beside.
    pub async fn start_told(&mut self, who: Who, told: &[(&str, &str)]) {
        let mut settings = self.stack.settings.clone();
        settings.extend(crate::process::settings(told));
        self.process(who).start_again(&settings).await;
    }

    /// How many consumers there are.
    #[must_use]
    pub fn consumers(&self) -> usize {
        usize::from(self.stack.consumer.is_some()) + self.consumers.len()
    }

    /// A series, summed over the ingresses.
    pub async fn ingress_metric(&self, series: &str) -> f64 {
        let mut sum = 0.0;
        for ingress in std::iter::once(&self.stack.ingress).chain(&self.second_ingress) {
            sum += ingress.metric(series).await.unwrap_or(0.0);
        }
        sum
    }

    /// Waits until all are ready and have the partitions among them.
    pub async fn ready(&mut self) {
        self.stack.ingress.ready().await;
        if let Some(ingress) = &mut self.second_ingress {
            ingress.ready().await;
        }
        crate::wait::until(
            "every consumer owns its share of the partitions",
            async || {
                let owned = self.owned().await;
                let all = owned.iter().sum::<f64>() == f64::from(self.stack.partitions);
                (all && owned.iter().all(|share| *share > 0.0)).then_some(())
            },
        )
        .await;
    }

    /// How many partitions each consumer owns.
    async fn owned(&self) -> Vec<f64> {
        const OWNED: &str = "postern_partitions_owned";
        let first = self.stack.consumer.as_ref().unwrap_or(&self.stack.ingress);
        let mut owned = Vec::new();
        for consumer in std::iter::once(first).chain(&self.consumers) {
            owned.push(consumer.metric(OWNED).await.unwrap_or(0.0));
        }
        owned
    }
}

/// Whether it died at a failpoint.
fn has_died(process: &Postern) -> bool {
    process.log().contains("\"told\":\"kill\"")
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for process in self.second_ingress.iter().chain(&self.consumers) {
                process.show();
            }
        }
    }
}
