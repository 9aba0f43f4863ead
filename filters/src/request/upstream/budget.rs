//! How many retries the traffic can bear. When many servers fail at once, retrying everything multiplies the
//! load on the rest; a share of the request rate, with a small floor for quiet times, keeps that bounded.
//!
//! Cost: one atomic addition a request; two for a retry.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Retries that may be saved up.
const MAX_SAVED: i64 = 200;
/// One retry, in the unit of the balance: hundredths, so that percents add up.
const ONE: i64 = 100;
/// Retries a second that are always allowed.
const FLOOR_PER_SECOND: u64 = 10;
const FLOOR_NS: u64 = 1_000_000_000 / FLOOR_PER_SECOND;

/// The retries of one pool.
#[derive(Debug, Default)]
pub struct Budget {
    saved: AtomicI64,
    /// When the floor's allowance of a whole second will be back, nanoseconds since the process started.
    floor: AtomicU64,
}

impl Budget {
    /// Notes a request, which earns `percent` of a retry.
    pub fn earn(&self, percent: u32) {
        if self.saved.load(Ordering::Relaxed) < MAX_SAVED * ONE {
            self.saved.fetch_add(i64::from(percent), Ordering::Relaxed);
        }
    }

    /// Whether one retry may be made now; if so, it is spent.
    pub fn spend(&self, now: Duration) -> bool {
        if self.saved.fetch_sub(ONE, Ordering::Relaxed) >= ONE {
            return true;
        }
        self.saved.fetch_add(ONE, Ordering::Relaxed);
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX / 2);
        let take = |floor: u64| {
            let after = floor.max(now) + FLOOR_NS;
            (after - now <= FLOOR_NS * FLOOR_PER_SECOND).then_some(after)
        };
        self.floor.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_follow_the_request_rate_above_a_floor() {
        let budget = Budget::default();
        let spend = |seconds| budget.spend(Duration::from_secs(seconds));
        assert_eq!((0..50).filter(|_| spend(1)).count(), 10, "the floor");
        assert_eq!((0..50).filter(|_| spend(2)).count(), 10, "the next second's floor");
        for _ in 0..100 {
            budget.earn(25);
        }
        assert_eq!((0..50).filter(|_| spend(2)).count(), 25, "a quarter of a hundred requests");
        for _ in 0..1_000_000 {
            budget.earn(100);
        }
        assert!((0..1_000).filter(|_| spend(2)).count() <= 201, "no more than can be saved");
    }
}
