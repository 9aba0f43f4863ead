//! A new configuration takes effect whole, between two requests, or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tokio::sync::Semaphore;

use crate::harness::client::Next;
use crate::harness::conf::{Conf, MODEL};
use crate::harness::gateway::{Gateway, chat};
use crate::harness::script;
use crate::harness::upstream::Upstream;
use crate::harness::{eventually, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_dropped_and_running_streams_go_on() {
    let gate = Arc::new(Semaphore::new(1));
    let events = script::chat_events(MODEL, &["a ", "b ", "c "], None);
    let old = Upstream::playing(script::gated_stream(&events, &gate)).await;
    let new = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(old.address)).await;
    let mut stream = gateway.connect().await.open_stream(&chat(json!({"stream": true}))).await;
    assert_eq!(stream.event().await, events[0]);

    gateway.reload(&Conf::to(new.address)).await;
    assert_eq!(gateway.chat(json!({})).await.status, 200);
    assert_eq!((old.count(), new.count()), (1, 1), "new requests go to the new server");

    let over = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut client = gateway.connect().await;
        let over = Arc::clone(&over);
        clients.spawn(async move {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                let answer = client.exchange(&chat(json!({}))).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                count += 1;
            }
            count
        });
    }
    for round in 0..20 {
        gateway.reload(&Conf::to(new.address).set("upstreams.pools.0.retry.attempts", 1 + round % 3)).await;
    }
    over.store(true, Ordering::Relaxed);
    let counts = clients.join_all().await;
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");

    gate.add_permits(events.len());
    let (rest, end) = stream.remaining().await;
    assert_eq!((rest.as_slice(), end), (&events[1..], Next::End), "the old stream kept its server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_changes_nothing_and_is_reported() {
    let upstream = Upstream::chatting().await;
    let good = Conf::to(upstream.address);
    let gateway = Gateway::start(&good).await;
    let bad = good.clone().set("tollgate.limits.json_depth", -5).set("upstreams.pools.0.unknown_key", 1);
    gateway.reload(&bad).await;
    assert_eq!(gateway.chat(json!({})).await.status, 200);
    let log = gateway.log();
    for fault in ["limits.json_depth", "unknown_key"] {
        assert!(log.contains(fault), "the log names {fault}:\n{log}");
    }
    let failed = gateway.metrics().await;
    let failures = |metrics: &crate::harness::metrics::Metrics| {
        let is_failure =
            |label: &String| label.contains("fail") || label.contains("reject") || label == "error";
        let named = metrics.samples.iter().filter(|sample| sample.name == "tollgate_config_reloads_total");
        named.filter(|sample| sample.labels.values().any(is_failure)).map(|sample| sample.value).sum::<f64>()
    };
    assert!((failures(&failed) - 1.0).abs() < f64::EPSILON, "{:?}", failed.samples);

    std::fs::write(gateway.folder().join("tenants.yaml"), "tenants: [").expect("written");
    gateway.hang_up().await;
    assert_eq!(gateway.chat(json!({})).await.status, 200);

    // All or nothing: what was good in the bad set has not been taken either.
    gateway.reload(&good.clone().set("tenants.tenants.0.models", json!(["org/*"]))).await;
    gateway.chat(json!({})).await.expect_error(404, "model_not_found");
    assert!((failures(&gateway.metrics().await) - 2.0).abs() < f64::EPSILON);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_file_is_noticed_when_watched() {
    let upstream = Upstream::chatting().await;
    let watched =
        Conf::to(upstream.address).set("tollgate.reload", json!({"watch": true, "interval_ms": 50}));
    let gateway = Gateway::start(&watched).await;
    assert_eq!(gateway.chat(json!({})).await.status, 200);
    watched.set("tenants.tenants.0.models", json!(["org/*"])).write(gateway.folder());
    eventually("the change to be noticed", || async {
        (gateway.chat(json!({})).await.status == 404).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_configuration_does_not_start() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let run = |command: &str| {
        let mut process = crate::harness::gateway::binary();
        process.arg(command).arg("--conf").arg(gateway.folder()).output().expect("runs")
    };
    let good = run("check");
    assert_eq!(good.status.code(), Some(0), "{}", String::from_utf8_lossy(&good.stderr));
    let resolved = String::from_utf8_lossy(&good.stdout).into_owned();
    assert!(
        !resolved.contains("0123456789abcdefghij") && !resolved.contains("unguessable-pepper"),
        "{resolved}"
    );
    let bad = Conf::to(upstream.address)
        .set("tollgate.limits.json_depth", -5)
        .set("tenants.tenants.0.tier", "no-such-tier")
        .set("upstreams.pools.0.servers.0.address", "nonsense");
    bad.write(gateway.folder());
    for command in ["check", "run"] {
        let output = run(command);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        for (file, fault) in
            [("tollgate.yaml", "limits.json_depth"), ("tenants.yaml", "tier"), ("upstreams.yaml", "address")]
        {
            assert!(
                said.contains(file) && said.contains(fault),
                "{command} names {fault} in {file}:\n{said}"
            );
        }
    }
}

/// A server that had not been checked yet made the whole gateway unready: a load balancer took it out at the moment
/// that capacity was added, and for as long as the new server kept silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_server_that_is_silent_does_not_make_the_gateway_unready() {
    let upstream = Upstream::chatting().await;
    // It accepts, and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let conf = Conf::to(upstream.address).set("upstreams.pools.0.health.timeout_ms", 60_000);
    let gateway = Gateway::start(&conf).await;
    let added = conf.server(silent.local_addr().expect("bound"));
    gateway.reload(&added).await;
    let in_use = gateway.metrics().await;
    let is_known =
        |name: &str| in_use.samples.iter().any(|s| s.labels.get("server").is_some_and(|l| l == name));
    assert!(is_known("s0") && is_known("s1"), "the new server is there");
    // Its check is under way, and the other's go on.
    let held = within("a health check", silent.accept()).await.expect("a connection");
    for _ in 0..5 {
        assert_eq!(gateway.admin("/readyz").await.status, 200);
        upstream.more_probes(2).await;
    }
    drop(held);
}
