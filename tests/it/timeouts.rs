//! Each deadline towards a server, one by one: what the client is told, how soon, and that the server was left.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::conf::{Conf, MODEL};
use crate::harness::gateway::{Gateway, chat};
use crate::harness::script::{self, Step};
use crate::harness::sse;
use crate::harness::upstream::{Ending, Upstream};

const SHORT: u64 = 300;

/// A gateway whose deadlines are all long but this one, and a single try.
async fn impatient(upstream: &Upstream, deadline: &str) -> Gateway {
    let mut conf = Conf::to(upstream.address)
        .set("upstreams.pools.0.retry.attempts", 1)
        .pool_timeout("prefill_ms_per_1k_tokens", 0);
    for name in ["headers_ms", "first_token_ms", "between_tokens_ms", "answer_ms"] {
        conf = conf.pool_timeout(name, if name == deadline { SHORT } else { 15_000 });
    }
    Gateway::start(&conf).await
}

/// Checks that the deadline struck in time, that the server was left, and that the record says so.
async fn struck(gateway: &Gateway, upstream: &Upstream, start: Instant) {
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(SHORT - 50), "after {waited:?} already");
    assert!(waited < Duration::from_secs(4), "only after {waited:?}");
    assert!(matches!(upstream.ending(1).await, Ending::Abandoned(_)), "the server was not left");
    assert_eq!(gateway.records(1).await[0]["outcome"], "timed_out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_of_a_stream() {
    let upstream = Upstream::playing(vec![Step::Hang]).await;
    let gateway = impatient(&upstream, "headers_ms").await;
    let start = Instant::now();
    gateway.chat(json!({"stream": true})).await.expect_error(504, "upstream_timeout");
    struck(&gateway, &upstream, start).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_body_byte_of_a_stream() {
    let upstream = Upstream::playing(vec![Step::Send(script::stream_head()), Step::Hang]).await;
    let gateway = impatient(&upstream, "first_token_ms").await;
    let start = Instant::now();
    gateway.chat(json!({"stream": true})).await.expect_error(504, "upstream_timeout");
    struck(&gateway, &upstream, start).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_token_after_a_role() {
    let role = sse::event(&format!(
        r#"{{"id":"c1","object":"chat.completion.chunk","created":1,"model":"{MODEL}","choices":[{{"index":0,"delta":{{"role":"assistant","content":""}},"finish_reason":null}}]}}"#
    ));
    let upstream = Upstream::playing(script::broken_stream(&[role], 1, Step::Hang)).await;
    let gateway = impatient(&upstream, "first_token_ms").await;
    let start = Instant::now();
    let answer = gateway.chat(json!({"stream": true})).await;
    if answer.status == 200 {
        assert!(answer.text().contains("upstream_timeout"), "{}", answer.text());
        assert!(!answer.text().contains("[DONE]"), "{}", answer.text());
    } else {
        answer.expect_error(504, "upstream_timeout");
    }
    struck(&gateway, &upstream, start).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_two_tokens() {
    let events = script::chat_events(MODEL, &["a ", "b "], None);
    let upstream = Upstream::playing(script::broken_stream(&events, 2, Step::Hang)).await;
    let gateway = impatient(&upstream, "between_tokens_ms").await;
    let start = Instant::now();
    let mut stream = gateway.connect().await.open_stream(&chat(json!({"stream": true}))).await;
    let (seen, _) = stream.remaining().await;
    assert_eq!(seen[..2], events[..2]);
    let error: Value = serde_json::from_str(sse::data(&seen[2]).expect("data")).expect("JSON");
    assert_eq!(error["error"]["code"], "upstream_timeout");
    assert_eq!(seen.len(), 3, "{seen:?}");
    struck(&gateway, &upstream, start).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_not_streamed() {
    let upstream = Upstream::playing(vec![Step::Hang]).await;
    let gateway = impatient(&upstream, "answer_ms").await;
    let start = Instant::now();
    let answer = gateway.chat(json!({})).await;
    let error = answer.expect_error(504, "upstream_timeout");
    assert_eq!(error["type"], "server_error");
    struck(&gateway, &upstream, start).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_trickles() {
    let mut steps = vec![Step::Send(script::head(200, "application/json", 100_000))];
    for _ in 0..400 {
        steps.extend([Step::Send(b" ".to_vec()), Step::Pause(Duration::from_millis(20))]);
    }
    let upstream = Upstream::playing(steps).await;
    let gateway = impatient(&upstream, "answer_ms").await;
    let start = Instant::now();
    let answer = gateway.chat(json!({})).await;
    assert!(answer.status == 504 || !answer.is_whole, "{} {}", answer.status, answer.text());
    struck(&gateway, &upstream, start).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_prompts_are_given_longer() {
    let slow = vec![Step::Pause(Duration::from_millis(900)), script::chat(MODEL).remove(0)];
    let slow_stream = {
        let mut steps = vec![Step::Pause(Duration::from_millis(900))];
        steps.extend(script::stream(&script::chat_events(MODEL, &["a"], None)));
        steps
    };
    let upstream =
        Upstream::start(
            move |seen| {
                if seen.json()["stream"] == true { slow_stream.clone() } else { slow.clone() }
            },
        )
        .await;
    let conf = Conf::to(upstream.address)
        .set("upstreams.pools.0.retry.attempts", 1)
        .pool_timeout("headers_ms", SHORT)
        .pool_timeout("first_token_ms", SHORT)
        .pool_timeout("prefill_ms_per_1k_tokens", 1000);
    let gateway = Gateway::start(&conf).await;
    gateway.chat(json!({"stream": true})).await.expect_error(504, "upstream_timeout");
    // Four thousand tokens at four letters a token.
    let long = json!({"stream": true, "messages": [{"role": "user", "content": "word ".repeat(3200)}]});
    assert_eq!(gateway.chat(long).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_accept() {
    // A backlog that is full swallows the SYN, which is what an unreachable host looks like.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    drop(listener);
    socket.set_reuseaddr(true).expect("an option");
    socket.bind(address).expect("the port is free again");
    let full = socket.listen(0).expect("listens");
    let mut holders = Vec::new();
    while let Ok(Ok(holder)) =
        tokio::time::timeout(Duration::from_millis(300), tokio::net::TcpStream::connect(address)).await
    {
        holders.push(holder);
        assert!(holders.len() < 64, "the backlog has no end");
    }
    let conf = Conf::to(address)
        .set("upstreams.pools.0.retry.attempts", 1)
        .set("upstreams.pools.0.health", json!({"probe": "off"}))
        .pool_timeout("connect_ms", SHORT);
    let gateway = Gateway::start(&conf).await;
    let start = Instant::now();
    let answer = gateway.chat(json!({})).await;
    assert!([502, 503, 504].contains(&answer.status), "{}", answer.text());
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(SHORT - 50) && waited < Duration::from_secs(3), "{waited:?}");
    drop(full);
}
