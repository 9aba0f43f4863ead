//! A stream that reaches a hard limit: it ends in the shape of its interface, its server's work is cancelled, and it is
//! charged what went out.

use serde_json::{Value, json};

use crate::harness::client::Next;
use crate::harness::conf::{Conf, KEY, MODEL};
use crate::harness::gateway::{Gateway, chat};
use crate::harness::request::Request;
use crate::harness::script::{self, Step};
use crate::harness::sse;
use crate::harness::upstream::{Ending, Upstream};

/// Each of these words is one token by the gateway's own count.
const WORDS: usize = 400;

/// A server that goes on for longer than anybody may listen, and does not end by itself.
async fn endless(event: impl Fn(usize) -> String) -> Upstream {
    let mut steps = vec![Step::Send(script::stream_head())];
    steps.extend((0..WORDS).map(|index| Step::Send(script::chunk(event(index).as_bytes()))));
    steps.push(Step::Hang);
    Upstream::playing(steps).await
}

async fn limited(upstream: &Upstream, keys: Value) -> Gateway {
    let keys = keys.as_object().expect("keys of a tier").clone();
    let conf = keys.into_iter().fold(Conf::to(upstream.address), |conf, (key, value)| {
        conf.set(&format!("tiers.tiers.0.{key}"), value)
    });
    Gateway::start(&conf).await
}

fn content(events: &[String]) -> String {
    let json = events.iter().filter_map(|event| serde_json::from_str::<Value>(sse::data(event)?).ok());
    json.filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_beyond_its_budget_ends_as_if_it_had_its_length() {
    let upstream = endless(|_| sse::delta("theirs", "word")).await;
    let gateway = limited(&upstream, json!({"tokens_per_day": 100, "default_max_tokens": 20})).await;
    let request = chat(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let mut stream = gateway.connect().await.open_stream(&request).await;
    assert_eq!(stream.head.status(), 200);
    let (events, end) = stream.remaining().await;
    assert_eq!(end, Next::End, "the connection goes on");
    let [last, usage, done] = events.last_chunk::<3>().expect("a proper end").clone();
    assert_eq!(done, sse::DONE);
    let last: Value = serde_json::from_str(sse::data(&last).expect("data")).expect("JSON");
    let choice = json!({"index": 0, "delta": {}, "finish_reason": "length"});
    let expected = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]});
    assert_eq!(last, expected);
    let usage: Value = serde_json::from_str(sse::data(&usage).expect("data")).expect("JSON");
    let (input, output) = (&usage["usage"]["prompt_tokens"], &usage["usage"]["completion_tokens"]);
    assert_eq!(usage["usage"]["total_tokens"], 100, "all of the budget, and no more");
    assert!(matches!(upstream.ending(1).await, Ending::Abandoned(_)), "the server's work is cancelled");
    let record = gateway.records(1).await.remove(0);
    assert_eq!((&record["outcome"], &record["status"]), (&json!("limit_reached"), &json!(200)));
    assert_eq!((&record["input_tokens"], &record["output_tokens"]), (input, output), "charged what went out");
    assert_eq!(content(&events).len() as u64 / 4, output.as_u64().expect("a number"));

    let next = gateway.chat(json!({"max_tokens": 1})).await;
    next.expect_error(429, "insufficient_quota");
    assert_eq!(next.head.get("x-ratelimit-remaining-tokens"), Some("0"));
    assert_eq!(
        gateway.metrics().await.sum("tollgate_upstream_attempts_total", &[("result", "stopped")]),
        1.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_an_error_event_where_the_tier_says_so() {
    let upstream = endless(|_| sse::delta(MODEL, "word")).await;
    let keys = json!({"tokens_per_day": 100, "default_max_tokens": 20, "at_limit": "error"});
    let gateway = limited(&upstream, keys).await;
    let mut stream = gateway.connect().await.open_stream(&chat(json!({"stream": true}))).await;
    let (events, _) = stream.remaining().await;
    let last: Value =
        serde_json::from_str(sse::data(events.last().expect("events")).expect("data")).expect("JSON");
    assert_eq!(last["error"]["code"], "insufficient_quota", "{last}");
    assert_eq!(last["error"]["type"], "insufficient_quota", "{last}");
    let record = gateway.records(1).await.remove(0);
    assert_eq!(
        (&record["outcome"], &record["code"]),
        (&json!("limit_reached"), &json!("insufficient_quota"))
    );
}

/// The tier's `max_tokens` holds for a request that names none, too; money is a budget as tokens are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cap_of_the_tier_and_money_end_a_stream() {
    let upstream = endless(|_| sse::delta(MODEL, "word")).await;
    // At 4 EUR a million tokens 0.0004 EUR are less than a hundred; what is still to come may be dearer.
    for (keys, least, most) in [
        (json!({"max_tokens": 30}), 30, 30),
        (json!({"eur_per_month": 0.0004, "default_max_tokens": 10}), 60, 99),
    ] {
        let gateway = limited(&upstream, keys.clone()).await;
        let mut stream = gateway.connect().await.open_stream(&chat(json!({"stream": true}))).await;
        let (events, _) = stream.remaining().await;
        assert_eq!(events.last().map(String::as_str), Some(sse::DONE), "{keys}");
        let words = content(&events).len() / 4;
        assert!((least..=most).contains(&words), "{keys}: {words} words");
        let record = gateway.records(1).await.remove(0);
        assert_eq!(record["output_tokens"], words);
        assert!(record["cost_eur"].as_f64().expect("money") <= 0.0004, "{record}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_interfaces_end_in_their_own_shape() {
    for (path, event, body, lasts) in [
        (
            "/v1/responses",
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":3,\"delta\":\"word\"}\n\n",
            json!({"model": MODEL, "input": "Say hello.", "stream": true}),
            &["response.incomplete"][..],
        ),
        (
            "/v1/messages",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"word\"}}\n\n",
            json!({"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "stream": true}),
            &["content_block_stop", "message_delta", "message_stop"],
        ),
    ] {
        let upstream = endless(move |_| event.to_owned()).await;
        let gateway = limited(&upstream, json!({"tokens_per_day": 100, "default_max_tokens": 20})).await;
        let request = Request::post(path, body.to_string()).key(KEY);
        let mut stream = gateway.connect().await.open_stream(&request).await;
        let (events, end) = stream.remaining().await;
        assert_eq!(end, Next::End, "{path}");
        let ends = &events[events.len() - lasts.len()..];
        for (event, kind) in ends.iter().zip(lasts) {
            assert!(event.starts_with(&format!("event: {kind}\ndata: {{\"type\":\"{kind}\"")), "{event}");
        }
        let record = gateway.records(1).await.remove(0);
        assert_eq!(record["outcome"], "limit_reached", "{path}");
        let total = record["input_tokens"].as_u64().zip(record["output_tokens"].as_u64());
        assert_eq!(total.map(|(input, output)| input + output), Some(100), "{path}: {record}");
    }
}
