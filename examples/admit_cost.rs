//! What it costs to say yes: the key is checked and the worst case reserved, charged and given back, with 100,000 keys of
//! 1,000 tenants. The same calls on the same values as for a request (src/proxy/request.rs, src/proxy/quota.rs), built from
//! a configuration as a start builds them.
//!
//! ```text
//! cargo run --release --example admit_cost
//! ```
//! Each request is of another key in no order, so that key, principal and use are found cold. It lies in four scopes with
//! all seven measures each: those of its tenant, of the tenant's model, of its key and of the key's model. The time is from
//! the credential to the lease, and on to the lease's end; the best and the median of many runs are printed. `two at a
//! time` has another thread do the same to the same keys. The end of the program is 1 if the median is above the bar.

#![expect(clippy::print_stdout, reason = "the result of the measurement")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tollgate::state::Stages;
use tollgate::{calendar, config};
use tollgate_filters::endpoint::{Endpoint, EndpointSet};
use tollgate_filters::request::auth::{Key, Terms, bearer, hash_key};
use tollgate_filters::request::quota::{Clock, Demand, Price, Usages, Used, reserve};

const KEYS: usize = 100_000;
const TENANTS: usize = 1_000;
const RUNS: usize = 400;
/// In a run: few enough to end before the machine takes the core away for something else.
const REQUESTS: usize = 2_000;
const PEPPER: &str = "a-pepper-of-thirty-two-characters";
/// The issue's.
const BAR: Duration = Duration::from_micros(3);

fn main() -> ExitCode {
    let folder = std::env::temp_dir().join(format!("tollgate-admit-cost-{}", std::process::id()));
    let built = build(&folder);
    drop(std::fs::remove_dir_all(&folder));
    let (stages, headers) = match built {
        Ok(built) => built,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let usages = Usages::default();
    // Every key has been used before.
    for header in &headers {
        request(&stages, &usages, header, clock());
    }
    let alone = time(&stages, &usages, &headers);
    println!("{:>14}: {:>5} ns, median {} ns", "one at a time", alone.0, alone.1);
    let is_over = AtomicBool::new(false);
    let together = std::thread::scope(|scope| {
        scope.spawn(|| {
            for header in headers.iter().rev().cycle().take_while(|_| !is_over.load(Ordering::Relaxed)) {
                request(&stages, &usages, header, clock());
            }
        });
        let together = time(&stages, &usages, &headers);
        is_over.store(true, Ordering::Relaxed);
        together
    });
    println!("{:>14}: {:>5} ns, median {} ns", "two at a time", together.0, together.1);
    println!("{:>14}: {} ns", "bar", BAR.as_nanos());
    ExitCode::from(u8::from(alone.1 > BAR.as_nanos()))
}

/// One request, as it passes the gate.
fn request(stages: &Stages, usages: &Usages, header: &[u8], clock: Clock) {
    let source = Some([192, 0, 2, 1].into());
    let identity =
        stages.keyring.identify(bearer(header), source, Endpoint::ChatCompletions, calendar::now());
    let principal = identity.unwrap_or_else(|_| unreachable!("every key is known")).principal;
    let model = 0;
    let prices = stages.settings.models[model].prices.at(SystemTime::now());
    let price = Price {
        input: prices.input_micro_eur,
        output: prices.output_micro_eur.max(prices.reasoning_micro_eur),
    };
    let demand = Demand { input: 300, output: 1024, is_open: false, price };
    let holders = stages.holders(&principal, Some(model), usages);
    let Ok(mut lease) = reserve(holders, demand, clock) else { unreachable!("limits are large") };
    black_box(lease.standing);
    lease.charge(Used { input: 290, output: 412, pico_eur: 1_909_000_000 }, clock.now);
}

fn clock() -> Clock {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Clock { now: unix.saturating_sub(Duration::from_secs(1_700_000_000)), unix }
}

/// Nanoseconds a request: the best run, and the median.
fn time(stages: &Stages, usages: &Usages, headers: &[Vec<u8>]) -> (u128, u128) {
    let mut runs: Vec<u128> = (0..RUNS)
        .map(|run| {
            let start = Instant::now();
            for at in 0..REQUESTS {
                request(stages, usages, &headers[(run * REQUESTS + at) % headers.len()], clock());
            }
            start.elapsed().as_nanos() / REQUESTS as u128
        })
        .collect();
    runs.sort_unstable();
    (runs[0], runs[RUNS / 2])
}

/// The tables of a gateway with these keys, and the authorization header of each, in no order.
fn build(folder: &Path) -> Result<(Stages, Vec<Vec<u8>>), String> {
    configure(folder).map_err(|error| error.to_string())?;
    let stages = Stages::build(config::load(folder).map_err(|faults| faults.to_string())?, None);
    let terms: Vec<Arc<Terms>> = (0..TENANTS)
        .map(|tenant| {
            Arc::new(Terms {
                tenant: format!("tenant-{tenant}").into(),
                tier: None,
                models: None,
                endpoints: EndpointSet::ALL,
                networks: [].into(),
            })
        })
        .collect();
    let text = |number: usize| format!("tg_k{number:011}_{number:043}");
    let changes = (0..KEYS).map(|number| {
        let id: Arc<str> = format!("k{number:011}").into();
        let key = Key::new(Arc::clone(&id), hash_key(PEPPER.as_bytes(), text(number).as_bytes()), None, None);
        (id, Some(stages.principals.entry(&Arc::new(key), &terms[number % TENANTS])))
    });
    stages.keyring.apply(changes);
    let order = (0..KEYS).map(|number| number.wrapping_mul(2_654_435_761) % KEYS);
    let headers = order.map(|number| format!("Bearer {}", text(number)).into_bytes()).collect();
    Ok((stages, headers))
}

fn configure(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("pepper"), PEPPER)?;
    let limits = json!({
        "requests_per_minute": 1_000_000_000, "tokens_per_minute": 1_000_000_000_000_u64,
        "input_tokens_per_minute": 1_000_000_000_000_u64, "output_tokens_per_minute": 1_000_000_000_000_u64,
        "max_in_flight": 1_000_000, "tokens_per_day": 1_000_000_000_000_u64, "eur_per_month": 9_000_000
    });
    let with = |more: Value| {
        let mut all = limits.clone();
        if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
            all.extend(more);
        }
        all
    };
    let of_model = json!([with(json!({"model": "big:*"}))]);
    let of_key = with(json!({"per_model": of_model}));
    let tier = with(json!({"name": "all", "per_model": of_model, "per_key": of_key}));
    let tenants: Vec<Value> = (0..TENANTS)
        .map(|tenant| json!({"name": format!("tenant-{tenant}"), "tier": "all", "models": ["*"], "keys": []}))
        .collect();
    let file = |name: &str| -> PathBuf { folder.join(name) };
    let secret = format!("file:{}", file("pepper").display());
    for (name, content) in [
        (
            "tollgate",
            json!({
                "listeners": [{"address": "127.0.0.1:0", "cleartext": true}],
                "auth": {"pepper": secret},
                "ledger": "off",
                "storage": {"url": format!("sqlite:{}", file("tollgate.db").display())}
            }),
        ),
        ("models", json!({"models": [{"name": "big:70b", "publisher": "Bench"}]})),
        (
            "upstreams",
            json!({"pools": [{
                "name": "main", "models": ["*"], "servers": [{"name": "s0", "address": "127.0.0.1:9"}]
            }]}),
        ),
        ("tiers", json!({"tiers": [tier]})),
        ("tenants", json!({"tenants": tenants})),
    ] {
        std::fs::write(file(&format!("{name}.yaml")), content.to_string())?;
    }
    Ok(())
}
