//! Tokens as they stand in the access record: what a server reported, or what was counted where it did not.

use serde_json::{Value, json};

use crate::harness::conf::{Conf, KEY, MODEL};
use crate::harness::gateway::{Gateway, chat};
use crate::harness::recording::{self, Recording};
use crate::harness::request::Request;
use crate::harness::script;
use crate::harness::sse;
use crate::harness::upstream::Upstream;

/// Total input and output tokens that a recorded stream or answer reports, by a reading independent of the gateway's: the
/// last usage object counts, or their sum where each choice reports its own. `None` where nothing is reported.
fn reported(recording: &Recording) -> Option<(u64, u64)> {
    let documents: Vec<Value> = if recording.is_stream() {
        sse::split(&recording.body)
            .iter()
            .filter_map(|event| serde_json::from_str(sse::data(std::str::from_utf8(event).ok()?)?).ok())
            .collect()
    } else {
        vec![serde_json::from_slice(&recording.body).ok()?]
    };
    let pair = |usage: &Value| Some((usage["prompt_tokens"].as_u64()?, usage["completion_tokens"].as_u64()?));
    documents.iter().filter_map(|document| pair(&document["usage"])).next_back()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_recorded_servers_report_is_recorded() {
    let upstream = Upstream::playing(script::chat(MODEL)).await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let mut count = 0;
    for recording in recording::all().await {
        let is_chat = recording.path.ends_with("/chat/completions") && recording.status == 200;
        // llama.cpp reports each choice by itself and xAI leaves reasoning out: those readings have their own tests.
        let is_special = recording.name.starts_with("xai/") || recording.name.contains("n2");
        let Some((input, output)) = reported(&recording).filter(|_| is_chat && !is_special) else { continue };
        let mut steps = script::whole(200, &recording.content_type, &recording.body);
        if recording.is_stream() {
            steps = vec![
                script::Step::Send(script::stream_head()),
                script::Step::Send([script::chunk(&recording.body), script::LAST_CHUNK.to_vec()].concat()),
            ];
        }
        upstream.answer_with(move |_| steps.clone());
        gateway.chat(json!({"stream": recording.is_stream()})).await;
        count += 1;
        let record = gateway.records(count).await.remove(count - 1);
        assert_eq!(record["input_tokens"], input, "{}: {record}", recording.name);
        assert_eq!(record["input_source"], "reported", "{}", recording.name);
        let reasoning = record["reasoning_tokens"].as_u64().unwrap_or(0);
        let without = record["output_tokens"].as_u64().expect("a number");
        // A record may tell reasoning apart from output or within it, but no token may be lost.
        assert!(
            without == output || without + reasoning == output,
            "{}: {output} in {record}",
            recording.name
        );
        assert_eq!(record["output_source"], "reported", "{}", recording.name);
    }
    assert!(count > 40, "only {count} recordings report usage");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_that_was_not_asked_for_is_withheld_and_recorded() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let withheld = gateway.chat(json!({"stream": true})).await;
    assert!(!withheld.text().contains("usage"), "{}", withheld.text());
    assert!(withheld.text().ends_with(sse::DONE), "{}", withheld.text());
    let asked = gateway.chat(json!({"stream": true, "stream_options": {"include_usage": true}})).await;
    assert!(asked.text().contains(r#""usage":{"prompt_tokens":7,"completion_tokens":3"#), "{}", asked.text());
    for record in gateway.records(2).await {
        assert_eq!(record["input_tokens"], 7, "{record}");
        assert_eq!(record["output_tokens"], 3, "{record}");
        assert_eq!(
            (&record["input_source"], &record["output_source"]),
            (&json!("reported"), &json!("reported"))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_beside_choices_is_not_taken_away_with_them() {
    let last = sse::event(&format!(
        r#"{{"id":"c1","model":"{MODEL}","choices":[{{"index":0,"delta":{{"content":"end"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}}}"#
    ));
    let upstream =
        Upstream::playing(script::stream(&[sse::delta(MODEL, "a "), last, sse::DONE.into()])).await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let answer = gateway.chat(json!({"stream": true})).await;
    assert!(
        answer.text().contains(r#""content":"end""#) && answer.text().contains("stop"),
        "{}",
        answer.text()
    );
    let record = gateway.records(1).await.remove(0);
    assert_eq!((&record["input_tokens"], &record["output_tokens"]), (&json!(5), &json!(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_report_the_gateway_counts() {
    let upstream = Upstream::start(|seen| {
        if seen.json()["stream"] == true {
            script::stream(&script::chat_events(MODEL, &["four ", "words ", "were ", "said"], None))
        } else {
            let mut body = script::chat_body(MODEL);
            body.as_object_mut().expect("a mapping").remove("usage");
            script::json_answer(200, &body)
        }
    })
    .await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    for streams in [true, false] {
        gateway.chat(json!({"stream": streams})).await;
    }
    for record in gateway.records(2).await {
        assert_eq!(
            (&record["input_source"], &record["output_source"]),
            (&json!("estimated"), &json!("estimated"))
        );
        assert!(record["input_tokens"].as_u64().is_some_and(|tokens| (1..100).contains(&tokens)), "{record}");
        assert!(record["output_tokens"].as_u64().is_some_and(|tokens| (1..20).contains(&tokens)), "{record}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cost_follows_the_prices() {
    let usage = json!({
        "prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500,
        "prompt_tokens_details": {"cached_tokens": 300}, "completion_tokens_details": {"reasoning_tokens": 200}
    });
    let upstream = Upstream::start(move |_| {
        let mut body = script::chat_body(MODEL);
        body["usage"] = usage.clone();
        script::json_answer(200, &body)
    })
    .await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    gateway.chat(json!({})).await;
    let record = gateway.records(1).await.remove(0);
    assert_eq!(record["cached_input_tokens"], 300, "{record}");
    assert_eq!(record["reasoning_tokens"], 200, "{record}");
    // 1000 × 0.9 + 300 × 4 + 200 × 21 EUR per million: reasoning is not priced as output once more.
    let cost =
        record["cost_eur"].as_f64().or_else(|| record["cost_eur"].as_str()?.parse().ok()).expect("a number");
    assert!((cost - 0.0063).abs() < 1e-9, "{record}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embeddings_are_charged_by_their_input() {
    let upstream = Upstream::start(|_| {
        let body = json!({"object": "list", "model": "test-embed", "data": [{"object": "embedding", "index": 0, "embedding": "AAAA"}],
            "usage": {"prompt_tokens": 9, "total_tokens": 9}});
        script::json_answer(200, &body)
    })
    .await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let body = json!({"model": "test-embed", "input": ["a", "b"], "encoding_format": "base64"}).to_string();
    let answer = gateway.exchange(&Request::post("/v1/embeddings", body).key(KEY)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let record = gateway.records(1).await.remove(0);
    assert_eq!((&record["input_tokens"], &record["output_tokens"]), (&json!(9), &json!(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_has_a_time_to_first_token() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    gateway.exchange(&chat(json!({"stream": true}))).await;
    let record = gateway.records(1).await.remove(0);
    let (ttft, whole) =
        (record["ttft_ms"].as_f64().expect("a number"), record["duration_ms"].as_f64().expect("a number"));
    assert!(ttft > 0.0 && ttft <= whole, "{record}");
    assert_eq!(record["is_streaming"], true);
}

/// A server that reported 2^64 - 1 tokens overflowed a sum: the task of the request died before it was recorded, and
/// a stop waited for it until the drain's limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absurd_reports_are_not_believed_and_hold_nothing_up() {
    let most = u64::MAX;
    let absurd = [
        json!({"prompt_tokens": most, "completion_tokens": most, "total_tokens": most}),
        json!({"prompt_tokens": most, "completion_tokens": most, "completion_tokens_details": {"reasoning_tokens": most},
            "prompt_tokens_details": {"cached_tokens": most}}),
        json!({"input_tokens": most, "output_tokens": most, "cache_read_input_tokens": most,
            "cache_creation_input_tokens": most}),
        json!({"prompt_tokens": 1e300, "completion_tokens": -1, "total_tokens": "many"}),
    ];
    let upstream = Upstream::chatting().await;
    let conf = Conf::to(upstream.address).set("tiers.tiers.0.tokens_per_minute", 1_000_000);
    let mut gateway = Gateway::start(&conf).await;
    let mut count = 0;
    for usage in absurd {
        for streams in [false, true] {
            let report = usage.clone();
            upstream.answer_with(move |_| {
                if streams {
                    let mut events = script::chat_events(MODEL, &["two ", "words"], None);
                    let last = json!({"id": "c1", "model": MODEL, "choices": [], "usage": report});
                    events.insert(events.len() - 1, sse::event(&last.to_string()));
                    script::stream(&events)
                } else {
                    let mut body = script::chat_body(MODEL);
                    body["usage"] = report.clone();
                    script::json_answer(200, &body)
                }
            });
            let answer = gateway.chat(json!({"stream": streams})).await;
            assert_eq!((answer.status, answer.is_whole), (200, true), "{usage}: {}", answer.text());
            count += 1;
            let record = gateway.records(count).await.remove(count - 1);
            for name in ["input", "output"] {
                assert_eq!(record[format!("{name}_source")], "estimated", "{usage}: {record}");
                let tokens = record[format!("{name}_tokens")].as_u64();
                assert!(tokens.is_some_and(|tokens| (1..100).contains(&tokens)), "{usage}: {record}");
            }
            assert!(record["cost_eur"].as_f64().is_some_and(|cost| cost < 0.01), "{usage}: {record}");
        }
    }
    let start = std::time::Instant::now();
    gateway.signal("TERM");
    assert!(gateway.exit().await.success());
    assert!(start.elapsed().as_secs() < 4, "{:?}; the drain may take 10 s", start.elapsed());
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

/// What is passed on unread was charged nothing at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_not_read_is_charged_by_its_prompt() {
    let upstream = Upstream::chatting().await;
    let conf = Conf::to(upstream.address).set("tollgate.limits.answer_buffer_bytes", 4096);
    let gateway = Gateway::start(&conf).await;
    let mut dice = crate::harness::Dice::new(14);
    let sound: Vec<u8> = (0..300_000).map(|_| u8::try_from(dice.below(256)).expect("a byte")).collect();
    let mut large = script::chat_body(MODEL);
    large["choices"][0]["message"]["content"] = "word ".repeat(20_000).into();
    let large = large.to_string().into_bytes();
    let said = "A sentence of some length that is to be spoken by the model.";
    let speech = json!({"model": MODEL, "input": said, "voice": "alloy"}).to_string();
    let question = json!({"model": MODEL, "messages": [{"role": "user", "content": said}]}).to_string();
    let coded = "content-type: application/json\r\ncontent-encoding: br\r\n";
    let cases = [
        ("sound", "/v1/audio/speech", &speech, "content-type: audio/mpeg\r\n", &sound),
        ("no type", "/v1/audio/speech", &speech, "", &sound),
        ("large JSON", "/v1/chat/completions", &question, "content-type: application/json\r\n", &large),
        ("compressed all the same", "/v1/chat/completions", &question, coded, &sound),
    ];
    let mut count = 0;
    for (name, endpoint, body, fields, answer) in cases {
        for framing in ["length", "chunked", "unframed"] {
            let framed = match framing {
                "length" => format!("content-length: {}\r\n", answer.len()),
                "chunked" => "transfer-encoding: chunked\r\n".to_owned(),
                _ => "connection: close\r\n".to_owned(),
            };
            let head = format!("HTTP/1.1 200 OK\r\n{fields}{framed}\r\n");
            let mut steps = vec![script::Step::Send(head.into_bytes())];
            for piece in dice.pieces(answer, 30_000) {
                steps.push(script::Step::Send(if framing == "chunked" {
                    script::chunk(&piece)
                } else {
                    piece
                }));
            }
            match framing {
                "length" => {}
                "chunked" => steps.push(script::Step::Send(script::LAST_CHUNK.to_vec())),
                _ => steps.push(script::Step::Close),
            }
            upstream.answer_with(move |_| steps.clone());
            let got = gateway.exchange(&Request::post(endpoint, body.as_str()).key(KEY)).await;
            assert_eq!((got.status, got.is_whole), (200, true), "{name}, {framing}");
            assert!(got.body == *answer, "{name}, {framing}: {} of {} bytes", got.body.len(), answer.len());
            count += 1;
            let record = gateway.records(count).await.remove(count - 1);
            assert_eq!(
                (&record["outcome"], &record["input_source"]),
                (&json!("ok"), &json!("estimated")),
                "{record}"
            );
            assert!(
                record["input_tokens"].as_u64().is_some_and(|tokens| (10..40).contains(&tokens)),
                "{record}"
            );
            assert!(record["cost_eur"].as_f64().is_some_and(|cost| cost > 0.0), "{name}: {record}");
        }
    }
}
