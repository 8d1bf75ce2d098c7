//! What happens at a place.

/// Reads `FAILPOINTS`. To be called once, before any place is reached.
pub fn set_up() {
    // Dropped, it would take all settings back.
    std::mem::forget(fail::FailScenario::setup());
    for (place, action) in fail::list() {
        tracing::warn!(place, action, "failpoint set");
    }
}

/// Comes past the place `name`. Gives the name of the error that it shall fail with, if any.
#[must_use]
pub fn hit(name: &str) -> Option<String> {
    let told = quietly(name)?;
    tracing::warn!(place = name, told, "failpoint");
    match told.as_str() {
        "kill" => std::process::abort(),
        "stop" => {
            let stop = format!("kill -STOP {}", std::process::id());
            let stopped = std::process::Command::new("sh")
                .args(["-c", &stop])
                .status();
            tracing::warn!(place = name, ?stopped, "goes on");
            None
        }
        _ => Some(told),
    }
}

/// As [`hit`], for a place that only gives its setting, and is come past often.
#[must_use]
pub fn quietly(name: &str) -> Option<String> {
    fail::fail_point!(name, |argument| argument);
    None
}
