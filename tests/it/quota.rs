//! Limits as a client meets them: what a request reserves flows back when it is answered, and who is over a limit is
//! told what it is and how long to wait.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::Semaphore;

use crate::harness::client::Answer;
use crate::harness::conf::{Conf, MODEL};
use crate::harness::gateway::{Gateway, chat};
use crate::harness::script::{self, Step};
use crate::harness::upstream::Upstream;

const LIMIT: u64 = 1000;
/// With the prompt, nearly all of [`LIMIT`].
const NEARLY_ALL: u64 = 900;

async fn limited(upstream: &Upstream) -> Gateway {
    let conf = Conf::to(upstream.address)
        .set("tiers.tiers.0.tokens_per_minute", LIMIT)
        .set("tiers.tiers.0.requests_per_minute", 100);
    Gateway::start(&conf).await
}

/// The whole number in a field.
fn number(answer: &Answer, name: &str) -> u64 {
    let value = answer.head.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", answer.head.fields));
    value.parse().unwrap_or_else(|error| panic!("{name}: {value}: {error}"))
}

/// Requests reserve what they may use: without giving the rest back, the second of these is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_reserved_and_not_used_is_given_back() {
    let upstream = Upstream::chatting().await;
    let gateway = limited(&upstream).await;
    let mut client = gateway.connect().await;
    for streams in [false, true, false, true] {
        let answer = client.exchange(&chat(json!({"max_tokens": NEARLY_ALL, "stream": streams}))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        for (what, limit) in [("requests", 100), ("tokens", LIMIT)] {
            assert_eq!(number(&answer, &format!("x-ratelimit-limit-{what}")), limit);
            assert!(number(&answer, &format!("x-ratelimit-remaining-{what}")) < limit, "{what}");
            let reset = answer.head.get(&format!("x-ratelimit-reset-{what}")).expect("a reset");
            assert!(reset.starts_with(|first: char| first.is_ascii_digit()), "{reset}");
            assert!(reset.ends_with('s'), "{reset}");
        }
        assert!(number(&answer, "x-ratelimit-remaining-tokens") <= LIMIT - NEARLY_ALL);
    }
    // A refusal gives back as well: nothing was used.
    upstream.answer_with(|_| script::error_answer(400));
    for _ in 0..3 {
        assert_eq!(client.exchange(&chat(json!({"max_tokens": NEARLY_ALL}))).await.status, 400);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_over_the_limit_is_told_how_long_to_wait() {
    let gate = Arc::new(Semaphore::new(0));
    let upstream =
        Upstream::playing(vec![Step::Gate(Arc::clone(&gate)), script::chat(MODEL).remove(0)]).await;
    let gateway = limited(&upstream).await;
    let request = chat(json!({"max_tokens": NEARLY_ALL}));
    let mut first = gateway.connect().await;
    first.send(&[request.head_bytes(), request.body_bytes()].concat()).await.expect("sent");
    upstream.request(1).await;

    let mut second = gateway.connect().await;
    let answer = second.exchange(&request).await;
    let error = answer.expect_error(429, "rate_limit_exceeded");
    assert_eq!(error["type"], "tokens", "{error}");
    let (seconds, millis) = (number(&answer, "retry-after"), number(&answer, "retry-after-ms"));
    assert!((1..=60).contains(&seconds) && (1..=60_000).contains(&millis), "{seconds} s, {millis} ms");
    assert_eq!(seconds, millis.div_ceil(1000), "the two agree");
    let message = error["message"].as_str().expect("a message");
    assert!(message.contains(&LIMIT.to_string()), "{message}");
    assert_eq!(upstream.count(), 1, "who is refused reaches no server");
    // A small one still fits beside the large one.
    let small = chat(json!({"max_tokens": 20}));
    second.send(&[small.head_bytes(), small.body_bytes()].concat()).await.expect("sent");
    upstream.request(2).await;

    gate.add_permits(10);
    assert_eq!(first.answer().await.expect("an answer").status, 200);
    assert_eq!(second.answer().await.expect("an answer").status, 200);
    // Given back before a record is written.
    gateway.records(3).await;
    assert_eq!(second.exchange(&request).await.status, 200, "what was not used is there again");
}

/// A client that leaves gives back too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_gives_its_reservation_back() {
    let upstream = Upstream::playing(vec![Step::Hang]).await;
    let gateway = limited(&upstream).await;
    let request = chat(json!({"max_tokens": NEARLY_ALL}));
    for round in 1..=5 {
        let mut client = gateway.connect().await;
        client.send(&[request.head_bytes(), request.body_bytes()].concat()).await.expect("sent");
        upstream.request(round).await;
        drop(client);
        assert_eq!(gateway.records(round).await[round - 1]["outcome"], "client_gone");
    }
    upstream.answer_with(|_| script::chat(MODEL));
    assert_eq!(gateway.exchange(&request).await.status, 200);
}
