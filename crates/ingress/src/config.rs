//! What an ingress is told, validated by whoever assembles it.

use ipnet::IpNet;
use postern_core::request::Rules;
use postern_runtime::settings::Secret;
use std::num::NonZeroU32;
use std::time::Duration;

/// When a postback is answered.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AnswerMode {
    /// When its verdict is in, or `answer.timeout` has passed.
    Verdict,
    /// When Kafka has acknowledged it, with `queued`.
    Accepted,
}

/// An ingress' settings.
#[derive(Clone, Debug)]
pub struct IngressConfig {
    /// Longest wait for the acknowledgement and the verdict together.
    pub answer_timeout: Duration,
    /// When a postback is answered.
    pub answer_mode: AnswerMode,
    /// Answer refusals with 200 for callers that can't handle 4xx; 429 and 5xx stay.
    pub always_200: bool,
    /// Peers whose forwarded header is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How requests are understood.
    pub rules: Rules,
    /// Bearer token of `POST /v1/clicks`; `None` closes it.
    pub clicks_token: Option<Secret>,
    /// Longest wait of a visitor for his click's acknowledgement.
    pub redirect_timeout: Duration,
    /// Most requests that are being answered at one time; more are refused at once.
    pub max_in_flight: usize,
    /// Bytes of bodies that are being read or answered at one time; more are refused at once.
    pub max_queued_bytes: usize,
    /// Postbacks and redirects per second of one address; `None` for any number.
    pub rate_per_address: Option<NonZeroU32>,
    /// Longest body, in bytes.
    pub max_body: usize,
    /// Longest wait for a body.
    pub body_timeout: Duration,
    /// Clicks that nobody knows, per address and minute, whose postbacks may wait for them.
    pub unmatched_per_address: u32,
    /// Refused postbacks per address and minute that go into the log.
    pub refusals_per_address: u32,
    /// Refused postbacks per second in total that go into the log.
    pub refusals_total: u32,
}
