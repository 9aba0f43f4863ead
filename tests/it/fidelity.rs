//! Bytes are sacred: what a client wrote is what the server reads, but for the declared corrections, and what
//! belongs to one side of the gateway is not shown to the other.

use serde_json::{Value, json};

use crate::harness::conf::{Conf, KEY, MODEL};
use crate::harness::gateway::{Gateway, chat};
use crate::harness::request::Request;
use crate::harness::script::{self, Step};
use crate::harness::upstream::Upstream;

/// Requests that a parser would write differently than it read them.
fn oddities() -> Vec<(&'static str, String)> {
    let messages = r#""messages":[{"role":"user","content":"x"}]"#;
    vec![
        ("plain", format!(r#"{{"model":"{MODEL}",{messages}}}"#)),
        ("white space everywhere", format!("\n {{ \t\"model\"\r\n :\t\"{MODEL}\" , {messages}\n }}  \n")),
        (
            "numbers no double holds",
            format!(r#"{{"model":"{MODEL}",{messages},"seed":18446744073709551617,"x":1E+2,"y":-0.0}}"#),
        ),
        ("unknown keys", format!(r#"{{"x_top":{{"a":[{{}},[]]}},"model":"{MODEL}",{messages},"top_k":5}}"#)),
        ("keys twice", format!(r#"{{"user":"a","model":"{MODEL}",{messages},"user":"b"}}"#)),
        (
            "escapes",
            format!(
                r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"\u0041\/\ud83d\ude00 é 漢"}}]}}"#
            ),
        ),
        (
            "lone surrogate",
            format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"\ud800"}}]}}"#),
        ),
        ("an escaped model", format!(r#"{{"model":"test\u002dmodel",{messages}}}"#)),
        (
            "order and parts",
            format!(
                r#"{{"messages":[{{"content":[{{"type":"text","text":"x"}}],"role":"user"}}],"model":"{MODEL}"}}"#
            ),
        ),
        ("zero width and nulls", format!(r#"{{"model":"{MODEL}",{messages},"a":"\u0000\u200b","b":null}}"#)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_arrive_as_they_were_written() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    for (count, (name, body)) in oddities().into_iter().enumerate() {
        let answer = gateway.exchange(&Request::post("/v1/chat/completions", body.as_str()).key(KEY)).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let seen = upstream.request(count + 1).await;
        assert_eq!(String::from_utf8_lossy(&seen.body), body, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_model_is_replaced_for_a_served_name() {
    let upstream = Upstream::chatting().await;
    let conf = Conf::to(upstream.address).set(
        "upstreams.pools.0.models",
        json!([{"model": MODEL, "served_as": "org/much-longer-served-name"}]),
    );
    let gateway = Gateway::start(&conf).await;
    for (count, (name, body)) in oddities().into_iter().enumerate() {
        let answer = gateway.exchange(&Request::post("/v1/chat/completions", body.as_str()).key(KEY)).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let seen = upstream.request(count + 1).await;
        let spelled = if name == "an escaped model" { r"test\u002dmodel" } else { MODEL };
        let expected = body.replace(&format!("\"{spelled}\""), r#""org/much-longer-served-name""#);
        assert_eq!(String::from_utf8_lossy(&seen.body), expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_asked_for_in_place() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let rest = r#""messages":[{"role":"user","content":"x"}],"seed":18446744073709551617"#;
    let asked_already =
        format!(r#"{{"model":"{MODEL}","stream":true,"stream_options":{{"include_usage":true}},{rest}}}"#);
    // What was asked for already stays untouched; in the others, taking out what was put in gives the original.
    let cases = [
        ("no options", format!(r#"{{"model":"{MODEL}","stream":true,{rest}}}"#)),
        ("empty options", format!(r#"{{"model":"{MODEL}","stream":true,"stream_options":{{}},{rest}}}"#)),
        (
            "other options",
            format!(r#"{{"model":"{MODEL}","stream_options":{{"x":1}},"stream":true,{rest}}}"#),
        ),
        (
            "refused usage",
            format!(
                r#"{{"model":"{MODEL}","stream_options":{{"include_usage":false}},"stream":true,{rest}}}"#
            ),
        ),
        ("null options", format!(r#"{{"model":"{MODEL}","stream_options":null,"stream":true,{rest}}}"#)),
        ("asked already", asked_already.clone()),
    ];
    for (count, (name, body)) in cases.iter().enumerate() {
        let answer = gateway.exchange(&Request::post("/v1/chat/completions", body.as_str()).key(KEY)).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let seen = upstream.request(count + 1).await;
        let sent = String::from_utf8(seen.body.clone()).expect("text");
        assert_eq!(seen.json()["stream_options"]["include_usage"], true, "{name}: {sent}");
        assert!(sent.contains(rest), "{name}: {sent}");
        let mut expected: Value = serde_json::from_str(body).expect("JSON");
        let mut found = seen.json();
        for side in [&mut expected, &mut found] {
            side.as_object_mut().expect("a mapping").remove("stream_options");
        }
        assert_eq!(found, expected, "{name}");
        let is_asked = name == &"asked already";
        assert_eq!(answer.text().contains(r#""usage":{"#), is_asked, "{name}: {}", answer.text());
    }
    assert_eq!(upstream.seen()[cases.len() - 1].body, asked_already.into_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_between_client_and_gateway_stays_there() {
    let upstream = Upstream::chatting().await;
    let conf = Conf::new().server_with(upstream.address, json!({"credential": "file:/dev/null"}));
    let secret = "sk-upstream-credential";
    let gateway = {
        let folder = crate::harness::gateway::Folder::new();
        let file = folder.path().join("upstream.key");
        std::fs::write(&file, secret).expect("written");
        let conf = conf.set("upstreams.pools.0.servers.0.credential", format!("file:{}", file.display()));
        Gateway::start_in(folder, &conf).await
    };
    let request = chat(json!({}))
        .field("api-key", KEY)
        .field("x-api-key", KEY)
        .field("cookie", "session=1")
        .field("connection", "keep-alive, x-nominated")
        .field("x-nominated", "1")
        .field("keep-alive", "timeout=5")
        .field("te", "trailers")
        .field("trailer", "x-checksum")
        .field("proxy-authorization", "Basic eDp5")
        .field("proxy-connection", "keep-alive")
        .field("forwarded", "for=192.0.2.1")
        .field("x-forwarded-for", "192.0.2.1")
        .field("x-forwarded-host", "evil.test")
        .field("x-forwarded-proto", "https")
        .field("x-real-ip", "192.0.2.1")
        .field("accept-encoding", "gzip, br")
        .field("x-request-id", "req-from-client-1")
        .field("x-custom-of-client", "kept")
        .field("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let answer = gateway.exchange(&request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.head.get("x-request-id"), Some("req-from-client-1"));
    let seen = upstream.request(1).await;
    assert_eq!(seen.head.get("authorization"), Some(format!("Bearer {secret}").as_str()));
    assert_eq!(seen.head.all("content-length").len(), 1);
    let dropped = [
        "api-key",
        "x-api-key",
        "cookie",
        "x-nominated",
        "keep-alive",
        "te",
        "trailer",
        "proxy-authorization",
        "proxy-connection",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
        "transfer-encoding",
        "upgrade",
    ];
    for name in dropped {
        assert_eq!(seen.head.all(name), Vec::<&str>::new(), "{name} went upstream");
    }
    let accepted = seen.head.get("accept-encoding").unwrap_or("identity");
    assert_eq!(accepted, "identity", "a compressed answer could not be counted");
    let trace = seen.head.get("traceparent").expect("traceparent is passed on");
    assert!(trace.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{trace}");
    assert!(!format!("{:?}", seen.head).contains("0123456789abcdefghij"), "a client's key went upstream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_ids_are_kept_when_sane_and_made_otherwise() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let long = "x".repeat(5000);
    for insane in ["", "a b", "<script>", "ümlaut", long.as_str()] {
        let answer = gateway.exchange(&chat(json!({})).field("x-request-id", insane)).await;
        let id = answer.head.get("x-request-id").expect("an id").to_owned();
        assert!(id != insane && !id.is_empty() && id.len() <= 128, "{insane:?} became {id:?}");
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{id:?}");
    }
    let first = gateway.chat(json!({})).await.head.get("x-request-id").expect("an id").to_owned();
    let second = gateway.chat(json!({})).await.head.get("x-request-id").expect("an id").to_owned();
    assert_ne!(first, second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_between_gateway_and_server_stays_there() {
    let body = r#"{ "id":"c1","object":"chat.completion","model":"test-model",  "choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3} }"#;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nserver: engine/1.2\r\n\
         set-cookie: a=b\r\nx-powered-by: Express\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=9\r\n\
         access-control-allow-origin: \r\nx-request-id: engine-id\r\nx-gpu-node: 10.0.0.7\r\n\r\n",
        body.len()
    );
    let upstream = Upstream::playing(vec![Step::Send([head.as_bytes(), body.as_bytes()].concat())]).await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let answer = gateway.chat(json!({})).await;
    assert_eq!(answer.text(), body, "byte for byte");
    for name in
        ["set-cookie", "x-powered-by", "x-hop", "keep-alive", "access-control-allow-origin", "x-gpu-node"]
    {
        assert_eq!(answer.head.all(name), Vec::<&str>::new(), "{name} reached the client");
    }
    assert_ne!(answer.head.get("server"), Some("engine/1.2"));
    assert_ne!(answer.head.get("x-request-id"), Some("engine-id"));
    let processing = answer.head.get("openai-processing-ms").expect("openai-processing-ms");
    assert!(processing.parse::<u64>().is_ok(), "{processing}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_model_changes_in_an_answer() {
    let upstream = Upstream::start(|seen| {
        if seen.json()["stream"] == true {
            let odd = "data:{\"model\": \"served@main\" , \"choices\":[{\"delta\":{\"content\":\"\\\"model\\\":\\\"served@main\\\"\"}}]}\r\n\r\n";
            script::stream(&[odd.to_owned(), "data: [DONE]\n\n".to_owned()])
        } else {
            let odd = br#"{"choices":[{"message":{"content":"\"model\":\"served@main\"","model":"inner"}}],
 "model" : "served@main" ,"n":1.0e3}"#;
            script::whole(200, "application/json", odd)
        }
    })
    .await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let answer = gateway.chat(json!({})).await;
    let expected = r#"{"choices":[{"message":{"content":"\"model\":\"served@main\"","model":"inner"}}],
 "model" : "test-model" ,"n":1.0e3}"#;
    assert_eq!(answer.text(), expected);
    let stream = gateway.chat(json!({"stream": true})).await;
    let expected = "data:{\"model\": \"test-model\" , \"choices\":[{\"delta\":{\"content\":\"\\\"model\\\":\\\"served@main\\\"\"}}]}\r\n\r\ndata: [DONE]\n\n";
    assert_eq!(stream.text(), expected);
}
