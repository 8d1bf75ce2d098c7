//! Access tokens: the statements, the same for both engines.

use crate::reading::sql::Fields;
use crate::{AccessToken, StoreError, parts};

macro_rules! columns {
    () => {
        "token_id, digest, role, advertiser, campaigns, name, created_at, expires_at, revoked_at"
    };
}

pub(crate) const ADD: &str = concat!(
    "INSERT INTO access_tokens (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
);

pub(crate) const ONE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM access_tokens WHERE token_id = $1"
);

pub(crate) const ALL: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM access_tokens ORDER BY created_at, token_id"
);

pub(crate) const REVOKE: &str = concat!(
    "UPDATE access_tokens SET revoked_at = coalesce(revoked_at, $1) WHERE token_id = $2 RETURNING ",
    columns!()
);

pub(crate) const CAMPAIGNS_OF: &str =
    "SELECT campaign_id FROM campaigns WHERE settings ->> 'advertiser' = $1 ORDER BY campaign_id";

pub(crate) fn read(row: &impl Fields) -> Result<AccessToken, StoreError> {
    Ok(AccessToken {
        token_id: row.text(0)?,
        digest: row.text(1)?,
        grant: parts::grant(&row.text(2)?, row.maybe_text(3)?, row.maybe_text(4)?)?,
        name: row.text(5)?,
        created_at: row.time(6)?,
        expires_at: row.maybe_time(7)?,
        revoked_at: row.maybe_time(8)?,
    })
}
