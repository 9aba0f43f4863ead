//! What a tier says beyond a rate: limits that nest, caps, budgets, and how many pass when all come at once.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::harness::client::{Answer, Client};
use crate::harness::conf::{Conf, KEY, MODEL};
use crate::harness::eventually;
use crate::harness::gateway::{Gateway, chat};
use crate::harness::request::Request;
use crate::harness::script::{self, Step};
use crate::harness::upstream::Upstream;

const SECOND_KEY: &str = "tg_second_0123456789abcdefghijABCDEFGHIJ0123456789abc";

fn tier(upstream: &Upstream, keys: Value) -> Conf {
    let conf = Conf::to(upstream.address).key(0, "second", SECOND_KEY);
    let keys = keys.as_object().expect("keys of a tier").clone();
    keys.into_iter().fold(conf, |conf, (key, value)| conf.set(&format!("tiers.tiers.0.{key}"), value))
}

fn with_key(key: &str, more: Value) -> Request {
    chat(more).without("authorization").key(key)
}

#[track_caller]
fn message(answer: &Answer, status: u16, code: &str) -> String {
    let error = answer.expect_error(status, code);
    error["message"].as_str().expect("a message").to_owned()
}

/// However many come at once, exactly the limit passes: a request takes what it takes before anything waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_at_once_exactly_the_limit_passes() {
    let upstream = Upstream::chatting().await;
    // Nothing of a day's tokens flows back meanwhile. There is room for a hundred requests of 8,000 tokens of answer
    // and up to 40 of prompt each.
    let gateway = Gateway::start(&tier(&upstream, json!({"tokens_per_day": 804_000}))).await;
    let request = chat(json!({"max_tokens": 8000}));
    let held = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&held);
    upstream.answer_with(move |_| vec![Step::Gate(Arc::clone(&gate)), script::chat(MODEL).remove(0)]);
    let mut clients = JoinSet::new();
    for _ in 0..1000 {
        let (address, request) = (gateway.address(), request.clone());
        clients.spawn(async move { Client::connect(address).await.exchange(&request).await });
    }
    // Nobody is answered before all that can be refused have been: 900 answers come first.
    let (mut passed, mut refused) = (0, 0);
    while let Some(answer) = clients.join_next().await {
        let answer = answer.expect("no panic");
        match answer.status {
            200 => passed += 1,
            429 => {
                refused += 1;
                answer.expect_error(429, "insufficient_quota");
            }
            status => panic!("{status}: {}", answer.text()),
        }
        if refused == 900 {
            held.add_permits(1000);
        }
    }
    assert_eq!((passed, refused), (100, 900));
    assert_eq!(upstream.count(), 100, "who is refused reaches no server");
    gateway.records(1000).await;
    let metrics = gateway.metrics().await;
    for gauge in ["tollgate_tenant_in_flight", "tollgate_tenant_reserved_tokens"] {
        assert!(metrics.sum(gauge, &[]).abs() < f64::EPSILON, "{gauge} is not 0 again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_tenant_key_and_model_all_hold() {
    let upstream = Upstream::chatting().await;
    let conf = tier(
        &upstream,
        json!({
            "requests_per_minute": 5,
            "per_model": [{"model": "test-e*", "requests_per_minute": 1}],
            "per_key": {"requests_per_minute": 3}
        }),
    );
    let gateway = Gateway::start(&conf).await;
    let embed = |key| {
        let body = json!({"model": "test-embed", "input": "x"}).to_string();
        Request::post("/v1/embeddings", body).key(key)
    };
    for (name, request, expected) in [
        ("first", with_key(KEY, json!({})), None),
        ("the model's one", embed(KEY), None),
        (
            "of the model no more",
            embed(SECOND_KEY),
            Some("your organisation and this model: 1 requests per minute"),
        ),
        ("the key's last", with_key(KEY, json!({})), None),
        ("of the key no more", with_key(KEY, json!({})), Some("this API key: 3 requests per minute")),
        ("another key", with_key(SECOND_KEY, json!({})), None),
        ("the tenant's last", with_key(SECOND_KEY, json!({})), None),
        (
            "of the tenant no more",
            with_key(SECOND_KEY, json!({})),
            Some("your organisation: 5 requests per minute"),
        ),
    ] {
        let answer = gateway.exchange(&request).await;
        let left = answer.head.get("x-ratelimit-remaining-requests");
        match expected {
            None => assert_eq!(answer.status, 200, "{name}: {}", answer.text()),
            Some(words) => {
                let message = message(&answer, 429, "rate_limit_exceeded");
                assert!(message.contains(words), "{name}: {message}");
                assert_eq!(left, Some("0"), "{name}: the tightest limit is told");
            }
        }
        assert!(left.is_some(), "{name}: every answer says what is left");
    }
    // So does an answer that takes nothing.
    let models = gateway.exchange(&Request::get("/v1/models").key(SECOND_KEY)).await;
    assert_eq!(models.status, 200);
    assert_eq!(models.head.get("x-ratelimit-limit-requests"), Some("5"));
    let stranger = gateway.exchange(&chat(json!({})).without("authorization")).await;
    assert_eq!(stranger.head.get("x-ratelimit-limit-requests"), None, "nobody's limits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_more_than_the_cap_is_refused_or_lowered_in_place() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&tier(&upstream, json!({"max_tokens": 100, "max_context": 150}))).await;
    let answer = gateway.chat(json!({"max_tokens": 101})).await;
    let told = message(&answer, 400, "unsupported_value");
    assert!(told.contains("101") && told.contains("100"), "{told}");
    assert_eq!(answer.json()["error"]["param"], "max_tokens");
    assert_eq!(gateway.chat(json!({"max_completion_tokens": 100})).await.status, 200);
    let long = "word ".repeat(50);
    let long = json!({"max_tokens": 100, "messages": [{"role": "user", "content": long}]});
    let told = message(&gateway.chat(long).await, 400, "context_length_exceeded");
    assert!(told.contains("150 tokens"), "{told}");
    assert_eq!(upstream.count(), 1);

    let clamps = json!({"max_tokens": 100, "over_max_tokens": "clamp"});
    let gateway = Gateway::start(&tier(&upstream, clamps)).await;
    let body = |caps: &str| {
        format!(
            "{{ \"model\" : \"{MODEL}\",{caps} \"messages\":[{{\"role\":\"user\",\"content\":\"Hi\"}}] , \"x\":1e2}}"
        )
    };
    for (count, (sent, arrives)) in [
        ("\"max_tokens\" :  5000 ,", "\"max_tokens\" :  100 ,"),
        (
            "\"max_tokens\":7,\"max_completion_tokens\":5000,",
            "\"max_tokens\":7,\"max_completion_tokens\":100,",
        ),
        ("\"max_tokens\":100,", "\"max_tokens\":100,"),
        ("\"max_tokens\":null,", "\"max_tokens\":null,"),
        ("", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let request = Request::post("/v1/chat/completions", body(sent)).key(KEY);
        assert_eq!(gateway.exchange(&request).await.status, 200);
        let seen = upstream.request(count + 2).await;
        assert_eq!(String::from_utf8_lossy(&seen.body), body(arrives));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_are_charged_exactly_and_say_when_they_are_full_again() {
    let upstream = Upstream::chatting().await;
    // Each answer reports 7 and 3 tokens.
    let gateway = Gateway::start(&tier(&upstream, json!({"tokens_per_day": 35}))).await;
    for left in [25, 15, 5] {
        let answer = gateway.chat(json!({"max_tokens": 7})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let now: u64 = gateway
            .exchange(&Request::get("/v1/models").key(KEY))
            .await
            .head
            .get("x-ratelimit-remaining-tokens")
            .and_then(|left| left.parse().ok())
            .expect("tokens are limited");
        assert_eq!(now, left);
    }
    let answer = gateway.chat(json!({"max_tokens": 7})).await;
    let told = message(&answer, 429, "insufficient_quota");
    assert_eq!(answer.json()["error"]["type"], "insufficient_quota");
    assert_eq!(answer.head.get("x-should-retry"), Some("false"));
    assert!(told.contains("35 tokens per day. It is full again on 20"), "{told}");
    let seconds: u64 = answer.head.get("retry-after").and_then(|s| s.parse().ok()).expect("a time");
    assert!(seconds <= 86_400);
    assert_eq!(upstream.count(), 3);

    // 7 × 0.9 + 3 × 4 µEUR an answer are 18.3; 12 tokens of answer reserve 12 × 21 and the prompt.
    let gateway = Gateway::start(&tier(&upstream, json!({"eur_per_month": 0.0003}))).await;
    assert_eq!(gateway.chat(json!({"max_tokens": 12})).await.status, 200);
    assert_eq!(gateway.chat(json!({"max_tokens": 12})).await.status, 200);
    let told = message(&gateway.chat(json!({"max_tokens": 13})).await, 429, "insufficient_quota");
    assert!(told.contains("0.0003 EUR per month") && told.contains("-01 (UTC)"), "{told}");
    assert_eq!(gateway.chat(json!({"max_tokens": 11})).await.status, 200);
}

/// A client that has read its answer has its limits back: it may send the next request at once, over any connection,
/// though it may have only one at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_at_a_time_may_follow_at_once() {
    let upstream = Upstream::chatting().await;
    let gateway =
        Gateway::start(&tier(&upstream, json!({"max_in_flight": 1, "tokens_per_day": 1_000}))).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(gateway.connect().await);
    }
    for turn in 0..40 {
        let answer = clients[turn % 2].exchange(&chat(json!({"max_tokens": 7}))).await;
        assert_eq!(answer.status, 200, "{turn}: {}", answer.text());
    }
    upstream.answer_with(|_| script::stream(&script::chat_events(MODEL, &["hello"], Some((7, 3)))));
    for turn in 0..40 {
        let mut stream =
            gateway.connect().await.open_stream(&chat(json!({"stream": true, "max_tokens": 7}))).await;
        assert_eq!(stream.head.status(), 200, "{turn}");
        while !stream.event().await.starts_with("data: [DONE]") {}
    }
    // Of 1,000 tokens 80 answers of 10 have been used.
    let answer = gateway.chat(json!({"max_tokens": 300})).await;
    assert_eq!(answer.status, 429, "{}", answer.text());
    upstream.answer_with(|_| script::error_answer(400));
    for _ in 0..20 {
        let answer = clients[0].exchange(&chat(json!({"max_tokens": 150}))).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
}

/// What was used of a day and of a month is in the ledger, so that no restart gives it away again, however the gateway
/// ended; of a tenant, and of each of its keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_outlive_a_kill() {
    let upstream = Upstream::chatting().await;
    // Each answer reports 7 and 3 tokens, which cost 18.3 µEUR.
    let limits = json!({
        "tokens_per_day": 1000,
        "eur_per_month": 0.0003,
        "per_key": {"tokens_per_day": 35}
    });
    let mut gateway = Gateway::start(&tier(&upstream, limits)).await;
    for (answer, key) in [(1, KEY), (2, KEY), (3, SECOND_KEY)] {
        let given = gateway.exchange(&with_key(key, json!({"max_tokens": 7}))).await;
        assert_eq!(given.status, 200, "{}", given.text());
        eventually("the row to be stored", || async {
            let stored = gateway.metrics().await.sum("tollgate_ledger_rows_stored", &[]);
            (stored >= f64::from(answer)).then_some(())
        })
        .await;
    }
    gateway = gateway.killed_and_started_again().await;
    for (key, left) in [(KEY, 15), (SECOND_KEY, 25)] {
        let answer = gateway.exchange(&Request::get("/v1/models").key(key)).await;
        let now = answer.head.get("x-ratelimit-remaining-tokens").map(str::to_owned);
        assert_eq!(now, Some(left.to_string()), "{key}");
    }
    // Of the month 245.1 µEUR are left: 11 tokens of answer and the prompt would fit, 12 do not.
    let told = message(&gateway.chat(json!({"max_tokens": 12})).await, 429, "insufficient_quota");
    assert!(told.contains("0.0003 EUR per month"), "{told}");
    assert_eq!(gateway.chat(json!({"max_tokens": 7})).await.status, 200);
    assert_eq!(upstream.count(), 4);
}

/// Input and output have limits of their own: one that is used up says nothing about the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_and_output_are_limited_each_by_itself() {
    let upstream = Upstream::chatting().await;
    let mut body = script::chat_body(MODEL);
    body["usage"] = json!({"prompt_tokens": 600, "completion_tokens": 600, "total_tokens": 1200});
    upstream.answer_with(move |_| script::json_answer(200, &body));
    let long = "word ".repeat(2_000);
    let request = |length: usize, output: u64| {
        let messages = json!([{"role": "user", "content": &long[..length]}]);
        with_key(KEY, json!({"max_tokens": output, "messages": messages}))
    };
    for (kind, fits, too_much) in
        [("input", request(4, 8_000), request(9_000, 1)), ("output", request(9_000, 10), request(4, 990))]
    {
        let limits = json!({format!("{kind}_tokens_per_minute"): 1000});
        let gateway = Gateway::start(&tier(&upstream, limits)).await;
        let answer = gateway.exchange(&fits).await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
        // 400 are left, and as much comes back in 24 seconds.
        let refused = gateway.exchange(&too_much).await;
        let said = message(&refused, 429, "rate_limit_exceeded");
        assert!(said.contains(&format!("1000 {kind} tokens per minute")), "{said}");
        assert_eq!(refused.head.get("x-ratelimit-limit-tokens"), Some("1000"));
        let wait = refused.head.get("retry-after-ms").and_then(|wait| wait.parse::<u64>().ok());
        assert!(wait.is_some_and(|wait| wait > 0 && wait <= 60_000), "{wait:?}");
        // Nothing of the other kind is missing.
        let answer = gateway.exchange(&fits).await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
    }
}
