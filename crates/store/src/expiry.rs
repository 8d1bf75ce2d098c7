//! The statements of expiry, as far as both engines have the same.

use crate::Aging;

pub(crate) const LONGEST_WINDOW: &str = "\
SELECT max(CAST(settings ->> 'attribution_window' AS bigint)) FROM campaigns";

pub(crate) fn oldest(what: Aging) -> &'static str {
    match what {
        Aging::Clicks => "SELECT min(clicked_at) FROM clicks",
        Aging::Log => "SELECT min(received_at) FROM postback_log",
        Aging::Unmatched => "SELECT min(received_at) FROM unmatched",
    }
}
