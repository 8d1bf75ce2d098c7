//! The topics that a store belongs to, and what an operator is told when they aren't those.
//!
//! Positions in the store are offsets of one certain log. With another partition count a clickid
//! lives elsewhere; in a topic that was made anew an offset means another record.

use crate::{StoreError, Topics};

/// Records the topics, fills in ids that weren't known before, and gives the row; gives nothing
/// where the recorded ones are others. One statement, so that of two at once one is first.
///
/// `$1` etc. are parameters in both engines' notation.
pub(crate) const RECORD: &str = "\
INSERT INTO topics (id, partitions, clicks_id, postbacks_id) VALUES (1, $1, $2, $3)
ON CONFLICT (id) DO UPDATE SET
    clicks_id = coalesce(topics.clicks_id, excluded.clicks_id),
    postbacks_id = coalesce(topics.postbacks_id, excluded.postbacks_id)
WHERE topics.partitions = excluded.partitions
  AND coalesce(topics.clicks_id = excluded.clicks_id, true)
  AND coalesce(topics.postbacks_id = excluded.postbacks_id, true)
RETURNING partitions";

/// The recorded topics.
pub(crate) const READ: &str = "SELECT partitions, clicks_id, postbacks_id FROM topics WHERE id = 1";

/// Compares without recording; gives whether anything was recorded.
pub(crate) fn compare(recorded: Option<&Topics>, found: &Topics) -> Result<bool, StoreError> {
    let Some(recorded) = recorded else {
        return Ok(false);
    };
    let same = |a: &Option<String>, b: &Option<String>| a.is_none() || b.is_none() || a == b;
    if recorded.partitions == found.partitions
        && same(&recorded.clicks_id, &found.clicks_id)
        && same(&recorded.postbacks_id, &found.postbacks_id)
    {
        return Ok(true);
    }
    Err(mismatch(recorded, found))
}

/// The error that tells what differs.
pub(crate) fn mismatch(recorded: &Topics, found: &Topics) -> StoreError {
    if recorded.partitions != found.partitions {
        return StoreError::Topics(format!(
            "the store was filled from topics with {} partitions, the topics have {} now: the \
             count can't change under a store; make the topics anew with {0} partitions, or use \
             an empty store",
            recorded.partitions, found.partitions
        ));
    }
    let differing = [
        ("clicks", &recorded.clicks_id, &found.clicks_id),
        ("postbacks", &recorded.postbacks_id, &found.postbacks_id),
    ];
    for (topic, recorded, found) in differing {
        if let (Some(recorded), Some(found)) = (recorded, found)
            && recorded != found
        {
            return StoreError::Topics(format!(
                "the {topic} topic isn't the one that the store was filled from: its id was \
                 {recorded}, it is {found} now; the topic was made anew, or kafka.brokers or \
                 store.url name another installation's; go back to the former one, or use an \
                 empty store"
            ));
        }
    }
    StoreError::Topics("the recorded topics changed while they were compared: try again".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(partitions: i32, clicks: &str, postbacks: &str) -> Topics {
        Topics {
            partitions,
            clicks_id: Some(clicks.to_owned()),
            postbacks_id: Some(postbacks.to_owned()),
        }
    }

    #[test]
    fn the_message_says_what_was_and_what_is() {
        let recorded = topics(6, "AAA", "BBB");
        for (found, words) in [
            (topics(12, "AAA", "BBB"), ["6 partitions", "12 now"]),
            (topics(6, "CCC", "BBB"), ["clicks topic", "CCC"]),
            (topics(6, "AAA", "DDD"), ["postbacks topic", "DDD"]),
        ] {
            let message = mismatch(&recorded, &found).to_string();
            for word in words {
                assert!(message.contains(word), "{message}");
            }
        }
    }
}
