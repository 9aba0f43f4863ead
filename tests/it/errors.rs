//! What engines really answer when they refuse or break, and what a client gets to see of it: OpenAI's shape,
//! never the gateway's own credential trouble as the client's, never an engine's internals.

use serde_json::{Value, json};

use crate::harness::client::Answer;
use crate::harness::conf::{Conf, MODEL};
use crate::harness::gateway::{Gateway, chat};
use crate::harness::recording;
use crate::harness::script;
use crate::harness::upstream::Upstream;

fn conf(upstream: &Upstream) -> Conf {
    Conf::to(upstream.address)
        .set("upstreams.pools.0.retry.attempts", 1)
        .set("upstreams.pools.0.passive.failures", 0)
}

/// Checks the documented shape, whose `code` is a text here, as SDKs compare it with one.
fn is_in_shape(name: &str, answer: &Answer) {
    assert_eq!(answer.head.get("content-type"), Some("application/json"), "{name}");
    let body = answer.json();
    let keys: Vec<&str> = body.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["error"], "{name}: {body}");
    let error = &body["error"];
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{name}: {body}");
    assert!(error["type"].is_string(), "{name}: {body}");
    assert!(error["code"].is_string() || error["code"].is_null(), "{name}: {body}");
    assert!(error.get("param").is_some_and(|param| param.is_string() || param.is_null()), "{name}: {body}");
    assert!(answer.head.get("x-request-id").is_some(), "{name}");
}

fn is_clients_mistake(recording: &str) -> bool {
    ["chat_on_embedding_model", "embeddings_too_long", "messages_err_missing_messages", "rerank"]
        .iter()
        .any(|name| recording.contains(name))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_errors_are_told_in_one_shape() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&conf(&upstream)).await;
    let mut count = 0;
    for recording in recording::all().await.into_iter().filter(|recording| recording.status >= 400) {
        let (status, kind, body) = (recording.status, recording.content_type.clone(), recording.body.clone());
        upstream.answer_with(move |_| script::whole(status, &kind, &body));
        let answer = gateway.chat(json!({})).await;
        let name = &recording.name;
        is_in_shape(name, &answer);
        count += 1;
        match recording.status {
            // The catalogue knows the model; that the server does not is a fault of the configuration.
            400..500 if name.contains("unknown_model") => assert_eq!(answer.status, 502, "{name}"),
            // Ours: the credential towards the server is the gateway's.
            401 | 403 => assert_eq!(answer.status, 502, "{name}: {}", answer.text()),
            // The route exists here; that the server does not know it is a fault of the configuration.
            404 | 405 => assert!([404, 405, 502].contains(&answer.status), "{name}: {}", answer.status),
            // Engines call some mistakes of the client their own.
            500..600 if is_clients_mistake(name) => {
                assert_eq!(answer.status, 400, "{name}: {}", answer.text())
            }
            500..600 => assert!((500..505).contains(&answer.status), "{name}: {}", answer.status),
            // FastAPI's word for a body that it cannot read.
            422 => assert_eq!(answer.status, 400, "{name}: {}", answer.text()),
            same => assert_eq!(answer.status, same, "{name}: {}", answer.text()),
        }
        let text = answer.text();
        for leak in ["Traceback", ".py", "/usr/", "/opt/", "site-packages"] {
            assert!(!text.contains(leak), "{name} leaks {leak}: {text}");
        }
        if recording.status == 400 && name.contains("context_too_long") {
            assert_eq!(answer.json()["error"]["code"], "context_length_exceeded", "{name}: {text}");
        }
    }
    assert!(count >= 25, "only {count} recorded errors");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_credential_of_the_gateway_is_not_the_clients() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&conf(&upstream)).await;
    let bodies = [
        json!({"error": "Unauthorized"}),
        json!({"error": {"message": "Invalid API Key", "type": "authentication_error", "code": 401}}),
        json!({"detail": "Unauthorized"}),
    ];
    for body in bodies {
        upstream.answer_with(move |_| script::json_answer(401, &body));
        let answer = gateway.chat(json!({})).await;
        let error = answer.expect_error(502, "upstream_error");
        assert_eq!(error["type"], "server_error");
        assert_eq!(answer.head.get("www-authenticate"), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_mistake_that_an_engine_calls_its_own_is_not_repeated() {
    // llama.cpp's 500 for a too long input. A second server would say the same and both would look broken.
    let body = json!({"error": {"code": 500, "message": "input is too large to process. increase the physical batch size", "type": "server_error"}});
    let first = Upstream::playing(script::json_answer(500, &body)).await;
    let second = Upstream::playing(script::json_answer(500, &body)).await;
    let conf = Conf::new()
        .server_with(first.address, json!({"engine": "llama.cpp"}))
        .server_with(second.address, json!({"engine": "llama.cpp"}))
        .set("upstreams.pools.0.passive.failures", 1)
        .set("upstreams.pools.0.passive.eject_ms", 60_000);
    let gateway = Gateway::start(&conf).await;
    for _ in 0..4 {
        let answer = gateway.chat(json!({})).await;
        assert!(answer.status >= 400, "{}", answer.text());
        assert_ne!(answer.status, 503, "no server may be ejected for it: {}", answer.text());
    }
    assert_eq!(first.count() + second.count(), 4, "each request was tried once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wait_that_a_server_asks_for_is_passed_on() {
    let upstream = Upstream::start(|_| {
        let body = json!({"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}).to_string();
        let head = format!(
            "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after: 3\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        vec![script::Step::Send([head, body].concat().into_bytes())]
    })
    .await;
    let gateway = Gateway::start(&conf(&upstream)).await;
    let answer = gateway.chat(json!({})).await;
    is_in_shape("429", &answer);
    assert!([429, 503].contains(&answer.status), "{}", answer.text());
    let wait: u32 = answer.head.get("retry-after").expect("retry-after").parse().expect("seconds");
    assert!((1..=30).contains(&wait), "{wait}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_not_http_are_upstream_errors() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&conf(&upstream)).await;
    let cases: [(&str, &[u8]); 6] = [
        ("not HTTP", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        ("no status", b"HTTP/1.1 \r\n\r\n"),
        ("a status of words", b"HTTP/1.1 okay fine\r\n\r\n"),
        ("two lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"),
        ("half a head", b"HTTP/1.1 200 OK\r\ncontent-ty"),
        ("nothing", b""),
    ];
    for (name, bytes) in cases {
        upstream.answer_with(move |_| vec![script::Step::Send(bytes.to_vec()), script::Step::Close]);
        let answer = gateway.chat(json!({})).await;
        assert_eq!(answer.status, 502, "{name}: {}", answer.text());
        answer.expect_error(502, "upstream_error");
    }
    upstream.answer_with(|_| script::chat(MODEL));
    assert_eq!(gateway.chat(json!({})).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_for_a_stream_is_plain_json() {
    let upstream = Upstream::playing(script::error_answer(400)).await;
    let gateway = Gateway::start(&conf(&upstream)).await;
    let answer = gateway.exchange(&chat(json!({"stream": true}))).await;
    assert_eq!(answer.status, 400);
    is_in_shape("a stream that was refused", &answer);
    let message: Value = answer.json()["error"]["message"].clone();
    assert_eq!(message, "scripted failure", "the server's own words reach the client");
}
