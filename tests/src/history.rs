//! What callers did and what they were told: every click and every postback of a scenario, with
//! its times and its answer. The checker holds it against what is there afterwards.

use crate::checker::{
    self,
    said::{self, AnswerKind, Said},
};
use crate::http::Answer;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A click that was announced.
#[derive(Clone, Debug)]
pub struct ClickCall {
    pub clickid: String,
    pub campaign_id: i64,
    /// Which of the ingresses it went to, where that is known.
    pub ingress: Option<usize>,
    pub began: Instant,
    /// When its acknowledgement was there; `None` where none came.
    pub acknowledged: Option<Instant>,
}

/// A postback as a caller means it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub clickid: String,
    /// As sent; empty where it was not.
    pub revenue: String,
    /// As sent; empty where it was not.
    pub currency: String,
    pub external_id: Option<String>,
    /// Which of the ingresses it went to.
    pub ingress: usize,
}

/// What a postback brings beside that because its campaign may ask for it. Empty is not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub event: String,
    /// The caller's word for it.
    pub status: String,
    /// What it is signed with.
    pub secret: String,
}

impl Sent {
    /// The target of its GET request. Values go in as they are: give those that need no encoding.
    #[must_use]
    pub fn target(&self) -> String {
        self.target_with(&Asked::default())
    }

    /// The same with what its campaign may ask for.
    #[must_use]
    pub fn target_with(&self, asked: &Asked) -> String {
        let named = [
            ("clickid", self.clickid.as_str()),
            ("revenue", self.revenue.as_str()),
            ("currency", &self.currency),
            ("txid", self.external_id.as_deref().unwrap_or_default()),
            ("event", &asked.event),
            ("status", &asked.status),
        ];
        let mut pairs: Vec<String> = named
            .iter()
            .filter(|(name, value)| *name == "clickid" || !value.is_empty())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut query = pairs.join("&");
        if !asked.secret.is_empty() {
            // None of the names begins with another one.
            pairs.sort_unstable();
            let sig = checker::sign(&asked.secret, &pairs.join("&"));
            query.push_str(&format!("&sig={sig}"));
        }
        format!("/v1/postback.php?{query}")
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub enum Reply {
    Answer(Answer),
    /// No answer, and why: connection lost, refused, timed out.
    None(String),
}

/// A postback with what came back.
#[derive(Clone, Debug)]
pub struct PostbackCall {
    pub sent: Sent,
    pub asked: Asked,
    pub began: Instant,
    pub ended: Instant,
    pub reply: Reply,
}

impl PostbackCall {
    /// Its answer, understood; none where none came.
    #[must_use]
    pub fn said(&self) -> Option<Said> {
        match &self.reply {
            Reply::Answer(answer) => Some(Said::of(&answer.body)),
            Reply::None(_) => None,
        }
    }

    /// The kind of its answer.
    #[must_use]
    pub fn kind(&self) -> AnswerKind {
        said::kind(self.said().as_ref())
    }

    /// The request id that the answer names.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        match &self.reply {
            Reply::Answer(answer) => answer.header("x-request-id"),
            Reply::None(_) => None,
        }
    }
}

/// All that was recorded, in the order in which it ended.
#[derive(Debug, Default)]
pub struct Recorded {
    pub clicks: Vec<ClickCall>,
    pub postbacks: Vec<PostbackCall>,
}

/// A growing record, shared by all callers of a scenario.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<Recorded>>);

/// The longest time without a 200.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// From the beginning of the history.
    pub after: Duration,
    pub length: Duration,
}

impl History {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was recorded so far. Others wait while it is held: not across an await.
    pub fn recorded(&self) -> MutexGuard<'_, Recorded> {
        // What a caller that panicked had recorded stays true.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a click.
    pub fn click(&self, click: ClickCall) {
        self.recorded().clicks.push(click);
    }

    /// Records clicks of one announcement that began at `began`, acknowledged now or not at all.
    pub fn clicks<'a>(
        &self,
        clickids: impl IntoIterator<Item = &'a String>,
        campaign_id: i64,
        ingress: Option<usize>,
        began: Instant,
        acknowledged: bool,
    ) {
        let acknowledged = acknowledged.then(Instant::now);
        let calls = clickids.into_iter().map(|clickid| ClickCall {
            clickid: clickid.clone(),
            campaign_id,
            ingress,
            began,
            acknowledged,
        });
        self.recorded().clicks.extend(calls);
    }

    /// Records a postback that began at `began` and has ended now.
    pub fn postback(&self, sent: Sent, asked: Asked, began: Instant, reply: Reply) {
        let call = PostbackCall {
            sent,
            asked,
            began,
            ended: Instant::now(),
            reply,
        };
        self.recorded().postbacks.push(call);
    }

    /// Records what [`crate::http::Connection::request`] gave.
    pub fn reply(&self, sent: Sent, began: Instant, result: &std::io::Result<Answer>) {
        self.reply_to(sent, Asked::default(), began, result);
    }

    /// The same for a postback that brought what its campaign may ask for.
    pub fn reply_to(
        &self,
        sent: Sent,
        asked: Asked,
        began: Instant,
        result: &std::io::Result<Answer>,
    ) {
        let reply = match result {
            Ok(answer) => Reply::Answer(answer.clone()),
            Err(error) => Reply::None(error.to_string()),
        };
        self.postback(sent, asked, began, reply);
    }

    /// How many postbacks got which kind of answer.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let recorded = self.recorded();
        recorded.postbacks.iter().map(PostbackCall::kind).collect()
    }

    /// The time within which `percent` of the answers came, of one kind or of all; zero where
    /// there is none.
    #[must_use]
    pub fn latency(&self, kind: Option<AnswerKind>, percent: f64) -> Duration {
        let recorded = self.recorded();
        let mut times: Vec<Duration> = recorded
            .postbacks
            .iter()
            .filter(|call| matches!(call.reply, Reply::Answer(_)))
            .filter(|call| kind.is_none_or(|kind| call.kind() == kind))
            .map(|call| call.ended - call.began)
            .collect();
        times.sort_unstable();
        nearest(&times, percent)
    }

    /// How long the answers to calls that began between these moments took, sorted.
    #[must_use]
    pub fn latencies(&self, from: Instant, to: Instant) -> Vec<Duration> {
        let recorded = self.recorded();
        let calls = recorded.postbacks.iter();
        let mut times: Vec<Duration> = calls
            .filter(|call| matches!(call.reply, Reply::Answer(_)))
            .filter(|call| (from..to).contains(&call.began))
            .map(|call| call.ended - call.began)
            .collect();
        times.sort_unstable();
        times
    }

    /// The longest time in which no 200 came, between the first request and the last answer.
    #[must_use]
    pub fn longest_pause(&self) -> Pause {
        let recorded = self.recorded();
        let calls = &recorded.postbacks;
        let Some(start) = calls.iter().map(|call| call.began).min() else {
            return Pause::default();
        };
        let answered = |call: &&PostbackCall| matches!(&call.reply, Reply::Answer(answer) if answer.status == 200);
        let mut ends: Vec<Instant> = calls
            .iter()
            .filter(answered)
            .map(|call| call.ended)
            .collect();
        ends.extend(calls.iter().map(|call| call.ended).max());
        ends.sort_unstable();
        let mut longest = Pause::default();
        let mut last = start;
        for end in ends {
            if end - last > longest.length {
                longest = Pause {
                    after: last - start,
                    length: end - last,
                };
            }
            last = end;
        }
        longest
    }

    /// A line for people: counts, latencies, the longest pause.
    #[must_use]
    pub fn summary(&self) -> String {
        let pause = self.longest_pause();
        format!(
            "{}; p50 {:.1?}, p99 {:.1?}, max {:.1?}; longest time without a 200 {:.1?}, from {:.1?} on",
            self.counts(),
            self.latency(None, 50.0),
            self.latency(None, 99.0),
            self.latency(None, 100.0),
            pause.length,
            pause.after,
        )
    }
}

/// The nearest-rank percentile of sorted times.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rank among at most millions"
)]
#[must_use]
pub fn nearest(times: &[Duration], percent: f64) -> Duration {
    let rank = (times.len() as f64 * percent / 100.0).ceil() as usize;
    let place = rank.clamp(1, times.len().max(1)) - 1;
    times.get(place).copied().unwrap_or_default()
}

/// How many postbacks got which kind of answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<AnswerKind, usize>);

impl Counts {
    /// Those of one kind.
    #[must_use]
    pub fn of(&self, kind: AnswerKind) -> usize {
        self.0.get(&kind).copied().unwrap_or(0)
    }

    /// All, answered or not.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// Those that got an answer.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.total() - self.of(AnswerKind::NoAnswer)
    }
}

impl FromIterator<AnswerKind> for Counts {
    fn from_iter<I: IntoIterator<Item = AnswerKind>>(kinds: I) -> Self {
        let mut counts = Self::default();
        for kind in kinds {
            *counts.0.entry(kind).or_default() += 1;
        }
        counts
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} postbacks", self.total())?;
        for (kind, word) in [
            (AnswerKind::Standard, "standard"),
            (AnswerKind::Duplicate, "duplicate"),
            (AnswerKind::Updated, "updated"),
            (AnswerKind::Queued, "queued"),
            (AnswerKind::ClickNotFound, "click_not_found"),
            (AnswerKind::ClickExpired, "click_expired"),
            (AnswerKind::Forbidden, "forbidden"),
            (AnswerKind::Refused, "refused"),
            (AnswerKind::InternalError, "internal_error"),
            (AnswerKind::NoAnswer, "without an answer"),
            (AnswerKind::Odd, "odd"),
        ] {
            if self.of(kind) > 0 {
                write!(f, ", {} {word}", self.of(kind))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, began: u64, ended: u64, status: Option<u16>) -> PostbackCall {
        let reply = status.map_or(Reply::None("lost".to_owned()), |status| {
            Reply::Answer(Answer {
                status,
                headers: Vec::new(),
                body: r#"{"status":"error","error":"click_not_found","message":"m"}"#.to_owned(),
            })
        });
        PostbackCall {
            sent: Sent::default(),
            asked: Asked::default(),
            began: start + Duration::from_millis(began),
            ended: start + Duration::from_millis(ended),
            reply,
        }
    }

    #[test]
    fn pauses_and_latencies() {
        let history = History::new();
        assert_eq!(history.longest_pause(), Pause::default());
        assert_eq!(history.latency(None, 99.0), Duration::ZERO);
        let start = Instant::now();
        history.recorded().postbacks.extend([
            at(start, 0, 10, Some(200)),
            at(start, 5, 30, Some(200)),
            at(start, 30, 60, Some(202)),
            at(start, 30, 500, None),
            at(start, 90, 100, Some(200)),
        ]);
        let pause = history.longest_pause();
        assert_eq!(pause.after, Duration::from_millis(100));
        assert_eq!(pause.length, Duration::from_millis(400));
        assert_eq!(history.latency(None, 50.0), Duration::from_millis(10));
        assert_eq!(history.latency(None, 100.0), Duration::from_millis(30));
        let counts = history.counts();
        assert_eq!((counts.total(), counts.answered()), (5, 4));
        assert_eq!(counts.of(AnswerKind::ClickNotFound), 4);
    }

    #[test]
    fn targets() {
        let sent = Sent {
            clickid: "a".to_owned(),
            revenue: "1.5".to_owned(),
            external_id: Some("t".to_owned()),
            ..Sent::default()
        };
        assert_eq!(
            sent.target(),
            "/v1/postback.php?clickid=a&revenue=1.5&txid=t"
        );
        // The digest is `openssl dgst -sha256 -hmac`'s.
        let sent = Sent {
            clickid: "abc".to_owned(),
            revenue: "1.50".to_owned(),
            ..Sent::default()
        };
        let asked = Asked {
            secret: "0123456789abcdef".to_owned(),
            ..Asked::default()
        };
        assert_eq!(
            sent.target_with(&asked),
            "/v1/postback.php?clickid=abc&revenue=1.50\
             &sig=bd5e91c4912196f500164a024acb85fc9c2aaaf4eea86afe20a000e1fe7b0899"
        );
    }
}
