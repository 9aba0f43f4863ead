//! A client that leaves takes its request with it: the server is left within 100 ms, in every phase. GPU time
//! is what the gateway exists to spare.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::conf::{Conf, MODEL};
use crate::harness::gateway::{Gateway, chat};
use crate::harness::h2::ClientH2;
use crate::harness::script::{self, Step};
use crate::harness::upstream::{Ending, Upstream};

/// DESIGN §10.
const BAR: Duration = Duration::from_millis(100);
/// The bar is held by the median of these, so that one pause of a busy machine is not taken for the gateway's.
const ROUNDS: usize = 9;

struct Case {
    upstream: Upstream,
    gateway: Gateway,
    request: Value,
}

impl Case {
    async fn new(script: Vec<Step>, request: Value) -> Self {
        let upstream = Upstream::playing(script).await;
        let gateway = Gateway::start(&Conf::to(upstream.address)).await;
        Self { upstream, gateway, request }
    }

    /// Runs the case [`ROUNDS`] times: the client leaves once the server has its request and, where an answer
    /// has begun, once the first event is there. Checks delays and records.
    async fn leave_each_time(&self, has_begun: bool) {
        let mut delays = Vec::new();
        for round in 1..=ROUNDS {
            let mut client = self.gateway.connect().await;
            let request = chat(self.request.clone());
            if has_begun {
                let mut stream = client.open_stream(&request).await;
                stream.event().await;
                client = stream.into_client();
            } else {
                let bytes = [request.head_bytes(), request.body_bytes()].concat();
                client.send(&bytes).await.expect("sent");
                self.upstream.request(round).await;
            }
            let left = Instant::now();
            drop(client);
            delays.push(self.abandoned(round).await - left);
        }
        self.settle(delays).await;
    }

    async fn abandoned(&self, round: usize) -> Instant {
        match self.upstream.ending(round).await {
            Ending::Abandoned(at) => at,
            Ending::Played => panic!("the script has no end"),
        }
    }

    async fn settle(&self, mut delays: Vec<Duration>) {
        delays.sort();
        assert!(delays[delays.len() / 2] <= BAR, "{delays:?}");
        for record in self.gateway.records(delays.len()).await {
            assert_eq!(record["outcome"], "client_gone", "{record}");
        }
    }
}

#[tokio::test]
async fn before_the_headers_of_a_stream() {
    let case = Case::new(vec![Step::Hang], json!({"stream": true})).await;
    case.leave_each_time(false).await;
}

#[tokio::test]
async fn between_headers_and_the_first_token() {
    let script = vec![Step::Send(script::stream_head()), Step::Hang];
    let case = Case::new(script, json!({"stream": true})).await;
    case.leave_each_time(false).await;
}

#[tokio::test]
async fn in_the_middle_of_a_stream() {
    let script = script::broken_stream(&script::chat_events(MODEL, &["one "], None), 1, Step::Hang);
    let case = Case::new(script, json!({"stream": true})).await;
    case.leave_each_time(true).await;
}

#[tokio::test]
async fn during_an_answer_that_is_not_streamed() {
    let case = Case::new(vec![Step::Hang], json!({})).await;
    case.leave_each_time(false).await;
}

#[tokio::test]
async fn in_the_middle_of_an_answer_that_is_not_streamed() {
    let script =
        vec![Step::Send(script::head(200, "application/json", 1000)), Step::Send(b"{".to_vec()), Step::Hang];
    let case = Case::new(script, json!({})).await;
    case.leave_each_time(false).await;
}

#[tokio::test]
async fn by_resetting_an_http_2_stream() {
    let script = script::broken_stream(&script::chat_events(MODEL, &["one "], None), 1, Step::Hang);
    let case = Case::new(script, json!({"stream": true})).await;
    let client = ClientH2::connect(case.gateway.address()).await;
    let mut delays = Vec::new();
    for round in 1..=ROUNDS {
        let (head, mut body) = client.open(&chat(case.request.clone())).await.expect("an answer");
        assert_eq!(head.status(), 200);
        body.data().await.expect("an event").expect("data");
        let left = Instant::now();
        drop(body);
        delays.push(case.abandoned(round).await - left);
    }
    case.settle(delays).await;
}

#[tokio::test]
async fn what_was_streamed_before_is_charged() {
    let events = script::chat_events(MODEL, &["one ", "two ", "three "], None);
    let case = Case::new(script::broken_stream(&events, 3, Step::Hang), json!({"stream": true})).await;
    let mut stream = case.gateway.connect().await.open_stream(&chat(case.request.clone())).await;
    for _ in 0..3 {
        stream.event().await;
    }
    drop(stream);
    let record = case.gateway.records(1).await.remove(0);
    assert_eq!(record["outcome"], "client_gone");
    assert_eq!(record["output_source"], "estimated");
    assert!(record["output_tokens"].as_u64().is_some_and(|tokens| tokens >= 3), "{record}");
    assert!(record["input_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{record}");
    assert!(record["cost_eur"].as_f64().is_some_and(|cost| cost > 0.0), "{record}");
}
