//! One rate, by the generic cell rate algorithm (GCRA, ITU-T I.371): a full minute's allowance may be spent at
//! once and then flows back evenly. All that a bucket holds is when everything that was taken will have flowed
//! back, so an unused bucket takes eight bytes and needs no timer.
//!
//! Invariant: in any span of `t`, at most `limit × (1 + t / 60 s)` is taken.

use std::time::Duration;

/// The span over which rates are stated, and the largest burst.
pub(super) const WINDOW_NS: u64 = 60_000_000_000;

/// One rate. The time at which all that was taken will have flowed back ("theoretical arrival time"), in
/// nanoseconds since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bucket(u64);

impl Bucket {
    /// How long until `amount` of `limit` a minute is there; zero if it is.
    pub(super) fn lacks(self, amount: u64, limit: u64, now: Duration) -> Duration {
        Duration::from_nanos((self.ahead(now) + cost_ns(amount, limit)).saturating_sub(WINDOW_NS))
    }

    /// Takes `amount`, also where it is not there: the rest is owed.
    pub(super) fn take(&mut self, amount: u64, limit: u64, now: Duration) {
        self.0 = self.0.max(nanos(now)).saturating_add(cost_ns(amount, limit));
    }

    /// Sets right what was taken at `taken` as `reserved` and turned out as `used` by `now`.
    ///
    /// What was taken flows back with time by itself; only what has not yet is given back. Otherwise slow requests
    /// would return an allowance that has long been there again.
    pub(super) fn settle(&mut self, limit: u64, reserved: u64, used: u64, taken: Duration, now: Duration) {
        let (reserved, used) = (cost_ns(reserved, limit), cost_ns(used, limit));
        let flowed = nanos(now.saturating_sub(taken));
        self.0 = self.0.saturating_sub(reserved.saturating_sub(used.max(flowed)));
        // What one request used beyond its reservation is owed, but never for longer than a minute.
        self.0 = self.0.saturating_add(used.saturating_sub(reserved).min(WINDOW_NS));
    }

    /// What is left of `limit`, and how long until all of it is there again.
    pub(super) fn left(self, limit: u64, now: Duration) -> (u64, Duration) {
        let ahead = self.ahead(now);
        let left = u128::from(WINDOW_NS.saturating_sub(ahead)) * u128::from(limit) / u128::from(WINDOW_NS);
        (left as u64, Duration::from_nanos(ahead))
    }

    /// Whether everything is there.
    pub(super) fn is_full(self, now: Duration) -> bool {
        self.ahead(now) == 0
    }

    fn ahead(self, now: Duration) -> u64 {
        self.0.saturating_sub(nanos(now))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// How long `amount` takes to flow back, to the nanosecond below.
fn cost_ns(amount: u64, limit: u64) -> u64 {
    let cost = u128::from(amount) * u128::from(WINDOW_NS) / u128::from(limit.max(1));
    u64::try_from(cost).unwrap_or(u64::MAX / 4)
}
