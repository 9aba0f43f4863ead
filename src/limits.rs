//! What limits need beside requests: keys that nobody has used for a while are forgotten, and requests that wait for a
//! server hear of one that came up again. One task, off the request path. And budgets, which a start takes from the
//! ledger. Where several gateways share their limits: `shared.rs`.

pub(crate) mod courier;
pub(crate) mod link;
pub(crate) mod resp;
pub mod script;
mod shared;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;

use tollgate_filters::request::quota;
use tollgate_filters::request::quota::shared::{Names, Recorded};

pub use shared::SharedLimits;

use crate::state::State;
use crate::store::usage::Totals;

/// Counts what the ledger had of this day and month at the start against the budgets, here and in the store that gateways
/// share them in. What has gone from the configuration since, a tenant, a key or a model, has no budget any more.
pub fn restore(state: &State, totals: &Totals) {
    count(state, totals, true);
}

/// Has the store that gateways share budgets in told what the ledger has now.
pub fn tell_store(state: &State, totals: &Totals) {
    count(state, totals, false);
}

fn count(state: &State, totals: &Totals, is_start: bool) {
    let (stages, clock) = (state.stages.load(), state.clock());
    let reading = state.shared.as_ref().map_or(0, SharedLimits::next_reading);
    let mut lives = HashMap::<&str, Arc<str>>::new();
    let settings = &stages.settings;
    for total in &totals.totals {
        let Some(tenant) = settings.tenants.iter().position(|tenant| tenant.name == total.tenant) else {
            continue;
        };
        let model = settings.models.iter().position(|model| model.name == total.model);
        let key = stages.keyring.get_declared(&total.key_id).cloned();
        let key = key.or_else(|| stages.keyring.get_stored(&total.key_id));
        let tier = key.and_then(|key| Some(key.principal?.tier_index));
        let key_id = Arc::from(total.key_id.as_str());
        let tokens = total.tokens_today;
        let pico_eur = u64::try_from(total.cost_this_month.0).unwrap_or(u64::MAX);
        let holders = stages.holders_of(tenant, tier, &key_id, model, &state.usages);
        if is_start {
            for holder in holders.iter().flatten() {
                quota::restore(holder, tokens, pico_eur, clock);
            }
        }
        if let Some(shared) = &state.shared {
            let life = lives.entry(&total.life).or_insert_with(|| Arc::from(total.life.as_str()));
            let recorded = Recorded { reading, life, tokens, pico_eur };
            shared.restore(&holders, recorded, Names { tenant: &total.tenant, key_id: &key_id });
        }
    }
    if let Some(shared) = &state.shared {
        shared.has_read();
    }
}

/// How often one of the shards of keys is swept: each comes up once a minute or so, within which rates fill again.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// How often those who wait for a server are offered what became free unnoticed: a server that is healthy again.
const DISPATCH_EVERY: Duration = Duration::from_millis(50);

/// The task.
pub struct Housekeeping {
    state: Arc<State>,
}

impl Housekeeping {
    /// For the usage that `state` keeps.
    #[must_use]
    pub fn new(state: Arc<State>) -> Self {
        Self { state }
    }
}

#[async_trait]
impl BackgroundService for Housekeeping {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        let mut dispatch = tokio::time::interval(DISPATCH_EVERY);
        loop {
            tokio::select! {
                _ = sweep.tick() => self.state.usages.sweep(self.state.clock()),
                _ = dispatch.tick() => self.state.queue.dispatch(),
                _ = shutdown.changed() => return,
            }
        }
    }
}
