//! Who may come in. Every way of not being known gets one and the same answer, because a difference would tell
//! a guesser which part of the guess was right.

use serde_json::json;

use crate::harness::client::Answer;
use crate::harness::conf::{Conf, KEY, OTHER_KEY};
use crate::harness::gateway::{Gateway, chat};
use crate::harness::request::Request;
use crate::harness::upstream::Upstream;

const EXPIRED: &str = "tg_expired_0000000000000000000000000000000000000000000";
const LEAVING: &str = "tg_leaving_1111111111111111111111111111111111111111111";

fn conf(upstream: &Upstream) -> Conf {
    Conf::to(upstream.address)
        .key(0, "expired", EXPIRED)
        .set("tenants.tenants.0.keys.1.expires", "2020-01-01")
}

fn unauthenticated() -> Request {
    chat(json!({})).without("authorization")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_unknown_credential_gets_the_same_answer() {
    let upstream = Upstream::chatting().await;
    let leaving = conf(&upstream).key(0, "leaving", LEAVING);
    let gateway = Gateway::start(&leaving).await;
    assert_eq!(gateway.exchange(&unauthenticated().key(LEAVING)).await.status, 200, "before it was revoked");
    gateway.reload(&conf(&upstream)).await;

    let wrong_secret = format!("{}Z", &KEY[..KEY.len() - 1]);
    let cases = [
        ("no credential", unauthenticated()),
        ("unknown id", unauthenticated().key("tg_nobody_0123456789abcdefghijABCDEFGHIJ0123456789abc")),
        ("wrong secret", unauthenticated().key(&wrong_secret)),
        ("no secret", unauthenticated().key("tg_main_")),
        ("no id", unauthenticated().key("tg__0123456789abcdefghijABCDEFGHIJ0123456789abc")),
        ("someone else's form", unauthenticated().key("sk-0123456789abcdefghij")),
        ("expired", unauthenticated().key(EXPIRED)),
        ("revoked by a reload", unauthenticated().key(LEAVING)),
        ("another scheme", unauthenticated().field("authorization", &format!("Basic {KEY}"))),
        ("no scheme", unauthenticated().field("authorization", KEY)),
        ("empty", unauthenticated().field("authorization", "Bearer ")),
        ("a letter too many", unauthenticated().key(&format!("{KEY}A"))),
        ("in the query", Request::post(&format!("/v1/chat/completions?api_key={KEY}"), "{}")),
    ];
    let mut first: Option<Answer> = None;
    for (name, request) in cases {
        let answer = gateway.exchange(&request).await;
        answer.expect_error(401, "invalid_api_key");
        let first = first.get_or_insert_with(|| answer.clone());
        assert_eq!(answer.body, first.body, "{name}");
        let names = |answer: &Answer| -> Vec<String> {
            answer.head.fields.iter().map(|(name, _)| name.to_ascii_lowercase()).collect()
        };
        assert_eq!(names(&answer), names(first), "{name}");
    }
    assert_eq!(upstream.count(), 1, "none of them reached the server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_found_where_clients_put_them() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&conf(&upstream)).await;
    let cases = [
        ("Bearer", unauthenticated().key(KEY)),
        ("lower-case bearer", unauthenticated().field("authorization", &format!("bearer {KEY}"))),
        ("shouted bearer", unauthenticated().field("AUTHORIZATION", &format!("BEARER {KEY}"))),
        ("Azure's header", unauthenticated().field("api-key", KEY)),
        ("Anthropic's header", unauthenticated().field("x-api-key", KEY)),
    ];
    for (name, request) in cases {
        let answer = gateway.exchange(&request).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
    for seen in upstream.seen() {
        let text = format!("{:?}", seen.head);
        assert!(!text.contains("0123456789abcdefghij"), "a credential went upstream: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_body_is_not_awaited_before_a_refusal() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&conf(&upstream)).await;
    let mut client = gateway.connect().await;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway.test\r\ncontent-type: application/json\r\n\
                content-length: 1000000\r\n\r\n";
    client.send(head.as_bytes()).await.expect("sent");
    client.answer().await.expect("an answer before the body").expect_error(401, "invalid_api_key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_works_from_its_networks_only() {
    let upstream = Upstream::chatting().await;
    let elsewhere =
        conf(&upstream).set("tenants.tenants.0.source_networks", json!(["192.0.2.0/24", "2001:db8::/32"]));
    let gateway = Gateway::start(&elsewhere).await;
    let error = gateway.chat(json!({})).await.expect_error(403, "source_address_denied");
    assert_eq!(error["type"], "permission_error");
    // What a client claims about its address counts for nothing.
    let claimed = chat(json!({})).field("x-forwarded-for", "192.0.2.7").field("x-real-ip", "192.0.2.7");
    gateway.exchange(&claimed).await.expect_error(403, "source_address_denied");
    gateway.reload(&conf(&upstream).set("tenants.tenants.0.source_networks", json!(["127.0.0.0/8"]))).await;
    assert_eq!(gateway.chat(json!({})).await.status, 200);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_a_key_may_not_use_does_not_exist_for_it() {
    let upstream = Upstream::chatting().await;
    let narrow = conf(&upstream).set("tenants.tenants.0.keys.0.models", json!(["org/*"]));
    let gateway = Gateway::start(&narrow).await;
    let denied = gateway.chat(json!({})).await;
    denied.expect_error(404, "model_not_found");
    let unknown = gateway.chat(json!({"model": "no-such-model"})).await;
    let error = unknown.expect_error(404, "model_not_found");
    assert_eq!(error["param"], "model");
    let same_but_name = denied.text().replace("test-model", "no-such-model");
    assert_eq!(same_but_name, unknown.text(), "the two cannot be told apart");
    assert_eq!(gateway.chat(json!({"model": "org/slash-model"})).await.status, 200);
    let hidden = chat(json!({"model": "hidden-model"})).without("authorization");
    gateway.exchange(&hidden.clone().key(KEY)).await.expect_error(404, "model_not_found");
    assert_eq!(gateway.exchange(&hidden.key(OTHER_KEY)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_is_slowed_and_honest_requests_are_not() {
    let upstream = Upstream::chatting().await;
    let slowing = conf(&upstream)
        .set("tollgate.auth.failures_per_minute", 3)
        .set("tollgate.auth.failure_delay_max_ms", 400);
    let gateway = Gateway::start(&slowing).await;
    let guess = unauthenticated().key("tg_nobody_0123456789abcdefghijABCDEFGHIJ0123456789abc");
    let mut slowest = std::time::Duration::ZERO;
    for _ in 0..10 {
        let start = std::time::Instant::now();
        gateway.exchange(&guess).await.expect_error(401, "invalid_api_key");
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest.as_millis() >= 100, "ten guesses were answered within {slowest:?} each");
    let start = std::time::Instant::now();
    assert_eq!(gateway.chat(json!({})).await.status, 200);
    assert!(start.elapsed() < slowest, "a right key from the same address waits {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_calls_what_it_may_call_from_where_it_may_come() {
    const NARROW: &str = "tg_narrow_2222222222222222222222222222222222222222222";
    let upstream = Upstream::chatting().await;
    let narrow = |endpoints: &[&str], networks: &[&str], expires: &str| {
        conf(&upstream)
            .key(0, "narrow", NARROW)
            .set("tenants.tenants.0.keys.2.endpoints", json!(endpoints))
            .set("tenants.tenants.0.keys.2.source_networks", json!(networks))
            .set("tenants.tenants.0.keys.2.expires", expires)
    };
    let gateway = Gateway::start(&narrow(&["models"], &[], "2999-12-31T00:00:00Z")).await;
    let chat = unauthenticated().key(NARROW);
    let list = Request::get("/v1/models").key(NARROW);
    let one = Request::get("/v1/models/test-model").key(NARROW);
    let error = gateway.exchange(&chat).await.expect_error(403, "endpoint_not_allowed");
    assert_eq!(error["type"], "permission_error");
    assert!(error["message"].as_str().is_some_and(|text| text.contains("`chat_completions`")), "{error}");
    assert_eq!(gateway.exchange(&list).await.status, 200);
    assert_eq!(gateway.exchange(&one).await.status, 200);
    assert_eq!(gateway.chat(json!({})).await.status, 200, "another key of the tenant is not narrowed");

    gateway.reload(&narrow(&["chat_completions"], &["127.0.0.0/8"], "2999-12-31")).await;
    assert_eq!(gateway.exchange(&chat).await.status, 200);
    gateway.exchange(&list).await.expect_error(403, "endpoint_not_allowed");
    gateway.reload(&narrow(&["chat_completions"], &["192.0.2.0/24"], "2999-12-31")).await;
    gateway.exchange(&chat).await.expect_error(403, "source_address_denied");
    gateway.reload(&narrow(&["chat_completions"], &[], "2020-12-31T18:00:00+01:00")).await;
    gateway.exchange(&chat).await.expect_error(401, "invalid_api_key");
}
