//! Random bytes for secrets.

use anyhow::anyhow;

/// Of the system's own generator.
pub fn bytes<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random bytes can be had: {error}"))?;
    Ok(bytes)
}
