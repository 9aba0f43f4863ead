//! What limits cost: time per request at many keys, and memory per key.
//!
//!     cargo run --release -p tollgate-filters --example quota_cost
//!
//! Each request is of another key out of 100,000, which no cache of the processor holds, of a tenant with limits in
//! every measure, for a model with limits of its own, under a key with the same: four scopes.

#![expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tollgate_filters::request::quota::{
    Clock, Demand, Holder, Limits, Measure, Plan, Price, Rule, Usage, Usages, Used, reserve,
};

const KEYS: usize = 100_000;
const ROUNDS: usize = 10;
/// 2026-11-27.
const DAY: u64 = 20_784 * 86_400;

/// Counts the bytes that are allocated.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe by nature; this one only counts")]
// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let every = Measure::ALL
        .into_iter()
        .fold(Limits::default(), |limits, measure| limits.with(measure, Some(1_000_000_000_000_000_000)));
    let rules = vec![Rule { pattern: "big:*".into(), limits: every }];
    let plan = Arc::new(Plan { limits: every, rules });
    let rule = plan.rule_for("big:70b");
    let tenant = Holder { usage: Arc::<Usage>::default(), plan: Arc::clone(&plan), rule };
    let keys: Vec<Arc<str>> = (0..KEYS).map(|index| format!("key{index:06}").into()).collect();
    let usages = Usages::default();
    let demand = Demand {
        input: 300,
        output: 1024,
        is_open: false,
        price: Price { input: 900_000, output: 21_000_000 },
    };
    let clock =
        |seconds: u64| Clock { now: Duration::from_secs(seconds), unix: Duration::from_secs(DAY + seconds) };

    let empty = BYTES.load(Ordering::Relaxed);
    let request = |key: &Arc<str>, at: Clock| {
        let holder = Holder { usage: usages.of(key), plan: Arc::clone(&plan), rule };
        let holders = [Some(tenant.clone()), Some(holder)];
        let mut lease = reserve(holders, demand, at).expect("there is room");
        lease.charge(Used { input: 290, output: 412, pico_eur: 1_909_000_000 }, at.now);
    };
    keys.iter().for_each(|key| request(key, clock(0)));
    let used = BYTES.load(Ordering::Relaxed) - empty;

    let start = Instant::now();
    for round in 0..ROUNDS {
        // Not in the order in which they lie in memory.
        for index in 0..KEYS {
            request(&keys[index * 7_919 % KEYS], clock(round as u64));
        }
    }
    let each = start.elapsed() / (ROUNDS * KEYS) as u32;

    let tomorrow = clock(32 * 86_400);
    let start = Instant::now();
    let mut longest = Duration::ZERO;
    for _ in 0..usages.shards() {
        let shard = Instant::now();
        usages.sweep(tomorrow);
        longest = longest.max(shard.elapsed());
    }
    let swept = start.elapsed();
    let left = BYTES.load(Ordering::Relaxed) - empty;

    #[expect(clippy::print_stdout, reason = "the result of the measurement")]
    {
        println!("keys                          {KEYS}");
        println!("reserve, charge, give back    {} ns", each.as_nanos());
        println!("memory per key in use         {} bytes", used / KEYS);
        println!("memory per key forgotten      {} bytes", left / KEYS);
        println!("one sweep of all keys         {swept:?}, one shard {longest:?} at most");
    }
}
