//! The sources: a TOML file and the environment, each brought to dotted keys.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use config::{FileFormat, Source, Value, ValueKind};

use super::SettingsError;

/// Every value that is set, by its dotted key. A key may be a value and a
/// section at once: librdkafka has `group.protocol` and `group.protocol.type`.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) leaves: BTreeMap<String, Leaf>,
}

#[derive(Debug, Clone)]
pub(super) struct Leaf {
    pub(super) value: Raw,
    pub(super) origin: Arc<str>,
    /// Values from the environment are text that takes the type asked for; these
    /// are the words that it has as a comma list. Values of a file have a type.
    pub(super) words: Option<Vec<Leaf>>,
}

impl Leaf {
    fn typed(value: Raw, origin: &Arc<str>) -> Self {
        Self {
            value,
            origin: Arc::clone(origin),
            words: None,
        }
    }

    fn untyped(text: &str, origin: Arc<str>) -> Self {
        let words = text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(|word| Self {
                value: Raw::Text(word.to_owned()),
                origin: Arc::clone(&origin),
                words: Some(Vec::new()),
            })
            .collect();
        Self {
            value: Raw::Text(text.to_owned()),
            origin,
            words: Some(words),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Raw {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Leaf>),
    /// A table inside a list, with its own dotted keys.
    Table(BTreeMap<String, Leaf>),
    /// A section that is named but empty; kept so that a misspelt one is found.
    Empty,
}

impl Tree {
    pub(super) fn read_file(&mut self, path: &Path) -> Result<(), SettingsError> {
        let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Read {
            path: path.to_owned(),
            source,
        })?;
        let table = config::File::from_str(&text, FileFormat::Toml)
            .collect()
            .map_err(|error| SettingsError::Syntax {
                path: path.to_owned(),
                message: without_source_lines(&error.to_string()),
            })?;
        let origin: Arc<str> = path.display().to_string().into();
        for (key, value) in table {
            flatten(&key, value, &origin, &mut self.leaves);
        }
        Ok(())
    }

    pub(super) fn read_environment(
        &mut self,
        prefix: &str,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), SettingsError> {
        let prefix = format!("{prefix}__");
        for (name, value) in environment {
            let Some(name) = name.to_str() else { continue };
            let Some(path) = name.strip_prefix(&prefix) else {
                continue;
            };
            let Some(value) = value.to_str() else {
                return Err(SettingsError::Encoding {
                    name: name.to_owned(),
                });
            };
            if value.is_empty() {
                continue;
            }
            let key = path.to_lowercase().replace("__", ".");
            let origin = format!("environment variable {name}").into();
            self.leaves.insert(key, Leaf::untyped(value, origin));
        }
        Ok(())
    }
}

fn flatten(key: &str, value: Value, origin: &Arc<str>, into: &mut BTreeMap<String, Leaf>) {
    let raw = match value.kind {
        ValueKind::Table(table) if !table.is_empty() => {
            for (name, value) in table {
                flatten(&format!("{key}.{name}"), value, origin, into);
            }
            return;
        }
        kind => raw(kind, origin),
    };
    into.insert(key.to_owned(), Leaf::typed(raw, origin));
}

fn raw(kind: ValueKind, origin: &Arc<str>) -> Raw {
    match kind {
        ValueKind::Boolean(value) => Raw::Bool(value),
        ValueKind::I64(value) => Raw::Int(value),
        ValueKind::Float(value) => Raw::Float(value),
        ValueKind::String(value) => Raw::Text(value),
        ValueKind::Nil => Raw::Empty,
        ValueKind::Array(values) => Raw::List(
            values
                .into_iter()
                .map(|value| Leaf::typed(raw(value.kind, origin), origin))
                .collect(),
        ),
        ValueKind::Table(table) if table.is_empty() => Raw::Empty,
        ValueKind::Table(table) => {
            let mut leaves = BTreeMap::new();
            for (name, value) in table {
                flatten(&name, value, origin, &mut leaves);
            }
            Raw::Table(leaves)
        }
        // TOML has 64-bit integers only; wider ones never come from a file.
        ValueKind::U64(_) | ValueKind::I128(_) | ValueKind::U128(_) => Raw::Text(kind.to_string()),
    }
}

/// The parser's message without the excerpt of the file: the line it quotes
/// may hold a password.
fn without_source_lines(message: &str) -> String {
    message
        .lines()
        .filter(|line| {
            !line
                .trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ')
                .starts_with('|')
        })
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(": ")
}
