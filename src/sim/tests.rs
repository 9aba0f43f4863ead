//! The simulator over real sockets, each on a port of its own. A plain blocking client, so that every byte
//! and every closed connection is seen as it comes.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Sim, SimArgs};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn args() -> SimArgs {
    let listen = vec!["127.0.0.1:0".parse().expect("an address")];
    SimArgs { listen, control: "127.0.0.1:0".parse().ok(), time_scale: 0.0, ..SimArgs::default() }
}

fn start(args: &SimArgs) -> (Sim, SocketAddr) {
    let sim = Sim::start(args).expect("free ports");
    let address = sim.addresses()[0];
    (sim, address)
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    /// As on the wire, chunk framing included.
    raw: Vec<u8>,
}

impl Reply {
    fn text(&self) -> String {
        let raw = if self.head.contains("transfer-encoding: chunked") {
            dechunked(&self.raw)
        } else {
            self.raw.clone()
        };
        String::from_utf8(raw).expect("UTF-8")
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text()).expect("JSON")
    }

    fn is_whole(&self) -> bool {
        self.raw.ends_with(b"0\r\n\r\n")
    }

    fn events(&self) -> Vec<Value> {
        let text = self.text();
        let events = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        events
            .filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).expect("JSON"))
            .collect()
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

fn send(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
    let mut stream = connect(address);
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: sim\r\nContent-Length: {length}\r\n{headers}\r\n");
    stream.write_all((head + body).as_bytes()).expect("accepted");
    stream
}

fn ask(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Reply {
    let headers = format!("Connection: close\r\n{headers}");
    reply(send(address, method, path, &headers, body))
}

fn reply(mut stream: TcpStream) -> Reply {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        // A reset is how some deaths look; what came before it counts.
        Err(error) if error.kind() != ErrorKind::ConnectionReset => {
            panic!("{error} after {} bytes", bytes.len())
        }
        _ => parse(&bytes),
    }
}

fn parse(bytes: &[u8]) -> Reply {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Reply { status: 0, head: String::new(), raw: bytes.to_vec() };
    };
    let head = String::from_utf8(bytes[..end].to_vec()).expect("ASCII").to_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    Reply { status, head, raw: bytes[end + 4..].to_vec() }
}

fn dechunked(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = raw.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&raw[..line]).expect("a chunk size");
        let size = usize::from_str_radix(size, 16).expect("a chunk size");
        let end = (line + 2 + size).min(raw.len());
        body.extend_from_slice(&raw[line + 2..end]);
        raw = raw.get(end + 2..).unwrap_or(&[]);
    }
    body
}

fn chat(more: &Value) -> String {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Count the rivers."}]});
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    body.to_string()
}

fn post_chat(address: SocketAddr, headers: &str, more: &Value) -> Reply {
    ask(address, "POST", "/v1/chat/completions", headers, &chat(more))
}

fn state(address: SocketAddr) -> Value {
    ask(address, "GET", "/sim/state", "", "").json()
}

fn set_fault(address: SocketAddr, order: &Value) {
    let reply = ask(address, "POST", "/sim/fault", "", &order.to_string());
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// Asks for the state until `is_there`.
fn wait(address: SocketAddr, is_there: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let state = state(address);
        if is_there(&state) {
            return state;
        }
        assert!(began.elapsed() < PATIENCE, "never came: {state}");
    }
}

/// Reads until `part` has come.
fn read_until(stream: &mut TcpStream, part: &str) {
    let (mut seen, mut buffer) = (Vec::new(), [0; 4_096]);
    while !String::from_utf8_lossy(&seen).contains(part) {
        let read = stream.read(&mut buffer).expect("more comes");
        assert!(read > 0, "ended before {part}");
        seen.extend_from_slice(&buffer[..read]);
    }
}

#[test]
fn a_chat_streams_in_the_shape_of_vllm() {
    let (_sim, address) = start(&args());
    let more = json!({"stream": true, "stream_options": {"include_usage": true}, "max_tokens": 20, "ignore_eos": true});
    let reply = post_chat(address, "", &more);
    assert_eq!(reply.status, 200);
    assert!(reply.head.contains("content-type: text/event-stream; charset=utf-8"), "{}", reply.head);
    assert!(reply.text().ends_with("data: [DONE]\n\n") && reply.is_whole());
    let events = reply.events();
    assert_eq!(events.len(), 1 + 20 + 1, "the role, twenty tokens, usage");
    assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert_eq!(events[20]["choices"][0]["finish_reason"], "length");
    assert_eq!(events[21]["choices"], json!([]));
    assert_eq!(events[21]["usage"]["completion_tokens"], 20);
    let whole = post_chat(address, "", &json!({"max_tokens": 20, "ignore_eos": true})).json();
    let streamed: String =
        events[1..21].iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(
        whole["choices"][0]["message"]["content"],
        streamed.as_str(),
        "the same prompt, the same answer"
    );
    assert_eq!(whole["usage"]["prompt_tokens"], events[21]["usage"]["prompt_tokens"]);
}

#[test]
fn a_departed_client_is_noticed_within_100_ms_and_its_blocks_are_free() {
    let (_sim, address) = start(&SimArgs { time_scale: 1.0, decode_tokens_per_second: 0.1, ..args() });
    for more in [json!({"stream": true, "max_tokens": 50}), json!({"max_tokens": 50})] {
        let before = state(address)["cancelled_total"].as_u64().expect("a number");
        let client = send(address, "POST", "/v1/chat/completions", "", &chat(&more));
        wait(address, |state| state["running"] == 1);
        let left = Instant::now();
        drop(client);
        let after = wait(address, |state| state["cancelled_total"] == before + 1);
        let since =
            Duration::from_secs_f64(after["since_last_cancel_ms"].as_f64().expect("a number") / 1_000.0);
        let noticed = left.elapsed().saturating_sub(since);
        assert!(noticed < Duration::from_millis(100), "noticed after {noticed:?}");
        let freed = wait(address, |state| state["running"] == 0);
        assert_eq!(freed["kv"]["blocks_used"], 0);
    }
}

#[test]
fn a_refusing_instance_closes_its_port_and_comes_back() {
    let (sim, address) = start(&SimArgs { instances: Some(2), ..args() });
    let second = sim.addresses()[1];
    let control = sim.control().expect("asked for");
    // Through its own port: the order is answered, then the port is closed and idle connections are cut.
    let mut idle = connect(address);
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: sim\r\n\r\n").expect("accepted");
    read_until(&mut idle, "\r\n\r\n");
    set_fault(address, &json!({"kind": "refuse"}));
    assert_eq!(
        TcpStream::connect(address).map_err(|e| e.kind()).expect_err("closed"),
        ErrorKind::ConnectionRefused
    );
    assert_eq!(idle.read(&mut [0; 8]).unwrap_or(0), 0, "the idle connection is cut");
    assert_eq!(post_chat(second, "", &json!({})).status, 200, "the other one serves");
    assert_eq!(state(control)["instances"][0]["faults"], json!(["refuse"]));
    set_fault(second, &json!({"kind": "none", "instance": 0}));
    assert_eq!(post_chat(address, "", &json!({})).status, 200);
}

#[test]
fn refusing_cuts_streams_under_way() {
    let (sim, address) = start(&SimArgs { time_scale: 1.0, decode_tokens_per_second: 0.1, ..args() });
    let mut client = send(address, "POST", "/v1/chat/completions", "", &chat(&json!({"stream": true})));
    read_until(&mut client, "assistant");
    set_fault(sim.control().expect("asked for"), &json!({"kind": "refuse"}));
    assert!(!reply(client).is_whole());
}

#[test]
fn a_dying_stream_and_a_clean_cut_end_differently() {
    let (_sim, address) = start(&args());
    let streaming = json!({"stream": true, "max_tokens": 30, "ignore_eos": true});
    let died = post_chat(address, "x-sim-fault: die-mid-stream=5\r\n", &streaming);
    assert_eq!((died.status, died.events().len(), died.is_whole()), (200, 6, false));
    let cut = post_chat(address, "x-sim-fault: cut-clean=5\r\n", &streaming);
    assert_eq!((cut.status, cut.events().len(), cut.is_whole()), (200, 6, true));
    assert!(!cut.text().contains("[DONE]") && cut.events()[5]["choices"][0]["finish_reason"].is_null());
    let half = post_chat(address, "x-sim-fault: die-mid-stream\r\n", &json!({"max_tokens": 30}));
    let announced = format!("content-length: {}", half.raw.len());
    assert!(half.status == 200 && !half.head.contains(&announced), "{half:?}");
    assert_eq!(state(address)["error_total"], 3);
}

#[test]
fn hanging_hangs_where_it_says_until_the_client_leaves() {
    let (_sim, address) = start(&args());
    let mut headless =
        send(address, "POST", "/v1/chat/completions", "x-sim-fault: hang-headers\r\n", &chat(&json!({})));
    headless.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
    let silence = headless.read(&mut [0; 1]).expect_err("nothing comes").kind();
    assert!(matches!(silence, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence}");
    set_fault(address, &json!({"kind": "hang-first-token"}));
    let mut tokenless = send(address, "POST", "/v1/chat/completions", "", &chat(&json!({"stream": true})));
    read_until(&mut tokenless, "prompt_text\":null}\n\n");
    drop((headless, tokenless));
    wait(address, |state| state["cancelled_total"] == 2);
    set_fault(address, &json!({"kind": "none"}));
    assert_eq!(post_chat(address, "", &json!({"stream": true})).status, 200);
}

#[test]
fn status_faults_and_health() {
    let (_sim, address) = start(&args());
    set_fault(address, &json!({"kind": "status", "value": 500}));
    set_fault(address, &json!({"kind": "unhealthy"}));
    let failed = post_chat(address, "", &json!({}));
    assert_eq!((failed.status, failed.json()["error"]["code"].as_u64()), (500, Some(500)));
    assert_eq!(post_chat(address, "x-sim-fault: none\r\n", &json!({})).status, 200, "the header wins");
    assert_eq!(post_chat(address, "x-sim-fault: explode\r\n", &json!({})).status, 400);
    assert_eq!(ask(address, "GET", "/health", "", "").status, 503);
    set_fault(address, &json!({"kind": "none"}));
    let health = ask(address, "GET", "/health", "", "");
    assert_eq!((health.status, health.raw.len()), (200, 0));
    for wrong in [
        r#"{"kind": "explode"}"#,
        r#"{"kind": "slow", "value": []}"#,
        r#"{"kind": "none", "instance": 9}"#,
        "{",
    ] {
        assert_eq!(ask(address, "POST", "/sim/fault", "", wrong).status, 400, "{wrong}");
    }
}

#[test]
fn a_full_queue_answers_503() {
    let slow =
        SimArgs { time_scale: 1.0, decode_tokens_per_second: 0.1, max_batch: 1, max_queue: 1, ..args() };
    let (_sim, address) = start(&slow);
    let body = chat(&json!({"stream": true}));
    let _running = send(address, "POST", "/v1/chat/completions", "", &body);
    wait(address, |state| state["running"] == 1);
    let _waiting = send(address, "POST", "/v1/chat/completions", "", &body);
    wait(address, |state| state["waiting"] == 1);
    let refused = post_chat(address, "", &json!({}));
    assert_eq!(
        (refused.status, refused.json()["error"]["type"].as_str()),
        (503, Some("ServiceUnavailableError"))
    );
}

#[test]
fn a_repeated_prompt_reports_cached_tokens() {
    let (_sim, address) = start(&args());
    let long = json!({"max_tokens": 1, "messages": [{"role": "user", "content": "river ".repeat(200)}]});
    let cached = |reply: &Reply| reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64();
    assert_eq!(cached(&post_chat(address, "", &long)), Some(0));
    assert!(cached(&post_chat(address, "", &long)) > Some(190));
    let metrics = ask(address, "GET", "/metrics", "", "").text();
    let hits =
        metrics.lines().find(|line| line.starts_with("vllm:prefix_cache_hits_total{")).expect("a counter");
    assert!(!hits.ends_with(" 0.0"), "{hits}");
}

#[test]
fn every_endpoint_answers_in_its_shape() {
    let (_sim, address) = start(&SimArgs { models: vec!["m".into()], api_key: Some("k".into()), ..args() });
    let key = "Authorization: Bearer k\r\n";
    let table = [
        ("GET", "/v1/models", key, "", 200, "\"max_model_len\":32768"),
        ("GET", "/v1/models", "", "", 401, r#"{"error":"Unauthorized"}"#),
        ("GET", "/v1/models/m", key, "", 404, r#"{"detail":"Not Found"}"#),
        ("GET", "/v1/chat/completions", key, "", 405, r#"{"detail":"Method Not Allowed"}"#),
        ("POST", "/v1/chat/completions", key, "{", 400, "json_invalid"),
        ("POST", "/v1/chat/completions", key, r#"{"model": "x", "messages": []}"#, 404, "NotFoundError"),
        (
            "POST",
            "/v1/completions",
            key,
            r#"{"prompt": ["a", "b"], "n": 2, "stop": "e"}"#,
            200,
            "\"index\":3",
        ),
        ("POST", "/v1/embeddings", key, r#"{"input": "a", "dimensions": 2}"#, 200, "\"embedding\":["),
        ("POST", "/tokenize", "", r#"{"prompt": "a river"}"#, 200, "\"count\":2"),
        ("POST", "/detokenize", "", r#"{"tokens": [955, 26085]}"#, 200, "\"prompt\":"),
        ("GET", "/version", "", "", 200, "\"version\":"),
        ("GET", "/nothing", "", "", 404, r#"{"detail":"Not Found"}"#),
    ];
    for (method, path, headers, body, status, part) in table {
        let reply = ask(address, method, path, headers, body);
        let text = reply.text();
        assert!(reply.status == status && text.contains(part), "{method} {path}: {} {text}", reply.status);
    }
}

#[test]
fn a_connection_serves_again_after_streams_errors_and_any_framing() {
    let (_sim, address) = start(&args());
    let mut stream = connect(address);
    let streaming = chat(&json!({"stream": true, "max_tokens": 3}));
    for (body, part) in [
        (streaming.as_str(), "0\r\n\r\n"),
        ("{", "body.1\",\"code\":400}}"),
        (streaming.as_str(), "0\r\n\r\n"),
    ] {
        let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("open");
        for piece in body.as_bytes().chunks(7) {
            stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).expect("open");
            stream.write_all(piece).and_then(|()| stream.write_all(b"\r\n")).expect("open");
        }
        stream.write_all(b"0\r\n\r\n").expect("open");
        read_until(&mut stream, part);
    }
}

#[test]
fn a_large_body_waits_for_100_continue_and_is_read() {
    let (_sim, address) = start(&args());
    let body = chat(&json!({"max_tokens": 1, "metadata": "x".repeat(3_000_000)}));
    let mut stream = connect(address);
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("open");
    read_until(&mut stream, "100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).expect("read as it comes");
    assert_eq!(reply(stream).status, 200);
}

#[test]
fn wrong_options_are_named() {
    let table = [
        (SimArgs { decode_tokens_per_second: 0.0, ..args() }, "--decode-tokens-per-second"),
        (SimArgs { time_scale: f64::NAN, ..args() }, "--time-scale"),
        (SimArgs { kv_tokens: 100, ..args() }, "--kv-tokens"),
        (SimArgs { threads: 0, ..args() }, "--threads"),
        (SimArgs { instances: Some(0), ..args() }, "--instances"),
        (
            SimArgs {
                listen: vec!["127.0.0.1:65535".parse().expect("an address")],
                instances: Some(2),
                ..args()
            },
            "--instances",
        ),
    ];
    for (args, name) in table {
        let error = Sim::start(&args).err().expect(name);
        assert!(error.to_string().starts_with(name), "{error}");
    }
}
