//! Versions of settings: each decision names one that there was, and none goes back.

use super::evidence::Store;
use super::policies::Policies;
use super::report::{Fault, Report};
use std::collections::HashMap;

/// The versions that the log names.
///
/// A partition's postbacks are decided in order, each batch by settings that are read after those
/// of the batch before: their versions only rise. What a late click decided is left out, since it
/// was decided when the click came.
pub(super) fn versions(store: &Store, policies: &Policies, report: &mut Report) {
    for row in &store.log {
        for step in std::iter::once(&row.first).chain(&row.change) {
            let version = step.policy_version;
            match step.campaign_id {
                Some(campaign) if policies.get(campaign, version).is_none() => {
                    let sentence = format!("version {version} of campaign {campaign} never was");
                    report.add(Fault::PolicyVersion, &[&row.request_id], sentence);
                }
                None if version != 0 => {
                    let sentence = format!("no campaign, but its version {version}");
                    report.add(Fault::PolicyVersion, &[&row.request_id], sentence);
                }
                _ => {}
            }
        }
    }
    let mut in_order: Vec<_> = store.log.iter().collect();
    in_order.sort_by_key(|row| row.place);
    let mut last: HashMap<(i64, i64), i64> = HashMap::new();
    for row in in_order {
        let (Some(place), Some(campaign)) = (row.place, row.first.campaign_id) else {
            continue;
        };
        let version = row.first.policy_version;
        let before = last.entry((place.partition, campaign)).or_insert(version);
        if version < *before {
            let sentence = format!("version {version} of campaign {campaign} after {before}");
            report.add(Fault::PolicyVersion, &[&row.request_id], sentence);
        }
        *before = version;
    }
    for campaign in &store.campaigns {
        let kept = store.versions.iter().find(|version| {
            (version.campaign_id, version.version) == (campaign.campaign_id, campaign.version)
        });
        if let Some(kept) = kept
            && (&kept.settings, kept.secret_set) != (&campaign.settings, campaign.secret.is_some())
        {
            let name = format!("campaign {}", campaign.campaign_id);
            let sentence = format!("version {} is not what is set", campaign.version);
            report.add(Fault::PolicyVersion, &[&name], sentence);
        }
    }
}
