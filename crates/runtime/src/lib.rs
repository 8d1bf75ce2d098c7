//! What every role of the process needs and none of them owns: reading the
//! configuration, logs, the metrics registry, an HTTP/1.1 server with limits,
//! the admin server, and the order of starting and stopping.
//!
//! Nothing of the domain enters here; a postback is not known in this room.

pub mod admin;
pub mod http;
pub mod lifecycle;
pub mod metrics;
mod panics;
pub mod settings;
pub mod telemetry;
