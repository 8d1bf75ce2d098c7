//! `postern config`: what could be configured, and whether what is configured can be used.

use super::say;
use crate::cli::ConfigRole;
use crate::config::{Role, Settings, reference::reference};
use anyhow::bail;
use std::io::Write as _;
use std::path::Path;

/// `postern config reference`.
pub fn show_reference() -> anyhow::Result<()> {
    std::io::stdout().write_all(reference().as_bytes())?;
    Ok(())
}

/// `postern config check`: a line for each role. An error where one of them would not start.
pub fn check(file: Option<&Path>, roles: &[ConfigRole]) -> anyhow::Result<()> {
    let roles = if roles.is_empty() {
        &[
            ConfigRole::Ingress,
            ConfigRole::Consumer,
            ConfigRole::Reports,
        ]
    } else {
        roles
    };
    let mut refused = 0;
    for role in roles {
        let (name, role) = match role {
            ConfigRole::Ingress => ("ingress", Role::Ingress),
            ConfigRole::Consumer => ("consumer", Role::Consumer),
            ConfigRole::Reports => ("reports", Role::Reports),
            #[cfg(feature = "standalone")]
            ConfigRole::Standalone => ("standalone", Role::Standalone),
        };
        match Settings::load(file, role) {
            Ok(_) => say(&format!("ok      {name}")),
            Err(error) => {
                refused += 1;
                say(&format!("BROKEN  {name}: {error:#}"));
            }
        }
    }
    if refused > 0 {
        bail!("{refused} of {} roles would not start", roles.len());
    }
    Ok(())
}
