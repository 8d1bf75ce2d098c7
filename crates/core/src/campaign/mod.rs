//! Campaigns: what an operator asks for, and what the decision and the redirect go by.

mod json;
mod secret;
pub mod signature;
mod tracking;

pub use json::{Change, FieldError, SecretChange, network};
pub use secret::{PostbackSecret, SecretError};
pub use tracking::{Macros, TrackingUrl, TrackingUrlError};

use crate::currency::Currency;
use crate::status::Status;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// How a campaign tells one conversion from the next.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dedupe {
    /// One conversion per click.
    #[default]
    Click,
    /// One per click and external id, blank being a value of its own.
    Txid,
    /// One per click, event and external id, blank being a value of its own in both.
    Event,
}

/// Whether a campaign runs. It steers the redirect only: a conversion of a click that was paid
/// for counts whatever has become of the campaign.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// Its clicks are redirected.
    #[default]
    Active,
    /// For the time being they are not.
    Paused,
    /// They are no longer.
    Closed,
}

/// What becomes of a postback that fails a check.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It is refused.
    #[default]
    Enforce,
    /// It is accepted; the log says what would have refused it.
    Observe,
}

macro_rules! words {
    ($type:ty, $($variant:ident = $word:literal),+) => {
        impl $type {
            /// The word that records, tables and settings use.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }

            /// The value that a word stands for.
            #[must_use]
            pub fn of(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

words!(Dedupe, Click = "click", Txid = "txid", Event = "event");
words!(
    Activity,
    Active = "active",
    Paused = "paused",
    Closed = "closed"
);
words!(Mode, Enforce = "enforce", Observe = "observe");

/// What an operator sets. The default is what a campaign that nobody set goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Who advertises, for people.
    pub advertiser: String,
    /// What it is called, for people.
    pub name: String,
    /// Whether it runs.
    pub status: Activity,
    /// Where clicks are redirected to.
    pub tracking_url: Option<TrackingUrl>,
    /// The currency of a postback that names none.
    pub default_currency: Currency,
    /// One conversion per what.
    pub dedupe: Dedupe,
    /// A postback later than so many seconds after its click is expired.
    pub attribution_window: Option<u32>,
    /// What becomes of an expired one.
    pub window_check: Mode,
    /// Where postbacks may come from; empty for anywhere.
    pub networks: Vec<IpNet>,
    /// What becomes of one from elsewhere.
    pub network_check: Mode,
    /// What becomes of one without a valid signature, where a secret is set.
    pub signature_check: Mode,
    /// Whether postbacks name statuses.
    pub statuses: bool,
    /// The status of a conversion that names none, or none that is known.
    pub default_status: Status,
}

/// A campaign, as it stands in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Campaign {
    /// Its id, above 0.
    pub campaign_id: i64,
    /// Counts the changes of its settings; 0 for a campaign that nobody set.
    pub version: i64,
    /// What was set.
    pub settings: Settings,
    /// What postbacks are signed with; `None` where they need not be.
    pub secret: Option<PostbackSecret>,
}
