//! What postbacks would become: the decision itself, on what the store knows, and nothing is written.

use super::partition_of;
use anyhow::Context as _;
use postern_core::decision::{Limits, PlacedPostback, View, decide};
use postern_core::ids::RequestId;
use postern_core::record::postback::Postback;
use postern_store::{Lookup, Store};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What the store knows, and what was decided on top of it.
pub struct Pretence {
    limits: Limits,
    view: View,
}

impl Pretence {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            view: View::default(),
        }
    }

    /// Decides a batch behind those before it.
    pub async fn decide(
        &mut self,
        store: &Arc<dyn Store>,
        partitions: i32,
        postbacks: &[Postback],
    ) -> anyhow::Result<HashMap<RequestId, String>> {
        let clickids = postbacks.iter().map(|one| one.clickid.clone());
        let clickids: Vec<_> = clickids.collect();
        let lookup = Lookup {
            request_ids: postbacks.iter().map(|one| one.request_id).collect(),
            arrived: clickids.clone(),
            clickids,
            ..Lookup::default()
        };
        let loaded = store.load(&lookup).await?;
        self.join(loaded);
        let mut parts: BTreeMap<i32, Vec<PlacedPostback>> = BTreeMap::new();
        for postback in postbacks {
            let part = parts.entry(partition_of(postback, partitions)).or_default();
            part.push(PlacedPostback {
                offset: 0,
                postback: postback.clone(),
            });
        }
        let mut became = HashMap::new();
        for (partition, postbacks) in parts {
            let states = store.partitions(&[partition]).await?;
            let mut state = *states
                .first()
                .with_context(|| format!("partition {partition} was never consumed"))?;
            let decided = decide(
                &mut state,
                Vec::new(),
                postbacks,
                &mut self.view,
                &self.limits,
            );
            for verdict in decided.verdicts {
                became.insert(verdict.request_id, verdict.outcome.word().to_owned());
            }
        }
        Ok(became)
    }

    /// Takes in what isn't known yet: what was decided here holds over what is stored.
    fn join(&mut self, loaded: View) {
        for (id, known) in loaded.known {
            self.view.known.entry(id).or_insert(known);
        }
        self.view.refused.extend(loaded.refused);
        self.view.clicks.extend(loaded.clicks);
        for (clickid, stored) in loaded.conversions {
            self.view.conversions.entry(clickid).or_insert(stored);
        }
        self.view.campaigns.extend(loaded.campaigns);
        for (clickid, waiting) in loaded.unmatched {
            self.view.unmatched.entry(clickid).or_insert(waiting);
        }
    }
}
