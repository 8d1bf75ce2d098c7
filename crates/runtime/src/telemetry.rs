//! Logs: for people on a terminal, one JSON object per line elsewhere, always
//! to standard error, so that standard output stays for what a command prints.
//!
//! Records of crates that use `log` come out the same way.

use std::io::IsTerminal;

use serde::Deserialize;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    #[default]
    Auto,
    Human,
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is none of auto, human, json")),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("log filter {filter:?} can't be used")]
    Filter {
        filter: String,
        #[source]
        source: ParseError,
    },
    #[error("a log subscriber is already installed")]
    Installed(#[from] TryInitError),
}

/// Installs the process's log subscriber. `filter` is a list of directives as
/// in `info,rdkafka=warn`; an empty one means `info`.
///
/// # Errors
///
/// A filter that can't be parsed, or a second call in the same process.
pub fn init(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let filter = parse(filter)?;
    let terminal = std::io::stderr().is_terminal();
    let human = match format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let layer = fmt::layer().with_writer(std::io::stderr);
    let layer = if human {
        // Colours only where somebody sees them; NO_COLOR is the common way out.
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        layer.with_ansi(colours).boxed()
    } else {
        layer
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .boxed()
    };
    tracing_subscriber::registry()
        .with(layer)
        .with(filter)
        .try_init()?;
    Ok(())
}

fn parse(filter: &str) -> Result<EnvFilter, TelemetryError> {
    let filter = if filter.trim().is_empty() {
        "info"
    } else {
        filter
    };
    EnvFilter::try_new(filter).map_err(|source| TelemetryError::Filter {
        filter: filter.to_owned(),
        source,
    })
}

/// An error with everything that caused it, on one line, for the log.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn filters_are_checked() {
        assert!(parse("").is_ok());
        assert!(parse("info,rdkafka=warn,postern_ingress=debug").is_ok());
        let error = parse("info,rdkafka=loud").unwrap_err();
        assert!(error.to_string().contains("rdkafka=loud"));
    }

    #[test]
    fn a_second_subscriber_is_refused() {
        init("off", LogFormat::Auto).unwrap();
        assert!(matches!(
            init("off", LogFormat::Json),
            Err(TelemetryError::Installed(_))
        ));
    }

    #[test]
    fn formats_have_names() {
        assert_eq!("json".parse::<LogFormat>().unwrap(), LogFormat::Json);
        assert!("xml".parse::<LogFormat>().is_err());
    }
}
