//! `docs/CONFIGURATION.md` and `postern config reference`: the text around the tables is
//! `reference.md`, the tables come from the types.

use super::raw::{AnswerMode, LogFormat, Raw};
use postern_core::request::InvalidRevenue;
use postern_runtime::settings::{Options, Secret, Size, Span};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A key as readers see it.
pub struct Key {
    pub name: &'static str,
    pub default: String,
    pub meaning: String,
}

/// A section of the configuration, to be described.
pub trait Section {
    fn keys(&self) -> Vec<Key>;
}

/// How a default is shown; empty where there is none.
pub trait Shown {
    fn shown(&self) -> String;
}

macro_rules! shown_as_written {
    ($($type:ty)*) => {
        $(impl Shown for $type {
            fn shown(&self) -> String {
                format!("`{self}`")
            }
        })*
    };
}
shown_as_written!(bool u32 usize i64 String SocketAddr Span Size);

macro_rules! shown_as_none {
    ($($type:ty)*) => {
        $(impl Shown for $type {
            fn shown(&self) -> String {
                String::new()
            }
        })*
    };
}
// Secrets have no default, and the two others none but an empty table.
shown_as_none!(Option<Secret> Option<PathBuf> Option<String> Option<u16> Options);

impl Shown for PathBuf {
    fn shown(&self) -> String {
        format!("`{}`", self.display())
    }
}

impl Shown for Vec<String> {
    fn shown(&self) -> String {
        format!("`{self:?}`")
    }
}

macro_rules! shown_in_lower_case {
    ($($type:ty)*) => {
        $(impl Shown for $type {
            fn shown(&self) -> String {
                format!("`{}`", format!("{self:?}").to_lowercase())
            }
        })*
    };
}
shown_in_lower_case!(LogFormat AnswerMode InvalidRevenue);

/// The whole reference, in Markdown.
pub fn reference() -> String {
    let defaults = Raw::default();
    let mut text = String::new();
    for line in include_str!("reference.md").lines() {
        let names = line
            .strip_prefix("{{")
            .and_then(|rest| rest.strip_suffix("}}"));
        match names {
            Some(names) => table(&mut text, &defaults, names),
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

fn table(text: &mut String, defaults: &Raw, names: &str) {
    text.push_str("| key | default | meaning |\n|---|---|---|\n");
    for name in names.split(' ') {
        let keys = keys(defaults, name);
        for key in keys {
            let dotted = match key.name {
                "" => name.to_owned(),
                of => format!("{name}.{of}"),
            };
            let (default, meaning) = (key.default, key.meaning.trim_start());
            let default = if default.is_empty() {
                String::from(" ")
            } else {
                format!(" {default} ")
            };
            // Nothing is lost by it: writing to a string does not fail.
            let _ = writeln!(text, "| `{dotted}` |{default}| {meaning} |");
        }
    }
}

fn keys(of: &Raw, name: &str) -> Vec<Key> {
    match name {
        "http" => of.http.keys(),
        "admin" => of.admin.keys(),
        "log" => of.log.keys(),
        "kafka" => of.kafka.keys(),
        "store" => of.store.keys(),
        "clicks" => of.clicks.keys(),
        "answer" => of.answer.keys(),
        "revenue" => of.revenue.keys(),
        "status" => of.status.keys(),
        "refusals" => of.refusals.keys(),
        "consumer" => of.consumer.keys(),
        "reports" => of.reports.keys(),
        "unmatched" => of.unmatched.keys(),
        "retention" => of.retention.keys(),
        "spool" => of.spool.keys(),
        "broker" => of.broker.keys(),
        "shutdown" => of.shutdown.keys(),
        "data_dir" => vec![Key {
            name: "",
            default: of.data_dir.shown(),
            meaning: "Standalone's directory, and an ingress' for its spool: each process needs \
                      one of its own. `postern campaign` and `postern token` find its store there \
                      where `store.url` isn't set."
                .to_owned(),
        }],
        other => unreachable!("reference.md names {other}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_types_say() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/CONFIGURATION.md");
        let page = std::fs::read_to_string(page).unwrap();
        assert_eq!(page, reference(), "make reference writes it anew");
    }

    /// What a section is called in the file is what the reference calls it, and none is left out.
    #[test]
    fn every_key_is_on_the_page() {
        let page = reference();
        let sections = include_str!("raw.rs");
        let all = sections.split_once("with_defaults!(Raw {").unwrap().1;
        let (all, _) = all.split_once("});").unwrap();
        for line in all.lines().filter(|line| !line.trim().is_empty()) {
            let name = line.trim().split_once(':').unwrap().0;
            let begun = [format!("| `{name}` |"), format!("| `{name}.")];
            assert!(begun.iter().any(|row| page.contains(row)), "{name}");
        }
        let keys = page.lines().filter_map(|line| line.strip_prefix("| `"));
        let empty = keys.filter(|row| row.ends_with("|  |")).count();
        assert_eq!(empty, 0, "a key without a meaning");
    }
}
