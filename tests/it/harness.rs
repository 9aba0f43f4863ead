//! What every end-to-end test stands on: the real gateway as a process, a scripted server behind it and raw
//! clients in front of it, all on port 0 and all gone when dropped.
//!
//! Both ends are written byte by byte on purpose. A library client or server would correct, reorder or refuse
//! exactly the bytes that the gateway is tested with.
//! Nothing sleeps until it works: every wait is for an event, under one deadline that names what was awaited.

pub(crate) mod client;
pub(crate) mod conf;
pub(crate) mod gateway;
pub(crate) mod h2;
pub(crate) mod metrics;
pub(crate) mod postgres;
pub(crate) mod recording;
pub(crate) mod request;
pub(crate) mod script;
pub(crate) mod sse;
pub(crate) mod tls;
pub(crate) mod upstream;
pub(crate) mod upstream_h2;
pub(crate) mod upstream_hasty;
pub(crate) mod valkey;
pub(crate) mod wire;

use std::time::Duration;

/// No awaited event may take longer. Generous, because two busy cores may run several tests at once.
const DEADLINE: Duration = Duration::from_secs(20);

/// The result of `event`; a panic that names `what` when it does not come.
pub(crate) async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, event).await {
        Ok(value) => value,
        Err(_) => panic!("waited {DEADLINE:?} for {what}"),
    }
}

/// Asks `probe` every few milliseconds until it gives a value, for facts that announce themselves nowhere
/// (a file that grows, a counter on the admin listener).
pub(crate) async fn eventually<T, F>(what: &str, mut probe: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    within(what, async {
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// A small generator for reproducible disorder (xorshift64*). Tests print nothing of it: the seed is a constant.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number in `0..bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(bits).expect("31 bits fit") % bound.max(1)
    }

    /// Cuts `bytes` into pieces of 1 to `longest` bytes.
    pub(crate) fn pieces(&mut self, bytes: &[u8], longest: usize) -> Vec<Vec<u8>> {
        let mut rest = bytes;
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let length = (1 + self.below(longest)).min(rest.len());
            pieces.push(rest[..length].to_vec());
            rest = &rest[length..];
        }
        pieces
    }
}
