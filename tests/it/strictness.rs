//! Requests that two servers could read differently never leave the gateway: each is refused, and what would
//! follow it on the connection is not taken for a request.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::client::Client;
use crate::harness::conf::{Conf, KEY};
use crate::harness::gateway::{Gateway, chat};
use crate::harness::upstream::Upstream;

const BODY: &str = r#"{"model":"test-model","messages":[{"role":"user","content":"x"}]}"#;

/// Raw bytes with `{L}` for the body's length, `{B}` for the body and `{K}` for a good key.
fn raw(text: &str) -> Vec<u8> {
    text.replace("{L}", &BODY.len().to_string()).replace("{B}", BODY).replace("{K}", KEY).into_bytes()
}

/// A good request with these lines as its head fields.
fn with(lines: &str) -> Vec<u8> {
    raw(&format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway.test\r\nauthorization: Bearer {{K}}\r\n\
         content-type: application/json\r\n{lines}\r\n\r\n{{B}}"
    ))
}

fn line(request_line: &str) -> Vec<u8> {
    raw(&format!(
        "{request_line}\r\nhost: gateway.test\r\nauthorization: Bearer {{K}}\r\ncontent-type: application/json\r\n\
         content-length: {{L}}\r\n\r\n{{B}}"
    ))
}

fn hosts(lines: &str) -> Vec<u8> {
    raw(&format!(
        "POST /v1/chat/completions HTTP/1.1\r\n{lines}authorization: Bearer {{K}}\r\ncontent-type: application/json\r\n\
         content-length: {{L}}\r\n\r\n{{B}}"
    ))
}

fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let mut cases = vec![
        ("two equal lengths", with("content-length: {L}\r\ncontent-length: {L}")),
        ("two lengths", with("content-length: {L}\r\ncontent-length: 5")),
        ("a list of lengths", with("content-length: {L}, {L}")),
        ("a signed length", with("content-length: +{L}")),
        ("a negative length", with("content-length: -1")),
        ("a hexadecimal length", with("content-length: 0x10")),
        ("an empty length", with("content-length: ")),
        ("a length beyond 64 bits", with("content-length: 99999999999999999999999")),
        ("length and chunked", with("content-length: {L}\r\ntransfer-encoding: chunked")),
        ("gzip, chunked", with("transfer-encoding: gzip, chunked")),
        ("chunked twice", with("transfer-encoding: chunked\r\ntransfer-encoding: chunked")),
        ("chunked, chunked", with("transfer-encoding: chunked, chunked")),
        ("chunked, identity", with("transfer-encoding: chunked, identity")),
        ("identity", with("transfer-encoding: identity")),
        ("xchunked", with("transfer-encoding: xchunked")),
        ("quoted chunked", with("transfer-encoding: \"chunked\"")),
        ("space before the colon", with("content-length : {L}")),
        ("a folded field", with("x-a: 1\r\n  2\r\ncontent-length: {L}")),
        ("a field without a name", with(": x\r\ncontent-length: {L}")),
        ("upgrade", with("connection: upgrade\r\nupgrade: websocket\r\ncontent-length: {L}")),
        (
            "h2c upgrade",
            with(
                "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\ncontent-length: {L}",
            ),
        ),
        ("two credentials", with("authorization: Bearer {K}\r\ncontent-length: {L}")),
        ("no host", hosts("")),
        ("two hosts", hosts("host: gateway.test\r\nhost: evil.test\r\n")),
        ("an empty host", hosts("host: \r\n")),
        ("a host with a space", hosts("host: a b\r\n")),
        ("a host with a slash", hosts("host: a/b\r\n")),
        ("a host with a comma", hosts("host: a,b\r\n")),
        ("a host with a user", hosts("host: user@gateway.test\r\n")),
        ("another target host", line("POST http://evil.test/v1/chat/completions HTTP/1.1")),
        ("an authority for a target", line("POST gateway.test:80 HTTP/1.1")),
        ("a star for a target", line("POST * HTTP/1.1")),
        ("no slash", line("POST v1/chat/completions HTTP/1.1")),
        ("a space in the target", line("POST /v1/chat completions HTTP/1.1")),
        ("a NUL in the target", line("POST /v1/chat/\0completions HTTP/1.1")),
        ("an escaped NUL in the target", line("POST /v1/chat/completions%00 HTTP/1.1")),
        ("a letter beyond ASCII in the target", line("POST /v1/chat/completions\u{e9} HTTP/1.1")),
        (
            "HTTP/1.0 chunked",
            raw(
                "POST /v1/chat/completions HTTP/1.0\r\nhost: gateway.test\r\nauthorization: Bearer {K}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
        ),
        ("HTTP/3.0", line("POST /v1/chat/completions HTTP/3.0")),
        ("no version", line("POST /v1/chat/completions")),
        ("CONNECT", raw("CONNECT gateway.test:443 HTTP/1.1\r\nhost: gateway.test:443\r\n\r\n")),
        (
            "TRACE",
            raw("TRACE /v1/models HTTP/1.1\r\nhost: gateway.test\r\nauthorization: Bearer {K}\r\n\r\n"),
        ),
        ("an invented method", line("GRAB /v1/chat/completions HTTP/1.1")),
        ("a bad chunk size", with("transfer-encoding: chunked\r\n\r\nzz\r\nx\r\n0")),
        ("a negative chunk size", with("transfer-encoding: chunked\r\n\r\n-1\r\nx\r\n0")),
        (
            "a chunk size beyond 64 bits",
            with("transfer-encoding: chunked\r\n\r\n10000000000000000\r\nx\r\n0"),
        ),
        ("not HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20)),
    ];
    for control in [0x00u8, 0x01, 0x0b, 0x0c, 0x7f] {
        let mut bytes = with("x-odd: a?b\r\ncontent-length: {L}");
        let at = bytes.windows(3).position(|window| window == b"a?b").expect("it is there");
        bytes[at + 1] = control;
        cases.push(("a control byte in a value", bytes));
    }
    for control in ["\r", "\n"] {
        cases.push((
            "half a line end in a value",
            with(&format!("x-odd: a{control}x-smuggled: 1\r\ncontent-length: {{L}}")),
        ));
    }
    cases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ambiguous_requests_never_reach_a_server() {
    let upstream = Upstream::chatting().await;
    let gateway =
        Gateway::start(&Conf::to(upstream.address).set("tollgate.timeouts.request_body_ms", 500)).await;
    for (name, bytes) in hostile() {
        let mut client = gateway.connect().await;
        // What follows on the connection is a good request; it must not be answered as the second one.
        let followed = [bytes.as_slice(), &chat(json!({"user": "smuggled"})).head_bytes(), b"{}"].concat();
        drop(client.send(&followed).await);
        // Closed without a word is a refusal too.
        if let Ok(answer) = client.answer().await {
            assert!((400..=505).contains(&answer.status), "{name}: {} {}", answer.status, answer.text());
            assert_ne!(answer.status, 500, "{name}: {}", answer.text());
            let again = client.answer().await.map_or(400, |second| second.status);
            assert!(again >= 400, "{name}: a second answer, {again}");
        }
        assert_eq!(upstream.count(), 0, "{name} reached the server: {:?}", upstream.seen());
    }
    assert_eq!(gateway.chat(json!({})).await.status, 200, "honest requests go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversized_head_is_answered() {
    let upstream = Upstream::chatting().await;
    let conf = Conf::to(upstream.address).set("tollgate.limits.request_header_bytes", 16_384);
    let gateway = Gateway::start(&conf).await;
    let large = gateway.exchange(&chat(json!({})).field("x-large", &"a".repeat(10_000))).await;
    assert_eq!(large.status, 200, "{}", large.text());
    let too_large = gateway.exchange(&chat(json!({})).field("x-large", &"a".repeat(17_000))).await;
    too_large.expect_error(431, "headers_too_large");
    let mut many = chat(json!({}));
    for number in 0..2000 {
        many = many.field(&format!("x-many-{number}"), "0123456789");
    }
    let mut client = gateway.connect().await;
    if let Ok(answer) = client.try_exchange(&many).await {
        assert!([400, 431].contains(&answer.status), "{}", answer.status);
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_trickles_is_closed_by_the_deadline() {
    let upstream = Upstream::chatting().await;
    let conf = Conf::to(upstream.address)
        .set("tollgate.timeouts.request_header_ms", 500)
        .set("tollgate.timeouts.keepalive_ms", 700);
    let gateway = Gateway::start(&conf).await;
    let request = chat(json!({}));

    let mut trickling = gateway.connect().await;
    let start = Instant::now();
    for byte in request.head_bytes() {
        if trickling.send(&[byte]).await.is_err() || start.elapsed() > Duration::from_secs(3) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(start.elapsed() < Duration::from_secs(3), "a trickled first head was still read after 3 s");

    let mut silent = gateway.connect().await;
    let waited = silent.closed().await;
    assert!(waited < Duration::from_secs(3), "a silent connection lived {waited:?}");

    let mut second = gateway.connect().await;
    assert_eq!(second.exchange(&request).await.status, 200);
    second.send(&request.head_bytes()[..20]).await.expect("half of a second head");
    let waited = second.closed().await;
    assert!(waited < Duration::from_secs(3), "half of a second head lived {waited:?}");

    let mut idle = gateway.connect().await;
    assert_eq!(idle.exchange(&request).await.status, 200);
    assert!(idle.stays_open(Duration::from_millis(300)).await, "keep-alive is kept");
    let waited = idle.closed().await;
    assert!(waited < Duration::from_secs(3), "an idle connection lived {waited:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_cannot_take_every_connection() {
    let upstream = Upstream::chatting().await;
    let conf = Conf::to(upstream.address).set("tollgate.limits.connections_per_address", 5);
    let gateway = Gateway::start(&conf).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut client = gateway.connect().await;
        assert_eq!(client.exchange(&chat(json!({}))).await.status, 200);
        held.push(client);
    }
    let mut sixth = gateway.connect().await;
    let refused = sixth.try_exchange(&chat(json!({}))).await;
    assert!(refused.as_ref().map_or(true, |answer| answer.status == 503), "{refused:?}");
    for client in &mut held {
        assert_eq!(client.exchange(&chat(json!({}))).await.status, 200, "those inside are served");
    }
    drop(held);
    crate::harness::eventually("places to be given back", || async {
        let mut client = Client::connect(gateway.address()).await;
        client.try_exchange(&chat(json!({}))).await.ok().filter(|answer| answer.status == 200)
    })
    .await;
}
