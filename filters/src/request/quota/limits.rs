//! What may be used: the measures, and the plan that a tier makes of them. A plan is shared by all that have the
//! tier, and a request keeps the one that it arrived with.

use std::sync::Arc;

use crate::request::catalogue::matches;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Requests a minute.
    Requests,
    /// Input and output tokens a minute, together.
    Tokens,
    /// Input tokens a minute.
    Input,
    /// Output tokens a minute.
    Output,
    /// Requests at a time.
    InFlight,
    /// Input and output tokens on a day in UTC.
    Day,
    /// Money in a calendar month in UTC, in units of 1e-12 EUR.
    Month,
}

/// How many measures there are.
pub(super) const MEASURES: usize = 7;

impl Measure {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; MEASURES] =
        [Self::Requests, Self::Tokens, Self::Input, Self::Output, Self::InFlight, Self::Day, Self::Month];

    /// The name of its key in a tier.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Requests => "requests_per_minute",
            Self::Tokens => "tokens_per_minute",
            Self::Input => "input_tokens_per_minute",
            Self::Output => "output_tokens_per_minute",
            Self::InFlight => "max_in_flight",
            Self::Day => "tokens_per_day",
            Self::Month => "eur_per_month",
        }
    }

    /// A limit of it in words: `600 requests per minute`.
    pub(crate) fn words(self, value: u64) -> String {
        match self {
            Self::Requests => format!("{value} requests per minute"),
            Self::Tokens => format!("{value} tokens per minute"),
            Self::Input => format!("{value} input tokens per minute"),
            Self::Output => format!("{value} output tokens per minute"),
            Self::InFlight => format!("{value} concurrent requests"),
            Self::Day => format!("{value} tokens per day"),
            Self::Month => {
                // Limits have at most six decimals.
                let (euros, micros) = (value / 1_000_000_000_000, value / 1_000_000 % 1_000_000);
                let decimals = format!(".{micros:06}");
                format!("{euros}{} EUR per month", decimals.trim_end_matches('0').trim_end_matches('.'))
            }
        }
    }
}

/// An amount of each measure.
pub(super) type Amounts = [u64; MEASURES];

/// A limit for each measure that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits([Option<u64>; MEASURES], Option<WhenDown>);

/// What happens to requests when the store that gateways share their limits in is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenDown {
    /// They go on, each gateway with its part of the limit.
    Open,
    /// They are refused.
    Closed,
}

impl Limits {
    /// The same with this limit for a measure; `None` is no limit.
    #[must_use]
    pub fn with(mut self, measure: Measure, limit: Option<u64>) -> Self {
        self.0[measure as usize] = limit;
        self
    }

    /// The same with this said about a store that is away.
    #[must_use]
    pub fn when_down(mut self, when_down: Option<WhenDown>) -> Self {
        self.1 = when_down;
        self
    }

    /// What is said about a store that is away.
    #[must_use]
    pub fn says_when_down(&self) -> Option<WhenDown> {
        self.1
    }

    /// The part of one of `gateways`; at least one of each.
    fn part(mut self, gateways: u64) -> Self {
        for limit in self.0.iter_mut().flatten() {
            *limit = (*limit / gateways.max(1)).max(1);
        }
        self
    }

    /// The limit of a measure.
    #[must_use]
    pub fn get(&self, measure: Measure) -> Option<u64> {
        self.0[measure as usize]
    }

    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// The measures that have a limit.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Measure, u64)> {
        Measure::ALL.into_iter().filter_map(|measure| Some((measure, self.get(measure)?)))
    }
}

/// A limit on the use of some models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Names of models with `*`; all models that fit share the limits.
    pub pattern: Arc<str>,
    /// What may be used of them.
    pub limits: Limits,
}

/// What a tenant or a key may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Of everything.
    pub limits: Limits,
    /// Of some models besides. The first that fits a model holds for it.
    pub rules: Vec<Rule>,
}

impl Plan {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty() && self.rules.iter().all(|rule| rule.limits.is_empty())
    }

    /// The part of one of `gateways`.
    pub(super) fn part(&self, gateways: u64) -> Self {
        let rule = |rule: &Rule| Rule { limits: rule.limits.part(gateways), ..rule.clone() };
        Self { limits: self.limits.part(gateways), rules: self.rules.iter().map(rule).collect() }
    }

    /// The position of the rule for a model.
    #[must_use]
    pub fn rule_for(&self, model: &str) -> Option<usize> {
        self.rules.iter().position(|rule| matches(&rule.pattern, model))
    }
}

/// Prices for a reservation, in units of 1e-12 EUR a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Price {
    /// A token of input.
    pub input: u64,
    /// A token of output, of whichever kind is dearest.
    pub output: u64,
}

/// What a request may come to at worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// Input tokens, estimated.
    pub input: u64,
    /// Output tokens: what the client allowed, or the tier's default.
    pub output: u64,
    /// Whether the client named no cap, so that a budget that has less left than the default may give that.
    pub is_open: bool,
    /// What the tokens cost.
    pub price: Price,
}

/// What a request has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Input tokens.
    pub input: u64,
    /// Output tokens of all kinds.
    pub output: u64,
    /// Their price in units of 1e-12 EUR.
    pub pico_eur: u64,
}

impl Demand {
    pub(super) fn amounts(&self) -> Amounts {
        let money = |tokens: u64, price: u64| {
            u64::try_from(u128::from(tokens) * u128::from(price)).unwrap_or(u64::MAX)
        };
        let pico_eur =
            money(self.input, self.price.input).saturating_add(money(self.output, self.price.output));
        amounts(Used { input: self.input, output: self.output, pico_eur })
    }
}

/// What one request with this use takes of each measure.
pub(super) fn amounts(used: Used) -> Amounts {
    let tokens = used.input.saturating_add(used.output);
    let mut amounts = [0; MEASURES];
    for (measure, amount) in [
        (Measure::Requests, 1),
        (Measure::Tokens, tokens),
        (Measure::Input, used.input),
        (Measure::Output, used.output),
        (Measure::InFlight, 1),
        (Measure::Day, tokens),
        (Measure::Month, used.pico_eur),
    ] {
        amounts[measure as usize] = amount;
    }
    amounts
}
