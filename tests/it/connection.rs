//! A client's connection from one request to the next: it is kept where that is safe, and closed where a byte could
//! be taken for something it is not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::Semaphore;

use crate::harness::client::{Client, Next};
use crate::harness::conf::{Conf, KEY, MODEL};
use crate::harness::gateway::{Gateway, chat};
use crate::harness::request::Request;
use crate::harness::script::{self, Step};
use crate::harness::sse;
use crate::harness::upstream::{Ending, Upstream};

const CHATS: &str = "/v1/chat/completions";

fn bytes(request: &Request) -> Vec<u8> {
    [request.head_bytes(), request.body_bytes()].concat()
}

/// A byte that came while an answer was awaited was read away to notice a client that leaves. The connection lived
/// on, and the next request was read without its first letter: `OST /v1/chat/completions`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_too_many_while_an_answer_is_awaited_closes_the_connection() {
    for streams in [false, true] {
        let upstream = Upstream::playing(vec![Step::Hang]).await;
        let gateway = Gateway::start(&Conf::to(upstream.address)).await;
        let mut client = gateway.connect().await;
        client.send(&bytes(&chat(json!({"stream": streams})))).await.expect("sent");
        upstream.request(1).await;
        client.send(b"P").await.expect("sent");
        assert!(matches!(upstream.ending(1).await, Ending::Abandoned(_)), "the server was not left");
        // The rest of the request that the byte began.
        drop(client.send(&bytes(&chat(json!({})))[1..]).await);
        let answered = client.rest().await;
        assert_eq!(String::from_utf8_lossy(&answered), "", "stream: {streams}");
        assert_eq!(upstream.count(), 1);
        assert_eq!(gateway.records(1).await[0]["outcome"], "client_gone");
        gateway.until_no_connection().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_too_many_during_a_stream_closes_the_connection() {
    let gate = Arc::new(Semaphore::new(1));
    let events = script::chat_events(MODEL, &["a ", "b "], None);
    let upstream = Upstream::playing(script::gated_stream(&events, &gate)).await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let mut stream = gateway.connect().await.open_stream(&chat(json!({"stream": true}))).await;
    assert_eq!(stream.event().await, events[0]);
    stream.client().send(b"P").await.expect("sent");
    assert!(matches!(upstream.ending(1).await, Ending::Abandoned(_)), "the server was not left");
    drop(stream.client().send(&bytes(&chat(json!({})))[1..]).await);
    let (rest, end) = stream.remaining().await;
    assert_eq!((rest, end), (vec![], Next::Cut), "no clean end, and nothing after it");
    assert_eq!(upstream.count(), 1);
    assert_eq!(gateway.records(1).await[0]["outcome"], "client_gone");
    gateway.until_no_connection().await;
}

/// When the requests after the first are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ahead {
    /// With it, in one write.
    Together,
    /// Right after it.
    Next,
    /// Once a server has it.
    Awaited,
}

/// Sends three requests before reading an answer, and checks what comes back: answers to the first of them, and then
/// the end of the connection.
async fn sent_ahead(gateway: &Gateway, upstream: &Upstream, ahead: Ahead) {
    let before = upstream.count();
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    upstream.answer_with(move |_| vec![Step::Gate(Arc::clone(&held)), script::chat(MODEL).remove(0)]);
    let numbered = |number: usize| bytes(&chat(json!({"user": format!("number {number}")})));
    let [first, second, third] = [0, 1, 2].map(numbered);
    let mut client = gateway.connect().await;
    match ahead {
        Ahead::Together => client.send(&[first, second, third].concat()).await.expect("sent"),
        Ahead::Next => {
            client.send(&first).await.expect("sent");
            drop(client.send(&[second, third].concat()).await);
        }
        Ahead::Awaited => {
            client.send(&first).await.expect("sent");
            upstream.request(before + 1).await;
            client.send(&[second, third].concat()).await.expect("sent");
        }
    }
    gate.add_permits(3);
    let mut answered = 0;
    while let Ok(answer) = client.answer().await {
        assert_eq!(answer.status, 200, "answer {answered}, {ahead:?}: {}", answer.text());
        answered += 1;
    }
    assert!(answered <= 3);
    // Whole requests only. Which of them got there is open: one that was given up may arrive a moment later.
    for seen in &upstream.seen()[before..] {
        let json = seen.json();
        let user = json["user"].as_str().unwrap_or_default();
        assert!(["number 0", "number 1", "number 2"].contains(&user), "the server was asked {user:?}");
        assert_eq!(seen.head.request_line(), ("POST", CHATS));
    }
}

/// The same with whole requests, which some clients send ahead: each is answered in its turn, or the connection is
/// closed, but none is answered as what it is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_sent_ahead_are_never_read_without_their_first_byte() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    for _ in 0..10 {
        for ahead in [Ahead::Together, Ahead::Next, Ahead::Awaited] {
            sent_ahead(&gateway, &upstream, ahead).await;
        }
    }
    upstream.answer_with(|_| script::chat(MODEL));
    assert_eq!(gateway.chat(json!({})).await.status, 200, "honest requests go on");
}

/// The answer that lets a client go on was taken for the last one on its connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_waited_for_leave_keeps_its_connection() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let mut client = gateway.connect().await;
    for round in 0..3 {
        let request = chat(json!({"stream": round == 1})).field("expect", "100-continue");
        client.send(&request.head_bytes()).await.expect("sent");
        assert_eq!(client.head().await.expect("leave to go on").status(), 100, "round {round}");
        client.send(&request.body_bytes()).await.expect("sent");
        let answer = client.answer().await.expect("an answer");
        assert_eq!((answer.status, answer.is_whole), (200, true), "round {round}");
        assert_eq!(client.exchange(&chat(json!({}))).await.status, 200, "the request after, round {round}");
    }
    assert_eq!(upstream.count(), 6);
}

/// RFC 9110 §10.1.1: a client of HTTP/1.0 does not know interim answers and would take one for the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_http_1_0_gets_no_interim_answer() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let request = chat(json!({})).field("expect", "100-continue");
    let head = String::from_utf8(request.head_bytes()).expect("text").replace("HTTP/1.1", "HTTP/1.0");
    let mut client = gateway.connect().await;
    client.send(head.as_bytes()).await.expect("sent");
    client.send(&request.body_bytes()).await.expect("sent");
    let text = String::from_utf8_lossy(&client.rest().await).into_owned();
    assert!(text.starts_with("HTTP/1.") && text[8..].starts_with(" 200"), "{text}");
    assert!(!text.contains(" 100 "), "{text}");
    assert!(text.ends_with(&script::chat_body(MODEL).to_string()), "the body is not chunked: {text}");
}

/// What a refused client had not sent yet was read with a deadline that went on into the next request, and the
/// connection died under it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_request_leaves_the_connection_usable() {
    let upstream = Upstream::chatting().await;
    let conf = Conf::to(upstream.address)
        .set("tollgate.timeouts.request_header_ms", 500)
        .set("tollgate.timeouts.keepalive_ms", 10_000);
    let gateway = Gateway::start(&conf).await;
    let refused = chat(json!({"user": "x".repeat(5000)})).without("authorization");
    let good = chat(json!({}));
    let idle = Duration::from_millis(1200);
    for (name, waits) in [("at once", false), ("after a pause", true)] {
        for (framing, refused) in [("length", refused.clone()), ("chunked", refused.clone().chunked(700))] {
            // The body with the head.
            let mut client = gateway.connect().await;
            let answer = client.exchange(&refused).await;
            answer.expect_error(401, "invalid_api_key");
            if framing == "chunked" {
                // Of unknown size: this one may be closed, but it must say so.
                assert!(answer.head.get("connection").is_some_and(|value| value == "close"), "{name}");
                continue;
            }
            assert!(!waits || client.stays_open(idle).await, "{name}, {framing}: closed while idle");
            assert_eq!(client.exchange(&good).await.status, 200, "{name}, {framing}");
            assert_eq!(client.exchange(&good).await.status, 200, "{name}, {framing}, once more");

            // The body after the answer.
            let mut client = gateway.connect().await;
            client.send(&refused.head_bytes()).await.expect("sent");
            let answer = client.answer().await.expect("an answer before the body");
            answer.expect_error(401, "invalid_api_key");
            client.send(&refused.body_bytes()).await.expect("the connection is kept");
            assert!(!waits || client.stays_open(idle).await, "{name}, {framing}: closed while idle");
            assert_eq!(client.exchange(&good).await.status, 200, "{name}, {framing}, body last");
        }
    }
}

/// The same when the refusal comes from a stage behind the body, and between good requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_and_answers_take_turns_on_a_connection() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let mut client = gateway.connect().await;
    for _ in 0..5 {
        let cases = [
            (chat(json!({"user": "x".repeat(3000)})).without("authorization"), 401),
            (chat(json!({"model": "none"})), 404),
            (Request::post("/v1/nothing", "x".repeat(3000)).key(KEY), 404),
            (chat(json!({})).method("PUT"), 405),
            (Request::post(CHATS, "{").key(KEY), 400),
            (chat(json!({"stream": true})), 200),
        ];
        for (request, status) in cases {
            let answer = client.exchange(&request).await;
            assert_eq!((answer.status, answer.is_whole), (status, true), "{}", answer.text());
            assert_eq!(client.exchange(&chat(json!({}))).await.status, 200, "after {status}");
        }
    }
}

/// A client that is gone half-way through its body leaves a record and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_the_client_cuts_reaches_no_server() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let request = chat(json!({"user": "x".repeat(20_000)}));
    let mut count = 0;
    for framed in [request.clone(), request.chunked(3000)] {
        let (head, body) = (framed.head_bytes(), framed.body_bytes());
        for sent in [0, 1, body.len() / 2, body.len() - 1] {
            let mut client: Client = gateway.connect().await;
            client.send(&[&head, &body[..sent]].concat()).await.expect("sent");
            client.finish_sending().await;
            let start = Instant::now();
            let answered = String::from_utf8_lossy(&client.rest().await).into_owned();
            assert!(!answered.contains(" 200 "), "{sent} bytes: {answered}");
            assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
            count += 1;
            let record = gateway.records(count).await.remove(count - 1);
            assert_eq!(record["outcome"], "client_gone", "{sent} bytes: {record}");
        }
    }
    assert_eq!(gateway.chat(json!({})).await.status, 200);
    gateway.records(count + 1).await;
    assert_eq!(upstream.count(), 1, "half a request reached the server");
    let answer = gateway.chat(json!({"stream": true})).await;
    assert!(answer.text().ends_with(sse::DONE), "{}", answer.text());
}
