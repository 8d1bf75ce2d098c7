//! Campaigns: set, read, and handed over for publishing; tokens.

use crate::engine::Database;
use crate::world::at;
use async_trait::async_trait;
use postern_core::campaign::{Campaign, Change, Dedupe, PostbackSecret, SecretChange, Settings};
use postern_store::{AccessToken, CampaignSink, Grant, StoreError};
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn change(campaign_id: i64, name: &str) -> Change {
    Change {
        campaign_id,
        settings: Settings {
            name: name.to_owned(),
            ..Settings::default()
        },
        secret: SecretChange::Keep,
        expected: None,
    }
}

fn secret() -> PostbackSecret {
    PostbackSecret::parse("it's-a-\"secret\"\\").unwrap()
}

pub async fn what_is_set_is_read_back(database: &Database) {
    let store = database.store.as_ref();
    assert_eq!(store.campaign(7).await.unwrap(), None);
    let mut wanted = change(7, "q'\"\\{é😀,NULL");
    wanted.settings.dedupe = Dedupe::Event;
    wanted.settings.networks = vec!["192.0.2.0/24".parse().unwrap(), "::1/128".parse().unwrap()];
    wanted.settings.attribution_window = Some(60);
    wanted.secret = SecretChange::Set(secret());
    let others = [change(9, "nine"), wanted.clone(), change(8, "eight")];
    let set = store.set_campaigns(&others, at(0)).await.unwrap();
    let ids: Vec<_> = set
        .iter()
        .map(|one| (one.campaign_id, one.version))
        .collect();
    assert_eq!(ids, [(7, 1), (8, 1), (9, 1)]);
    let expected = Campaign {
        campaign_id: 7,
        version: 1,
        settings: wanted.settings.clone(),
        secret: Some(secret()),
    };
    assert_eq!(set[0], expected);
    assert_eq!(store.campaign(7).await.unwrap(), Some(expected.clone()));
    let page = store.campaigns(0, 2).await.unwrap();
    assert_eq!((page.len(), &page[0]), (2, &expected));
    let rest = store.campaigns(8, 100).await.unwrap();
    assert_eq!((rest.len(), rest[0].campaign_id), (1, 9));

    // As it is already: no new version. The secret stays, is replaced, goes.
    wanted.secret = SecretChange::Keep;
    let kept = store
        .set_campaigns(std::slice::from_ref(&wanted), at(1))
        .await
        .unwrap();
    assert_eq!(kept, [expected]);
    wanted.settings.name = "new".to_owned();
    let renamed = store
        .set_campaigns(std::slice::from_ref(&wanted), at(2))
        .await
        .unwrap();
    assert_eq!(
        (renamed[0].version, &renamed[0].secret),
        (2, &Some(secret()))
    );
    wanted.secret = SecretChange::Remove;
    let open = store
        .set_campaigns(std::slice::from_ref(&wanted), at(3))
        .await
        .unwrap();
    assert_eq!((open[0].version, &open[0].secret), (3, &None));

    let versions = store.campaign_versions(7).await.unwrap();
    let told: Vec<_> = versions
        .iter()
        .map(|one| (one.version, one.changed_at, one.secret_set))
        .collect();
    assert_eq!(
        told,
        [(3, at(3), false), (2, at(2), true), (1, at(0), true)]
    );
    assert_eq!(versions[0].settings, wanted.settings);
    assert_eq!(store.campaign_versions(99).await.unwrap(), []);
    // What operators see has no secret.
    let rows = database
        .query("SELECT name, dedupe, secret_set FROM campaign_settings WHERE campaign_id = 7")
        .await;
    assert_eq!(rows[0][..2], ["new", "event"]);
}

/// A campaign that is set to the defaults is set.
pub async fn the_defaults_can_be_set(database: &Database) {
    let store = database.store.as_ref();
    let defaults = change(7, "");
    let set = store
        .set_campaigns(std::slice::from_ref(&defaults), at(0))
        .await
        .unwrap();
    assert_eq!(set[0].version, 1);
    let again = store.set_campaigns(&[defaults], at(0)).await.unwrap();
    assert_eq!(again[0].version, 1);
}

pub async fn all_or_none_are_set(database: &Database) {
    let store = database.store.as_ref();
    store.set_campaigns(&[change(7, "a")], at(0)).await.unwrap();
    let mut late = change(7, "b");
    late.expected = Some(0);
    let error = store
        .set_campaigns(&[change(1, "x"), late.clone(), change(9, "x")], at(1))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Conflict {
                campaign_id: 7,
                version: 1
            }
        ),
        "{error:?}"
    );
    assert_eq!(store.campaigns(0, 9).await.unwrap().len(), 1);
    let twice = [change(2, "a"), change(2, "b")];
    let error = store.set_campaigns(&twice, at(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    late.expected = Some(1);
    assert_eq!(
        store.set_campaigns(&[late], at(1)).await.unwrap()[0].version,
        2
    );
    assert_eq!(store.set_campaigns(&[], at(1)).await.unwrap(), []);
}

/// Of many at once each gets its own version.
pub async fn changes_at_once_follow_each_other(database: &Database) {
    let mut tasks = Vec::new();
    for number in 0..8 {
        let store = database.again();
        tasks.push(tokio::spawn(async move {
            let changes = [
                change(2, &number.to_string()),
                change(1, &number.to_string()),
            ];
            store.set_campaigns(&changes, at(0)).await.unwrap()[0].version
        }));
    }
    let mut versions = Vec::new();
    for task in tasks {
        versions.push(task.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, [1, 2, 3, 4, 5, 6, 7, 8]);
}

/// Notes what it is handed; fails, or dawdles, where it is told to.
#[derive(Default)]
struct Sink {
    heard: Mutex<Vec<(i64, i64)>>,
    fails: AtomicBool,
    dawdles: AtomicBool,
}

#[async_trait]
impl CampaignSink for Sink {
    async fn publish(&self, campaigns: &[Campaign]) -> Result<(), Box<dyn Error + Send + Sync>> {
        if self.dawdles.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if self.fails.load(Ordering::Relaxed) {
            return Err("made to fail".into());
        }
        let heard = campaigns.iter().map(|one| (one.campaign_id, one.version));
        self.heard.lock().unwrap().extend(heard);
        Ok(())
    }
}

impl Sink {
    fn heard(&self) -> Vec<(i64, i64)> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

pub async fn what_is_not_published_is_swept(database: &Database) {
    let store = database.store.as_ref();
    let sink = Arc::new(Sink::default());
    assert_eq!(store.publish_campaigns(sink.clone()).await.unwrap(), 0);
    let two = [change(2, "a"), change(1, "a")];
    store.set_campaigns(&two, at(0)).await.unwrap();
    sink.fails.store(true, Ordering::Relaxed);
    let error = store.publish_campaigns(sink.clone()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unpublished(_)), "{error:?}");
    sink.fails.store(false, Ordering::Relaxed);
    assert_eq!(store.publish_campaigns(sink.clone()).await.unwrap(), 2);
    assert_eq!(sink.heard(), [(1, 1), (2, 1)]);
    assert_eq!(store.publish_campaigns(sink.clone()).await.unwrap(), 0);
    store.set_campaigns(&[change(2, "b")], at(0)).await.unwrap();
    assert_eq!(store.publish_campaigns(sink.clone()).await.unwrap(), 1);
    assert_eq!(sink.heard(), [(2, 2)]);
}

/// However many publish while others set: no version is handed over after a newer one, none but
/// the last is left out for good, and the last is handed over.
pub async fn publishers_keep_the_order(database: &Database) {
    const VERSIONS: i64 = 25;
    let sink = Arc::new(Sink::default());
    sink.dawdles.store(true, Ordering::Relaxed);
    let mut publishers = Vec::new();
    for _ in 0..3 {
        let (store, sink) = (database.again(), sink.clone());
        publishers.push(tokio::spawn(async move {
            let mut idle = 0;
            while idle < 20 {
                match store.publish_campaigns(sink.clone()).await.unwrap() {
                    0 => {
                        idle += 1;
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    _ => idle = 0,
                }
            }
        }));
    }
    for version in 0..VERSIONS {
        let name = version.to_string();
        let changes = [change(7, &name)];
        let set = database.store.set_campaigns(&changes, at(0)).await;
        assert_eq!(set.unwrap()[0].version, version + 1);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let versions: Vec<i64> = sink
        .heard()
        .into_iter()
        .map(|(_, version)| version)
        .collect();
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    assert_eq!(versions.last(), Some(&VERSIONS));
}

pub async fn tokens_are_known_by_their_ids(database: &Database) {
    let store = database.store.as_ref();
    let token = |number: i64, grant: Grant| AccessToken {
        token_id: format!("{number:012}"),
        digest: format!("{number:064}"),
        grant,
        name: "it's \"mine\"".to_owned(),
        created_at: at(number),
        expires_at: (number == 2).then(|| at(1_000)),
        revoked_at: None,
    };
    let tokens = [
        token(1, Grant::Admin),
        token(2, Grant::Advertiser("it's \"theirs\"".to_owned())),
        token(3, Grant::Campaigns(vec![7, -8])),
    ];
    for token in tokens.iter().rev() {
        store.add_token(token).await.unwrap();
        assert_eq!(store.token(&token.token_id).await.unwrap().unwrap(), *token);
        assert!(store.add_token(token).await.is_err());
    }
    assert_eq!(store.tokens().await.unwrap(), tokens);
    assert_eq!(store.token("").await.unwrap(), None);

    let revoked = AccessToken {
        revoked_at: Some(at(50)),
        ..tokens[1].clone()
    };
    for seconds in [50, 60] {
        let found = store.revoke_token(&revoked.token_id, at(seconds)).await;
        assert_eq!(found.unwrap().unwrap(), revoked);
    }
    assert_eq!(
        store.token(&revoked.token_id).await.unwrap().unwrap(),
        revoked
    );
    assert_eq!(store.revoke_token("none", at(60)).await.unwrap(), None);
}

pub async fn an_advertiser_has_the_campaigns_that_name_it(database: &Database) {
    let store = database.store.as_ref();
    for (id, advertiser) in [(3, "Acme"), (2, "Acme"), (1, "acme"), (4, "")] {
        let mut campaign = Campaign {
            campaign_id: id,
            version: 1,
            ..Campaign::default()
        };
        campaign.settings.advertiser = advertiser.to_owned();
        database.campaign(&campaign).await;
    }
    assert_eq!(store.advertiser_campaigns("Acme").await.unwrap(), [2, 3]);
    assert!(store.advertiser_campaigns("Ac").await.unwrap().is_empty());
}
