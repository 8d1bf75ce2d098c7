//! The roles, assembled. Each part can be put into one process with the others.

pub mod consumer;
pub mod ingress;
pub mod reports;
#[cfg(feature = "standalone")]
pub mod standalone;
