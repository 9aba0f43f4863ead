//! The harness against itself: a scripted server and a raw client without a gateway between them. A test that
//! fails for the harness's own fault would send its reader to the wrong place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::Semaphore;

use crate::harness::client::{Client, Next};
use crate::harness::conf::Conf;
use crate::harness::gateway::{Folder, chat};
use crate::harness::h2::ClientH2;
use crate::harness::metrics::Metrics;
use crate::harness::request::Request;
use crate::harness::script::{self, Step};
use crate::harness::sse;
use crate::harness::tls::Certificate;
use crate::harness::upstream::{Ending, Upstream};
use crate::harness::upstream_h2::UpstreamH2;
use crate::harness::wire::Framing;
use crate::harness::{Dice, recording};

#[tokio::test]
async fn bodies_of_both_framings_arrive_whole_on_one_connection() {
    let upstream = Upstream::chatting().await;
    let mut client = Client::connect(upstream.address).await;
    let plain = chat(json!({}));
    let answer = client.exchange(&plain).await;
    assert_eq!((answer.status, answer.is_whole), (200, true));
    let answer = client.exchange(&plain.clone().chunked(7)).await;
    assert_eq!(answer.json()["usage"]["prompt_tokens"], 7);
    let seen = upstream.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].framing, Framing::Length(plain.body_bytes().len()));
    assert_eq!(seen[1].framing, Framing::Chunked);
    assert_eq!(seen[0].body, seen[1].body);
    assert_eq!((seen[0].connection, seen[1].connection), (0, 0));
}

#[tokio::test]
async fn a_stream_is_read_event_by_event() {
    let gate = Arc::new(Semaphore::new(0));
    let events = script::chat_events("m", &["a", "b"], Some((1, 2)));
    let upstream = Upstream::playing(script::gated_stream(&events, &gate)).await;
    let client = Client::connect(upstream.address).await;
    let mut stream = client.open_stream(&chat(json!({"stream": true}))).await;
    for event in &events {
        gate.add_permits(1);
        assert_eq!(&stream.event().await, event);
    }
    assert_eq!(stream.next().await, Next::End);
    assert_eq!(upstream.ending(1).await, Ending::Played);
    gate.add_permits(events.len());
    let answer = stream.into_client().exchange(&chat(json!({}))).await;
    assert_eq!(answer.status, 200, "the connection can be used again");
}

#[tokio::test]
async fn a_cut_stream_and_a_reset_are_told_from_an_end() {
    let events = script::chat_events("m", &["a"], None);
    for end in [Step::Close, Step::Reset] {
        let upstream = Upstream::playing(script::broken_stream(&events, 1, end)).await;
        let client = Client::connect(upstream.address).await;
        let mut stream = client.open_stream(&chat(json!({"stream": true}))).await;
        // A reset may overtake the event that was sent before it.
        let (seen, end) = stream.remaining().await;
        assert!(seen.len() <= 1);
        assert_eq!(end, Next::Cut);
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_at_once() {
    let upstream = Upstream::playing(vec![Step::Hang]).await;
    let mut client = Client::connect(upstream.address).await;
    client.send(&chat(json!({})).head_bytes()).await.expect("head");
    client.send(&chat(json!({})).body_bytes()).await.expect("body");
    upstream.request(1).await;
    let left = Instant::now();
    drop(client);
    let Ending::Abandoned(noticed) = upstream.ending(1).await else { panic!("the script has no end") };
    assert!(noticed - left < Duration::from_millis(100), "{:?}", noticed - left);
}

#[tokio::test]
async fn a_killed_server_refuses_and_a_revived_one_answers() {
    let upstream = Upstream::chatting().await;
    let mut client = Client::connect(upstream.address).await;
    assert_eq!(client.exchange(&Request::get("/health")).await.status, 200);
    upstream.set_healthy(false);
    assert_eq!(client.exchange(&Request::get("/health")).await.status, 503);
    assert_eq!((upstream.probes(), upstream.count(), upstream.connections()), (2, 0, 1));
    upstream.kill().await;
    client.closed().await;
    let refused = tokio::net::TcpStream::connect(upstream.address).await;
    assert!(refused.is_err());
    upstream.revive().await;
    let answer = Client::connect(upstream.address).await.exchange(&chat(json!({}))).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn http_2_carries_a_body_larger_than_a_window() {
    let upstream = UpstreamH2::start().await;
    let client = ClientH2::connect(upstream.address).await;
    let body = vec![b'x'; 3 << 20];
    let answer = client.exchange(&Request::post("/v1/chat/completions", body.clone())).await;
    assert_eq!((answer.status, answer.is_whole), (200, true));
    assert_eq!(upstream.seen()[0].body, body);
    assert_eq!(upstream.seen()[0].headers["content-type"], "application/json");
}

#[tokio::test]
async fn certificates_are_written_where_a_gateway_can_read_them() {
    let folder = Folder::new();
    let certificate = Certificate::new(folder.path());
    for (file, kind) in [(&certificate.chain, "CERTIFICATE"), (&certificate.key, "PRIVATE KEY")] {
        let text = std::fs::read_to_string(file).expect("written");
        assert!(text.starts_with(&format!("-----BEGIN {kind}-----")), "{text}");
    }
}

#[test]
fn configurations_are_written_as_asked() {
    let folder = Folder::new();
    Conf::to(([127, 0, 0, 1], 9).into())
        .set("tollgate.limits.json_depth", 5)
        .pool_timeout("connect_ms", 70)
        .write(folder.path());
    let read = |name: &str| -> serde_json::Value {
        let text = std::fs::read_to_string(folder.path().join(name)).expect("written");
        serde_json::from_str(&text).expect("a tree")
    };
    assert_eq!(read("tollgate.yaml")["limits"]["json_depth"], 5);
    assert_eq!(read("upstreams.yaml")["pools"][0]["timeouts"]["connect_ms"], 70);
    assert_eq!(read("upstreams.yaml")["pools"][0]["servers"][0]["address"], "127.0.0.1:9");
    let secret = read("tenants.yaml")["tenants"][0]["keys"][0]["secret"].as_str().expect("text").to_owned();
    assert!(std::fs::read_to_string(&secret["file:".len()..]).expect("written").starts_with("tg_main_"));
}

#[test]
fn metrics_are_read_with_their_labels() {
    let metrics = Metrics::parse(
        "# HELP a_total Counts things.\n# TYPE a_total counter\na_total{x=\"1\",y=\"q\\\"}\"} 3\na_total{x=\"2\"} 4\nb 0.5\n",
    );
    assert!((metrics.sum("a_total", &[]) - 7.0).abs() < 1e-9);
    assert!((metrics.sum("a_total", &[("x", "1")]) - 3.0).abs() < 1e-9);
    assert!((metrics.sum("a_total", &[("y", "q\"}")]) - 3.0).abs() < 1e-9);
    assert_eq!(metrics.typed["a_total"], "counter");
    assert!(metrics.explained.contains("a_total"));
}

#[test]
fn streams_are_split_at_empty_lines_only() {
    let cases: [(&str, &[&str]); 4] = [
        ("data: a\n\ndata: b\n\n", &["data: a\n\n", "data: b\n\n"]),
        ("data: a\r\n\r\n: c\n\n", &["data: a\r\n\r\n", ": c\n\n"]),
        ("event: e\ndata: a\n\n", &["event: e\ndata: a\n\n"]),
        ("data: a\n\ndata: b", &["data: a\n\n", "data: b"]),
    ];
    for (text, events) in cases {
        let expected: Vec<&[u8]> = events.iter().map(|event| event.as_bytes()).collect();
        assert_eq!(sse::split(text.as_bytes()), expected, "{text:?}");
    }
    let mut dice = Dice::new(3);
    let text = "data: something longer\n\n".repeat(20);
    assert_eq!(dice.pieces(text.as_bytes(), 9).concat(), text.as_bytes());
}

#[tokio::test]
async fn every_recording_can_be_read() {
    for recording in recording::all().await {
        assert!(recording.status >= 200, "{}", recording.name);
        if recording.is_stream() {
            assert!(sse::first_event(&recording.body).is_some(), "{}", recording.name);
        }
    }
}
