//! Streams go through event by event, end as they should, and say so when they do not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::harness::client::Next;
use crate::harness::conf::{Conf, MODEL};
use crate::harness::gateway::{Gateway, chat};
use crate::harness::h2::ClientH2;
use crate::harness::script::{self, Step};
use crate::harness::sse;
use crate::harness::upstream::{Ending, Upstream};

fn stream() -> Value {
    json!({"stream": true, "stream_options": {"include_usage": true}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_arrives_before_the_next_is_sent() {
    let gate = Arc::new(Semaphore::new(0));
    let words: Vec<String> = (0..50).map(|number| format!("word{number} ")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let events = script::chat_events(MODEL, &words, Some((7, 50)));
    let upstream = Upstream::playing(script::gated_stream(&events, &gate)).await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let client = gateway.connect().await;
    // The first event opens the answer, since headers are held until a body is there.
    gate.add_permits(1);
    let mut stream = client.open_stream(&chat(stream())).await;
    assert_eq!(stream.head.status(), 200);
    assert!(stream.head.get("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")));
    assert_eq!(stream.head.get("content-length"), None);
    assert_eq!(stream.head.get("cache-control"), Some("no-cache"));
    assert_eq!(stream.head.get("x-accel-buffering"), Some("no"));
    let mut delays = Vec::new();
    for (number, event) in events.iter().enumerate() {
        let start = Instant::now();
        if number > 0 {
            gate.add_permits(1);
        }
        assert_eq!(&stream.event().await, event);
        delays.push(start.elapsed());
    }
    assert_eq!(stream.next().await, Next::End);
    delays.sort();
    // Nagle against delayed acknowledgements costs 40 ms an event: the median would show it.
    assert!(delays[delays.len() / 2] < Duration::from_millis(20), "{delays:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_arrive_one_by_one_over_http_2() {
    let gate = Arc::new(Semaphore::new(1));
    let events = script::chat_events(MODEL, &["a ", "b ", "c "], Some((7, 3)));
    let upstream = Upstream::playing(script::gated_stream(&events, &gate)).await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let client = ClientH2::connect(gateway.address()).await;
    let (head, mut body) = client.open(&chat(stream())).await.expect("an answer");
    assert_eq!(head.status(), 200);
    let mut ahead = Vec::new();
    for event in &events {
        while sse::first_event(&ahead).is_none() {
            let data = crate::harness::within("data", body.data()).await.expect("not the end").expect("data");
            body.flow_control().release_capacity(data.len()).expect("the data just came");
            ahead.extend_from_slice(&data);
        }
        let length = sse::first_event(&ahead).expect("just looked");
        assert_eq!(String::from_utf8(ahead.drain(..length).collect()).expect("text"), *event);
        gate.add_permits(1);
    }
    let rest = crate::harness::within("the end", body.data()).await;
    assert!(rest.is_none_or(|data| data.is_ok_and(|data| data.is_empty())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_in_many_pieces_is_one_event() {
    let event = sse::delta(MODEL, "漢字 and more");
    let mut steps = vec![Step::Send(script::stream_head())];
    for byte in event.as_bytes() {
        steps.push(Step::Send(script::chunk(&[*byte])));
        steps.push(Step::Pause(Duration::from_micros(200)));
    }
    steps.push(Step::Send([script::chunk(sse::DONE.as_bytes()), script::LAST_CHUNK.to_vec()].concat()));
    let upstream = Upstream::playing(steps).await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let mut stream = gateway.connect().await.open_stream(&chat(stream())).await;
    assert_eq!(stream.event().await, event);
    assert_eq!(stream.event().await, sse::DONE);
    assert_eq!(stream.next().await, Next::End);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_done_is_added() {
    let mut events = script::chat_events(MODEL, &["a"], Some((7, 1)));
    events.pop();
    let upstream = Upstream::playing(script::stream(&events)).await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let mut stream = gateway.connect().await.open_stream(&chat(stream())).await;
    let (seen, end) = stream.remaining().await;
    assert_eq!(end, Next::End);
    assert_eq!(seen[..events.len()], events[..]);
    assert_eq!(seen[events.len()..], [sse::DONE.to_owned()]);
    assert_eq!(gateway.records(1).await[0]["outcome"], "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_dies_says_so_and_does_not_look_done() {
    let events = script::chat_events(MODEL, &["a ", "b ", "c "], Some((7, 3)));
    let cases = [
        ("closed inside", script::broken_stream(&events, 2, Step::Close)),
        ("reset inside", {
            // The pause lets the events out before the reset takes them back.
            let mut steps = script::broken_stream(&events, 2, Step::Pause(Duration::from_millis(100)));
            steps.push(Step::Reset);
            steps
        }),
        ("half an event", {
            let mut steps = script::broken_stream(&events, 2, Step::Send(script::chunk(b"data: {\"choi")));
            steps.push(Step::Close);
            steps
        }),
        (
            "framing gone wrong",
            script::broken_stream(&events, 2, Step::Send(b"zz\r\nnot a chunk\r\n".to_vec())),
        ),
    ];
    for (name, script) in cases {
        let upstream = Upstream::playing(script).await;
        let gateway = Gateway::start(&Conf::to(upstream.address)).await;
        let mut stream = gateway.connect().await.open_stream(&chat(stream())).await;
        let (seen, _) = stream.remaining().await;
        assert_eq!(seen[..2], events[..2], "{name}");
        let last = seen.last().and_then(|event| sse::data(event)).expect("data");
        let error: Value =
            serde_json::from_str(last).unwrap_or_else(|error| panic!("{name}: {error}: {seen:?}"));
        assert_eq!(error["error"]["type"], "server_error", "{name}: {seen:?}");
        assert_eq!(error["error"]["code"], "upstream_error", "{name}: {seen:?}");
        assert!(error["error"]["message"].is_string() && error["error"].get("param").is_some(), "{name}");
        assert!(!seen.iter().any(|event| event.contains("[DONE]")), "{name}: {seen:?}");
        let record = gateway.records(1).await.remove(0);
        assert_eq!(record["outcome"], "upstream_cut", "{name}");
        assert_eq!(record["attempts"], 1, "{name}: nothing is repeated once a byte has gone out");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_an_end_of_its_own_is_not_given_one() {
    // No finish_reason, no [DONE], a clean end of the body: the engine was stopped in the middle of a sentence.
    let events = [sse::delta(MODEL, "a "), sse::delta(MODEL, "b ")];
    let upstream = Upstream::playing(script::stream(&events)).await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let mut stream = gateway.connect().await.open_stream(&chat(stream())).await;
    let (seen, _) = stream.remaining().await;
    assert_eq!(seen[..2], events[..]);
    assert!(!seen.iter().any(|event| event.contains("[DONE]")), "{seen:?}");
    assert!(seen.last().is_some_and(|event| event.contains("\"error\"")), "{seen:?}");
    assert_eq!(gateway.records(1).await[0]["outcome"], "upstream_cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_cut_is_not_passed_off_as_whole() {
    let body = script::chat_body(MODEL).to_string();
    let mut half = script::head(200, "application/json", body.len());
    half.extend_from_slice(&body.as_bytes()[..body.len() / 2]);
    let upstream = Upstream::playing(vec![Step::Send(half), Step::Close]).await;
    let conf = Conf::to(upstream.address).set("upstreams.pools.0.retry.attempts", 1);
    let gateway = Gateway::start(&conf).await;
    let answer = gateway.chat(json!({})).await;
    assert!(answer.status == 502 || !answer.is_whole, "{} {}", answer.status, answer.text());
    let outcome = gateway.records(1).await[0]["outcome"].clone();
    assert!(outcome == "upstream_cut" || outcome == "upstream_failed", "{outcome}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_silence_is_filled_with_comments() {
    let gate = Arc::new(Semaphore::new(1));
    let events = script::chat_events(MODEL, &["a "], Some((7, 1)));
    let upstream = Upstream::playing(script::gated_stream(&events, &gate)).await;
    let conf = Conf::to(upstream.address).set("tollgate.stream.keepalive_comment_ms", 60);
    let gateway = Gateway::start(&conf).await;
    let mut stream = gateway.connect().await.open_stream(&chat(stream())).await;
    assert_eq!(stream.event().await, events[0]);
    for _ in 0..3 {
        let comment = stream.event().await;
        assert!(comment.starts_with(':') && comment.ends_with("\n\n"), "{comment:?}");
    }
    gate.add_permits(events.len());
    let (seen, end) = stream.remaining().await;
    assert_eq!(end, Next::End);
    let data: Vec<String> = seen.into_iter().filter(|event| !event.starts_with(':')).collect();
    assert_eq!(data, events[1..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn comments_before_the_first_byte_are_the_operators_choice() {
    let gate = Arc::new(Semaphore::new(0));
    let events = script::chat_events(MODEL, &["a "], Some((7, 1)));
    let upstream = Upstream::playing(script::gated_stream(&events, &gate)).await;
    let conf = Conf::to(upstream.address)
        .set("tollgate.stream.keepalive_comment_ms", 60)
        .set("tollgate.stream.keepalive_before_first_byte", true);
    let gateway = Gateway::start(&conf).await;
    let mut stream = gateway.connect().await.open_stream(&chat(stream())).await;
    assert!(stream.event().await.starts_with(':'));
    gate.add_permits(events.len());
    let (seen, end) = stream.remaining().await;
    assert_eq!(end, Next::End);
    assert_eq!(seen.last().map(String::as_str), Some(sse::DONE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_reader_does_not_hold_a_server_for_ever() {
    // Far more than all socket buffers between server and client can hold.
    let event = sse::delta(MODEL, &"x".repeat(60_000));
    let events: Vec<String> = std::iter::repeat_n(event, 600).collect();
    let upstream = Upstream::playing(script::stream(&events)).await;
    let conf = Conf::to(upstream.address).set("tollgate.timeouts.client_write_ms", 300);
    let gateway = Gateway::start(&conf).await;
    let stream = gateway.connect().await.open_stream(&chat(stream())).await;
    let ending = upstream.ending(1).await;
    assert!(matches!(ending, Ending::Abandoned(_)), "{ending:?}: the server was never left");
    assert_eq!(gateway.records(1).await[0]["outcome"], "client_gone");
    drop(stream);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_used_again_on_both_sides() {
    let upstream = Upstream::chatting().await;
    let conf = Conf::to(upstream.address).set("upstreams.pools.0.health", json!({"probe": "off"}));
    let gateway = Gateway::start(&conf).await;
    let mut client = gateway.connect().await;
    for number in 0..20 {
        let request =
            chat(json!({"stream": number % 2 == 0, "model": if number % 5 == 4 { "none" } else { MODEL }}));
        let answer = client.exchange(&request).await;
        assert_eq!(answer.status, if number % 5 == 4 { 404 } else { 200 }, "{}", answer.text());
        assert!(answer.is_whole);
    }
    // The last bytes of an answer may reach the client just before its connection is free again.
    assert!(upstream.connections() <= 4, "{} connections for 16 requests", upstream.connections());
}
