//! How the keys of the store are doing.

use std::sync::atomic::Ordering;

use prometheus::{Gauge, IntGauge, IntGaugeVec, Opts, Registry};

use super::registered;
use crate::state::State;

/// Gauges that are set when they are read.
pub(super) struct KeyGauges {
    keys: IntGaugeVec,
    store_up: IntGauge,
    age: Gauge,
    from_snapshot: IntGauge,
    overdue: IntGauge,
    next_end: Gauge,
}

impl KeyGauges {
    /// Registers them.
    pub(super) fn new(r: &Registry) -> prometheus::Result<Self> {
        let keys = Opts::new(
            "tollgate_keys",
            "Keys that are known: declared in tenants.yaml, stored; of the stored, rotating with two secrets that work, \
             homeless without tenant or tier in the configuration, clashing with a declared one.",
        );
        Ok(Self {
            keys: registered(r, IntGaugeVec::new(keys, &["kind"])?)?,
            store_up: registered(
                r,
                IntGauge::new(
                    "tollgate_keys_store_up",
                    "Whether the store answered when it was last asked for keys: 1, or 0.",
                )?,
            )?,
            age: registered(
                r,
                Gauge::new(
                    "tollgate_keys_age_seconds",
                    "Time since the keys were last compared with the store; since the start, if they never were.",
                )?,
            )?,
            from_snapshot: registered(
                r,
                IntGauge::new(
                    "tollgate_keys_from_snapshot",
                    "Whether the keys are those of a snapshot, since the store has not answered yet: 1, or 0.",
                )?,
            )?,
            overdue: registered(
                r,
                IntGauge::new("tollgate_key_rotations_overdue", "Keys whose new secret is overdue.")?,
            )?,
            next_end: registered(
                r,
                Gauge::new(
                    "tollgate_key_previous_secret_end_timestamp_seconds",
                    "When the next secret that a rotation has replaced stops working; 0 if none is to.",
                )?,
            )?,
        })
    }

    /// Takes what is so now.
    pub(super) fn set(&self, state: &State) {
        let status = state.keys.status();
        let declared = i64::try_from(state.stages.load().keyring.declared().count()).unwrap_or(i64::MAX);
        for (kind, count) in [
            ("declared", declared),
            ("stored", status.stored.load(Ordering::Relaxed)),
            ("rotating", status.rotating.load(Ordering::Relaxed)),
            ("homeless", status.homeless.load(Ordering::Relaxed)),
            ("clashing", status.clashing.load(Ordering::Relaxed)),
        ] {
            self.keys.with_label_values(&[kind]).set(count);
        }
        self.store_up.set(i64::from(state.keys.is_store_up()));
        let fresh = std::time::Duration::from_millis(status.fresh_ms.load(Ordering::Relaxed));
        self.age.set(state.now().saturating_sub(fresh).as_secs_f64());
        self.from_snapshot.set(i64::from(status.is_from_snapshot.load(Ordering::Relaxed)));
        self.overdue.set(status.overdue.load(Ordering::Relaxed));
        self.next_end.set(status.next_end.load(Ordering::Relaxed) as f64);
    }
}
