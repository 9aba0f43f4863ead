//! Bodies of every size, framing and protocol reach the server whole, also on the second server after the first
//! has failed; bodies that must not pass are answered and not reset.
//!
//! The sizes lie around 64 KiB because frameworks keep that much for a retry: one byte more is where they hang.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::conf::{Conf, KEY, MODEL};
use crate::harness::gateway::{Gateway, chat};
use crate::harness::h2::ClientH2;
use crate::harness::request::Request;
use crate::harness::script;
use crate::harness::upstream::Upstream;
use crate::harness::upstream_h2::UpstreamH2;

const KIB: usize = 1024;
const SIZES: [usize; 11] = [
    100,
    4 * KIB,
    64 * KIB - 1,
    64 * KIB,
    64 * KIB + 1,
    128 * KIB - 1,
    128 * KIB,
    128 * KIB + 1,
    1000 * KIB,
    8 * KIB * KIB,
    32 * KIB * KIB,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framed {
    Length,
    Chunked,
    H2,
}

/// A chat request of exactly `size` bytes.
fn sized(size: usize) -> Vec<u8> {
    let frame = format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":""}}]}}"#);
    let at = frame.len() - r#""}]}"#.len();
    let mut body = frame.into_bytes();
    // Not one letter over and over: a piece that went missing or came twice would not show.
    let filling: Vec<u8> =
        (0..size - body.len()).map(|i| b'a' + u8::try_from(i % 23).expect("small")).collect();
    body.splice(at..at, filling);
    assert_eq!(body.len(), size);
    body
}

async fn send(gateway: &Gateway, body: Vec<u8>, framed: Framed) -> u16 {
    let request = Request::post("/v1/chat/completions", body).key(KEY);
    match framed {
        Framed::Length => gateway.exchange(&request).await.status,
        Framed::Chunked => gateway.exchange(&request.chunked(50_000)).await.status,
        Framed::H2 => ClientH2::connect(gateway.address()).await.exchange(&request).await.status,
    }
}

fn large(conf: Conf) -> Conf {
    conf.set("tollgate.limits.request_body_bytes", 33 * KIB * KIB)
        .set("tollgate.scan.budget_bytes", 33 * KIB * KIB)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_size_and_framing_reaches_an_http_1_server() {
    let upstream = Upstream::playing(script::chat(MODEL)).await;
    let gateway = Gateway::start(&large(Conf::to(upstream.address))).await;
    let mut count = 0;
    for framed in [Framed::Length, Framed::Chunked, Framed::H2] {
        for size in SIZES {
            let body = sized(size);
            assert_eq!(send(&gateway, body.clone(), framed).await, 200, "{size} bytes, {framed:?}");
            count += 1;
            let seen = upstream.request(count).await;
            assert!(seen.body == body, "{size} bytes, {framed:?}: {} came", seen.body.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_size_and_framing_reaches_an_http_2_server() {
    let upstream = UpstreamH2::start().await;
    let conf = Conf::new().server_with(upstream.address, json!({"http2": true}));
    let gateway = Gateway::start(
        &large(conf).set("upstreams.pools.0.health", json!({"probe": "tcp", "interval_ms": 50})),
    )
    .await;
    let mut count = 0;
    for framed in [Framed::Length, Framed::Chunked, Framed::H2] {
        for size in SIZES {
            let body = sized(size);
            assert_eq!(send(&gateway, body.clone(), framed).await, 200, "{size} bytes, {framed:?}");
            count += 1;
            let seen = upstream.seen();
            assert_eq!(seen.len(), count, "{size} bytes, {framed:?}");
            let last = seen.last().expect("just counted");
            assert!(last.body == body, "{size} bytes, {framed:?}: {} came", last.body.len());
            assert!(!last.headers.contains_key("authorization"), "{framed:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_size_and_framing_survives_a_failing_first_server() {
    let failing = Upstream::playing(script::error_answer(500)).await;
    let good = Upstream::playing(script::chat(MODEL)).await;
    // The weight sends nearly every first try to the failing server; nothing may eject it.
    let conf = Conf::new()
        .server_with(failing.address, json!({"weight": 100}))
        .server(good.address)
        .set("upstreams.pools.0.passive.failures", 0);
    let gateway = Gateway::start(&large(conf)).await;
    let mut count = 0;
    for framed in [Framed::Length, Framed::Chunked, Framed::H2] {
        for size in SIZES {
            let body = sized(size);
            assert_eq!(send(&gateway, body.clone(), framed).await, 200, "{size} bytes, {framed:?}");
            count += 1;
            let seen = good.request(count).await;
            assert!(seen.body == body, "{size} bytes, {framed:?}: {} came", seen.body.len());
        }
    }
    assert!(failing.count() > count / 2, "the failing server was asked first only {} times", failing.count());
    assert!(
        failing.seen().iter().all(|seen| serde_json::from_slice::<serde_json::Value>(&seen.body).is_ok())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_byte_bodies_are_read_and_refused() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    for framed in [Framed::Length, Framed::Chunked, Framed::H2] {
        assert_eq!(send(&gateway, b"{".to_vec(), framed).await, 400, "{framed:?}");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_the_limit_is_answered_in_every_framing() {
    let upstream = Upstream::chatting().await;
    let limit = 100 * KIB;
    let gateway =
        Gateway::start(&Conf::to(upstream.address).set("tollgate.limits.request_body_bytes", limit)).await;
    for framed in [Framed::Length, Framed::Chunked, Framed::H2] {
        assert_eq!(send(&gateway, sized(limit), framed).await, 200, "{framed:?}, exactly the limit");
        for size in [limit + 1, 64 * KIB * KIB] {
            assert_eq!(send(&gateway, sized(size), framed).await, 413, "{framed:?}, {size} bytes");
        }
    }
    let answer = gateway.exchange(&Request::post("/v1/chat/completions", sized(limit + 1)).key(KEY)).await;
    let error = answer.expect_error(413, "request_too_large");
    assert!(error["message"].as_str().is_some_and(|text| text.contains(&limit.to_string())), "{error}");
    assert_eq!(upstream.count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_announced_giant_is_refused_before_it_is_sent() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    for length in ["99999999999", "18446744073709551615"] {
        let mut client = gateway.connect().await;
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway.test\r\nauthorization: Bearer {KEY}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        client.send(head.as_bytes()).await.expect("sent");
        client.answer().await.expect("an answer before the body").expect_error(413, "request_too_large");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_trickles_is_timed_out_as_a_whole() {
    let upstream = Upstream::chatting().await;
    let gateway =
        Gateway::start(&Conf::to(upstream.address).set("tollgate.timeouts.request_body_ms", 600)).await;
    let request = chat(json!({}));
    let mut client = gateway.connect().await;
    client.send(&request.head_bytes()).await.expect("sent");
    let start = Instant::now();
    // A byte each 100 ms keeps any deadline between two reads alive; only one over the whole body ends this.
    let trickle = async {
        for byte in request.body_bytes() {
            if client.send(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            if start.elapsed() > Duration::from_millis(1500) {
                break;
            }
        }
    };
    trickle.await;
    client.answer().await.expect("an answer").expect_error(408, "request_timeout");
    let records = gateway.records(1).await;
    let duration = records[0]["duration_ms"].as_f64().expect("a number");
    assert!((500.0..1400.0).contains(&duration), "{duration} ms");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_no_request_are_refused_with_the_reason() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address).set("tollgate.limits.json_depth", 32)).await;
    let deep = format!(r#"{{"model":"{MODEL}","x":{}1{}}}"#, "[".repeat(40), "]".repeat(40));
    let abyss = format!(r#"{{"model":"{MODEL}","x":{}"#, "[".repeat(500_000));
    let cases: [(&str, &str, &str); 17] = [
        ("empty", "", "invalid_json"),
        ("not JSON", "hello", "invalid_json"),
        ("cut", r#"{"model":"test-model""#, "invalid_json"),
        ("two values", r#"{"model":"test-model"}{}"#, "invalid_json"),
        ("a comma too many", r#"{"model":"test-model",}"#, "invalid_json"),
        ("single quotes", "{'model':'test-model'}", "invalid_json"),
        ("a bare control byte", "{\"model\":\"test-model\",\"x\":\"a\nb\"}", "invalid_json"),
        ("NaN", r#"{"model":"test-model","x":NaN}"#, "invalid_json"),
        ("a byte order mark", "\u{feff}{\"model\":\"test-model\"}", "invalid_json"),
        ("too deep", &deep, "invalid_json"),
        ("an abyss", &abyss, "invalid_json"),
        ("no model", r#"{"messages":[]}"#, "missing_model"),
        ("an empty model", r#"{"model":"","messages":[]}"#, "missing_model"),
        ("null for a model", r#"{"model":null,"messages":[]}"#, "missing_model"),
        ("stream as text", r#"{"model":"test-model","stream":"yes","messages":[]}"#, "unsupported_value"),
        ("a negative cap", r#"{"model":"test-model","max_tokens":-1,"messages":[]}"#, "unsupported_value"),
        (
            "too many choices",
            r#"{"model":"test-model","n":9223372036854775807,"messages":[]}"#,
            "unsupported_value",
        ),
    ];
    for (name, body, code) in cases {
        let answer = gateway.exchange(&Request::post("/v1/chat/completions", body).key(KEY)).await;
        assert_eq!(answer.status, 400, "{name}: {}", answer.text());
        let error = answer.expect_error(400, code);
        assert_eq!(error["type"], "invalid_request_error", "{name}");
    }
    for (name, body) in
        [("an array", "[]"), ("a text", r#""model""#), ("a number as model", r#"{"model":5}"#)]
    {
        let answer = gateway.exchange(&Request::post("/v1/chat/completions", body).key(KEY)).await;
        assert_eq!(answer.status, 400, "{name}: {}", answer.text());
    }
    let invalid_utf8 = [&br#"{"model":"test-model","x":""#[..], &[0xff, 0xfe], br#""}"#].concat();
    let answer = gateway.exchange(&Request::post("/v1/chat/completions", invalid_utf8).key(KEY)).await;
    answer.expect_error(400, "invalid_json");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_types_that_cannot_be_read_are_refused() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let refused = [
        chat(json!({})).field("content-encoding", "gzip"),
        chat(json!({})).without("content-type").field("content-type", "text/plain"),
        chat(json!({})).without("content-type").field("content-type", "application/x-www-form-urlencoded"),
    ];
    for request in refused {
        gateway.exchange(&request).await.expect_error(415, "unsupported_media_type");
    }
    let accepted = [
        chat(json!({})).without("content-type").field("content-type", "application/json; charset=utf-8"),
        chat(json!({})).without("content-type").field("Content-Type", "Application/JSON"),
        chat(json!({})).field("content-encoding", "identity"),
    ];
    for request in accepted {
        let answer = gateway.exchange(&request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_waits_for_leave_gets_it() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let request = chat(json!({})).field("expect", "100-continue");
    let mut client = gateway.connect().await;
    client.send(&request.head_bytes()).await.expect("sent");
    assert_eq!(client.head().await.expect("leave to go on").status(), 100);
    client.send(&request.body_bytes()).await.expect("sent");
    assert_eq!(client.answer().await.expect("an answer").status, 200);
    assert_eq!(upstream.request(1).await.head.get("expect"), None);
    // No leave for what will be refused anyway.
    let mut client = gateway.connect().await;
    client.send(&request.without("authorization").head_bytes()).await.expect("sent");
    assert_eq!(client.head().await.expect("a refusal").status(), 401);
}

/// Go's JSON reader, which Ollama uses, takes `Model` for `model`: the server would run a model that the gateway has
/// neither checked nor charged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_decides_in_another_case_is_refused() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let cases = [
        r#""model":"test-model","Model":"hidden-model""#,
        r#""Model":"hidden-model","model":"test-model""#,
        r#""model":"test-model","\u004dODEL":"hidden-model""#,
        r#""model":"test-model","MAX_TOKENS":100000"#,
        "\"model\":\"test-model\",\"max_to\u{212a}ens\":100000",
        "\"model\":\"test-model\",\"\u{17f}tream\":true",
        r#""model":"test-model","N":64"#,
    ];
    for keys in cases {
        let body = format!(r#"{{{keys},"messages":[{{"role":"user","content":"x"}}]}}"#);
        let answer = gateway.exchange(&Request::post("/v1/chat/completions", body).key(KEY)).await;
        assert_eq!(answer.status, 400, "{keys}: {}", answer.text());
        answer.expect_error(400, "unsupported_value");
    }
    assert_eq!(upstream.count(), 0);
    // Keys inside other values are data.
    let inner = json!({"metadata": {"Model": "x", "MODEL": "y"}, "user": "Model"});
    assert_eq!(gateway.chat(inner).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_depth_are_refused_whatever_their_size() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let mut dice = crate::harness::Dice::new(18);
    let noise: Vec<u8> = (0..100_000).map(|_| u8::try_from(dice.below(256)).expect("a byte")).collect();
    let garbage = Request::post("/v1/chat/completions", noise.repeat(1000)).key(KEY);
    for garbage in [garbage.clone(), garbage.chunked(1 << 20)] {
        gateway.exchange(&garbage).await.expect_error(413, "request_too_large");
    }
    let depths = [
        ("objects", "{\"a\":".repeat(100_000)),
        ("arrays", format!("{{\"a\":{}", "[".repeat(100_000))),
        ("closed", format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000))),
        ("after a model", format!("{{\"model\":\"{MODEL}\",\"a\":{}", "{\"a\":".repeat(100_000))),
    ];
    for (name, body) in depths {
        for framed in [Framed::Length, Framed::Chunked, Framed::H2] {
            let status = send(&gateway, body.clone().into_bytes(), framed).await;
            assert_eq!(status, 400, "{name}, {framed:?}");
        }
        let answer = gateway.exchange(&Request::post("/v1/chat/completions", body).key(KEY)).await;
        answer.expect_error(400, "invalid_json");
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(gateway.chat(json!({})).await.status, 200, "honest requests go on");
}
