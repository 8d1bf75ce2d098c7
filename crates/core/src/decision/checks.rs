//! What a campaign checks before it takes a postback. A check that only observes says what it
//! would have refused.

use crate::campaign::{Campaign, Mode, signature};
use crate::record::click::Click;
use crate::record::postback::Postback;
use crate::record::verdict::Forbidden;
use std::net::IpAddr;

/// The word for an expired click among what was observed.
const EXPIRED: &str = "click_expired";

/// Why the campaign doesn't take `postback` from this caller.
pub(super) fn forgery(
    campaign: &Campaign,
    postback: &Postback,
    observed: &mut Vec<&'static str>,
) -> Option<Forbidden> {
    let settings = &campaign.settings;
    let checks = [
        (settings.network_check, address(campaign, postback)),
        (settings.signature_check, signed(campaign, postback)),
    ];
    for (mode, found) in checks {
        match (mode, found) {
            (_, None) => {}
            (Mode::Enforce, Some(reason)) => return Some(reason),
            (Mode::Observe, Some(reason)) => observed.push(reason.word()),
        }
    }
    None
}

fn address(campaign: &Campaign, postback: &Postback) -> Option<Forbidden> {
    let networks = &campaign.settings.networks;
    if networks.is_empty() {
        return None;
    }
    let address = postback.origin.address.parse::<IpAddr>();
    let inside = address.is_ok_and(|address| {
        let address = address.to_canonical();
        networks.iter().any(|network| network.contains(&address))
    });
    (!inside).then_some(Forbidden::Address)
}

fn signed(campaign: &Campaign, postback: &Postback) -> Option<Forbidden> {
    let secret = campaign.secret.as_ref()?;
    match &postback.signature {
        None => Some(Forbidden::SignatureMissing),
        Some(signature) if signature::verify(signature, secret) => None,
        Some(_) => Some(Forbidden::SignatureWrong),
    }
}

/// Whether the click is older than the campaign's window. A postback that was received before
/// its click has no age.
pub(super) fn is_expired(
    campaign: &Campaign,
    postback: &Postback,
    click: &Click,
    observed: &mut Vec<&'static str>,
) -> bool {
    let Some(window) = campaign.settings.attribution_window else {
        return false;
    };
    let age = postback.received_at.as_microsecond() - click.clicked_at.as_microsecond();
    if age.max(0) <= i64::from(window) * 1_000_000 {
        return false;
    }
    if campaign.settings.window_check == Mode::Observe {
        observed.push(EXPIRED);
        return false;
    }
    true
}
