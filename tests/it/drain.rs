//! A stop lets what runs come to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::harness::client::Next;
use crate::harness::conf::{Conf, MODEL};
use crate::harness::eventually;
use crate::harness::gateway::{Gateway, chat};
use crate::harness::script::{self, Step};
use crate::harness::upstream::Upstream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_finished_before_the_process_ends() {
    let gate = Arc::new(Semaphore::new(1));
    let events = script::chat_events(MODEL, &["a ", "b ", "c "], None);
    let upstream = Upstream::playing(script::gated_stream(&events, &gate)).await;
    let mut gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let mut stream = gateway.connect().await.open_stream(&chat(json!({"stream": true}))).await;
    assert_eq!(stream.event().await, events[0]);
    gateway.signal("TERM");
    eventually("the listener to close", || async {
        TcpStream::connect(gateway.address()).await.is_err().then_some(())
    })
    .await;
    gate.add_permits(events.len());
    let (rest, end) = stream.remaining().await;
    assert_eq!((rest.as_slice(), end), (&events[1..], Next::End));
    assert!(gateway.exit().await.success());
    let access = std::fs::read_to_string(gateway.folder().join("access.log")).expect("records");
    assert_eq!(access.lines().count(), 1, "{access}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_gateway_ends_at_once() {
    let upstream = Upstream::chatting().await;
    let mut gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let mut idle = gateway.connect().await;
    assert_eq!(idle.exchange(&chat(json!({}))).await.status, 200);
    let start = Instant::now();
    gateway.signal("TERM");
    assert!(gateway.exit().await.success());
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}; the drain may take 10 s", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_does_not_end_is_cut_at_the_limit_and_recorded() {
    let events = script::chat_events(MODEL, &["a "], None);
    let upstream = Upstream::playing(script::broken_stream(&events, 1, Step::Hang)).await;
    let mut gateway =
        Gateway::start(&Conf::to(upstream.address).set("tollgate.server.drain_timeout_ms", 500)).await;
    let mut stream = gateway.connect().await.open_stream(&chat(json!({"stream": true}))).await;
    assert_eq!(stream.event().await, events[0]);
    let start = Instant::now();
    gateway.signal("TERM");
    let (rest, _) = stream.remaining().await;
    assert!(!rest.iter().any(|event| event.contains("[DONE]")), "{rest:?}");
    gateway.exit().await;
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(400) && waited < Duration::from_secs(8), "{waited:?}");
    let access = std::fs::read_to_string(gateway.folder().join("access.log")).expect("records");
    assert_eq!(access.lines().count(), 1, "{access}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_turns_before_the_listeners_close() {
    let upstream = Upstream::chatting().await;
    let mut gateway =
        Gateway::start(&Conf::to(upstream.address).set("tollgate.server.drain_delay_ms", 1500)).await;
    assert_eq!(gateway.admin("/readyz").await.status, 200);
    gateway.signal("TERM");
    eventually("readiness to turn", || async {
        (gateway.admin("/readyz").await.status == 503).then_some(())
    })
    .await;
    assert_eq!(gateway.chat(json!({})).await.status, 200, "clients that come meanwhile are served");
    assert!(gateway.exit().await.success());
}
