//! Places at which tests make Postern stop, wait or fail.
//!
//! Without the feature `enabled` a place is no code at all, and this crate is empty: so are all
//! builds but those of the tests. With it, the environment variable `FAILPOINTS` says what happens
//! where, as the `fail` crate reads it: `PLACE=ACTION;PLACE=ACTION`, an action being one of
//!
//! - `return(kill)`: the process ends at once, as by SIGKILL
//! - `return(stop)`: the process is stopped, as by SIGSTOP, until somebody sends SIGCONT
//! - `return(NAME)`: the place fails with the error that it calls so
//! - `sleep(MILLISECONDS)`
//!
//! with a chance and a count before it: `1%3*return(kill)`.

#[cfg(feature = "enabled")]
mod enabled;
#[cfg(feature = "enabled")]
pub use enabled::{hit, quietly, set_up};

/// A place.
///
/// `failpoint!("name")` can be killed, stopped and delayed. `failpoint!("name", |error| …)` can
/// fail too: what the closure makes of the error's name is returned from the function around it.
#[cfg(not(feature = "enabled"))]
#[macro_export]
macro_rules! failpoint {
    ($name:expr $(, $error:expr)?) => {};
}

/// A place.
///
/// `failpoint!("name")` can be killed, stopped and delayed. `failpoint!("name", |error| …)` can
/// fail too: what the closure makes of the error's name is returned from the function around it.
#[cfg(feature = "enabled")]
#[macro_export]
macro_rules! failpoint {
    ($name:expr) => {
        let _ = $crate::hit($name);
    };
    ($name:expr, $error:expr) => {
        if let Some(name) = $crate::hit($name) {
            return $error(name.as_str());
        }
    };
}
