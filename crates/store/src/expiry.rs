//! The statements of expiry, as far as both engines have the same.

use crate::Expiring;

pub(crate) const LONGEST_WINDOW: &str = "\
SELECT max(CAST(settings ->> 'attribution_window' AS bigint)) FROM campaigns";

pub(crate) fn oldest(what: Expiring) -> &'static str {
    match what {
        Expiring::Clicks => "SELECT min(clicked_at) FROM clicks",
        Expiring::Log => "SELECT min(received_at) FROM postback_log",
    }
}
