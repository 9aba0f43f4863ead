//! Every request leaves exactly one record, however it ended, and nothing that a client wrote leaves a trace
//! outside its own answer.

use serde_json::{Value, json};

use crate::harness::conf::{Conf, KEY, MODEL};
use crate::harness::eventually;
use crate::harness::gateway::{Gateway, chat};
use crate::harness::request::Request;
use crate::harness::script::{self, Step};
use crate::harness::upstream::Upstream;

/// Planted in prompts and answers; no log, metric or error may hold it.
const MARKER: &str = "xylophone-7319-marker";

const FIELDS: [&str; 21] = [
    "time",
    "request_id",
    "tenant",
    "key_id",
    "endpoint",
    "model",
    "server",
    "status",
    "code",
    "outcome",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "input_source",
    "output_source",
    "cost_eur",
    "ttft_ms",
    "duration_ms",
    "is_streaming",
    "attempts",
];

/// What the server does with a request is named by its `user`.
fn by_name(seen: &crate::harness::upstream::Seen) -> Vec<Step> {
    let asked = seen.json();
    let events = script::chat_events(MODEL, &[MARKER, " two"], Some((7, 2)));
    match asked["user"].as_str().unwrap_or_default() {
        "stream" => script::stream(&events),
        "cut" => script::broken_stream(&events, 1, Step::Close),
        "silent" => script::broken_stream(&events, 1, Step::Hang),
        "hang" => vec![Step::Hang],
        "error" => {
            let message = format!("cannot read {MARKER}");
            script::json_answer(
                400,
                &json!({"error": {"message": message, "type": "BadRequestError", "code": 400}}),
            )
        }
        "broken" => script::whole(500, "text/plain", MARKER.as_bytes()),
        "nonsense" => script::whole(200, "application/json", format!("{{\"{MARKER}").as_bytes()),
        _ => script::chat(MODEL),
    }
}

fn marked(user: &str, streams: bool) -> Request {
    chat(json!({"user": user, "stream": streams, "messages": [{"role": "user", "content": MARKER}]}))
}

async fn start(upstream: &Upstream) -> Gateway {
    let conf = Conf::to(upstream.address)
        .set("upstreams.pools.0.retry.attempts", 1)
        .set("upstreams.pools.0.passive.failures", 0)
        .set("tollgate.log.level", "debug")
        .pool_timeout("between_tokens_ms", 300)
        .pool_timeout("answer_ms", 300);
    Gateway::start(&conf).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_ending_leaves_one_record() {
    let upstream = Upstream::start(by_name).await;
    let gateway = start(&upstream).await;
    let no_key = marked("ok", false).without("authorization");
    let cases: [(&str, Request, u64, &str); 11] = [
        ("answered", marked("ok", false), 200, "ok"),
        ("streamed", marked("stream", true), 200, "ok"),
        ("no key", no_key, 401, "refused"),
        ("unknown model", chat(json!({"model": MARKER})), 404, "refused"),
        ("not JSON", Request::post("/v1/chat/completions", MARKER).key(KEY), 400, "refused"),
        ("unknown path", Request::post("/v1/nothing", "{}").key(KEY), 404, "refused"),
        ("cut", marked("cut", true), 200, "upstream_cut"),
        ("silent", marked("silent", true), 200, "timed_out"),
        ("never answered", marked("hang", false), 504, "timed_out"),
        ("the server says no", marked("error", false), 400, "upstream_failed"),
        ("the server breaks", marked("broken", false), 502, "upstream_failed"),
    ];
    for (count, (name, request, status, outcome)) in cases.iter().enumerate() {
        let answer = gateway.connect().await.exchange(request).await;
        assert_eq!(u64::from(answer.status), *status, "{name}: {}", answer.text());
        let record = gateway.records(count + 1).await.remove(count);
        assert_eq!(record["status"], *status, "{name}: {record}");
        // A 400 of the server is the client's fault: it may be told as refused as well.
        let is_told = record["outcome"] == *outcome || (*status == 400 && record["outcome"] == "refused");
        assert!(is_told, "{name}: {record}");
        for field in FIELDS {
            assert!(record.get(field).is_some(), "{name}: no {field} in {record}");
        }
        let id = answer.head.get("x-request-id").expect("an id");
        assert_eq!(record["request_id"], id, "{name}");
        if *status >= 400 {
            assert_eq!(record["code"], answer.json()["error"]["code"], "{name}: {record}");
        }
        if *status != 401 && *status != 404 {
            assert_eq!((&record["tenant"], &record["key_id"]), (&json!("acme"), &json!("main")), "{name}");
        }
    }
    // Those that a client left. One by one, since records are written in the order of endings.
    for (count, (user, streams)) in [("hang", false), ("silent", true)].into_iter().enumerate() {
        let mut client = gateway.connect().await;
        let request = marked(user, streams);
        client.send(&[request.head_bytes(), request.body_bytes()].concat()).await.expect("sent");
        let earlier = upstream.count();
        eventually("the request at the server", || async { (upstream.count() >= earlier).then_some(()) })
            .await;
        drop(client);
        let record = gateway.records(cases.len() + count + 1).await.pop().expect("just counted");
        let outcome = &record["outcome"];
        assert!(outcome == "client_gone" || outcome == "timed_out", "{record}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prompts_and_keys_leave_no_trace() {
    let upstream = Upstream::start(by_name).await;
    let gateway = start(&upstream).await;
    let wrong_key = format!("tg_main_{MARKER}");
    let requests = [
        marked("ok", false),
        marked("stream", true),
        marked("cut", true),
        marked("silent", true),
        marked("hang", false),
        marked("error", false),
        marked("broken", false),
        marked("nonsense", false),
        chat(json!({})).without("authorization").key(&wrong_key),
        Request::post("/v1/chat/completions", format!("{{\"{MARKER}\": broken")).key(KEY),
        chat(json!({"stream": MARKER})),
        Request::get(&format!("/v1/models/test-model?q={MARKER}")).key(KEY),
        chat(json!({})).field("x-custom", MARKER).field("cookie", MARKER),
        chat(json!({})).method(MARKER),
    ];
    let mut strangers = 0;
    for request in &requests {
        let Ok(answer) = gateway.connect().await.try_exchange(request).await else {
            strangers += 1; // refused before there was a request to record
            continue;
        };
        if answer.status == 401 || answer.status == 400 {
            let is_echo = answer.text().contains(MARKER) && !answer.text().contains("cannot read");
            assert!(!is_echo, "an error quotes what was sent: {}", answer.text());
        }
    }
    assert!(strangers <= 1);
    let metrics = gateway.admin("/metrics").await.text();
    gateway.signal("TERM");
    let mut gateway = gateway;
    gateway.exit().await;
    let access = std::fs::read_to_string(gateway.folder().join("access.log")).expect("records");
    assert!(access.lines().count() >= requests.len() - 2, "{access}");
    for (name, text) in
        [("access log", access), ("log", gateway.log()), ("output", gateway.output()), ("metrics", metrics)]
    {
        assert!(!text.contains(MARKER), "the {name} holds text of a request:\n{text}");
        assert!(!text.contains("0123456789abcdefghij"), "the {name} holds a key:\n{text}");
        assert!(!text.contains("unguessable-pepper"), "the {name} holds the pepper");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_all_there_after_a_stop() {
    let upstream = Upstream::chatting().await;
    let mut gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let mut client = gateway.connect().await;
    for _ in 0..200 {
        assert_eq!(client.exchange(&chat(json!({}))).await.status, 200);
    }
    gateway.signal("TERM");
    assert!(gateway.exit().await.success());
    let access = std::fs::read_to_string(gateway.folder().join("access.log")).expect("records");
    let ids: std::collections::BTreeSet<String> = access
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON lines")["request_id"].to_string())
        .collect();
    assert_eq!((access.lines().count(), ids.len()), (200, 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_rotated_by_size_and_keeps_as_many_files_as_told() {
    let upstream = Upstream::chatting().await;
    let conf = Conf::to(upstream.address)
        .set("tollgate.access_log.rotate_bytes", 2000)
        .set("tollgate.access_log.keep_files", 2);
    let gateway = Gateway::start(&conf).await;
    let files = || {
        let entries = std::fs::read_dir(gateway.folder()).expect("the folder of the test");
        let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("access.log.")).count()
    };
    // Each record is about 700 bytes: a file is full after three, and five files' worth is written.
    for number in 0..15 {
        assert_eq!(gateway.chat(json!({})).await.status, 200);
        eventually("the log to be rotated", || async {
            let current = std::fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
            let is_small = current.len() < 2000;
            assert!(current.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
            (is_small && (number < 3 || files() > 0)).then_some(())
        })
        .await;
        assert!(files() <= 2, "{} rotated files after {number} requests", files());
    }
    // What comes last is written a moment later.
    eventually("as many files as are kept", || async { (files() == 2).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_rotated_by_age() {
    let upstream = Upstream::chatting().await;
    let gateway =
        Gateway::start(&Conf::to(upstream.address).set("tollgate.access_log.rotate_age_s", 1)).await;
    assert_eq!(gateway.chat(json!({})).await.status, 200);
    eventually("the log to be rotated", || async {
        let mut entries = std::fs::read_dir(gateway.folder()).expect("the folder of the test");
        let is_rotated =
            |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("access.log.2");
        entries.any(|entry| is_rotated(entry.expect("an entry"))).then_some(())
    })
    .await;
}
