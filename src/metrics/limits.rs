//! How the store is doing that gateways share their limits and their histories in.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::{IntGauge, Registry};

use super::gauge;
use crate::histories::shared::{Counts, SharedHistories};
use crate::state::State;

/// Gauges that are set when they are read; without a shared store there are none.
pub(super) struct LimitsGauges {
    up: IntGauge,
    trips: IntGauge,
    errors: IntGauge,
    gateways: IntGauge,
    scopes: IntGauge,
    histories_up: IntGauge,
    histories_found: IntGauge,
    histories_new: IntGauge,
    histories_unanswered: IntGauge,
}

impl LimitsGauges {
    /// Registers them.
    pub(super) fn new(r: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            up: gauge(
                r,
                "tollgate_limits_store_up",
                "Whether the store of shared limits answers: 1, or 0; 1 where limits are not shared.",
            )?,
            trips: gauge(r, "tollgate_limits_store_round_trips", "Commands to the store of shared limits.")?,
            errors: gauge(
                r,
                "tollgate_limits_store_errors",
                "Times that the store of shared limits was away.",
            )?,
            gateways: gauge(
                r,
                "tollgate_limits_gateways",
                "Gateways that share limits, as far as this one knows; 1 where limits are not shared.",
            )?,
            scopes: gauge(
                r,
                "tollgate_limits_scopes",
                "Limits of tenants, keys and models of which this gateway holds something that the store counts.",
            )?,
            histories_up: gauge(
                r,
                "tollgate_histories_store_up",
                "Whether the store of shared histories answers: 1, or 0; 1 where they are not shared.",
            )?,
            histories_found: gauge(
                r,
                "tollgate_histories_found",
                "Histories of conversations that the shared store had when they were asked for.",
            )?,
            histories_new: gauge(
                r,
                "tollgate_histories_new",
                "Conversations that the shared store had no history of when it was asked.",
            )?,
            histories_unanswered: gauge(
                r,
                "tollgate_histories_unanswered",
                "Times that the shared store of histories was away or too slow when it was asked.",
            )?,
        })
    }

    /// Takes what is so now.
    pub(super) fn set(&self, state: &State) {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let shared = state.shared.as_ref();
        self.up.set(shared.map_or(1, |shared| i64::from(shared.is_up())));
        self.trips.set(shared.map_or(0, |shared| number(shared.trips())));
        self.errors.set(shared.map_or(0, |shared| number(shared.errors())));
        self.scopes.set(shared.map_or(0, |shared| number(shared.scopes() as u64)));
        self.gateways.set(shared.map_or(1, |shared| number(shared.gateways())));
        let histories = state.shared_histories.as_ref();
        self.histories_up.set(histories.map_or(1, |histories| i64::from(histories.is_up())));
        let counts = histories.map(SharedHistories::counts);
        let count = |of: fn(&Counts) -> &AtomicU64| {
            number(counts.map_or(0, |counts| of(counts).load(Ordering::Relaxed)))
        };
        self.histories_found.set(count(|counts| &counts.found));
        self.histories_new.set(count(|counts| &counts.new));
        self.histories_unanswered.set(count(|counts| &counts.unanswered));
    }
}
