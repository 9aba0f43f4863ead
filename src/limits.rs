//! What limits need beside requests: keys that nobody has used for a while are forgotten, and requests that wait for a
//! server hear of one that came up again. One task, off the request path.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;

use crate::state::State;

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
