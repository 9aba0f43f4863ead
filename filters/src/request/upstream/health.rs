//! Whether a server may be used: what the active checks saw, and what live traffic taught.
//!
//! A server starts up, so that a gateway serves before its first round of checks. It goes down when
//! `unhealthy_after` checks in a row fail and comes back after `healthy_after` good ones. Live failures in a
//! row eject it for a time that doubles with each ejection in a row (the way of Envoy's outlier detection), so
//! that a server that passes its checks and fails its work is tried less and less often. A busy answer (429 or
//! 503) only cools it down: others are preferred until then.
//!
//! Time is passed in, as the time since the process started. Cost of the question: three atomic loads.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// When the active checks change their mind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeRules {
    /// Successes in a row that bring a server back.
    pub healthy_after: u32,
    /// Failures in a row that take it out.
    pub unhealthy_after: u32,
}

/// When live traffic ejects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EjectRules {
    /// Failures in a row; 0 never ejects.
    pub failures: u32,
    /// The first ejection.
    pub eject: Duration,
    /// The longest.
    pub eject_max: Duration,
}

/// Whether and how readily a server may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Use it.
    Up,
    /// It said that it is busy: use it if no other is up.
    Cooling,
    /// Do not use it.
    Down,
}

/// The health of one server. Kept across configuration reloads.
#[derive(Debug, Default)]
pub struct Health {
    probe_down: AtomicBool,
    probe_streak: AtomicU32,
    was_probed: AtomicBool,
    live_failures: AtomicU32,
    ejections: AtomicU32,
    ejected_until_ns: AtomicU64,
    cooling_until_ns: AtomicU64,
}

impl Health {
    /// Whether the server may be used at `now`.
    #[must_use]
    pub fn standing(&self, now: Duration) -> Standing {
        let now = nanos(now);
        if self.probe_down.load(Ordering::Relaxed) || now < self.ejected_until_ns.load(Ordering::Relaxed) {
            Standing::Down
        } else if now < self.cooling_until_ns.load(Ordering::Relaxed) {
            Standing::Cooling
        } else {
            Standing::Up
        }
    }

    /// Whether a first check has been made.
    #[must_use]
    pub fn was_probed(&self) -> bool {
        self.was_probed.load(Ordering::Relaxed)
    }

    /// Notes an active check. `true` if the server's state changed. Not to be called concurrently.
    pub fn observe_probe(&self, is_good: bool, rules: ProbeRules) -> bool {
        self.was_probed.store(true, Ordering::Relaxed);
        let is_down = self.probe_down.load(Ordering::Relaxed);
        if is_good != is_down {
            self.probe_streak.store(0, Ordering::Relaxed);
            return false;
        }
        let streak = self.probe_streak.fetch_add(1, Ordering::Relaxed) + 1;
        let needed = if is_good { rules.healthy_after } else { rules.unhealthy_after };
        if streak < needed {
            return false;
        }
        self.probe_down.store(!is_good, Ordering::Relaxed);
        self.probe_streak.store(0, Ordering::Relaxed);
        if is_good {
            // The server restarted or recovered: what it did before says nothing any more.
            self.live_failures.store(0, Ordering::Relaxed);
            self.ejected_until_ns.store(0, Ordering::Relaxed);
        }
        true
    }

    /// Notes that live work on the server failed by its fault. `true` if that ejected it.
    pub fn observe_failure(&self, rules: EjectRules, now: Duration) -> bool {
        let failures = self.live_failures.fetch_add(1, Ordering::Relaxed) + 1;
        if rules.failures == 0 || failures < rules.failures {
            return false;
        }
        self.live_failures.store(0, Ordering::Relaxed);
        let doublings = self.ejections.fetch_add(1, Ordering::Relaxed).min(16);
        let span = rules.eject.saturating_mul(1 << doublings).min(rules.eject_max);
        self.ejected_until_ns.store(nanos(now + span), Ordering::Relaxed);
        true
    }

    /// Notes that live work on the server succeeded.
    pub fn observe_success(&self) {
        // Loads first: on the good path nothing is written and no cache line bounces.
        if self.live_failures.load(Ordering::Relaxed) != 0 {
            self.live_failures.store(0, Ordering::Relaxed);
        }
        if self.ejections.load(Ordering::Relaxed) != 0 {
            self.ejections.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that the server said it is busy, for `span`.
    pub fn observe_busy(&self, span: Duration, now: Duration) {
        self.cooling_until_ns.store(nanos(now + span), Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBE: ProbeRules = ProbeRules { healthy_after: 2, unhealthy_after: 3 };
    const EJECT: EjectRules =
        EjectRules { failures: 3, eject: Duration::from_secs(5), eject_max: Duration::from_secs(15) };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn checks_need_a_streak_to_change_a_server() {
        let health = Health::default();
        let changes: Vec<bool> = [false, false, true, false, false, false, false, true, false, true, true]
            .into_iter()
            .map(|is_good| health.observe_probe(is_good, PROBE))
            .collect();
        assert_eq!(
            changes,
            [false, false, false, false, false, true, false, false, false, false, true],
            "down at the third failure in a row, up at the second success in a row"
        );
        assert_eq!(health.standing(at(0)), Standing::Up);
    }

    #[test]
    fn live_failures_eject_for_longer_each_time() {
        let health = Health::default();
        let fail = |now| (0..3).map(|_| health.observe_failure(EJECT, at(now))).collect::<Vec<_>>();
        assert_eq!(fail(0), [false, false, true]);
        assert_eq!(health.standing(at(4)), Standing::Down);
        assert_eq!(health.standing(at(5)), Standing::Up);
        fail(5);
        assert_eq!(health.standing(at(14)), Standing::Down);
        fail(15);
        assert_eq!(health.standing(at(29)), Standing::Down, "capped at 15 s");
        assert_eq!(health.standing(at(30)), Standing::Up);
        health.observe_success();
        fail(40);
        assert_eq!(health.standing(at(45)), Standing::Up, "a success starts again at 5 s");
    }

    #[test]
    fn a_success_between_failures_forgives() {
        let health = Health::default();
        for _ in 0..10 {
            health.observe_failure(EJECT, at(0));
            health.observe_failure(EJECT, at(0));
            health.observe_success();
        }
        assert_eq!(health.standing(at(0)), Standing::Up);
    }

    #[test]
    fn a_busy_server_cools_down() {
        let health = Health::default();
        health.observe_busy(at(2), at(1));
        assert_eq!(health.standing(at(2)), Standing::Cooling);
        assert_eq!(health.standing(at(3)), Standing::Up);
    }
}
