//! A postback that is only looked at: understood as one, and nothing comes of it. No Kafka, no
//! look-up, nothing in the log.

use crate::postback::incoming;
use crate::routes::{Answer, Ingress};
use hyper::body::Incoming as Body;
use hyper::{Request, StatusCode};
use postern_core::check::check;

impl Ingress {
    pub(crate) async fn check(&self, request: Request<Body>) -> Answer {
        let (head, body) = request.into_parts();
        let body = match self.read(&head, body).await {
            Ok(body) => body,
            Err(refused) => return refused.answer,
        };
        let checked = check(&incoming(&head, body.as_ref()), &self.config.rules);
        let status = match checked.refused {
            None => StatusCode::OK,
            Some(_) => StatusCode::BAD_REQUEST,
        };
        Answer {
            status,
            body: checked.body,
            outcome: checked.refused.unwrap_or("checked"),
            location: None,
        }
    }
}
