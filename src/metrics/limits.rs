//! How the store is doing that gateways share their limits in.

use prometheus::{IntGauge, Registry};

use super::gauge;
use crate::state::State;

/// Gauges that are set when they are read; without a shared store there are none.
pub(super) struct LimitsGauges {
    up: IntGauge,
    trips: IntGauge,
    errors: IntGauge,
    gateways: IntGauge,
    scopes: IntGauge,
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
    }
}
