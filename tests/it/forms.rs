//! Multipart forms: the model is read from them as a server would read it, and the form reaches the server byte for
//! byte but for the model's name.

use serde_json::json;

use crate::harness::conf::{Conf, KEY, MODEL};
use crate::harness::gateway::Gateway;
use crate::harness::request::Request;
use crate::harness::script;
use crate::harness::upstream::Upstream;

const BOUNDARY: &str = "----WebKitFormBoundary7MA4YWxkTrZu0gW";

/// A field, or a file where the content is that.
fn part(name: &str, content: &[u8]) -> Vec<u8> {
    let about = match name {
        "file" => "form-data; name=\"file\"; filename=\"speech; name=model.wav\"\r\ncontent-type: audio/wav"
            .to_owned(),
        other => format!("form-data; name=\"{other}\""),
    };
    [format!("--{BOUNDARY}\r\nContent-Disposition: {about}\r\n\r\n").as_bytes(), content, b"\r\n"].concat()
}

fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body: Vec<u8> = parts.iter().flat_map(|(name, content)| part(name, content)).collect();
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

fn request(body: Vec<u8>) -> Request {
    Request::post("/v1/audio/transcriptions", body)
        .key(KEY)
        .without("content-type")
        .field("content-type", &format!("multipart/form-data; boundary={BOUNDARY}"))
}

/// Every byte there is, and the boundary where it ends no part: inside a line.
fn sound() -> Vec<u8> {
    let all: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let inside = format!("x--{BOUNDARY}--\r\n-{BOUNDARY}\r\n--{}", &BOUNDARY[..BOUNDARY.len() - 1]);
    [b"RIFF", all.as_slice(), inside.as_bytes(), &all].concat()
}

async fn transcribing() -> Upstream {
    Upstream::playing(script::json_answer(200, &json!({"text": "hello"}))).await
}

/// The bytes of the boundary inside a file ended the form for the gateway and not for the server, which then took
/// the model from a second field that the gateway had not seen: any model, whatever the key may use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_second_model_hides_behind_a_file() {
    let upstream = transcribing().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let (mine, other) = (MODEL.as_bytes(), b"hidden-model".as_slice());
    let inside = format!("RIFFx--{BOUNDARY}--\r\nmore");
    let smuggled = format!("RIFFx--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\ny");
    let junk = format!("RIFF\r\n--{BOUNDARY}x\r\nmore");
    let both = [
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"a\"; name=\"model\"\r\n\r\n")
            .as_bytes(),
        other,
        b"\r\n",
    ]
    .concat();
    let twice = [
        format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"a\"\r\n\
             Content-Disposition: form-data; name=\"model\"\r\n\r\n"
        )
        .as_bytes(),
        other,
        b"\r\n",
    ]
    .concat();
    let cases = [
        ("plainly twice", form(&[("model", mine), ("model", other)])),
        ("an end inside a line", form(&[("model", mine), ("file", inside.as_bytes()), ("model", other)])),
        ("a part inside a line", form(&[("model", mine), ("file", smuggled.as_bytes()), ("model", other)])),
        ("a boundary that goes on", form(&[("model", mine), ("file", junk.as_bytes()), ("model", other)])),
        ("two names in one part", [both, form(&[("model", mine)])].concat()),
        ("two dispositions in one part", [twice, form(&[("model", mine)])].concat()),
        ("no end", part("model", mine)),
    ];
    for (name, body) in cases {
        for request in [request(body.clone()), request(body.clone()).chunked(11)] {
            let answer = gateway.exchange(&request).await;
            assert_eq!(answer.status, 400, "{name}: {}", answer.text());
            answer.expect_error(400, "invalid_multipart");
        }
    }
    assert_eq!(upstream.count(), 0, "a form with two readings reached the server");
    // The other order asks for the other model, which this key may not use.
    let answer = gateway.exchange(&request(form(&[("file", b"RIFF"), ("model", other)]))).await;
    answer.expect_error(404, "model_not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_reaches_the_server_as_it_was_written() {
    let upstream = transcribing().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let served = Conf::to(upstream.address)
        .set("upstreams.pools.0.models", json!([{"model": MODEL, "served_as": "org/whisper-large-v3"}]));
    let renaming = Gateway::start(&served).await;
    let sound = sound();
    let orders: [&[(&str, &[u8])]; 3] = [
        &[("model", MODEL.as_bytes()), ("file", &sound), ("language", b"fr")],
        &[("file", &sound), ("response_format", b"json"), ("model", MODEL.as_bytes())],
        &[("prompt", b"model=\"x\"\r\n\r\nmodel"), ("model", MODEL.as_bytes()), ("file", b"")],
    ];
    let mut count = 0;
    for parts in orders {
        let body = form(parts);
        let renamed: Vec<_> = parts
            .iter()
            .map(|(name, content)| (*name, if *name == "model" { b"org/whisper-large-v3" } else { *content }))
            .collect();
        for (gateway, expected) in [(&gateway, body.clone()), (&renaming, form(&renamed))] {
            for request in [request(body.clone()), request(body.clone()).chunked(1000)] {
                let answer = gateway.exchange(&request).await;
                assert_eq!((answer.status, answer.text()), (200, json!({"text": "hello"}).to_string()));
                count += 1;
                let seen = upstream.request(count).await;
                assert!(
                    seen.body == expected,
                    "form {count}: {} of {} bytes",
                    seen.body.len(),
                    expected.len()
                );
                let kind = format!("multipart/form-data; boundary={BOUNDARY}");
                assert_eq!(seen.head.get("content-type"), Some(kind.as_str()));
            }
        }
    }
}
