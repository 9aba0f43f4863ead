//! The store is killed, stopped in its tracks, and started again, under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use super::{TENANT, flood, sharing, start, until_store};
use crate::harness::client::{Answer, Client};
use crate::harness::conf::KEY;
use crate::harness::eventually;
use crate::harness::gateway::{Gateway, chat};
use crate::harness::request::Request;
use crate::harness::upstream::Upstream;
use crate::harness::valkey::Valkey;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_store_killed_each_gateway_has_its_part() {
    let Some(mut store) = Valkey::start() else { return };
    let upstream = Upstream::chatting().await;
    let gateways = start(2, &sharing(&store, &upstream, json!({"requests_per_minute": 40}))).await;
    for gateway in &gateways {
        eventually("the gateways to know each other", || async {
            (gateway.metrics().await.sum("tollgate_limits_gateways", &[]) > 1.5).then_some(())
        })
        .await;
    }
    store.kill();
    for gateway in &gateways {
        until_store(gateway, false).await;
    }
    let begin = Instant::now();
    let (passed, _) = flood(&gateways, 60).await;
    let bound = 40.0 * (1.0 + begin.elapsed().as_secs_f64() / 60.0);
    assert!(passed >= 40 && passed as f64 <= bound, "{passed} of two parts of 20");
    let metrics = gateways[0].metrics().await;
    assert!(metrics.sum("tollgate_limits_store_errors", &[]) > 0.0);
    store.restart();
    for gateway in &gateways {
        until_store(gateway, true).await;
        assert_eq!(gateway.chat(json!({})).await.status, 200, "the store has a minute's worth");
    }
    assert!(store.number(TENANT, "r0") > 0.0, "it is asked again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_limits_refuse_while_the_store_is_away() {
    let Some(mut store) = Valkey::start() else { return };
    let upstream = Upstream::chatting().await;
    let conf = sharing(&store, &upstream, json!({"requests_per_minute": 1000}));
    let closed = start(1, &conf.clone().set("tollgate.limits.shared.when_down", "closed")).await;
    let tier = conf.clone().set("tiers.tiers.0.when_store_down", "closed");
    let by_tier = start(1, &tier).await;
    let open_tier =
        conf.set("tollgate.limits.shared.when_down", "closed").set("tiers.tiers.0.when_store_down", "open");
    let open = start(1, &open_tier).await;
    let all = || closed.iter().chain(&by_tier).chain(&open);
    for gateway in all() {
        assert_eq!(gateway.chat(json!({})).await.status, 200);
    }
    store.kill();
    for gateway in all() {
        until_store(gateway, false).await;
    }
    for gateway in closed.iter().chain(&by_tier) {
        let answer = gateway.chat(json!({})).await;
        answer.expect_error(503, "overloaded");
        assert_eq!(answer.head.get("retry-after"), Some("1"));
    }
    assert_eq!(open[0].chat(json!({})).await.status, 200);
    store.restart();
    for gateway in all() {
        until_store(gateway, true).await;
        assert_eq!(gateway.chat(json!({})).await.status, 200);
    }
}

/// A store that does not answer costs one wait, not one for each request; and what it reads once it goes on is either
/// counted once or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_stopped_in_its_tracks_is_waited_for_once() {
    let Some(store) = Valkey::start() else { return };
    let upstream = Upstream::chatting().await;
    // Every request takes more than a slice, so every one would ask.
    let tier = json!({"max_in_flight": 10, "tokens_per_day": 3000, "default_max_tokens": 200});
    let conf = sharing(&store, &upstream, tier).set("tollgate.limits.shared.timeout_ms", 400);
    let gateways = start(1, &conf).await;
    assert_eq!(gateways[0].chat(json!({})).await.status, 200);
    store.freeze();
    let mut waiting = JoinSet::new();
    for _ in 0..5 {
        let address = gateways[0].address();
        waiting.spawn(async move { Client::connect(address).await.exchange(&chat(json!({}))).await.status });
    }
    while let Some(status) = waiting.join_next().await {
        assert_eq!(status.expect("no panic"), 200, "they go on with this gateway's part");
    }
    until_store(&gateways[0], false).await;
    let begin = Instant::now();
    for _ in 0..20 {
        assert_eq!(gateways[0].chat(json!({})).await.status, 200);
    }
    let took = begin.elapsed();
    assert!(took < Duration::from_millis(20 * 400 / 2), "nobody waits for it any more: {took:?}");
    store.thaw();
    until_store(&gateways[0], true).await;
    // Another time for so long that the connection is given up.
    store.freeze();
    until_store(&gateways[0], false).await;
    eventually("the connection to be given up", || async {
        gateways[0].log().contains("the store is away: no answer within 1s").then_some(())
    })
    .await;
    store.thaw();
    until_store(&gateways[0], true).await;
    // 26 requests of 10 tokens, whatever of it was served without the store.
    eventually("the store to have counted each once", || async {
        let (tokens, places) = (store.number(TENANT, "d"), store.number(TENANT, "n"));
        (tokens == 260.0 && places == 0.0).then_some(())
    })
    .await;
    // What has been idle for a second is forgotten here, and counted on there.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(gateways[0].chat(json!({})).await.status, 200);
    eventually("one more to be counted", || async { (store.number(TENANT, "d") == 270.0).then_some(()) })
        .await;
}

/// Twenty times the store is killed while requests come: with limits that have room none fails, and none waits for
/// longer than it may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_keep_flowing_while_the_store_is_killed_again_and_again() {
    let Some(mut store) = Valkey::start() else { return };
    let upstream = Upstream::chatting().await;
    let tier = json!({"max_in_flight": 100, "requests_per_minute": 1_000_000, "tokens_per_day": 100_000_000});
    let gateways: Arc<Vec<Gateway>> = Arc::new(start(2, &sharing(&store, &upstream, tier)).await);
    let (is_over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for number in 0..6 {
        let (is_over, served) = (Arc::clone(&is_over), Arc::clone(&served));
        let address = gateways[number % 2].address();
        clients.spawn(async move {
            let mut client = Client::connect(address).await;
            while !is_over.load(Ordering::Relaxed) {
                let answer = client.exchange(&chat(json!({}))).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let goes_on = async |more: usize| {
        let goal = served.load(Ordering::Relaxed) + more;
        eventually("requests to go on", || async { (served.load(Ordering::Relaxed) >= goal).then_some(()) })
            .await;
    };
    for _ in 0..20 {
        goes_on(10).await;
        store.kill();
        goes_on(10).await;
        store.restart();
        for gateway in gateways.iter() {
            until_store(gateway, true).await;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    while let Some(done) = clients.join_next().await {
        done.expect("every request was served");
    }
    eventually("every place to be given back", || async { (store.number(TENANT, "n") == 0.0).then_some(()) })
        .await;
}

/// What headers say is left is what this gateway then lets pass, also while it goes by its part.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_tell_what_is_left_of_a_part() {
    let Some(mut store) = Valkey::start() else { return };
    let upstream = Upstream::chatting().await;
    let tier = json!({"requests_per_minute": 1000, "tokens_per_day": 1000});
    let gateways = start(2, &sharing(&store, &upstream, tier)).await;
    let request = chat(json!({"max_tokens": 3}));
    let told = |answer: &Answer| {
        ["limit-requests", "remaining-requests", "limit-tokens", "remaining-tokens"]
            .map(|name| number(answer, &format!("x-ratelimit-{name}")))
    };
    for gateway in &gateways {
        until_store(gateway, true).await;
        eventually("the gateways to know each other", || async {
            (gateway.metrics().await.sum("tollgate_limits_gateways", &[]) > 1.5).then_some(())
        })
        .await;
        for _ in 0..10 {
            assert_eq!(gateway.exchange(&request).await.status, 200);
        }
    }
    store.kill();
    for gateway in &gateways {
        until_store(gateway, false).await;
        // An answer that takes nothing tells it too.
        let models = gateway.exchange(&Request::get("/v1/models").key(KEY)).await;
        let [limit, requests, day, mut tokens] = told(&models);
        assert_eq!((limit, day), (500, 1000), "a part of the rate; of a budget what is left of it");
        // Half of what the store had left when this gateway last asked, when the other one had used nothing or its 100.
        assert!(requests > 400 && (300..=450).contains(&tokens), "{requests}, {tokens}");
        // It reserves six, and comes to seven of input and three of output.
        while tokens >= 6 {
            let answer = gateway.exchange(&request).await;
            assert_eq!(answer.status, 200, "{tokens} are left: {}", answer.text());
            let [_, more_requests, _, left] = told(&answer);
            assert_eq!(left, tokens - 6, "it is told after each");
            assert!(more_requests < 500);
            tokens = tokens.saturating_sub(10);
        }
        let refused = gateway.exchange(&request).await;
        refused.expect_error(503, "overloaded");
        assert_eq!(told(&refused)[3], tokens, "nothing was taken");
    }
    store.restart();
    for gateway in &gateways {
        until_store(gateway, true).await;
    }
}

fn number(answer: &Answer, header: &str) -> u64 {
    let value = answer.head.get(header).unwrap_or_else(|| panic!("no {header}: {:?}", answer.head));
    value.parse().unwrap_or_else(|_| panic!("{header}: {value:?}"))
}

/// Each limit says for itself what becomes of requests: that of a key, and that of some models.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_keys_and_models_are_open_or_closed_for_themselves() {
    let Some(mut store) = Valkey::start() else { return };
    let upstream = Upstream::chatting().await;
    let with = |tier| sharing(&store, &upstream, tier);
    let of_key = json!({"requests_per_minute": 1000,
        "per_key": {"requests_per_minute": 1000, "when_store_down": "closed"}});
    let of_model = json!({"requests_per_minute": 1000,
        "per_model": [{"model": "test-embed", "requests_per_minute": 1000, "when_store_down": "closed"}]});
    let of_key = Gateway::start(&with(of_key)).await;
    let of_model = Gateway::start(&with(of_model)).await;
    let embed =
        Request::post("/v1/embeddings", json!({"model": "test-embed", "input": "x"}).to_string()).key(KEY);
    for gateway in [&of_key, &of_model] {
        until_store(gateway, true).await;
        assert_eq!(gateway.chat(json!({})).await.status, 200);
    }
    store.kill();
    for gateway in [&of_key, &of_model] {
        until_store(gateway, false).await;
    }
    let refused = of_key.chat(json!({})).await;
    refused.expect_error(503, "overloaded");
    assert_eq!(refused.head.get("x-ratelimit-remaining-requests"), Some("0"), "nothing is to be had");
    of_model.exchange(&embed).await.expect_error(503, "overloaded");
    assert_eq!(of_model.chat(json!({})).await.status, 200, "another model is open");
    store.restart();
    for gateway in [&of_key, &of_model] {
        until_store(gateway, true).await;
    }
    assert_eq!(of_key.chat(json!({})).await.status, 200);
    assert_ne!(of_model.exchange(&embed).await.status, 503);
}
