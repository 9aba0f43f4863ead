//! What quotas need beside requests: keys that nobody has used for a while are forgotten. One task, off the request
//! path.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;

use crate::state::State;

/// How often one of the shards of keys is swept: each comes up once a minute or so, within which rates fill again.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

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
        let mut tick = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                _ = tick.tick() => self.state.usages.sweep(self.state.clock()),
                _ = shutdown.changed() => return,
            }
        }
    }
}
