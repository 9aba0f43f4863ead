//! Every recorded stream goes through the gateway as it was recorded, however it is cut. The only differences a
//! client may see are the declared corrections, and these tests ask so that hardly any is due: by the model's
//! recorded name, and for usage.

use serde_json::{Value, json};

use crate::harness::Dice;
use crate::harness::conf::{Conf, KEY};
use crate::harness::gateway::Gateway;
use crate::harness::recording::{self, Recording};
use crate::harness::request::Request;
use crate::harness::script::{self, Step};
use crate::harness::sse;
use crate::harness::upstream::Upstream;
use crate::harness::wire::find;

/// Streams that are also sent byte by byte.
const SMALL: usize = 12_000;

/// Our name of the endpoint that a recording was made at.
fn endpoint(path: &str) -> Option<&'static str> {
    let path = path.split('?').next().unwrap_or_default();
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/completions", "/v1/completions"),
        ("/responses", "/v1/responses"),
        ("/messages", "/v1/messages"),
    ]
    .into_iter()
    .find_map(|(ending, ours)| path.ends_with(ending).then_some(ours))
}

/// Streams of endpoints we serve, with the model that each names.
async fn streams() -> Vec<(Recording, &'static str, String)> {
    let recordings = recording::all().await.into_iter().filter(|r| r.is_stream() && r.status == 200);
    let found: Vec<_> = recordings
        .filter_map(|recording| {
            let endpoint = endpoint(&recording.path)?;
            let model = recording.model().unwrap_or_else(|| "rec/unnamed".to_owned());
            Some((recording, endpoint, model))
        })
        .collect();
    assert!(found.len() > 50, "only {} streams", found.len());
    found
}

/// A catalogue of every model that the recordings name.
fn conf(upstream: &Upstream, streams: &[(Recording, &'static str, String)]) -> Conf {
    let mut names: Vec<&str> = streams.iter().map(|(_, _, model)| model.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let models: Vec<Value> =
        names.iter().map(|name| json!({"name": name, "publisher": "Recorded"})).collect();
    Conf::to(upstream.address)
        .set("models.models", models)
        .set("tenants.tenants.0.models", json!(["*"]))
        .set("tenants.tenants.1.models", json!(["*"]))
        .set("upstreams.pools.0.passive.failures", 0)
}

fn request(endpoint: &str, model: &str) -> Request {
    let body = match endpoint {
        "/v1/chat/completions" => {
            json!({"model": model, "messages": [{"role": "user", "content": "x"}], "stream": true, "stream_options": {"include_usage": true}})
        }
        "/v1/completions" => {
            json!({"model": model, "prompt": "x", "stream": true, "stream_options": {"include_usage": true}})
        }
        "/v1/responses" => json!({"model": model, "input": "x", "stream": true}),
        _ => {
            json!({"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "x"}], "stream": true})
        }
    };
    Request::post(endpoint, body.to_string()).key(KEY)
}

/// What the client must get for a recording: the body itself, and `[DONE]` where the API has one and it is missing
/// after a proper end. A stream that failed must not get one.
fn is_as_promised(recording: &Recording, endpoint: &str, model: &str, got: &[u8]) -> bool {
    let named = |body: &[u8]| -> Vec<u8> {
        // Azure's first chunk names no model; setting it back is allowed, leaving it as well.
        let text = String::from_utf8_lossy(body);
        text.replace(r#""model":"""#, &format!(r#""model":"{model}""#)).into_bytes()
    };
    let body = &recording.body;
    if got == body || got == named(body) {
        return is_ended(recording, endpoint);
    }
    if is_ended(recording, endpoint) {
        return false;
    }
    // The end that the recording lacks: either [DONE], or an error where the stream broke off.
    let Some(rest) = got.strip_prefix(body.as_slice()) else { return false };
    let is_finished = find(body, br#""finish_reason":"#).is_some() && find(body, b"event: error").is_none();
    if is_finished { rest.ends_with(sse::DONE.as_bytes()) } else { find(rest, b"[DONE]").is_none() }
}

/// Whether the recording ends as its API promises, so that nothing is to be added.
fn is_ended(recording: &Recording, endpoint: &str) -> bool {
    let has_error = find(&recording.body, br#""error""#).is_some();
    match endpoint {
        "/v1/chat/completions" | "/v1/completions" => {
            find(&recording.body, b"data: [DONE]").is_some()
                || find(&recording.body, b"data:[DONE]").is_some()
                || has_error
        }
        _ => true,
    }
}

async fn replay(cut: impl Fn(&mut Dice, &[u8]) -> Option<Vec<Vec<u8>>>) -> usize {
    let streams = streams().await;
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&conf(&upstream, &streams)).await;
    let mut dice = Dice::new(20_261_123);
    let mut wrong = Vec::new();
    let mut count = 0;
    for (recording, endpoint, model) in &streams {
        let Some(pieces) = cut(&mut dice, &recording.body) else { continue };
        let mut steps = vec![Step::Send(script::stream_head())];
        steps.extend(pieces.iter().map(|piece| Step::Send(script::chunk(piece))));
        steps.push(Step::Send(script::LAST_CHUNK.to_vec()));
        upstream.answer_with(move |_| steps.clone());
        let answer = gateway.exchange(&request(endpoint, model)).await;
        count += 1;
        if answer.status != 200 || !is_as_promised(recording, endpoint, model, &answer.body) {
            wrong.push(format!(
                "{}: {} {}",
                recording.name,
                answer.status,
                difference(&recording.body, &answer.body)
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {count} streams changed:\n{}", wrong.len(), wrong.join("\n"));
    count
}

/// The place where two bodies part.
fn difference(expected: &[u8], got: &[u8]) -> String {
    let at = expected.iter().zip(got).take_while(|(a, b)| a == b).count();
    let around = |bytes: &[u8]| {
        String::from_utf8_lossy(&bytes[at.saturating_sub(40)..bytes.len().min(at + 80)]).into_owned()
    };
    format!("at byte {at} of {}: expected {:?}, got {:?}", expected.len(), around(expected), around(got))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_pass_event_by_event() {
    replay(|_, body| Some(sse::split(body).into_iter().map(<[u8]>::to_vec).collect())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_pass_in_one_piece() {
    replay(|_, body| Some(vec![body.to_vec()])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_pass_cut_at_random() {
    for longest in [7, 100, 3000] {
        replay(|dice, body| Some(dice.pieces(body, longest))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_streams_pass_byte_by_byte() {
    let small = |body: &[u8]| (body.len() <= SMALL).then(|| body.iter().map(|byte| vec![*byte]).collect());
    let count = replay(|_, body| small(body)).await;
    assert!(count > 20, "only {count} small streams");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_wire_bytes_pass_as_the_server_wrote_them() {
    let streams = streams().await;
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&conf(&upstream, &streams)).await;
    let mut dice = Dice::new(7);
    let mut count = 0;
    for (recording, endpoint, model) in &streams {
        let Some(wire) = &recording.wire else { continue };
        let mut steps: Vec<Step> = dice.pieces(wire, 900).into_iter().map(Step::Send).collect();
        steps.push(Step::Close);
        upstream.answer_with(move |_| steps.clone());
        let answer = gateway.exchange(&request(endpoint, model)).await;
        assert_eq!(answer.status, 200, "{}: {}", recording.name, answer.text());
        assert!(
            is_as_promised(recording, endpoint, model, &answer.body),
            "{}: {}",
            recording.name,
            difference(&recording.body, &answer.body)
        );
        count += 1;
    }
    assert!(count > 30, "only {count} streams with their wire bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_answers_pass_byte_for_byte() {
    let recordings: Vec<_> = recording::all()
        .await
        .into_iter()
        .filter(|r| r.status == 200 && r.content_type.starts_with("application/json"))
        .filter_map(|r| Some((endpoint(&r.path)?, r.model()?, r)))
        .map(|(endpoint, model, recording)| (recording, endpoint, model))
        .collect();
    assert!(recordings.len() > 10, "only {} answers", recordings.len());
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&conf(&upstream, &recordings)).await;
    for (recording, endpoint, model) in &recordings {
        let steps = script::whole(200, &recording.content_type, &recording.body);
        upstream.answer_with(move |_| steps.clone());
        let streamed = request(endpoint, model);
        let mut asked: Value = serde_json::from_slice(streamed.parts().3).expect("ours");
        for key in ["stream", "stream_options"] {
            asked.as_object_mut().expect("a mapping").remove(key);
        }
        let answer = gateway.exchange(&Request::post(endpoint, asked.to_string()).key(KEY)).await;
        assert_eq!(answer.status, 200, "{}: {}", recording.name, answer.text());
        assert!(
            answer.body == recording.body,
            "{}: {}",
            recording.name,
            difference(&recording.body, &answer.body)
        );
    }
}
