//! What counts against a server, and what is the client's: a request that no server can answer must not take one
//! server after the other out of use.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::harness::conf::{Conf, KEY, MODEL};
use crate::harness::gateway::{Gateway, chat};
use crate::harness::request::Request;
use crate::harness::script::{self, Step};
use crate::harness::sse;
use crate::harness::upstream::{Seen, Upstream};
use crate::harness::upstream_hasty::{Then, UpstreamHasty};

/// More than ejects a server: `passive.failures` is 3.
const MANY: usize = 12;

async fn all_up(gateway: &Gateway, servers: usize) {
    let up = gateway.metrics().await.sum("tollgate_upstream_up", &[]);
    assert!((up - servers as f64).abs() < f64::EPSILON, "{up} of {servers} servers are in use");
}

/// Streams that fail by the client's fault, as engines write it: alone, after a token, named, flat.
fn client_faults() -> Vec<(&'static str, Vec<String>)> {
    let message = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.";
    let error = json!({"message": message, "type": "BadRequestError", "param": null, "code": 400});
    let event = sse::event(&json!({"error": error}).to_string());
    let tgi = "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8192. Given: 9000";
    vec![
        ("vLLM, before a token", vec![event.clone(), sse::DONE.to_owned()]),
        ("vLLM, after a token", vec![sse::delta(MODEL, "a "), event.clone(), sse::DONE.to_owned()]),
        ("without an end", vec![sse::delta(MODEL, "a "), event.clone()]),
        ("named", vec![format!("event: error\n{event}")]),
        ("flat", vec![sse::event(&json!({"error": tgi, "error_type": "validation"}).to_string())]),
    ]
}

/// A dozen prompts that are too long ejected every server of a pool, and everybody got 503.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_fault_inside_a_stream_ejects_nobody() {
    for (name, events) in client_faults() {
        let bad = script::stream(&events);
        let upstream =
            Upstream::start(
                move |seen| {
                    if seen.json()["user"] == "bad" { bad.clone() } else { script::chat(MODEL) }
                },
            )
            .await;
        let conf = Conf::to(upstream.address).set("upstreams.pools.0.health", json!({"probe": "off"}));
        let gateway = Gateway::start(&conf).await;
        for _ in 0..MANY {
            let answer = gateway.chat(json!({"stream": true, "user": "bad"})).await;
            assert!(answer.text().contains("8192"), "{name}: the client is told: {}", answer.text());
        }
        all_up(&gateway, 1).await;
        let answer = gateway.chat(json!({})).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let outcomes: Vec<Value> =
            gateway.records(MANY + 1).await.into_iter().map(|record| record["outcome"].clone()).collect();
        let refused = outcomes.iter().filter(|outcome| *outcome == "refused").count();
        assert_eq!(refused, MANY, "{name}: {outcomes:?}");
    }
}

/// An error of an engine's own inside a stream does count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_servers_fault_inside_a_stream_ejects_it() {
    let error = json!({"error": {"message": "CUDA error", "type": "InternalServerError", "code": 500}});
    let events = [sse::delta(MODEL, "a "), sse::event(&error.to_string())];
    let upstream = Upstream::playing(script::stream(&events)).await;
    let conf = Conf::to(upstream.address)
        .set("upstreams.pools.0.health", json!({"probe": "off"}))
        .set("upstreams.pools.0.passive.eject_ms", 60_000);
    let gateway = Gateway::start(&conf).await;
    for _ in 0..3 {
        gateway.chat(json!({"stream": true})).await;
    }
    gateway.until_health("s0", false).await;
    assert_eq!(gateway.records(3).await[2]["outcome"], "upstream_cut");
}

/// A server that refuses a large body by its head alone closes before it has read it. What it said was lost in the
/// write that failed; the body went to the next server, and all of them were ejected in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_before_the_body_was_read_is_heard() {
    let cases = [
        (413, Then::Close, "request_too_large"),
        (413, Then::Stay, "request_too_large"),
        (400, Then::Close, "too_many_images"),
        (400, Then::Stay, "too_many_images"),
    ];
    for (status, then, code) in cases {
        let body =
            json!({"error": {"message": "at most 8 MiB are read here", "type": "invalid_request_error",
            "param": null, "code": code}})
            .to_string();
        let head = format!(
            "HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n",
            body.len()
        );
        let hasty = UpstreamHasty::start([head, body].concat().into_bytes(), then).await;
        let other = Upstream::chatting().await;
        let conf = Conf::new()
            .server_with(hasty.address, json!({"weight": 1000}))
            .server(other.address)
            .set("upstreams.pools.0.health", json!({"probe": "off"}))
            .set("tollgate.scan.budget_bytes", 32 << 20)
            .pool_timeout("write_ms", 500);
        let gateway = Gateway::start(&conf).await;
        // Each has its first turn; the weight gives the hasty one the next thousand.
        for _ in 0..2 {
            gateway.chat(json!({})).await;
        }
        assert_eq!((hasty.count(), other.count()), (1, 1));
        let large = chat(json!({"messages": [{"role": "user", "content": "x".repeat(20_000_000)}]}));
        for round in 1..=4 {
            let answer = gateway.exchange(&large).await;
            let error = answer.expect_error(status, code);
            assert_eq!(error["message"], "at most 8 MiB are read here", "{status}, {then:?}, round {round}");
            assert_eq!((hasty.count(), other.count()), (1 + round, 1), "{status}, {then:?}");
            let record = gateway.records(2 + round).await.remove(1 + round);
            assert_eq!((&record["attempts"], &record["status"]), (&json!(1), &json!(status)), "{record}");
        }
        all_up(&gateway, 2).await;
    }
}

/// Idle connections that break at once are no attempt, since the server closed them meanwhile. A request that kills
/// its server's connection after some work was taken for that as often as there were idle connections, and was sent
/// a dozen times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_breaks_connections_is_not_repeated_over_and_over() {
    const ATTEMPTS: usize = 2;
    const SERVERS: usize = 3;
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let answer = move |seen: &Seen| match seen.json()["user"].as_str() {
        Some("warm") => vec![Step::Gate(Arc::clone(&held)), script::chat(MODEL).remove(0)],
        Some("poison") => vec![Step::Pause(Duration::from_millis(300)), Step::Close],
        _ => script::chat(MODEL),
    };
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        servers.push(Upstream::start(answer.clone()).await);
    }
    let conf = servers
        .iter()
        .fold(Conf::new(), |conf, server| conf.server(server.address))
        .set("upstreams.pools.0.health", json!({"probe": "off"}))
        .set("upstreams.pools.0.passive.failures", 0)
        .set("upstreams.pools.0.retry.attempts", ATTEMPTS);
    let gateway = Gateway::start(&conf).await;
    for streams in [false, true] {
        // Several idle connections to each server.
        let before: usize = servers.iter().map(Upstream::count).sum();
        let mut waiting = Vec::new();
        for _ in 0..4 * SERVERS {
            let request = chat(json!({"user": "warm"}));
            let mut client = gateway.connect().await;
            client.send(&[request.head_bytes(), request.body_bytes()].concat()).await.expect("sent");
            waiting.push(client);
        }
        crate::harness::eventually("every warming request at a server", || async {
            let asked: usize = servers.iter().map(Upstream::count).sum();
            (asked == before + waiting.len()).then_some(())
        })
        .await;
        gate.add_permits(waiting.len());
        for client in &mut waiting {
            assert_eq!(client.answer().await.expect("an answer").status, 200);
        }
        for server in &servers {
            assert!(server.connections() >= 3, "only {} connections are warm", server.connections());
        }
        let answer = gateway.chat(json!({"user": "poison", "stream": streams})).await;
        answer.expect_error(502, "upstream_error");
        let all = servers.iter().flat_map(Upstream::seen);
        let sent =
            all.filter(|seen| seen.json()["user"] == "poison" && seen.json()["stream"] == streams).count();
        assert_eq!(sent, ATTEMPTS, "stream {streams}");
    }
}

/// `/v1/audio/speech` and the like are passed on unread: a server's refusal of them is told all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_fault_of_an_unread_answer_ejects_nobody() {
    let error = json!({"error": {"message": "voice is unknown", "type": "invalid_request_error", "param": "voice", "code": null}});
    let upstream = Upstream::playing(script::json_answer(400, &error)).await;
    let conf = Conf::to(upstream.address).set("upstreams.pools.0.health", json!({"probe": "off"}));
    let gateway = Gateway::start(&conf).await;
    let body = json!({"model": MODEL, "input": "hello", "voice": "none"}).to_string();
    for _ in 0..MANY {
        let answer = gateway.exchange(&Request::post("/v1/audio/speech", body.as_str()).key(KEY)).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert_eq!(answer.json(), error);
    }
    all_up(&gateway, 1).await;
}
