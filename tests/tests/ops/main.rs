//! What operators run Postern by: rules, dashboards, the topology of docker-compose.yml as
//! processes, and what the documents have them type. Takes minutes: `make test-ops`.
#![allow(
    clippy::unwrap_used,
    reason = "tests: a failed unwrap is a failed test"
)]

mod openapi;
mod pages;
mod prometheus;
mod rules;
mod topology;
