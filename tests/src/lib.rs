//! What the end-to-end tests stand on: the built binary, the real parts beside it, and clients.
//!
//! Nothing of Postern's code is used here: a test knows what a caller, an operator or another
//! program on the topics knows. Children are bound to the life of the test process, whatever
//! ends it.
#![allow(
    clippy::unwrap_used,
    reason = "tests: a failed unwrap is a failed test"
)]

pub mod checker;
pub mod directory;
pub mod fleet;
pub mod foreign;
pub mod generated;
pub mod history;
pub mod http;
pub mod kcat;
pub mod load;
pub mod pages;
pub mod process;
pub mod proxy;
pub mod real;
pub mod run;
pub mod stack;
pub mod traffic;
pub mod wait;

pub use http::Answer;
pub use process::Postern;
pub use real::World;
pub use stack::{Kind, Stack};
