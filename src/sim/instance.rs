//! One simulated server among several: its engine, what is broken in it, what it has counted. The gate opens
//! and closes its port; everything else is shared by the requests that came through it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::driver::EngineHandle;
use super::fault::Faults;
use super::metrics::Outcomes;
use super::request::Serves;
use super::text;

/// One simulated server.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) index: usize,
    pub(super) address: SocketAddr,
    pub(super) serves: Serves,
    /// `Authorization` must be this, when set.
    pub(super) api_key: Option<String>,
    pub(super) engine: EngineHandle,
    faults: RwLock<Faults>,
    dice: AtomicU64,
    tally: Mutex<Tally>,
    cut: watch::Sender<()>,
}

/// How a request ended, for the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Stop,
    Length,
    /// An error answer, or a fault that broke the answer.
    Error,
    /// The client left before its answer was complete.
    Cancelled,
}

#[derive(Debug, Default)]
struct Tally {
    requests: u64,
    outcomes: Outcomes,
    last_cancel: Option<Instant>,
}

impl Instance {
    /// A server not yet listening.
    pub(super) fn new(
        index: usize,
        address: SocketAddr,
        serves: Serves,
        api_key: Option<String>,
        engine: EngineHandle,
    ) -> Self {
        let dice = AtomicU64::new(text::mix(serves.seed, index as u64));
        let (faults, tally) = (RwLock::default(), Mutex::default());
        Self { index, address, serves, api_key, engine, faults, dice, tally, cut: watch::Sender::new(()) }
    }

    /// The faults in force now.
    pub(super) fn faults(&self) -> Faults {
        self.faults.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the faults. The port is the gate's business.
    pub(super) fn set_faults(&self, faults: Faults) {
        self.engine.set_slowdown(faults.slowdown());
        *self.faults.write().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// A number for this request's share of chance: the same sequence for the same seed.
    pub(super) fn roll(&self) -> u64 {
        self.dice.fetch_add(1, Ordering::Relaxed)
    }

    /// Resolves for every receiver taken before [`Self::cut_connections`].
    pub(super) fn cut_signal(&self) -> watch::Receiver<()> {
        self.cut.subscribe()
    }

    /// Drops every connection, in the middle of whatever it does.
    pub(super) fn cut_connections(&self) {
        self.cut.send_replace(());
    }

    /// Counts a request that asks for tokens.
    pub(super) fn count_request(&self) {
        self.tally().requests += 1;
    }

    /// Counts how it ended.
    pub(super) fn count_ending(&self, ending: Ending) {
        let mut tally = self.tally();
        match ending {
            Ending::Stop => tally.outcomes.stop += 1,
            Ending::Length => tally.outcomes.length += 1,
            Ending::Error => tally.outcomes.error += 1,
            Ending::Cancelled => {
                tally.outcomes.abort += 1;
                tally.last_cancel = Some(Instant::now());
            }
        }
    }

    /// Counted endings.
    pub(super) fn outcomes(&self) -> Outcomes {
        self.tally().outcomes
    }

    /// The answer of `/sim/state`.
    pub(super) async fn state(&self) -> Value {
        let stats = self.engine.stats().await;
        let tally = self.tally();
        let outcomes = tally.outcomes;
        json!({
            "instance": self.index,
            "address": self.address.to_string(),
            "faults": self.faults().written(),
            "running": stats.running,
            "waiting": stats.waiting,
            "kv": {
                "blocks_total": stats.blocks_total,
                "blocks_used": stats.blocks_held,
                "blocks_cached": stats.blocks_cached,
                "usage": f64::from(stats.blocks_held) / f64::from(stats.blocks_total.max(1)),
            },
            "requests_total": tally.requests,
            "stop_total": outcomes.stop,
            "length_total": outcomes.length,
            "error_total": outcomes.error,
            "cancelled_total": outcomes.abort,
            "since_last_cancel_ms": tally.last_cancel.map(|at| at.elapsed().as_secs_f64() * 1_000.0),
            "sequences_finished_total": stats.finished,
            "sequences_cancelled_total": stats.aborted,
            "prompt_tokens_total": stats.prompt_tokens,
            "cached_tokens_total": stats.cached_tokens,
            "generation_tokens_total": stats.generation_tokens,
        })
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
