//! What tokens of a model cost, and since when.

use std::time::SystemTime;

use chrono::{DateTime, NaiveDate, Utc};

/// EUR for a million tokens, in units of 1e-6 EUR (so 0.9 EUR is 900 000): money is never floating point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prices {
    /// Input tokens.
    pub input_micro_eur: u64,
    /// Output tokens without reasoning.
    pub output_micro_eur: u64,
    /// Reasoning output tokens.
    pub reasoning_micro_eur: u64,
}

/// Prices and the first day on which they hold, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatedPrices {
    /// `None` only for the first: since ever.
    pub from: Option<NaiveDate>,
    /// From that day on.
    pub prices: Prices,
}

/// The prices of a model over time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceList {
    /// These hold before all others, also before their own day.
    pub first: DatedPrices,
    /// Each from its day on; days rise.
    pub later: Vec<DatedPrices>,
}

impl PriceList {
    /// The prices on a day.
    #[must_use]
    pub fn on(&self, day: NaiveDate) -> &Prices {
        let in_force = self.later.iter().rev().find(|dated| dated.from.is_some_and(|from| from <= day));
        &in_force.unwrap_or(&self.first).prices
    }

    /// The prices on the day of a request, so that what is recorded later costs the same.
    #[must_use]
    pub fn at(&self, time: SystemTime) -> &Prices {
        if self.later.is_empty() {
            return &self.first.prices;
        }
        self.on(DateTime::<Utc>::from(time).date_naive())
    }
}
