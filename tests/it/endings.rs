//! How an answer ends tells the client whether it has all of it: what is cut never looks whole, and what is whole
//! never looks cut, whichever way the server or the client leaves.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::client::Next;
use crate::harness::conf::{Conf, KEY, MODEL};
use crate::harness::gateway::{Gateway, chat};
use crate::harness::h2::ClientH2;
use crate::harness::request::Request;
use crate::harness::script::{self, Step};
use crate::harness::sse;
use crate::harness::upstream::{Ending, Upstream};
use crate::harness::within;

/// More than all socket buffers between server and client can hold.
const FLOOD: usize = 36_000_000;

fn stream() -> Value {
    json!({"stream": true, "stream_options": {"include_usage": true}})
}

/// A stream of [`FLOOD`] bytes and a proper end, from behind a gateway that waits 300 ms for a client that does
/// not read.
async fn flooding() -> (Upstream, Gateway) {
    let event = sse::delta(MODEL, &"x".repeat(60_000));
    let mut events: Vec<String> = std::iter::repeat_n(event, FLOOD / 60_000).collect();
    events.extend(script::chat_events(MODEL, &["end"], None));
    let upstream = Upstream::playing(script::stream(&events)).await;
    let conf = Conf::to(upstream.address).set("tollgate.timeouts.client_write_ms", 300);
    let gateway = Gateway::start(&conf).await;
    (upstream, gateway)
}

/// Checks that the client is recorded as gone and that the server was left.
async fn gone(upstream: &Upstream, gateway: &Gateway) {
    assert_eq!(gateway.records(1).await[0]["outcome"], "client_gone");
    let ending = upstream.ending(1).await;
    assert!(matches!(ending, Ending::Abandoned(_)), "{ending:?}: the server was never left");
}

/// The gateway gave such a client up, and the framework then wrote the last chunk: when the client read on, a
/// stream with a piece missing ended like a whole one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stalls_gets_no_clean_end() {
    let (upstream, gateway) = flooding().await;
    let mut stream = gateway.connect().await.open_stream(&chat(stream())).await;
    gone(&upstream, &gateway).await;
    // With the client still there.
    gateway.until_no_connection().await;
    let mut length = 0;
    let end = loop {
        match stream.next().await {
            Next::Event(bytes) => length += bytes.len(),
            end => break end,
        }
    };
    assert_eq!(end, Next::Cut, "after {length} bytes");
    assert!(length > 0 && length < FLOOD, "{length} bytes came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stalls_over_http_2_gets_a_reset() {
    let (upstream, gateway) = flooding().await;
    let client = ClientH2::connect(gateway.address()).await;
    let (head, mut body) = client.open(&chat(stream())).await.expect("an answer");
    assert_eq!(head.status(), 200);
    // No window is given back: the stream stands still after the first 64 KiB.
    gone(&upstream, &gateway).await;
    let end = loop {
        match within("the end of the stream", body.data()).await {
            Some(Ok(data)) => body.flow_control().release_capacity(data.len()).expect("it just came"),
            end => break end,
        }
    };
    let error = end.expect("a stream with a piece missing ended cleanly").expect_err("not data");
    assert!(error.is_reset() || error.is_io() || error.is_go_away(), "{error}");
    drop((client, body));
    gateway.until_no_connection().await;
}

/// The same for an answer that had been read whole before its first byte went out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stalls_in_a_whole_answer_gets_no_clean_end() {
    let mut body = script::chat_body(MODEL);
    body["choices"][0]["message"]["content"] = "x".repeat(FLOOD).into();
    let upstream = Upstream::playing(script::json_answer(200, &body)).await;
    let conf = Conf::to(upstream.address)
        .set("tollgate.timeouts.client_write_ms", 300)
        .set("tollgate.limits.answer_buffer_bytes", 2 * FLOOD);
    let gateway = Gateway::start(&conf).await;
    let mut client = gateway.connect().await;
    let request = chat(json!({}));
    client.send(&[request.head_bytes(), request.body_bytes()].concat()).await.expect("sent");
    assert_eq!(gateway.records(1).await[0]["outcome"], "client_gone");
    gateway.until_no_connection().await;
    let answer = client.answer().await.expect("a head, and a part of the body");
    assert!(!answer.is_whole && answer.body.len() < FLOOD, "{} bytes came", answer.body.len());
}

/// An answer of `body` whose end is that of the connection.
fn unframed(version: &str, body: &str) -> Vec<Step> {
    let head = format!("{version} 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n");
    vec![Step::Send(head.into_bytes()), Step::Send(body.as_bytes().to_vec()), Step::Close]
}

/// Such an answer was taken for whole wherever it was cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unframed_answer_that_is_cut_is_asked_for_again() {
    let body = script::chat_body(MODEL).to_string();
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        for length in [1, body.len() / 2, body.len() - 1] {
            let cut = Upstream::playing(unframed(version, &body[..length])).await;
            let good = Upstream::chatting().await;
            // The weight sends the first try to the one that cuts; nothing may eject it.
            let conf = Conf::new()
                .server_with(cut.address, json!({"weight": 1000}))
                .server(good.address)
                .set("upstreams.pools.0.passive.failures", 0);
            let gateway = Gateway::start(&conf).await;
            let answer = gateway.chat(json!({})).await;
            assert_eq!((answer.status, answer.text()), (200, body.clone()), "{version}, {length} bytes");
            assert!(answer.is_whole);
            assert_eq!((cut.count(), good.count()), (1, 1), "{version}, {length} bytes");

            let alone = Gateway::start(&Conf::to(cut.address)).await;
            alone.chat(json!({})).await.expect_error(502, "upstream_error");
            assert_eq!(alone.records(1).await[0]["outcome"], "upstream_failed");
        }
        let whole = Upstream::playing(unframed(version, &body)).await;
        let gateway = Gateway::start(&Conf::to(whole.address)).await;
        let answer = gateway.chat(json!({})).await;
        assert_eq!((answer.status, answer.text()), (200, body.clone()), "{version}, whole");
        assert!(answer.is_whole);
        assert_eq!(gateway.records(1).await[0]["outcome"], "ok");
    }
}

/// Each interface's stream with its own end.
fn whole_streams() -> [(&'static str, Value, Vec<String>); 4] {
    let named = |name: &str, data: Value| format!("event: {name}\ndata: {data}\n\n");
    let responses = vec![
        named("response.output_text.delta", json!({"type": "response.output_text.delta", "delta": "a"})),
        named(
            "response.completed",
            json!({"type": "response.completed", "response": {"model": MODEL,
                "usage": {"input_tokens": 7, "output_tokens": 1, "total_tokens": 8}}}),
        ),
    ];
    let messages = vec![
        named(
            "content_block_delta",
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}}),
        ),
        named("message_stop", json!({"type": "message_stop"})),
    ];
    let text = json!({"id": "c1", "object": "text_completion", "created": 1, "model": MODEL,
        "choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]});
    let completions = vec![sse::event(&text.to_string()), sse::DONE.to_owned()];
    let said = json!([{"role": "user", "content": "x"}]);
    [
        (
            "/v1/chat/completions",
            json!({"messages": said}),
            script::chat_events(MODEL, &["a ", "b"], Some((7, 2))),
        ),
        ("/v1/completions", json!({"prompt": "x"}), completions),
        ("/v1/responses", json!({"input": "x"}), responses),
        ("/v1/messages", json!({"messages": said, "max_tokens": 5}), messages),
    ]
}

/// Python servers close their connection right after the last event, or leave it open. The first was told as
/// broken off, after an end that clients had already read; the second held the client for minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_over_with_its_last_event() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let mut count = 0;
    for (endpoint, mut asked, events) in whole_streams() {
        asked["model"] = MODEL.into();
        asked["stream"] = true.into();
        if endpoint.ends_with("completions") {
            asked["stream_options"] = json!({"include_usage": true});
        }
        let request = Request::post(endpoint, asked.to_string()).key(KEY);
        for (name, end) in [("closed", Step::Close), ("reset", Step::Reset), ("left open", Step::Hang)] {
            let steps = script::broken_stream(&events, events.len(), end);
            upstream.answer_with(move |_| steps.clone());
            let start = Instant::now();
            let mut stream = gateway.connect().await.open_stream(&request).await;
            let (seen, end) = stream.remaining().await;
            assert_eq!((seen, end), (events.clone(), Next::End), "{endpoint}, {name}");
            assert!(start.elapsed() < Duration::from_secs(4), "{endpoint}, {name}: {:?}", start.elapsed());
            count += 1;
            let record = gateway.records(count).await.remove(count - 1);
            assert_eq!(record["outcome"], "ok", "{endpoint}, {name}: {record}");
        }
    }
    gateway.until_health("s0", true).await;
}

/// An event too large to be read is passed on in pieces. A server that died inside it left the error event glued to
/// the piece, and no client could read it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_stands_on_its_own_after_half_an_overlong_event() {
    let first = sse::delta(MODEL, "a ");
    let long = sse::delta(MODEL, &"x".repeat(40_000));
    let inside = long[..30_000].to_owned();
    let cases = [
        ("inside a line", inside.clone()),
        ("after a line", format!("{inside}\n")),
        ("after a line with CR LF", format!("{inside}\r\n")),
        ("inside CR LF", format!("{inside}\r")),
        ("inside a second line", format!("{inside}\ndata: more")),
    ];
    for (name, begun) in cases {
        for end in [Step::Close, Step::Reset] {
            let events = [first.clone(), begun.clone()];
            let upstream = Upstream::playing(script::broken_stream(&events, 2, end)).await;
            let conf = Conf::to(upstream.address).set("tollgate.limits.event_bytes", 4096);
            let gateway = Gateway::start(&conf).await;
            let mut stream = gateway.connect().await.open_stream(&chat(stream())).await;
            let (seen, _) = stream.remaining().await;
            assert_eq!(seen.first(), Some(&first), "{name}");
            assert!(seen.concat().starts_with(&format!("{first}{begun}")), "{name}: what came was changed");
            let last = seen.last().and_then(|event| event.strip_prefix("data: ")).unwrap_or_default();
            let error: Value = serde_json::from_str(last)
                .unwrap_or_else(|error| panic!("{name}: {error}: {} events, {last:?}", seen.len()));
            assert_eq!(error["error"]["code"], "upstream_error", "{name}: {error}");
            assert_eq!(gateway.records(1).await[0]["outcome"], "upstream_cut", "{name}");
        }
    }
}
