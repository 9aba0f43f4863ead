//! Limits per tenant: requests a minute, tokens a minute, requests at a time. A request pays its worst case
//! (prompt plus the output that it may ask for) before it is forwarded and gets the rest back when its lease
//! is dropped, however it ended. Charging afterwards would let one burst of long answers overrun the limit by
//! the whole burst. Fails closed.
//!
//! The rates are GCRA (the generic cell rate algorithm, ITU-T I.371): a full minute's allowance may be spent
//! at once and then flows back evenly. Invariant: in any minute, reserved plus charged never exceeds twice the
//! limit, and over longer spans never the limit by more than one burst.
//! Cost: two compare-and-swaps and one addition; no lock, no allocation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::refusal::{RateLimit, Refusal};

/// The span over which rates are stated, and the largest burst.
const WINDOW_NS: u64 = 60_000_000_000;

/// What a tenant may use. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Requests a minute.
    pub requests_per_minute: Option<u64>,
    /// Input and output tokens a minute.
    pub tokens_per_minute: Option<u64>,
    /// Requests at a time.
    pub max_in_flight: Option<u64>,
    /// Output tokens reserved for a request that names no cap.
    pub default_max_tokens: u64,
}

/// What a tenant has used. Kept across configuration reloads.
#[derive(Debug, Default)]
pub struct Usage {
    requests: Bucket,
    tokens: Bucket,
    in_flight: AtomicU64,
}

/// What a tenant has left, for the `x-ratelimit-*` headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    /// The limit.
    pub limit: u64,
    /// What is left of it now.
    pub remaining: u64,
    /// When all of it is there again.
    pub reset: Duration,
}

/// A reservation. Dropping it gives back what was not charged.
#[derive(Debug)]
pub struct Lease {
    usage: Arc<Usage>,
    limits: Limits,
    reserved: u64,
    charged: u64,
    taken_at: Duration,
    ended_at: Duration,
    /// What is left after this reservation: requests, tokens.
    pub remaining: [Option<Remaining>; 2],
}

impl Lease {
    /// States what the request really used, input and output together, by the time it ended.
    pub fn charge(&mut self, tokens: u64, now: Duration) {
        self.charged = tokens;
        self.ended_at = now;
    }

    /// Gives the reserved tokens back at once, for a request that will use none. It still counts as a request, and as
    /// one in work until it is dropped.
    pub fn release(&mut self, now: Duration) {
        self.charge(0, now);
        self.give_back();
        self.reserved = 0;
    }

    /// Tokens reserved.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        self.reserved
    }
}

impl Lease {
    fn give_back(&self) {
        if let Some(limit) = self.limits.tokens_per_minute {
            // A reservation flows back with time by itself; only what has not yet is given back. Otherwise slow
            // requests would return an allowance that has long been there again.
            let flowed_ns = nanos(self.ended_at.saturating_sub(self.taken_at));
            let (reserved, charged) = (cost_ns(self.reserved, limit), cost_ns(self.charged, limit));
            self.usage.tokens.give_back(reserved.saturating_sub(charged.max(flowed_ns)));
            self.usage.tokens.owe(charged.saturating_sub(reserved).min(WINDOW_NS));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give_back();
        self.usage.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes one request of `input` estimated tokens and at most `max_output` output tokens out of the limits.
/// `now` is the time since the process started.
///
/// # Errors
/// [`Refusal::RateLimited`]; nothing is then reserved.
pub fn reserve(
    usage: &Arc<Usage>,
    limits: &Limits,
    input: u64,
    max_output: u64,
    now: Duration,
) -> Result<Lease, Refusal> {
    let now_ns = nanos(now);
    let in_flight = usage.in_flight.fetch_add(1, Ordering::Relaxed);
    // From here on the lease's drop undoes what was taken.
    let mut lease = Lease {
        usage: Arc::clone(usage),
        limits: Limits { tokens_per_minute: None, ..*limits },
        reserved: 0,
        charged: 0,
        taken_at: now,
        ended_at: now,
        remaining: [None, None],
    };
    if let Some(limit) = limits.max_in_flight.filter(|&limit| in_flight >= limit) {
        let retry_after = Duration::from_secs(1);
        return Err(Refusal::RateLimited { limit: RateLimit::Concurrent, value: limit, retry_after });
    }
    if let Some(limit) = limits.requests_per_minute {
        lease.remaining[0] = Some(usage.requests.take(1, limit, now_ns).map_err(|retry_after| {
            Refusal::RateLimited { limit: RateLimit::RequestsPerMinute, value: limit, retry_after }
        })?);
    }
    if let Some(limit) = limits.tokens_per_minute {
        // A request larger than the limit takes all of it: it would never pass otherwise.
        let wanted = input.saturating_add(max_output).min(limit);
        match usage.tokens.take(wanted, limit, now_ns) {
            Ok(remaining) => {
                lease.remaining[1] = Some(remaining);
                lease.reserved = wanted;
                lease.limits = *limits;
            }
            Err(retry_after) => {
                if let Some(limit) = limits.requests_per_minute {
                    usage.requests.give_back(cost_ns(1, limit));
                }
                return Err(Refusal::RateLimited {
                    limit: RateLimit::TokensPerMinute,
                    value: limit,
                    retry_after,
                });
            }
        }
    }
    Ok(lease)
}

/// One rate: the time at which all that was taken will have flowed back ("theoretical arrival time"), in
/// nanoseconds since the process started.
#[derive(Debug, Default)]
struct Bucket(AtomicU64);

impl Bucket {
    /// Takes `amount` of `limit` a minute, or says how long until it is there.
    fn take(&self, amount: u64, limit: u64, now_ns: u64) -> Result<Remaining, Duration> {
        let cost = cost_ns(amount, limit);
        let mut before = self.0.load(Ordering::Relaxed);
        loop {
            let after = before.max(now_ns).saturating_add(cost);
            let ahead = after - now_ns;
            if ahead > WINDOW_NS {
                return Err(Duration::from_nanos(ahead - WINDOW_NS));
            }
            match self.0.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    let left = u128::from(WINDOW_NS - ahead) * u128::from(limit) / u128::from(WINDOW_NS);
                    return Ok(Remaining {
                        limit,
                        remaining: left as u64,
                        reset: Duration::from_nanos(ahead),
                    });
                }
                Err(now_there) => before = now_there,
            }
        }
    }

    fn give_back(&self, cost: u64) {
        let undo = |at: u64| Some(at.saturating_sub(cost));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, undo);
    }

    fn owe(&self, cost: u64) {
        let add = |at: u64| Some(at.saturating_add(cost));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// How long `amount` takes to flow back, to the nanosecond below.
fn cost_ns(amount: u64, limit: u64) -> u64 {
    let cost = u128::from(amount) * u128::from(WINDOW_NS) / u128::from(limit.max(1));
    u64::try_from(cost).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(rpm: Option<u64>, tpm: Option<u64>, in_flight: Option<u64>) -> Limits {
        Limits {
            requests_per_minute: rpm,
            tokens_per_minute: tpm,
            max_in_flight: in_flight,
            default_max_tokens: 0,
        }
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn exactly_the_limit_passes_and_flows_back_evenly() {
        let (usage, limits) = (Arc::new(Usage::default()), limits(Some(60), None, None));
        let passed = (0..100).filter(|_| reserve(&usage, &limits, 1, 1, at(5)).is_ok()).count();
        assert_eq!(passed, 60);
        let refusal = reserve(&usage, &limits, 1, 1, at(5)).expect_err("used up");
        assert_eq!(refusal.answer().retry_after, Some(Duration::from_secs(1)));
        assert!(reserve(&usage, &limits, 1, 1, at(1_004)).is_err());
        assert!(reserve(&usage, &limits, 1, 1, at(1_005)).is_ok());
    }

    #[test]
    fn what_was_not_used_flows_back_and_what_was_used_stays() {
        let (usage, limits) = (Arc::new(Usage::default()), limits(None, Some(1000), None));
        let lease = reserve(&usage, &limits, 100, 900, at(0)).expect("all of it");
        assert!(reserve(&usage, &limits, 1, 0, at(0)).is_err());
        drop(lease);
        let mut lease = reserve(&usage, &limits, 100, 900, at(0)).expect("all of it again");
        lease.charge(400, at(0));
        drop(lease);
        assert!(reserve(&usage, &limits, 601, 0, at(0)).is_err());
        let lease = reserve(&usage, &limits, 600, 0, at(0)).expect("what is left");
        assert_eq!(lease.remaining[1].map(|left| left.remaining), Some(0));
    }

    #[test]
    fn what_flowed_back_with_time_is_not_given_back_again() {
        let (usage, limits) = (Arc::new(Usage::default()), limits(None, Some(1000), None));
        let slow: Vec<_> = (0..5)
            .map(|minute| reserve(&usage, &limits, 1000, 0, at(minute * 60_000)).expect("a minute later"))
            .collect();
        let now = at(4 * 60_000 + 1);
        for mut lease in slow.into_iter().take(4) {
            lease.charge(0, now);
            drop(lease);
            assert!(
                reserve(&usage, &limits, 1000, 0, now).is_err(),
                "the fifth holds this minute's allowance"
            );
        }
    }

    #[test]
    fn a_refusal_takes_nothing() {
        let (usage, limits) = (Arc::new(Usage::default()), limits(Some(10), Some(100), Some(2)));
        let held = reserve(&usage, &limits, 90, 0, at(0)).expect("first");
        for _ in 0..50 {
            let refusal = reserve(&usage, &limits, 50, 0, at(0)).expect_err("no tokens");
            assert_eq!(refusal.answer().kind, "tokens");
        }
        let second = reserve(&usage, &limits, 1, 0, at(0)).expect("nine requests and ten tokens are left");
        let refusal = reserve(&usage, &limits, 1, 0, at(0)).expect_err("two in flight");
        assert!(matches!(refusal, Refusal::RateLimited { limit: RateLimit::Concurrent, .. }));
        drop((held, second));
        assert_eq!(usage.in_flight.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn threads_never_overspend() {
        let (usage, limits) = (Arc::new(Usage::default()), limits(Some(100), Some(100_000), None));
        let passed: usize = std::thread::scope(|scope| {
            let worker = || (0..250).filter(|_| reserve(&usage, &limits, 1, 1, at(0)).is_ok()).count();
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().map(|worker| worker.join().expect("no panic")).sum()
        });
        assert_eq!(passed, 100);
    }

    proptest! {
        #[test]
        fn no_interleaving_overspends_a_window(
            limit in 1u64..5_000,
            steps in proptest::collection::vec((0u64..2_000, 0u64..3_000, 0u64..3_000), 1..60),
        ) {
            let (usage, limits) = (Arc::new(Usage::default()), limits(None, Some(limit), None));
            let (mut now, mut charged) = (0, 0u64);
            for (wait, asked, used) in steps {
                now += wait;
                if let Ok(mut lease) = reserve(&usage, &limits, asked, 0, at(now)) {
                    let used = used.min(lease.reserved());
                    lease.charge(used, at(now));
                    charged += used;
                }
                // One full window at once, then the rate: rounding is below one token a step.
                prop_assert!(charged <= limit + limit * now / 60_000 + 60, "{} in {} ms", charged, now);
            }
        }
    }
}
