//! `POST /v1/clicks`: clicks for those who don't publish to Kafka themselves.

use crate::routes::{Answer, Call, Ingress};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use postern_core::answer::Body;
use postern_core::record::DecodeError;
use postern_core::record::click::Click;
use postern_runtime::http::{bearer, read_body, same};
use postern_runtime::telemetry::chain;
use tokio::task::JoinSet;

/// Refused lines that are listed one by one; the rest are only counted.
const LISTED: usize = 100;

struct Refused {
    line: usize,
    code: &'static str,
    message: String,
}

impl Ingress {
    pub(crate) async fn clicks(&self, call: &Call, request: Request<Incoming>) -> Answer {
        if let Err(answer) = self.authorize(&request) {
            return answer;
        }
        let body = read_body(
            request.into_body(),
            self.config.max_body,
            self.config.body_timeout,
        )
        .await;
        let body = match body {
            Ok(body) => body,
            Err(error) => {
                return Answer::error(error.status(), error.code(), &error.to_string());
            }
        };
        let mut clicks = Vec::new();
        let mut refused = Vec::new();
        for (line, bytes) in lines(&body) {
            match Click::decode(bytes, call.received_at) {
                Ok(click) => clicks.push((line, click)),
                Err(error) => refused.push(Refused {
                    line,
                    code: "invalid_click",
                    message: match error {
                        DecodeError::Malformed(why) => why,
                        newer @ DecodeError::NewerVersion { .. } => newer.to_string(),
                    },
                }),
            }
        }
        if clicks.is_empty() && refused.is_empty() {
            return Answer::error(
                StatusCode::BAD_REQUEST,
                "invalid_click",
                "The body holds no click: send one JSON object, or one per line",
            );
        }
        let all = clicks.len();
        let lost = self.keep_clicks(clicks).await;
        let accepted = all - lost.len();
        for line in &lost {
            refused.push(Refused {
                line: *line,
                code: "internal_error",
                message: "Not known to be stored; sending it again is safe".to_owned(),
            });
        }
        let lost = lost.len();
        self.count("accepted", accepted);
        self.count("not_published", lost);
        self.count("refused", refused.len() - lost);
        refused.sort_by_key(|refused| refused.line);
        answer(accepted, lost, &refused)
    }

    /// Makes clicks durable, all at once; gives the lines of those that aren't.
    async fn keep_clicks(&self, clicks: Vec<(usize, Click)>) -> Vec<usize> {
        let mut keeping = JoinSet::new();
        for (line, click) in clicks {
            let outlet = self.outlet.clone();
            keeping.spawn(async move { (line, outlet.keep_click(&click).await) });
        }
        let mut lost = Vec::new();
        while let Some(kept) = keeping.join_next().await {
            match kept {
                Ok((_, Ok(_))) => {}
                Ok((line, Err(error))) => {
                    if let Some(clicks) = self.said.is_due() {
                        let why = chain(&error);
                        tracing::warn!(clicks, why, "clicks were not made durable");
                    }
                    lost.push(line);
                }
                Err(error) => {
                    // Its line isn't known: the first one stands for it.
                    tracing::error!(%error, "a click was not published");
                    lost.push(1);
                }
            }
        }
        lost
    }

    fn count(&self, result: &str, number: usize) {
        self.metrics
            .clicks
            .with_label_values(&[result])
            .inc_by(u64::try_from(number).unwrap_or(u64::MAX));
    }

    fn authorize(&self, request: &Request<Incoming>) -> Result<(), Answer> {
        let Some(token) = &self.config.clicks_token else {
            return Err(Answer::error(
                StatusCode::FORBIDDEN,
                "forbidden",
                "This endpoint is closed: no clicks.token is configured",
            ));
        };
        match bearer(request.headers()) {
            Some(given) if same(given.as_bytes(), token.expose().as_bytes()) => Ok(()),
            _ => Err(Answer::error(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "Send the clicks token as Authorization: Bearer",
            )),
        }
    }
}

/// One JSON object over any number of lines, or one per line. Numbered from 1; blank lines are
/// passed over.
fn lines(body: &[u8]) -> Vec<(usize, &[u8])> {
    let lines: Vec<(usize, &[u8])> = body
        .split(|byte| *byte == b'\n')
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim_ascii()))
        .filter(|(_, line)| !line.is_empty())
        .collect();
    // An object printed over several lines starts with a line that is no object of its own.
    let whole = body.trim_ascii();
    let one = lines.len() > 1
        && serde_json::from_slice::<serde::de::IgnoredAny>(whole).is_ok()
        && whole.first() == Some(&b'{');
    if one { vec![(1, whole)] } else { lines }
}

fn answer(accepted: usize, lost: usize, refused: &[Refused]) -> Answer {
    let (status, outcome) = if lost > 0 {
        (StatusCode::SERVICE_UNAVAILABLE, "internal_error")
    } else if accepted == 0 {
        (StatusCode::BAD_REQUEST, "invalid_click")
    } else {
        (StatusCode::OK, "accepted")
    };
    let body = if status == StatusCode::OK {
        Body::new("ok")
    } else {
        let message = if lost > 0 {
            "Some clicks are not known to be stored; sending all of them again is safe"
        } else {
            "No click was accepted"
        };
        Body::new("error")
            .text("error", outcome)
            .text("message", message)
    };
    let mut list = vec![b'['];
    for (index, one) in refused.iter().take(LISTED).enumerate() {
        if index > 0 {
            list.push(b',');
        }
        list.extend(
            Body::empty()
                .number("line", &one.line)
                .text("error", one.code)
                .text("message", &one.message)
                .finish(),
        );
    }
    list.push(b']');
    Answer {
        status,
        body: body
            .number("accepted", &accepted)
            .number("refused", &refused.len())
            .raw("refusals", &list)
            .finish(),
        outcome,
        location: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_may_span_lines_and_many_have_one_each() {
        assert_eq!(lines(b"{\n\"a\":1\n}\n").len(), 1);
        let many = lines(b"{\"a\":1}\n\n{\"b\":2}\r\nnot json\n");
        assert_eq!(
            many.iter().map(|(line, _)| *line).collect::<Vec<_>>(),
            [1, 3, 4]
        );
        assert!(lines(b" \n").is_empty());
    }
}
