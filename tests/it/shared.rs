//! Limits that several gateways share, with real gateways and a real store.

mod away;
mod histories;
mod lost;
mod rules;
mod ways;

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::harness::client::Client;
use crate::harness::conf::{Conf, MODEL};
use crate::harness::eventually;
use crate::harness::gateway::{Gateway, chat};
use crate::harness::script::{self, Step};
use crate::harness::upstream::Upstream;
use crate::harness::valkey::Valkey;

/// The scope of the tenant that tests ask as.
const TENANT: &str = "tollgate:{acme}:tenant";

/// A configuration that shares these limits of the tenant's tier in `store`. Machines that run several tests at once are
/// slow; what a request that waits too long does has tests of its own.
fn sharing(store: &Valkey, upstream: &Upstream, tier: Value) -> Conf {
    let conf = Conf::to(upstream.address)
        .set("tollgate.limits.store", store.url())
        .set("tollgate.limits.shared.timeout_ms", 5000);
    let keys = tier.as_object().expect("keys of a tier").clone();
    keys.into_iter().fold(conf, |conf, (key, value)| conf.set(&format!("tiers.tiers.0.{key}"), value))
}

async fn start(count: usize, conf: &Conf) -> Vec<Gateway> {
    let mut gateways = Vec::new();
    for _ in 0..count {
        gateways.push(Gateway::start(conf).await);
    }
    gateways
}

/// Waits until the gateway has (not) its store, by the metric and by `/readyz`.
async fn until_store(gateway: &Gateway, is_up: bool) {
    eventually(&format!("the store of limits to be up = {is_up}"), || async {
        let metrics = gateway.metrics().await;
        let up = metrics.sum("tollgate_limits_store_up", &[]) > 0.5;
        let ready = gateway.admin("/readyz").await;
        assert_eq!(ready.status, 200, "requests are served all the same");
        (up == is_up && ready.json()["limits"]["store_up"] == json!(is_up)).then_some(())
    })
    .await;
}

/// How many of `count` requests to each gateway, all at once, pass.
async fn flood(gateways: &[Gateway], count: usize) -> (usize, usize) {
    let mut clients = JoinSet::new();
    for _ in 0..count {
        for gateway in gateways {
            let address = gateway.address();
            clients
                .spawn(async move { Client::connect(address).await.exchange(&chat(json!({}))).await.status });
        }
    }
    let (mut passed, mut refused) = (0, 0);
    while let Some(status) = clients.join_next().await {
        match status.expect("no panic") {
            200 => passed += 1,
            429 => refused += 1,
            status => panic!("{status}"),
        }
    }
    (passed, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_over_four_gateways_exactly_the_limit_is_in_flight() {
    let Some(store) = Valkey::start() else { return };
    let upstream = Upstream::chatting().await;
    let gateways = start(4, &sharing(&store, &upstream, json!({"max_in_flight": 100}))).await;
    let held = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&held);
    upstream.answer_with(move |_| vec![Step::Gate(Arc::clone(&gate)), script::chat(MODEL).remove(0)]);
    let mut clients = JoinSet::new();
    for request in 0..1000 {
        let address = gateways[request % 4].address();
        clients.spawn(async move { Client::connect(address).await.exchange(&chat(json!({}))).await.status });
    }
    // Nobody is answered before all that can be refused have been.
    let (mut passed, mut refused) = (0, 0);
    while let Some(status) = clients.join_next().await {
        match status.expect("no panic") {
            200 => passed += 1,
            429 => refused += 1,
            status => panic!("{status}"),
        }
        if refused == 900 && passed == 0 {
            assert_eq!(store.number(TENANT, "n"), 100.0, "the store knows of each");
            held.add_permits(1000);
        }
    }
    assert_eq!((passed, refused), (100, 900));
    eventually("every place to be given back", || async { (store.number(TENANT, "n") == 0.0).then_some(()) })
        .await;
    let metrics = gateways[0].metrics().await;
    assert_eq!(metrics.sum("tollgate_limits_gateways", &[]), 4.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_four_gateways_a_rate_keeps_its_bound() {
    let Some(store) = Valkey::start() else { return };
    let upstream = Upstream::chatting().await;
    let gateways = start(4, &sharing(&store, &upstream, json!({"requests_per_minute": 100}))).await;
    let begin = Instant::now();
    let (passed, refused) = flood(&gateways, 250).await;
    let seconds = begin.elapsed().as_secs_f64();
    // A window, what flows back, and a slice of 5 for each gateway: docs/quotas.md.
    let bound = 100.0 * (1.0 + seconds / 60.0) + 4.0 * 5.0;
    eprintln!("{passed} passed, {refused} were refused in {seconds:.1} s");
    assert!(passed as f64 <= bound, "{passed} in {seconds} s");
    assert!(passed >= 100, "nothing was stranded: {passed}");
    assert_eq!(upstream.count(), passed, "who is refused reaches no server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_asks_once_for_a_slice() {
    let Some(store) = Valkey::start() else { return };
    let upstream = Upstream::chatting().await;
    let tier = json!({"requests_per_minute": 10_000, "tokens_per_minute": 10_000_000, "max_in_flight": 2000});
    // What it tells of conversations is another matter.
    let conf = sharing(&store, &upstream, tier).set("tollgate.scan.behaviour.shared", false);
    let gateways = start(1, &conf).await;
    let mut client = gateways[0].connect().await;
    let before = calls(&store);
    for _ in 0..200 {
        let answer = client.exchange(&chat(json!({}))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.head.get("x-ratelimit-limit-requests"), Some("10000"));
    }
    // One for the first request; the rest is what is told in the background, twenty times a second and no more.
    let trips = calls(&store) - before;
    assert!(trips < 150, "{trips} commands for 200 requests");
    let left = store.number(TENANT, "r0");
    assert!(left > 0.0);
}

/// Scripts that the store has run.
fn calls(store: &Valkey) -> u64 {
    let stats = store.ask("INFO commandstats");
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_are_charged_once_whoever_serves_and_across_restarts() {
    let Some(store) = Valkey::start() else { return };
    let upstream = Upstream::chatting().await;
    let conf = sharing(&store, &upstream, json!({"tokens_per_day": 100_000, "eur_per_month": 1}));
    let mut gateways = start(2, &conf).await;
    for turn in 0..6 {
        assert_eq!(gateways[turn % 2].chat(json!({})).await.status, 200);
    }
    // 7 tokens of input and 3 of output each; 0.9 and 4 EUR per million: in the store in units of 1e-9 EUR.
    let charged = || async {
        let (tokens, money) = (store.number(TENANT, "d"), store.number(TENANT, "m"));
        (tokens == 60.0 && (money - 6.0 * 18_300.0).abs() <= 12.0).then_some(())
    };
    eventually("what was not used to be given back", charged).await;
    gateways[0].records(3).await;
    // Each start takes the day's use from the ledger, as the least that was used.
    let again = gateways[0].killed_and_started_again().await;
    assert_eq!(again.chat(json!({})).await.status, 200);
    eventually("one more to be charged", || async { (store.number(TENANT, "d") == 70.0).then_some(()) })
        .await;
}

/// The places of a gateway that dies are taken back when it has not been heard of for ten seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_dies_holds_nothing_for_ever() {
    let Some(store) = Valkey::start() else { return };
    let upstream = Upstream::playing(vec![Step::Hang]).await;
    let tier = json!({"max_in_flight": 4, "tokens_per_day": 100_000});
    let mut gateways = start(2, &sharing(&store, &upstream, tier)).await;
    let dying = gateways.remove(0);
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let address = dying.address();
        clients.spawn(
            async move { Client::connect(address).await.try_exchange(&chat(json!({}))).await.is_ok() },
        );
    }
    eventually("four to be in work", || async { (upstream.count() == 4).then_some(()) }).await;
    gateways[0].chat(json!({})).await.expect_error(429, "rate_limit_exceeded");
    drop(dying.kill());
    let script = script::chat(MODEL);
    upstream.answer_with(move |_| script.clone());
    eventually("a place to be free", || async {
        (gateways[0].chat(json!({})).await.status == 200).then_some(())
    })
    .await;
    eventually("its reservations to be given back", || async {
        (store.number(TENANT, "d") == 10.0).then_some(())
    })
    .await;
}

/// A stream takes more of a shared budget as it goes, and ends where that does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_where_the_shared_budget_does() {
    let Some(store) = Valkey::start() else { return };
    let upstream = Upstream::chatting().await;
    let tier = json!({"tokens_per_day": 600, "default_max_tokens": 50});
    let gateways = start(2, &sharing(&store, &upstream, tier)).await;
    let script = script::stream(&script::chat_events(MODEL, &["word "; 2000], None));
    upstream.answer_with(move |_| script.clone());
    let mut stream =
        gateways[0].connect().await.open_stream(&chat(json!({"stream": true, "max_tokens": 50}))).await;
    let text = stream.remaining().await.0.concat();
    assert!(text.contains("\"finish_reason\":\"length\""), "{}", &text[text.len() - 300..]);
    eventually("it to be charged", || async {
        let used = store.number(TENANT, "d");
        (used > 590.0 && used <= 602.0).then_some(())
    })
    .await;
    gateways[1].chat(json!({})).await.expect_error(429, "insufficient_quota");
}
