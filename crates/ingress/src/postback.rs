//! A postback: understood, published, answered.

use crate::config::AnswerMode;
use crate::outlet::{Kept, Next, NotKept, Record, Sent};
use crate::routes::{Answer, Call, Ingress, MAX_URI};
use crate::spooled::Topic;
use bytes::Bytes;
use hyper::body::Incoming as Body;
use hyper::header::{CONTENT_TYPE, HeaderMap, USER_AGENT};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use postern_core::answer;
use postern_core::record::postback::{MAX_RAW_BODY_BYTES, Origin, Postback};
use postern_core::record::reject::Reject;
use postern_core::record::verdict::Outcome;
use postern_core::record::{HEADER_REPLY_TO, HEADER_REQUEST_ID};
use postern_core::request::{BodyKind, Incoming, hint, understand};
use postern_failpoint::failpoint;
use postern_runtime::http::read_body;
use postern_runtime::telemetry::chain;
use std::pin::pin;
use tokio::time::Instant;

/// How much of a user agent is kept, in bytes.
const MAX_USER_AGENT: usize = 512;

/// A refusal and the sentence that goes with it into the log.
pub(crate) struct Refused {
    pub(crate) answer: Answer,
    message: String,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, message: String) -> Self {
        Self {
            answer: Answer::error(status, code, &message),
            message,
        }
    }
}

impl Ingress {
    pub(crate) async fn postback(&self, call: &Call, request: Request<Body>) -> Answer {
        let (head, body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default();
        let mut origin = origin(call, &head.method, query, &head.headers);
        let body = match self.read(&head, body).await {
            Ok(body) => body,
            Err(refused) => return Box::pin(self.log_refusal(call, origin, refused)).await,
        };
        if let Some(bytes) = &body {
            origin.raw_body = raw(bytes);
        }
        let incoming = incoming(&head, body.as_ref());
        match understand(&incoming, &self.config.rules) {
            Ok(fields) => {
                let (id, at) = (call.request_id, call.received_at);
                let mut postback = Postback::new(id, at, fields, origin);
                // Before it is decided: the click may get to Kafka after its postback, and out of
                // the spool before the verdict is here.
                let held = self.outlet.holds_clicks();
                postback.may_wait = held || self.guesses.may_wait(call.address);
                let answer = self.publish(&postback, held).await;
                if answer.outcome == Outcome::ClickNotFound.word() {
                    self.guesses.count(call.address);
                }
                answer
            }
            Err(refusal) => {
                let hint = hint(&incoming, &refusal);
                let refused = Refused {
                    answer: Answer {
                        status: StatusCode::BAD_REQUEST,
                        body: answer::refused(&refusal, hint.as_deref()),
                        outcome: refusal.code(),
                        location: None,
                    },
                    message: refusal.message(),
                };
                Box::pin(self.log_refusal(call, origin, refused)).await
            }
        }
    }

    /// The body of a request whose sizes are within the limits; `None` where there is none.
    pub(crate) async fn read(&self, head: &Parts, body: Body) -> Result<Option<Bytes>, Refused> {
        if head.uri.path_and_query().map_or(0, |p| p.as_str().len()) > MAX_URI {
            let message = format!("The URL is longer than {MAX_URI} bytes; send a POST body");
            let status = StatusCode::URI_TOO_LONG;
            return Err(Refused::new(status, "uri_too_long", message));
        }
        if head.method != Method::POST {
            return Ok(None);
        }
        let reading = read_body(body, self.config.max_body, self.config.body_timeout);
        match Box::pin(reading).await {
            Ok(body) => Ok(Some(body).filter(|bytes| !bytes.is_empty())),
            Err(error) => {
                let message = error.to_string();
                Err(Refused::new(error.status(), error.code(), message))
            }
        }
    }

    /// `held`: clicks of callers are in the spool, and its own may be.
    async fn publish(&self, postback: &Postback, held: bool) -> Answer {
        let deadline = Instant::now() + self.config.answer_timeout;
        let request_id = postback.request_id.to_string();
        let reply = match self.config.answer_mode {
            AnswerMode::Verdict => Some(self.reply.header(self.pending.instance())),
            AnswerMode::Accepted => None,
        };
        let mut headers = vec![(HEADER_REQUEST_ID, request_id.as_str())];
        if let Some(reply) = &reply {
            headers.push((HEADER_REPLY_TO, reply));
        }
        // Before it is published: the verdict may be faster than the acknowledgement.
        let mut waiting = reply
            .as_ref()
            .map(|_| self.pending.register(postback.request_id));
        let mut verdict = pin!(async {
            match &mut waiting {
                Some(waiting) => waiting.outcome().await,
                None => std::future::pending().await,
            }
        });
        failpoint!("ingress.registered", |_| Answer::unavailable());
        let value = postback.encode();
        let record = Record {
            topic: Topic::Postbacks,
            key: postback.clickid.as_str().as_bytes(),
            value: &value,
            request_id: Some(&request_id),
            headers: &headers,
        };
        let mut sent = self.outlet.send(&record);
        failpoint!("ingress.sent", |_| Answer::unavailable());
        let next = match &sent {
            Some(sent)
                if reply.is_some()
                    && sent.is_trusted()
                    && self.breaker.is_closed(sent.partition()) =>
            {
                Next::Verdict
            }
            _ => Next::Nothing,
        };
        let kept = tokio::select! {
            // A verdict means that the postback was read back from Kafka and committed.
            biased;
            outcome = &mut verdict => {
                failpoint!("ingress.published", |_| Answer::unavailable());
                if let Some(sent) = &mut sent
                    && let Some(Ok(placed)) = sent.told()
                    && let Some(since) = sent.since()
                {
                    self.breaker.verdict(placed.partition, since);
                    self.metrics.verdict_wait.observe(since.elapsed().as_secs_f64());
                }
                return self.decided(&outcome, postback, held);
            }
            kept = self.outlet.kept(&mut sent, next, &record, Some(deadline)) => kept,
        };
        let placed = match kept {
            Ok(Kept::Placed(placed)) => placed,
            Ok(Kept::Spooled) => return queued(postback),
            Err(error) => return self.lost(&error),
        };
        failpoint!("ingress.published", |_| Answer::unavailable());
        if self.config.answer_mode == AnswerMode::Accepted {
            return queued(postback);
        }
        let since = sent.as_ref().and_then(Sent::since);
        let since = since.unwrap_or_else(Instant::now);
        let waited = || {
            let seconds = since.elapsed().as_secs_f64();
            self.metrics.verdict_wait.observe(seconds);
        };
        // Who has waited for a while already is no probe.
        if next == Next::Verdict && !self.breaker.is_closed(placed.partition) {
            waited();
            return queued(postback);
        }
        let Some(wait) = self.breaker.admit(placed.partition, since) else {
            return queued(postback);
        };
        let answer = tokio::select! {
            biased;
            outcome = &mut verdict => {
                wait.verdict();
                self.decided(&outcome, postback, held)
            }
            () = tokio::time::sleep_until(deadline) => {
                wait.missed();
                queued(postback)
            }
        };
        waited();
        answer
    }

    /// The answer that a verdict makes. Where clicks of callers were `held` in the spool, nobody can
    /// say that there is no click: the postback is kept, and converts when its click arrives.
    fn decided(&self, outcome: &Outcome, postback: &Postback, held: bool) -> Answer {
        if held && matches!(outcome, Outcome::ClickNotFound) {
            return queued(postback);
        }
        decided(outcome, postback)
    }

    /// A postback that is nowhere.
    fn lost(&self, error: &NotKept) -> Answer {
        if let Some(postbacks) = self.said.is_due() {
            tracing::error!(
                postbacks,
                why = chain(error),
                "postbacks can't be made durable and are answered internal_error: see why kafka \
                 doesn't acknowledge, and give the spool room"
            );
        }
        Answer::unavailable()
    }

    /// Refuses a request whose body was not read.
    pub(crate) async fn refuse(
        &self,
        call: &Call,
        request: &Request<Body>,
        status: StatusCode,
        code: &'static str,
        message: String,
    ) -> Answer {
        let query = request.uri().query().unwrap_or_default();
        let origin = origin(call, request.method(), query, request.headers());
        self.log_refusal(call, origin, Refused::new(status, code, message))
            .await
    }

    async fn log_refusal(&self, call: &Call, origin: Origin, refused: Refused) -> Answer {
        let Refused { answer, message } = refused;
        let reject = Reject::request(
            call.request_id,
            call.received_at,
            answer.outcome,
            message,
            origin,
        );
        self.refusals.log(call.address, &reject).await;
        answer
    }
}

fn decided(outcome: &Outcome, postback: &Postback) -> Answer {
    Answer {
        status: match outcome {
            Outcome::Converted { .. } | Outcome::Duplicate { .. } | Outcome::Updated { .. } => {
                StatusCode::OK
            }
            Outcome::ClickNotFound => StatusCode::NOT_FOUND,
            Outcome::ClickExpired { .. } => StatusCode::GONE,
            Outcome::Forbidden { .. } => StatusCode::FORBIDDEN,
        },
        body: answer::of(outcome, &postback.clickid, &postback.warnings),
        outcome: outcome.word(),
        location: None,
    }
}

fn queued(postback: &Postback) -> Answer {
    Answer {
        status: StatusCode::ACCEPTED,
        body: answer::queued(postback.request_id, &postback.clickid, &postback.warnings),
        outcome: "queued",
        location: None,
    }
}

fn origin(call: &Call, method: &Method, query: &str, headers: &HeaderMap) -> Origin {
    let user_agent = headers.get(USER_AGENT).map_or_else(String::new, |value| {
        let mut text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        text.truncate(text.floor_char_boundary(MAX_USER_AGENT));
        text
    });
    Origin {
        method: method.as_str().chars().take(16).collect(),
        raw_query: query[..query.floor_char_boundary(MAX_URI)].to_owned(),
        raw_body: String::new(),
        address: call.address.to_string(),
        user_agent,
    }
}

fn raw(body: &Bytes) -> String {
    let mut text = String::from_utf8_lossy(&body[..body.len().min(MAX_RAW_BODY_BYTES)])
        .replace('\0', "\u{fffd}");
    text.truncate(text.floor_char_boundary(MAX_RAW_BODY_BYTES));
    text
}

pub(crate) fn incoming<'a>(head: &'a Parts, body: Option<&'a Bytes>) -> Incoming<'a> {
    Incoming {
        query: head.uri.query().unwrap_or_default().as_bytes(),
        body: body.map(|bytes| (body_kind(&head.headers, bytes), &bytes[..])),
    }
}

/// JSON by its content type, or by its first byte: no form begins with a brace, many callers send
/// JSON as what their library sends by default, and a lost postback weighs more than a wrong
/// header.
fn body_kind(headers: &HeaderMap, body: &[u8]) -> BodyKind {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_ascii_lowercase();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if essence == "application/json"
        || essence.ends_with("+json")
        || body.trim_ascii_start().first() == Some(&b'{')
    {
        BodyKind::Json
    } else {
        BodyKind::Form
    }
}
