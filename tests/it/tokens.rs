//! Tokens counted with a model's own tokenizer, where the server does not say how many there were; and how far the two
//! are apart where it does. The tokenizer is a small one of our own (tests/data/tokenizers).

use std::path::Path;

use serde_json::{Value, json};
use tollgate_filters::tokenizer::Tokenizer;

use crate::harness::conf::{Conf, KEY, MODEL};
use crate::harness::gateway::{Folder, Gateway, binary, chat};
use crate::harness::request::Request;
use crate::harness::script::{self, Step};
use crate::harness::sse;
use crate::harness::upstream::Upstream;

const SMALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tokenizers/byte-level.json");

/// What the template of the small tokenizer's family adds to a request and to each message.
const CHATML: (u64, u64) = (3, 5);

const SYSTEM: &str = "Answer the questions of the operators.";
const QUESTION: &str = "Which server has answered the request, and why did the others not?";
const WORDS: [&str; 6] =
    ["The gate", "way leaves", " a failed server", " for another", ", until", " the first byte."];

/// Tokens of a text encoded at once.
fn encode(text: &str) -> u64 {
    let json = std::fs::read(SMALL).expect("it is in the repository");
    Tokenizer::from_json(&json, 1).expect("a tokenizer").encode(text).expect("a text")
}

/// The configuration of a gateway whose models count with the small tokenizer.
fn conf(upstream: &Upstream) -> Conf {
    Conf::to(upstream.address).set("models.models.0.tokenizer", SMALL).set("models.models.1.tokenizer", SMALL)
}

fn question(streams: bool) -> Value {
    json!({"stream": streams, "messages": [
        {"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]})
}

fn asked() -> u64 {
    encode(SYSTEM) + encode(QUESTION) + CHATML.0 + 2 * CHATML.1
}

fn assert_counts(record: &Value, expected: Value) {
    for (key, value) in expected.as_object().expect("a mapping") {
        assert_eq!(&record[key], value, "{key} of {record}");
    }
}

/// An answer in the words above, with `more` beside its choices.
fn body(more: &Value) -> Value {
    let mut body = script::chat_body(MODEL);
    body["choices"][0]["message"]["content"] = WORDS.concat().into();
    body["usage"] = more.clone();
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_is_counted_for() {
    let upstream = Upstream::start(|seen| {
        if seen.json()["stream"] == true {
            script::stream(&script::chat_events(MODEL, &WORDS, None))
        } else {
            script::json_answer(200, &body(&Value::Null))
        }
    })
    .await;
    let gateway = Gateway::start(&conf(&upstream)).await;
    for streams in [true, false] {
        gateway.chat(question(streams)).await;
    }
    for record in gateway.records(2).await {
        // The model ended its turn, which took a token.
        assert_counts(
            &record,
            json!({
                "input_tokens": asked(), "system_tokens": encode(SYSTEM), "output_tokens": encode(&WORDS.concat()) + 1,
                "input_source": "tokenizer", "output_source": "tokenizer", "reasoning_source": "none",
            }),
        );
    }
    let metrics = gateway.metrics().await;
    let counted = metrics.sum("tollgate_tokens_total", &[("kind", "input"), ("source", "tokenizer")]);
    assert_eq!(counted, 2.0 * asked() as f64);
    assert_eq!(metrics.sum("tollgate_compared_tokens_total", &[]), 0.0);
    assert_eq!(metrics.sum("tollgate_unmetered_requests_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_is_charged_for_what_it_got() {
    let events = script::chat_events(MODEL, &WORDS, None);
    let upstream = Upstream::playing(script::broken_stream(&events, 4, Step::Hang)).await;
    let gateway = Gateway::start(&conf(&upstream)).await;
    let mut stream = gateway.connect().await.open_stream(&chat(question(true))).await;
    for _ in 0..4 {
        stream.event().await;
    }
    drop(stream);
    let record = gateway.records(1).await.remove(0);
    let said = encode(&WORDS[..4].concat());
    assert_counts(
        &record,
        json!({
            "outcome": "client_gone", "input_tokens": asked(), "output_tokens": said,
            "input_source": "tokenizer", "output_source": "tokenizer",
        }),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_wins_and_shows_how_far_off_the_count_is() {
    let usage = json!({"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50});
    let report = usage.clone();
    let upstream = Upstream::start(move |_| script::json_answer(200, &body(&report))).await;
    let gateway = Gateway::start(&conf(&upstream)).await;
    gateway.chat(question(false)).await;
    let record = gateway.records(1).await.remove(0);
    assert_counts(
        &record,
        json!({"input_tokens": 30, "output_tokens": 20, "input_source": "reported", "output_source": "reported",
            "system_tokens": encode(SYSTEM)}),
    );
    let metrics = gateway.metrics().await;
    let said = encode(&WORDS.concat()) + 1;
    for (kind, reported, counted) in [("input", 30, asked()), ("output", 20, said)] {
        let sum = |by| {
            metrics.sum("tollgate_compared_tokens_total", &[("model", MODEL), ("kind", kind), ("by", by)])
        };
        assert_eq!((sum("reported"), sum("counted")), (f64::from(reported), counted as f64), "{kind}");
        let off = metrics.sum("tollgate_miscounted_tokens_total", &[("model", MODEL), ("kind", kind)]);
        assert_eq!(off, u64::from(reported as u32).abs_diff(counted) as f64, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reasoning_is_told_apart_whoever_counts() {
    let delta = |key: &str, text: &str| {
        sse::event(
            &json!({"id": "c1", "model": MODEL, "choices": [{"index": 0, "delta": {key: text}}]}).to_string(),
        )
    };
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&conf(&upstream)).await;
    let (thought, said) = ("The operator asks why the server failed. ", "It has not answered.");
    let (thinks, says) = (encode(thought), encode(said) + 1);
    let told = json!({"completion_tokens_details": {"reasoning_tokens": 11}});
    for (count, (key, usage, expected)) in [
        ("reasoning_content", None, (says, thinks, "tokenizer", "tokenizer")),
        ("reasoning", None, (says, thinks, "tokenizer", "tokenizer")),
        // Reported as a whole: divided as it was counted.
        ("reasoning", Some(json!({})), (says, thinks, "reported", "tokenizer")),
        ("reasoning", Some(told), (says + thinks - 11, 11, "reported", "reported")),
    ]
    .into_iter()
    .enumerate()
    {
        let mut events = vec![delta(key, &thought[..20]), delta(key, &thought[20..]), delta("content", said)];
        events.push(sse::finish(MODEL));
        if let Some(mut usage) = usage {
            usage["prompt_tokens"] = 9.into();
            usage["completion_tokens"] = (says + thinks).into();
            events.push(sse::event(&json!({"model": MODEL, "choices": [], "usage": usage}).to_string()));
        }
        events.push(sse::DONE.into());
        upstream.answer_with(move |_| script::stream(&events));
        gateway.chat(question(true)).await;
        let record = gateway.records(count + 1).await.remove(count);
        let (output, reasoning, source, told_by) = expected;
        assert_counts(
            &record,
            json!({"output_tokens": output, "reasoning_tokens": reasoning, "output_source": source,
                "reasoning_source": told_by}),
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_count_is_what_a_tier_measures() {
    let upstream = Upstream::chatting().await;
    let mut question = question(false);
    question["max_tokens"] = 256.into();
    let most = asked() + 256;
    for (limit, status) in [(most, 200), (most - 1, 400)] {
        let gateway = Gateway::start(&conf(&upstream).set("tiers.tiers.0.max_context", limit)).await;
        let answer = gateway.chat(question.clone()).await;
        assert_eq!(answer.status, status, "{limit}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_nobody_counted_is_told() {
    let upstream = Upstream::chatting().await;
    let coded = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: br\r\ncontent-length: 4\r\n\r\nabcd";
    let gateway = Gateway::start(&conf(&upstream)).await;
    gateway.chat(question(false)).await;
    assert_eq!(gateway.metrics().await.sum("tollgate_unmetered_requests_total", &[]), 0.0);
    upstream.answer_with(move |_| vec![Step::Send(coded.into())]);
    gateway.chat(question(false)).await;
    gateway.records(2).await;
    assert_eq!(gateway.metrics().await.sum("tollgate_unmetered_requests_total", &[]), 1.0);
    assert!(gateway.log().contains("was not counted in full"), "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embeddings_without_a_report_are_counted() {
    let upstream = Upstream::start(|_| {
        let body =
            json!({"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]});
        script::json_answer(200, &body)
    })
    .await;
    let gateway = Gateway::start(&conf(&upstream)).await;
    let asked = json!({"model": "test-embed", "input": [SYSTEM, QUESTION]}).to_string();
    gateway.exchange(&Request::post("/v1/embeddings", asked).key(KEY)).await;
    let record = gateway.records(1).await.remove(0);
    let expected = encode(SYSTEM) + encode(QUESTION);
    assert_counts(
        &record,
        json!({"input_tokens": expected, "input_source": "tokenizer", "output_tokens": 0}),
    );
}

/// Runs the binary with `arguments` in a folder with that configuration, and `input`; gives what it says.
fn say(conf: &Conf, arguments: &[&str], input: &str) -> (i32, String, String) {
    use std::io::Write;
    use std::process::Stdio;
    let folder = Folder::new();
    conf.write(folder.path());
    let mut command = binary();
    command.args(arguments).arg("--conf").arg(folder.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it is read");
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tokenizer_that_cannot_be_used_is_a_fault_of_the_configuration() {
    let upstream = Upstream::chatting().await;
    let broken =
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tokenizers/../streams/vllm/chat_json.meta.json");
    for (file, words) in [
        ("missing.json", "models[0].tokenizer: "),
        ("missing.json", "missing.json cannot be read: No such file"),
        (broken, "models[0].tokenizer: expected a tokenizer.json of Hugging Face"),
        (
            "gpt-4o",
            "expected one of o200k, cl100k, qwen2, deepseek_v3, mistral_v3, or the path of a tokenizer.json",
        ),
    ] {
        let conf = Conf::to(upstream.address).set("models.models.0.tokenizer", file);
        let (code, _, said) = say(&conf, &["check"], "");
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(words) && said.contains("models.yaml:"), "{said}");
        assert!(said.ends_with("1 fault\n"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_what_counts_and_tokens_counts() {
    let upstream = Upstream::chatting().await;
    let conf = conf(&upstream).set("models.models.2.tokenizer", "cl100k");
    let (code, said, _) = say(&conf, &["check"], "");
    assert_eq!(code, 0);
    for words in ["byte-level.json (chatml)", "cl100k (openai)", "4 characters a token"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    let (code, said, error) = say(&conf, &["tokens", "--model", "test-alias", "--json"], QUESTION);
    assert_eq!(code, 0, "{error}");
    let counted: Value = serde_json::from_str(&said).expect("JSON");
    assert_counts(&counted, json!({"model": MODEL, "input_tokens": encode(QUESTION), "source": "tokenizer"}));
    let (code, said, error) =
        say(&conf, &["tokens", "--model", MODEL, "--json"], &question(false).to_string());
    assert_eq!(code, 0, "{error}");
    let counted: Value = serde_json::from_str(&said).expect("JSON");
    assert_counts(&counted, json!({"input_tokens": asked(), "system_tokens": encode(SYSTEM)}));
    let (code, _, error) = say(&conf, &["tokens", "--model", "nobody"], "");
    assert!(code == 2 && error.contains("no model of"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_takes_another_tokenizer_or_keeps_the_old_one() {
    let upstream = Upstream::start(|_| script::json_answer(200, &body(&Value::Null))).await;
    let plain = Conf::to(upstream.address);
    let gateway = Gateway::start(&plain).await;
    gateway.chat(question(false)).await;
    assert_eq!(gateway.records(1).await[0]["output_source"], "estimated");
    gateway.reload(&conf(&upstream)).await;
    gateway.chat(question(false)).await;
    assert_eq!(gateway.records(2).await[1]["output_source"], "tokenizer");
    assert!(Path::new(SMALL).exists());
}

/// What a chat template, tools and images add is estimated by the model's own rules, and set right by what the server says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn templates_tools_and_images_are_estimated_and_a_report_sets_them_right() {
    let upstream = Upstream::chatting().await;
    let conf = conf(&upstream)
        .set("models.models.0.chat_template", json!({"request": 11, "message": 2, "tools": 90}))
        .set("models.models.0.images", json!({"tokens": 2, "tile_px": 512, "tile_tokens": 170}));
    let gateway = Gateway::start(&conf).await;
    let tool = json!({"type": "function", "function": {"name": "lookup", "parameters": {"type": "object"}}});
    // An image elsewhere is taken for 1024 × 1024: four tiles.
    let request = json!({"tools": [tool], "messages": [{"role": "user", "content": [
        {"type": "text", "text": QUESTION},
        {"type": "image_url", "image_url": {"url": "https://example.test/a.png"}}]}]});
    // As they were sent, with the brackets of their list.
    let tools = encode(&json!([tool]).to_string());
    let estimated = encode(QUESTION) + 11 + 2 + 90 + tools + 2 + 4 * 170;
    let answer = |usage: Value| script::json_answer(200, &body(&usage));
    upstream.answer_with(move |_| answer(Value::Null));
    assert_eq!(gateway.chat(request.clone()).await.status, 200);
    let silent = &gateway.records(1).await[0];
    assert_counts(silent, json!({"input_tokens": estimated, "input_source": "estimated"}));
    let answer = |usage: Value| script::json_answer(200, &body(&usage));
    upstream.answer_with(move |_| {
        answer(json!({"prompt_tokens": 1234, "completion_tokens": 9, "total_tokens": 1243}))
    });
    assert_eq!(gateway.chat(request).await.status, 200);
    let told = &gateway.records(2).await[1];
    assert_counts(told, json!({"input_tokens": 1234, "input_source": "reported", "output_tokens": 9}));
    let metrics = gateway.metrics().await;
    let compared = |by: &str| {
        metrics.sum("tollgate_compared_tokens_total", &[("model", MODEL), ("kind", "input"), ("by", by)])
    };
    assert_eq!((compared("reported"), compared("counted")), (1234.0, estimated as f64));
}
