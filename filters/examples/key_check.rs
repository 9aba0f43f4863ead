//! What checking a key costs, and what a key costs in memory, with 100,000 of them.
//!
//! ```text
//! cargo run --release -p tollgate-filters --example key_check
//! ```
//! The keys are asked for in no order, so that each is found cold, as keys of many clients are. "While keys change"
//! has a second thread put up to a thousand keys a second. The best of many runs is printed, and the median: the rest is the
//! machine's noise. Memory is what the allocator was asked for, divided by the number of keys.

#![expect(clippy::disallowed_methods, reason = "a timing reads the clock and has a thread beside it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
use std::time::{Duration, Instant};

use tollgate_filters::endpoint::{Endpoint, EndpointSet};
use tollgate_filters::request::auth::{Entry, Key, Keyring, Network, Principal, Terms, hash_key};
use tollgate_filters::units::Moment;

const KEYS: usize = 100_000;
const TENANTS: usize = 1_000;
const MODELS: usize = 50;
const RUNS: usize = 500;
/// In a run: few enough to end before the machine takes the core away for something else.
const CHECKS: usize = 2_000;
const PEPPER: &[u8] = b"a pepper of thirty-two characters";
const NOW: Moment = Moment(1_800_000_000);

struct Counting;

static HELD: AtomicIsize = AtomicIsize::new(0);

#[expect(unsafe_code, reason = "counting bytes takes an allocator, and its trait is unsafe")]
// SAFETY: every call goes to the system's allocator with what the caller gave; the count touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let keys: Vec<String> = (0..KEYS).map(|n| format!("tg_{}_{:043}", id(n), n)).collect();
    let plain = memory("a key on its tenant's terms", || ring(&keys, false));
    let own = memory("a key with models and networks of its own", || ring(&keys, true));
    drop(own);

    // One after the other in memory, as if they had just been read from a client.
    let order = (0..KEYS).map(|n| n.wrapping_mul(2_654_435_761) % KEYS);
    let asked: Vec<String> = order.map(|n| keys[n].clone()).collect();
    time("a key, found cold", &plain, |n| &asked[n]);
    time("the same key again", &plain, |_| &keys[1]);
    let unknown = format!("tg_unknown00000_{:043}", 1);
    time("an unknown key", &plain, |_| &unknown);
    let wrong = format!("{}x", keys[2]);
    time("a wrong secret", &plain, |_| &wrong);

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            let (mut count, mut spent) = (0_u32, Duration::ZERO);
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                let entry = plain.get_stored(&id(count as usize % KEYS)).expect("it is there");
                plain.apply([(Arc::clone(&entry.key.id), Some(entry))]);
                spent += start.elapsed();
                count += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            spent.as_nanos() / u128::from(count.max(1))
        });
        time("a key, found cold, while keys change", &plain, |n| &asked[n]);
        stop.store(true, Ordering::Relaxed);
        println!("{:>42}: {:>5} ns", "a change of one key", changes.join().expect("no panic"));
    });
}

fn id(number: usize) -> String {
    format!("k{number:011}")
}

/// A ring of all keys, each with what it does not share.
fn ring(keys: &[String], is_own: bool) -> Keyring {
    let shared = (0..TENANTS).map(|tenant| {
        let tenant: Arc<str> = format!("tenant-{tenant}").into();
        let may_use: Arc<[bool]> = [true; MODELS].into();
        let terms = Arc::new(terms(&tenant, None));
        (tenant, may_use, terms)
    });
    let shared: Vec<_> = shared.collect();
    let everywhere: Arc<[Network]> = [].into();
    let entry = |(number, key): (usize, &String)| {
        let (tenant, may_use, terms_of_tenant) = &shared[number % TENANTS];
        let id: Arc<str> = id(number).into();
        let (terms, may_use) = if is_own {
            (Arc::new(terms(tenant, Some(number))), [number % 2 == 0; MODELS].into())
        } else {
            (Arc::clone(terms_of_tenant), Arc::clone(may_use))
        };
        let principal = Principal {
            tenant: Arc::clone(tenant),
            tenant_index: number % TENANTS,
            tier_index: 0,
            key_id: Arc::clone(&id),
            may_use,
            endpoints: EndpointSet::ALL,
            networks: [Arc::clone(&everywhere), Arc::clone(&terms.networks)],
        };
        let key = Key::new(id, hash_key(PEPPER, key.as_bytes()), None, None);
        Entry { key: Arc::new(key), terms, principal: Some(Arc::new(principal)) }
    };
    Keyring::new(PEPPER, Vec::new(), keys.iter().enumerate().map(entry).collect())
}

fn terms(tenant: &Arc<str>, own: Option<usize>) -> Terms {
    let models = own.map(|number| {
        let patterns = [format!("gemma{number}:*"), "llama3.3:*".to_owned(), "qwen3:*".to_owned()];
        patterns.into_iter().map(String::into_boxed_str).collect()
    });
    let networks = own.map(|number| {
        let third = number % 256;
        [format!("10.{third}.0.0/16"), format!("192.0.{third}.0/24")]
            .map(|network| network.parse().expect("a network"))
    });
    Terms {
        tenant: Arc::clone(tenant),
        tier: None,
        models,
        endpoints: EndpointSet::ALL,
        networks: networks.map_or_else(|| [].into(), |networks: [Network; 2]| networks.into()),
    }
}

fn memory(what: &str, make: impl FnOnce() -> Keyring) -> Keyring {
    let before = HELD.load(Ordering::Relaxed);
    let ring = make();
    let held = HELD.load(Ordering::Relaxed) - before;
    println!("{what:>42}: {:>5} bytes", held / KEYS.cast_signed());
    ring
}

fn time<'a>(what: &str, ring: &Keyring, key: impl Fn(usize) -> &'a String) {
    let mut runs: Vec<u128> = (0..RUNS)
        .map(|run| {
            let start = Instant::now();
            for check in 0..CHECKS {
                let credential = Some(key((run * CHECKS + check) % KEYS).as_bytes());
                let _ = black_box(ring.identify(credential, None, Endpoint::ChatCompletions, NOW));
            }
            start.elapsed().as_nanos() / CHECKS as u128
        })
        .collect();
    runs.sort_unstable();
    println!("{what:>42}: {:>5} ns, median {} ns", runs[0], runs[RUNS / 2]);
}
