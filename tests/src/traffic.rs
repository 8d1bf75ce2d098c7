//! Callers that send what real ones send: new conversions, repeats with other amounts, clicks
//! announced a moment before or after their postback, ids that nobody knows; events, statuses and
//! signatures, right and wrong ones, which mean something where [`campaigns`] were set. All of it
//! goes into a history.

use crate::history::{Asked, History, Sent};
use crate::http::{Answer, Connection};
use crate::stack::{TOKEN, unique};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// How many clicks are announced in one request.
const ANNOUNCED: usize = 50;
/// How many clickids are kept to be sent again.
const RECENT: usize = 2000;
/// How long a late click lets its postback wait.
const LATE: Duration = Duration::from_millis(500);

/// What the postbacks are signed with, if rightly.
const SECRET: &str = "traffic-secret-0123456789";
/// Some of the words that callers know for a status, and one that nobody does.
const WORDS: [&str; 6] = ["", "lead", "SALE", "trash", "refund", "whatever"];

/// Settings of campaigns that the traffic's clicks are of, in lines for `postern campaign import`.
/// Each of them asks for something else. The dedupe policies differ from turn to turn, so that
/// they can be imported again while the traffic runs. Where nobody imports them, the traffic is
/// that of campaigns that ask for nothing.
#[must_use]
pub fn campaigns(turn: usize) -> String {
    let settings = [
        r#""statuses":true,"default_status":"pending","default_currency":"CHF""#.to_owned(),
        format!(r#""networks":["127.0.0.0/8","::1"],"secret":"{SECRET}""#),
        format!(
            r#""networks":["192.0.2.0/24"],"network_check":"observe","secret":"{SECRET}",
            "signature_check":"observe","attribution_window":1,"window_check":"observe",
            "statuses":true"#
        )
        .replace('\n', ""),
        r#""attribution_window":1"#.to_owned(),
    ];
    let policies = ["event", "txid", "click"];
    let lines = settings.iter().enumerate().map(|(number, settings)| {
        let id = campaign(ASKING[number]);
        let dedupe = policies[(number + turn) % policies.len()];
        format!("{{\"campaign_id\":{id},\"dedupe\":\"{dedupe}\",{settings}}}\n")
    });
    lines.collect()
}

/// Numbers of the campaigns that ask for something.
const ASKING: [i64; 4] = [5, 6, 7, 8];

/// Longest wait of a caller: more than an ingress takes for any answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an ingress that gave no answer is left alone: nginx' `fail_timeout`.
const LEFT_ALONE: Duration = Duration::from_secs(10);

/// A caller: one kept-alive connection to each ingress.
pub struct Caller {
    ingresses: Vec<SocketAddr>,
    connections: Vec<Option<Connection>>,
    /// When each of them failed to answer last.
    failed: Vec<Option<Instant>>,
    history: History,
}

impl Caller {
    /// A caller that isn't connected yet.
    #[must_use]
    pub fn new(ingresses: &[SocketAddr], history: &History) -> Self {
        Self {
            ingresses: ingresses.to_vec(),
            connections: ingresses.iter().map(|_| None).collect(),
            failed: vec![None; ingresses.len()],
            history: history.clone(),
        }
    }

    /// Sends a postback to the ingress that it names, or where that one can't be reached to
    /// another; gives the answer, if one came. What could not be sent isn't recorded.
    pub async fn postback(&mut self, sent: Sent) -> Option<Answer> {
        self.ask(sent, Asked::default()).await
    }

    /// The same with what its campaign may ask for.
    pub async fn ask(&mut self, mut sent: Sent, asked: Asked) -> Option<Answer> {
        sent.ingress = self.connect(sent.ingress).await?;
        let began = Instant::now();
        let target = sent.target_with(&asked);
        let answer = self.request(sent.ingress, "GET", &target, None).await;
        self.history.reply_to(sent, asked, began, &answer);
        answer.ok()
    }

    /// Announces clicks of one campaign; whether they were acknowledged.
    pub async fn clicks(&mut self, ingress: usize, clickids: &[String], campaign_id: i64) -> bool {
        let Some(ingress) = self.connect(ingress).await else {
            return false;
        };
        let lines: String = clickids
            .iter()
            .map(|id| format!("{{\"clickid\":\"{id}\",\"campaign_id\":{campaign_id}}}\n"))
            .collect();
        let began = Instant::now();
        let body = Some(lines.as_bytes());
        let answer = self.request(ingress, "POST", "/v1/clicks", body).await;
        let acknowledged = answer.is_ok_and(|answer| answer.status == 200);
        self.history
            .clicks(clickids, campaign_id, Some(ingress), began, acknowledged);
        acknowledged
    }

    /// Connects where there is no connection; gives the ingress that was reached.
    async fn connect(&mut self, first: usize) -> Option<usize> {
        let alone = |failed: &Option<Instant>| failed.is_some_and(|at| at.elapsed() < LEFT_ALONE);
        let count = self.ingresses.len();
        let (mut order, last): (Vec<_>, Vec<_>) = (0..count)
            .map(|step| (first + step) % count)
            .partition(|number| !alone(&self.failed[*number]));
        order.extend(last);
        for number in order {
            if self.connections[number].is_none() {
                // Where nobody accepts any more, the system itself would wait for minutes.
                let open = Connection::open(self.ingresses[number]);
                self.connections[number] = match tokio::time::timeout(PATIENCE, open).await {
                    Ok(opened) => opened.ok(),
                    Err(_) => {
                        self.failed[number] = Some(Instant::now());
                        None
                    }
                };
            }
            if self.connections[number].is_some() {
                return Some(number);
            }
        }
        // All of them are away: no busy loop.
        tokio::time::sleep(Duration::from_millis(50)).await;
        None
    }

    async fn request(
        &mut self,
        ingress: usize,
        method: &str,
        target: &str,
        body: Option<&[u8]>,
    ) -> std::io::Result<Answer> {
        let token = format!("Bearer {TOKEN}");
        let headers: &[_] = match body {
            Some(_) => &[("authorization", token.as_str())],
            None => &[],
        };
        let mut connection = self.connections[ingress].take().expect("connected");
        let request = connection.request(method, target, headers, body);
        let answer = tokio::time::timeout(PATIENCE, request)
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        if answer.is_err() {
            self.failed[ingress] = Some(Instant::now());
        }
        let answer = answer?;
        if answer.header("connection") != Some("close") {
            self.connections[ingress] = Some(connection);
        }
        Ok(answer)
    }
}

/// Callers at work.
pub struct Traffic {
    callers: JoinSet<()>,
    stop: Arc<AtomicBool>,
}

impl Traffic {
    /// Starts `callers` that together send up to `rate` postbacks a second.
    #[must_use]
    pub fn start(ingresses: &[SocketAddr], history: &History, callers: u32, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let recent = Arc::new(Mutex::new(VecDeque::new()));
        let mut set = JoinSet::new();
        for number in 0..callers {
            let mixed = Mixed {
                caller: Caller::new(ingresses, history),
                ingresses: ingresses.len(),
                recent: Arc::clone(&recent),
                announced: Vec::new(),
                late: VecDeque::new(),
                chance: Chance(u64::from(number) + 1),
            };
            let pause = Duration::from_secs(1) * callers / rate;
            set.spawn(mixed.run(pause, pause * number / callers, Arc::clone(&stop)));
        }
        Self { callers: set, stop }
    }

    /// Has the callers finish what they are at.
    pub async fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(done) = self.callers.join_next().await {
            done.unwrap();
        }
    }
}

/// One caller of the mix.
struct Mixed {
    caller: Caller,
    ingresses: usize,
    recent: Arc<Mutex<VecDeque<String>>>,
    /// Announced and not used yet.
    announced: Vec<String>,
    /// Clicks to be announced, and when.
    late: VecDeque<(Instant, String)>,
    chance: Chance,
}

impl Mixed {
    async fn run(mut self, pause: Duration, offset: Duration, stop: Arc<AtomicBool>) {
        tokio::time::sleep(offset).await;
        let mut tick = tokio::time::interval(pause);
        // What was missed is not made up for: that would be another load.
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while !stop.load(Ordering::Relaxed) {
            tick.tick().await;
            self.step().await;
            while self
                .late
                .front()
                .is_some_and(|(due, _)| *due <= Instant::now())
            {
                self.announce_late().await;
            }
        }
        while !self.late.is_empty() {
            self.announce_late().await;
        }
    }

    async fn announce_late(&mut self) {
        if let Some((_, clickid)) = self.late.pop_front() {
            let ingress = self.chance.below(self.ingresses);
            self.caller.clicks(ingress, &[clickid], campaign(1)).await;
        }
    }

    async fn step(&mut self) {
        let clickid = match self.chance.below(100) {
            0..2 => unique("unknown"),
            2..4 => {
                let clickid = unique("late");
                self.late
                    .push_back((Instant::now() + LATE, clickid.clone()));
                clickid
            }
            4..12 => {
                let clickid = unique("at-once");
                let ingress = self.chance.below(self.ingresses);
                let ids = std::slice::from_ref(&clickid);
                self.caller.clicks(ingress, ids, campaign(2)).await;
                clickid
            }
            // Another campaign claims a click: it goes to the rejects.
            12..13 => match self.repeat() {
                Some(clickid) => {
                    let ingress = self.chance.below(self.ingresses);
                    let ids = std::slice::from_ref(&clickid);
                    self.caller.clicks(ingress, ids, campaign(4)).await;
                    clickid
                }
                None => self.announced().await,
            },
            13..30 => match self.repeat() {
                Some(clickid) => clickid,
                None => self.announced().await,
            },
            _ => self.announced().await,
        };
        self.remember(&clickid);
        let sent = Sent {
            clickid,
            revenue: format!(
                "{}.{:06}",
                self.chance.below(500),
                self.chance.below(1_000_000)
            ),
            currency: ["USD", "EUR", ""][self.chance.below(3)].to_owned(),
            external_id: ["", "t1", "t2"]
                .get(self.chance.below(6))
                .map(|id| (*id).to_owned()),
            ingress: self.chance.below(self.ingresses),
        };
        let asked = Asked {
            event: ["", "lead", "sale"][self.chance.below(3)].to_owned(),
            status: WORDS[self.chance.below(WORDS.len())].to_owned(),
            secret: match self.chance.below(20) {
                0 => "",
                1 => "another-secret-0123456789",
                _ => SECRET,
            }
            .to_owned(),
        };
        self.caller.ask(sent, asked).await;
    }

    async fn announced(&mut self) -> String {
        if self.announced.is_empty() {
            self.announced = (0..ANNOUNCED).map(|_| unique("traffic")).collect();
            let ingress = self.chance.below(self.ingresses);
            let number = match self.chance.below(2 * ASKING.len()) {
                asking if asking < ASKING.len() => ASKING[asking],
                _ => 3,
            };
            // Not acknowledged, they are used all the same: nobody knows what became of them.
            self.caller
                .clicks(ingress, &self.announced, campaign(number))
                .await;
        }
        self.announced.pop().expect("just announced")
    }

    fn repeat(&mut self) -> Option<String> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.is_empty() {
            return None;
        }
        recent.get(self.chance.below(recent.len())).cloned()
    }

    fn remember(&self, clickid: &str) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_back(clickid.to_owned());
        if recent.len() > RECENT {
            recent.pop_front();
        }
    }
}

fn campaign(number: i64) -> i64 {
    100 + number
}

/// Numbers that look random and are the same for each seed (a linear congruential generator).
pub struct Chance(u64);

impl Chance {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One of many.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// All of them in another order.
    pub fn shuffled<T: Copy>(&mut self, all: &[T]) -> Vec<T> {
        let mut all = all.to_vec();
        for index in (1..all.len()).rev() {
            all.swap(index, self.below(index + 1));
        }
        all
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % limit as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn campaigns_are_lines_and_change_their_policy() {
        let read = |turn| -> Vec<Value> {
            let text = campaigns(turn);
            let lines = text.lines().map(serde_json::from_str);
            lines.collect::<Result<_, _>>().unwrap()
        };
        let (first, second) = (read(0), read(1));
        assert_eq!(first.len(), ASKING.len());
        for (one, other) in first.iter().zip(&second) {
            assert_eq!(one["campaign_id"], other["campaign_id"]);
            assert_ne!(one["dedupe"], other["dedupe"]);
            assert_eq!(one["secret"], other["secret"]);
        }
        assert_eq!(first, read(3));
    }
}
