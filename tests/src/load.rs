//! Callers that go on while something happens to the server.

use crate::http::Connection;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// An answer that a caller got.
#[derive(Clone, Debug)]
pub struct Told {
    pub clickid: String,
    pub status: u16,
    pub request_id: String,
    pub body: String,
}

/// A running load: each clickid is sent once.
pub struct Load {
    callers: JoinSet<Vec<Told>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

const CALLERS: u32 = 16;

impl Load {
    /// Starts sixteen callers that together send `rate` postbacks per second.
    #[must_use]
    pub fn start(host: SocketAddr, clickids: Vec<String>, rate: u32) -> Self {
        let ids = Arc::new(Mutex::new(VecDeque::from(clickids)));
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            callers.spawn(caller(
                host,
                ids.clone(),
                Duration::from_secs(1) * CALLERS / rate,
                stop.clone(),
                answered.clone(),
            ));
        }
        Self {
            callers,
            stop,
            answered,
        }
    }

    /// Answers so far.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Has the callers finish what they are at, and gives all answers.
    pub async fn finish(mut self) -> Vec<Told> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        while let Some(told) = self.callers.join_next().await {
            all.extend(told.unwrap());
        }
        all
    }
}

async fn caller(
    host: SocketAddr,
    ids: Arc<Mutex<VecDeque<String>>>,
    pause: Duration,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
) -> Vec<Told> {
    let mut told = Vec::new();
    let mut connection = None;
    let mut tick = tokio::time::interval(pause);
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        if connection.is_none() {
            connection = Connection::open(host).await.ok();
        }
        let Some(open) = connection.as_mut() else {
            continue;
        };
        let Some(clickid) = ids.lock().await.pop_front() else {
            break;
        };
        let target = format!("/v1/postback.php?clickid={clickid}&revenue=1.5");
        match open.request("GET", &target, &[], None).await {
            Ok(answer) => {
                answered.fetch_add(1, Ordering::Relaxed);
                if answer.header("connection") == Some("close") {
                    connection = None;
                }
                told.push(Told {
                    request_id: answer.request_id(),
                    status: answer.status,
                    body: answer.body,
                    clickid,
                });
            }
            // The connection was closed under the request: no answer, no promise.
            Err(_) => connection = None,
        }
    }
    told
}
