//! Clients that leave: half of many streams are cut where a dice says. What was reserved is free again, what is charged is
//! what was streamed, and ledger, records and budget agree to the token.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::harness::client::{Client, Next};
use crate::harness::conf::{Conf, KEY, MODEL};
use crate::harness::gateway::{Gateway, chat};
use crate::harness::request::Request;
use crate::harness::script::{self, Step};
use crate::harness::upstream::{Seen, Upstream};
use crate::harness::valkey::Valkey;
use crate::harness::{Dice, eventually};

/// Four characters: a token by the gateway's own count, where a server does not report.
const WORD: &str = "word";
/// What the server reports of a prompt.
const REPORTED_INPUT: u64 = 7;
/// Streams at a time.
const AT_ONCE: usize = 48;
const DAY: u64 = 100_000_000;

/// One stream: how many words the answer has, and after how many the client leaves.
#[derive(Clone, Copy)]
struct Plan {
    words: usize,
    cut: Option<usize>,
}

fn plans(count: usize) -> Vec<Plan> {
    let mut dice = Dice::new(20_261_129);
    let plan = |number: usize| {
        let words = 1 + dice.below(24);
        Plan { words, cut: number.is_multiple_of(2).then(|| dice.below(words)) }
    };
    (0..count).map(plan).collect()
}

/// A server that reads in `user` what to send: so many words and nothing more, or so many and the end.
fn server(seen: &Seen) -> Vec<Step> {
    let asked = seen.json();
    let (kind, count) = asked["user"].as_str().and_then(|user| user.split_once('-')).expect("a plan");
    let count: usize = count.parse().expect("a number");
    let words = vec![WORD; count];
    match (kind, count) {
        ("cut", 0) => vec![Step::Hang],
        ("cut", _) => {
            let events = script::chat_events(MODEL, &words, None);
            script::broken_stream(&events, count, Step::Hang)
        }
        _ => script::stream(&script::chat_events(MODEL, &words, Some((REPORTED_INPUT, count as u64)))),
    }
}

/// Plays one stream from the client's side.
async fn play(gateway: std::net::SocketAddr, number: usize, plan: Plan) {
    let (user, events) = match plan.cut {
        Some(cut) => (format!("cut-{cut}"), cut),
        None => (format!("all-{}", plan.words), plan.words),
    };
    let request = chat(json!({"user": user, "stream": true, "max_tokens": 100}));
    let request = request.field("x-request-id", &format!("stream-{number}"));
    let mut client = Client::connect(gateway).await;
    if events == 0 {
        client.send(&[request.head_bytes(), request.body_bytes()].concat()).await.expect("it is sent");
        return;
    }
    let mut stream = client.open_stream(&request).await;
    for _ in 0..events {
        assert!(stream.event().await.contains(WORD), "stream {number}");
    }
    if plan.cut.is_none() {
        let (_, end) = stream.remaining().await;
        assert_eq!(end, Next::End, "stream {number}");
    }
}

/// Plays all streams, those of even and odd hundreds on different gateways where there are two.
async fn play_all(gateways: &[Gateway], plans: &[Plan]) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut clients = JoinSet::new();
    for (number, plan) in plans.iter().copied().enumerate() {
        let address = gateways[number / 100 % gateways.len()].address();
        let place = Arc::clone(&room).acquire_owned().await.expect("open");
        clients.spawn(async move {
            play(address, number, plan).await;
            drop(place);
        });
    }
    while let Some(played) = clients.join_next().await {
        played.expect("every stream went as planned");
    }
}

/// Sums of what records or the ledger say: requests, input, output, and cost in units of 1e-12 EUR.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
struct Sums {
    requests: u64,
    input: u64,
    output: u64,
    pico_eur: u64,
}

impl Sums {
    fn add(&mut self, requests: u64, line: &Value) {
        let number = |key: &str| line[key].as_u64().unwrap_or_else(|| panic!("no {key} in {line}"));
        let euros = match &line["cost_eur"] {
            Value::String(text) => text.parse().expect("an amount"),
            other => other.as_f64().expect("an amount"),
        };
        self.requests += requests;
        self.input += number("input_tokens");
        self.output += number("output_tokens");
        self.pico_eur += (euros * 1e12_f64).round() as u64;
    }
}

/// Each record is of one stream and says what that came to; gives their sums.
fn agree(records: &[Value], plans: &[Plan]) -> Sums {
    let mut sums = Sums::default();
    let mut inputs = HashMap::new();
    for record in records {
        let id = record["request_id"].as_str().and_then(|id| id.strip_prefix("stream-")).expect("ours");
        let plan = plans[id.parse::<usize>().expect("a number")];
        let (outcome, streamed) = match plan.cut {
            Some(cut) => ("client_gone", cut),
            None => ("ok", plan.words),
        };
        assert_eq!(record["output_tokens"], streamed, "{record}");
        if streamed > 0 {
            assert_eq!(record["outcome"], outcome, "{record}");
            let input = record["input_tokens"].as_u64().expect("a number");
            assert_eq!(*inputs.entry(plan.cut.is_some()).or_insert(input), input, "one prompt: {record}");
        } else {
            assert_eq!(record["input_tokens"], 0, "no server answered: {record}");
        }
        sums.add(1, record);
    }
    assert_eq!(inputs[&false], REPORTED_INPUT);
    sums
}

fn ledger(gateway: &Gateway) -> Sums {
    let (code, text, error) = gateway.command(&["usage", "--json", "--by", "tenant"]);
    assert_eq!(code, Some(0), "{error}");
    let usage: Value = serde_json::from_str(&text).expect("JSON");
    let mut sums = Sums::default();
    for line in usage["usage"].as_array().into_iter().flatten() {
        sums.add(line["requests"].as_u64().expect("a number"), line);
    }
    sums
}

/// Waits until nothing is reserved, and gives what is left of the day.
async fn settled(gateway: &Gateway) -> u64 {
    eventually("nothing to be reserved", || async {
        let metrics = gateway.metrics().await;
        let of = |gauge: &str| metrics.sum(gauge, &[]);
        let held = of("tollgate_tenant_in_flight") + of("tollgate_tenant_reserved_tokens");
        (held.abs() < f64::EPSILON).then_some(())
    })
    .await;
    let models = gateway.exchange(&Request::get("/v1/models").key(KEY)).await;
    let left = models.head.get("x-ratelimit-remaining-tokens").expect("there is a limit on tokens");
    left.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_five_thousand_streams_are_cut_and_every_token_is_accounted_for() {
    let upstream = Upstream::start(server).await;
    let conf = Conf::to(upstream.address).set("tiers.tiers.0.tokens_per_day", DAY);
    let gateways = [Gateway::start(&conf).await];
    let plans = plans(5000);
    play_all(&gateways, &plans).await;
    // Those that left before the first byte are noticed by the gateway, and written, in their own time; one record is of
    // no stream: of the models that were asked for.
    let left = settled(&gateways[0]).await;
    let records = gateways[0].records(plans.len() + 1).await;
    let records: Vec<_> = records.into_iter().filter(|record| record["endpoint"] != "models").collect();
    let sums = agree(&records, &plans);
    assert_eq!(DAY - left, sums.input + sums.output, "charged is what was streamed");
    eventually("the ledger to have every row", || async {
        (ledger(&gateways[0]).requests > plans.len() as u64).then_some(())
    })
    .await;
    let told = Sums { requests: sums.requests + 1, ..sums };
    assert_eq!(ledger(&gateways[0]), told, "the ledger's sum is that of the records");
}

/// The same over two gateways that share the budget.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_with_one_store_charge_what_was_streamed() {
    let Some(store) = Valkey::start() else { return };
    let upstream = Upstream::start(server).await;
    let conf = Conf::to(upstream.address)
        .set("tiers.tiers.0.tokens_per_day", DAY)
        .set("tiers.tiers.0.max_in_flight", 200)
        .set("tollgate.limits.store", store.url())
        .set("tollgate.limits.shared.timeout_ms", 5000);
    let gateways = [Gateway::start(&conf).await, Gateway::start(&conf).await];
    let plans = plans(1000);
    play_all(&gateways, &plans).await;
    let mut charged = 0;
    for gateway in &gateways {
        settled(gateway).await;
        let records = gateway.records(plans.len() / 2 + 1).await;
        let records: Vec<_> = records.into_iter().filter(|record| record["endpoint"] != "models").collect();
        let sums = agree(&records, &plans);
        charged += sums.input + sums.output;
    }
    eventually("the store to have what was streamed, and nothing held", || async {
        let of = |field: &str| store.number("tollgate:{acme}:tenant", field);
        (of("d") == charged as f64 && of("n") == 0.0).then_some(())
    })
    .await;
}
