//! Slows down who guesses keys. Each wrong key from an address counts; past a number in a minute, the refusal
//! of every further one is delayed, longer and longer. Good keys from the same address are never delayed, so
//! that one broken client behind a proxy harms nobody else.
//!
//! Cost: nothing for good keys; one short lock for a wrong one. Memory is bounded: [`MAX_ADDRESSES`] addresses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::units::host_network;

/// Addresses remembered. A wider attack than this is one for the network's own defences.
pub const MAX_ADDRESSES: usize = 65_536;

const WINDOW: Duration = Duration::from_secs(60);
const FIRST_DELAY: Duration = Duration::from_millis(50);

/// Wrong keys by source address.
#[derive(Debug, Default)]
pub struct Guessing {
    by_address: Mutex<HashMap<IpAddr, Window>>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    since: Duration,
    failures: u32,
}

impl Guessing {
    /// Notes a wrong key from `source` at `now` and says how long to wait before refusing it: nothing for the
    /// first `free` in a minute, then 50 ms doubling up to `longest`. An IPv6 host counts with its whole /64.
    pub fn observe(&self, source: IpAddr, now: Duration, free: u32, longest: Duration) -> Duration {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if by_address.len() >= MAX_ADDRESSES {
            by_address.retain(|_, window| now.saturating_sub(window.since) < WINDOW);
            if by_address.len() >= MAX_ADDRESSES {
                return longest;
            }
        }
        let window = by_address.entry(host_network(source)).or_insert(Window { since: now, failures: 0 });
        if now.saturating_sub(window.since) >= WINDOW {
            *window = Window { since: now, failures: 0 };
        }
        window.failures = window.failures.saturating_add(1);
        match window.failures.saturating_sub(free) {
            0 => Duration::ZERO,
            over => FIRST_DELAY.saturating_mul(1 << (over - 1).min(20)).min(longest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_after_the_free_failures_and_end_with_the_minute() {
        let guessing = Guessing::default();
        let longest = Duration::from_millis(300);
        let delay = |address: &str, at| {
            let address = address.parse().expect("an address");
            guessing.observe(address, Duration::from_secs(at), 2, longest).as_millis()
        };
        let delays: Vec<_> = (0..7).map(|_| delay("1.2.3.4", 0)).collect();
        assert_eq!(delays, [0, 0, 50, 100, 200, 300, 300]);
        assert_eq!(delay("1.2.3.5", 0), 0, "another address");
        assert_eq!(delay("1.2.3.4", 60), 0, "another minute");
        assert_eq!([delay("2001:db8::1", 0), delay("2001:db8::2", 0), delay("2001:db8::3", 0)], [0, 0, 50]);
    }
}
