//! Reading the configuration: defaults in the caller's serde types, then
//! `postern.toml` (or the file named), then the environment.
//!
//! All sources are brought to one flat map from dotted key to value, so that a
//! later source replaces exactly the keys that it names, however they were
//! nested. What a value must be is decided by the type that asks for it. Every
//! error names the key and the source; no error quotes a [`Secret`].
//!
//! Validation of values against each other is the caller's business.

mod de;
mod source;
mod values;

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

pub use values::{Options, Secret, Size, Span, flatten_options};

/// The file that is read from the working directory when none is named.
pub const DEFAULT_FILE: &str = "postern.toml";

/// Why the configuration could not be read. Trying again does not help.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not valid TOML: {message}", path.display())]
    Syntax { path: PathBuf, message: String },
    #[error("environment variable {name} is not valid UTF-8")]
    Encoding { name: String },
    /// A key that is unknown, missing or has a value that can't be used.
    #[error("{}: {message}{}", display_key(key), display_origin(origin.as_deref()))]
    Key {
        /// Dotted key; empty when the error is about the configuration itself.
        key: String,
        /// The file or environment variable that the value came from.
        origin: Option<String>,
        message: String,
    },
}

fn display_key(key: &str) -> &str {
    if key.is_empty() { "configuration" } else { key }
}

fn display_origin(origin: Option<&str>) -> String {
    origin.map(|o| format!(" (from {o})")).unwrap_or_default()
}

/// Reads the configuration into `T`.
///
/// `file` must exist when it is given; without it `postern.toml` is read if the
/// working directory has one. Environment names are `PREFIX__SECTION__KEY`,
/// in which case does not matter after the prefix; an empty value counts as
/// unset. Names under `PREFIX_` with a single underscore are not configuration.
pub fn load<T: DeserializeOwned>(
    file: Option<&Path>,
    env_prefix: &str,
) -> Result<T, SettingsError> {
    load_from(file, env_prefix, Path::new("."), std::env::vars_os())
}

fn load_from<T: DeserializeOwned>(
    file: Option<&Path>,
    env_prefix: &str,
    directory: &Path,
    environment: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> Result<T, SettingsError> {
    let mut tree = source::Tree::default();
    match file {
        Some(path) => tree.read_file(path)?,
        None => {
            let path = directory.join(DEFAULT_FILE);
            if path.exists() {
                tree.read_file(&path)?;
            }
        }
    }
    tree.read_environment(env_prefix, environment)?;
    de::from_tree(&tree)
}

#[cfg(test)]
mod tests;
