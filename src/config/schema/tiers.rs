//! `tiers.yaml`: what tenants and keys may use.

use serde_json::json;
use tollgate_filters::request::quota::{Limits, Measure};

use crate::config::fault::{Faults, Place};
use crate::config::kind::{Kind, List, Maybe, Shape, Tried, choice, section};
use crate::config::node::{Node, Value};
use crate::config::schema::scan::ScanChange;
use crate::config::schema::shared::WhenDownName;
use crate::config::settings::{AtLimit, OverCap};
use crate::config::words::{ANY, Name, Pattern, Whole, expected};

/// A number of tokens, or of anything that is counted.
type Count = Maybe<Whole<1, ANY>>;

/// Declares a section that has a limit for each measure after its own keys.
macro_rules! limited {
    ($(#[doc = $title:expr])+ $name:ident { $($own:tt)* }) => {
        section! {
            $(#[doc = $title])+
            $name {
                $($own)*
                /// Requests.
                requests_per_minute: Count = absent "no limit";
                /// Input and output tokens together.
                tokens_per_minute: Count = absent "no limit";
                /// Input tokens.
                input_tokens_per_minute: Count = absent "no limit";
                /// Output tokens.
                output_tokens_per_minute: Count = absent "no limit";
                /// Requests at a time.
                max_in_flight: Count = absent "no limit";
                /// Input and output tokens on a day in UTC.
                tokens_per_day: Count = absent "no limit";
                /// Price of the tokens of a calendar month in UTC.
                eur_per_month: Maybe<Euros> = absent "no limit";
                /// What happens to requests under these limits while the store that gateways share them in is away: `open`
                /// lets them go on within this gateway's part, `closed` refuses them with 503.
                when_store_down: Maybe<WhenDownName> = absent "as limits.shared.when_down of tollgate.yaml says";
            }
        }

        impl $name {
            /// The limits that were written.
            pub(crate) fn limits(&self) -> Limits {
                [
                    (Measure::Requests, self.requests_per_minute.value),
                    (Measure::Tokens, self.tokens_per_minute.value),
                    (Measure::Input, self.input_tokens_per_minute.value),
                    (Measure::Output, self.output_tokens_per_minute.value),
                    (Measure::InFlight, self.max_in_flight.value),
                    (Measure::Day, self.tokens_per_day.value),
                    (Measure::Month, self.eur_per_month.value),
                ]
                .into_iter()
                .fold(Limits::default(), |limits, (measure, limit)| limits.with(measure, limit))
                .when_down(self.when_store_down.value)
            }
        }
    };
}

section! {
    /// The whole file.
    TiersFile {
        /// The tiers.
        tiers: Tried<List<Tier>> = "[]";
    }
}

limited! {
    /// What a tenant of this tier may use in all, over all its keys; or a key that has a tier of its own.
    Tier {
        /// Unique name.
        name: Name = required;
        /// What each key of such a tenant may use, unless it has a tier of its own.
        per_key: Maybe<PerKey> = absent "what the tenant may use";
        /// What may be used of some models besides. The first that fits a model holds for it.
        per_model: Maybe<List<PerModel>> = absent "no more limits";
        /// Output tokens that are reserved for a request without `max_tokens`; the unused part flows back. Never more
        /// than `max_tokens`.
        default_max_tokens: Whole<1, 1_000_000_000> = "1024";
        /// Largest `max_tokens` that a request may ask for.
        max_tokens: Maybe<Whole<1, 1_000_000_000>> = absent "no cap";
        /// What happens to a request that asks for more: `refuse` says so with a 400, `clamp` lowers the number in the
        /// request, where it stands.
        over_max_tokens: OverCapName = "refuse";
        /// Largest input and `max_tokens` together.
        max_context: Maybe<Whole<1, ANY>> = absent "the model's";
        /// How a stream ends that a budget, or `max_tokens`, cuts: `length` as if the model had reached its cap, `error`
        /// with an error event.
        at_limit: AtLimitName = "length";
        /// Who goes first when servers are full, and who is sent away last: requests of a higher priority before those of a
        /// lower one. Tenants of the same priority take turns.
        priority: Whole<0, 9> = "5";
        /// Prompt security for tenants of this tier, where it differs.
        scan: Maybe<ScanChange> = absent "as tollgate.yaml and the model say";
    }
}

limited! {
    /// What each key of a tenant may use.
    PerKey {
        /// What each key may use of some models besides. The first that fits a model holds for it.
        per_model: Maybe<List<PerModel>> = absent "no more limits";
    }
}

limited! {
    /// What may be used of some models.
    PerModel {
        /// Catalogue name, or a pattern with `*`; all models that fit share the limits.
        model: Pattern = required;
    }
}

choice! {
    /// What happens to a request over the cap.
    OverCapName -> OverCap { "refuse" => OverCap::Refuse, "clamp" => OverCap::Clamp }
}
choice! {
    /// How a stream ends at a limit.
    AtLimitName -> AtLimit { "length" => AtLimit::Length, "error" => AtLimit::Error }
}

/// A budget: EUR, read digit by digit into units of 1e-12 EUR.
pub(crate) enum Euros {}

const EUROS: &str = "an amount such as 49.90, above 0 and up to 10000000, with at most 6 decimals";
/// 10 million EUR in units of 1e-6 EUR.
const MOST_MICRO: u64 = 10_000_000 * 1_000_000;

impl Kind for Euros {
    type Value = u64;

    fn read(node: &Node, place: &Place, faults: &mut Faults) -> Option<u64> {
        let micro = match &node.value {
            Value::Number(text, _) => crate::config::words::micro(text),
            _ => None,
        };
        match micro.filter(|micro| (1..=MOST_MICRO).contains(micro)) {
            Some(micro) => Some(micro * 1_000_000),
            None => expected(EUROS, node, place, faults),
        }
    }

    fn shape() -> Shape {
        let schema = json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 10_000_000 });
        Shape::Scalar { words: EUROS.into(), unit: Some("EUR"), schema }
    }
}
