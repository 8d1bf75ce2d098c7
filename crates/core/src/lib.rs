//! The domain of Postern, pure: what a postback is, how it is understood, decided and answered.
//!
//! Nothing here reads a clock, draws a random number, or talks to anything. What enters are
//! bytes and values; what leaves are values and bytes. Everything else is plumbing around it.

// The decision's tests share rooms with the store's contract, which know us by this name.
#[cfg(test)]
extern crate self as postern_core;

pub mod answer;
pub mod campaign;
pub mod check;
pub mod currency;
pub mod cursor;
pub mod decision;
pub mod ids;
pub mod money;
pub mod partition;
pub mod record;
pub mod request;
pub mod status;
pub mod time;
