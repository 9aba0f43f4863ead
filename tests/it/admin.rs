//! The admin listener: what a scraper and a load balancer read.

use serde_json::json;

use crate::harness::conf::Conf;
use crate::harness::gateway::{Gateway, chat};
use crate::harness::request::Request;
use crate::harness::upstream::Upstream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_well_formed_and_move() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let before = gateway.metrics().await;
    for _ in 0..5 {
        gateway.chat(json!({"stream": true})).await;
    }
    gateway.exchange(&chat(json!({})).without("authorization")).await;
    gateway.records(6).await;
    let text = gateway.admin("/metrics").await;
    assert!(
        text.head.get("content-type").is_some_and(|kind| kind.starts_with("text/plain")),
        "{:?}",
        text.head
    );
    let after = gateway.metrics().await;
    let requests = after.sum("tollgate_requests_total", &[]) - before.sum("tollgate_requests_total", &[]);
    assert!((requests - 6.0).abs() < f64::EPSILON, "{requests} requests");
    for sample in &after.samples {
        let family = sample
            .name
            .strip_suffix("_bucket")
            .or_else(|| sample.name.strip_suffix("_sum"))
            .or_else(|| sample.name.strip_suffix("_count"))
            .filter(|family| after.typed.get(*family).is_some_and(|kind| kind == "histogram"))
            .unwrap_or(&sample.name);
        assert!(after.typed.contains_key(family), "{family} has no type");
        assert!(after.explained.contains(family), "{family} is not explained");
        assert!(family.starts_with("tollgate_") || family.starts_with("process_"), "{family}");
        if after.typed[family] == "counter" {
            assert!(family.ends_with("_total"), "counter {family}");
            assert!(sample.value >= 0.0, "{sample:?}");
        }
    }
    let distinct: std::collections::BTreeSet<String> =
        after.samples.iter().map(|sample| format!("{} {:?}", sample.name, sample.labels)).collect();
    assert_eq!(distinct.len(), after.samples.len(), "a series came twice");
    assert!(after.sum_like("tokens") > before.sum_like("tokens"), "tokens are counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_come_from_closed_sets() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let series = async || gateway.metrics().await.samples.len();
    gateway.chat(json!({"model": "invented-0"})).await;
    gateway.exchange(&Request::get("/invented/0")).await;
    gateway.exchange(&chat(json!({})).without("authorization").key("tg_invented0_x")).await;
    // A request is counted when it settles, which is after its answer.
    gateway.records(3).await;
    let before = series().await;
    for number in 1..30 {
        gateway.chat(json!({"model": format!("invented-{number}")})).await;
        gateway.exchange(&Request::get(&format!("/invented/{number}"))).await;
        gateway
            .exchange(&chat(json!({})).without("authorization").key(&format!("tg_invented{number}_x")))
            .await;
    }
    gateway.records(90).await;
    assert!(series().await <= before + 3, "{before} series became {}", series().await);
    assert!(!gateway.admin("/metrics").await.text().contains("invented"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_of_the_process_and_readiness_of_the_service() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    assert_eq!(gateway.admin("/healthz").await.status, 200);
    assert_eq!(gateway.admin("/readyz").await.status, 200);
    assert_eq!(gateway.admin("/nothing").await.status, 404);
    assert_eq!(gateway.admin("/v1/models").await.status, 404, "the data plane is elsewhere");
    upstream.kill().await;
    gateway.until_health("s0", false).await;
    assert_eq!(gateway.admin("/healthz").await.status, 200, "the process is fine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_checks_go_on_without_traffic() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    upstream.more_probes(5).await;
    assert_eq!(upstream.count(), 0);
    gateway.until_health("s0", true).await;
}
