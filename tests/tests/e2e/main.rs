//! End-to-end tests on the built binary, each on the embedded parts and on Apache Kafka with
//! PostgreSQL. One test binary, so that what takes time to start is started once.
#![allow(
    clippy::unwrap_used,
    reason = "tests: a failed unwrap is a failed test"
)]

mod access;
mod answers;
mod api_examples;
mod away;
mod bad_input;
mod body;
mod campaigns;
mod check;
mod checker;
mod clicks;
mod command_line;
mod doctor;
mod generated;
mod hostile;
mod late_click;
mod ledger;
mod log;
mod observability;
mod openapi;
mod outages;
mod overload;
mod places;
mod positions;
mod readme;
mod redirect;
mod replay;
mod restart;
mod retention;
mod shutdown;
mod spool;
mod status;
mod topics;
mod twice;
