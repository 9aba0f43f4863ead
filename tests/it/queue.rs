//! Who waits when servers are full, in which order, and who is sent away.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::harness::client::Client;
use crate::harness::conf::{Conf, OTHER_KEY};
use crate::harness::eventually;
use crate::harness::gateway::{Gateway, chat};
use crate::harness::request::Request;
use crate::harness::script::{self, Step};
use crate::harness::upstream::{Seen, Upstream};

/// A gateway in front of one server that takes one request at a time and answers when it is let.
struct Full {
    gateway: Gateway,
    upstream: Upstream,
    gate: Arc<Semaphore>,
    /// The one in work first, then those that wait.
    clients: Vec<Client>,
}

impl Full {
    async fn start(change: impl FnOnce(Conf) -> Conf) -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&gate);
        let upstream = Upstream::start(move |seen: &Seen| {
            let model = seen.json()["model"].as_str().unwrap_or_default().to_owned();
            vec![Step::Gate(Arc::clone(&held)), script::chat(&model).remove(0)]
        })
        .await;
        let conf = Conf::new().server_with(upstream.address, json!({"max_in_flight": 1}));
        let gateway = Gateway::start(&change(conf)).await;
        let mut full = Self { gateway, upstream, gate, clients: Vec::new() };
        let client = full.send(&ask("acme", "first")).await;
        full.clients.push(client);
        full.upstream.request(1).await;
        full
    }

    async fn send(&self, request: &Request) -> Client {
        let mut client = self.gateway.connect().await;
        client.send(&[request.head_bytes(), request.body_bytes()].concat()).await.expect("sent");
        client
    }

    /// Sends one that has to wait, and waits until it does.
    async fn queue(&mut self, tenant: &str, name: &str) {
        let before = self.depth().await;
        let client = self.send(&ask(tenant, name)).await;
        self.clients.push(client);
        self.until_depth(before + 1.0).await;
    }

    async fn depth(&self) -> f64 {
        self.gateway.metrics().await.sum("tollgate_queue_depth", &[])
    }

    async fn until_depth(&self, goal: f64) {
        eventually(&format!("{goal} requests to wait"), || async {
            ((self.depth().await - goal).abs() < f64::EPSILON).then_some(())
        })
        .await;
    }

    /// Answers one after another; the names in the order in which the server got them.
    async fn order(&mut self) -> Vec<String> {
        let count = self.clients.len();
        self.gate.add_permits(count);
        for client in &mut self.clients {
            assert_eq!(client.answer().await.expect("an answer").status, 200);
        }
        assert_eq!(self.upstream.count(), count);
        let name = |seen: Seen| seen.json()["user"].as_str().unwrap_or_default().to_owned();
        self.upstream.seen().into_iter().skip(1).map(name).collect()
    }
}

/// A request of a tenant that can be told from others at the server.
fn ask(tenant: &str, name: &str) -> Request {
    match tenant {
        "other" => {
            chat(json!({"user": name, "model": "hidden-model"})).without("authorization").key(OTHER_KEY)
        }
        _ => chat(json!({"user": name})),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_take_turns() {
    let mut full = Full::start(|conf| conf).await;
    for (tenant, name) in [("acme", "a1"), ("acme", "a2"), ("acme", "a3"), ("other", "o1"), ("other", "o2")] {
        full.queue(tenant, name).await;
    }
    assert_eq!(full.order().await, ["a1", "o1", "a2", "o2", "a3"]);
    full.gateway.records(6).await;
    let metrics = full.gateway.metrics().await;
    let served =
        metrics.sum("tollgate_queue_wait_seconds_count", &[("priority", "5"), ("outcome", "served")]);
    assert!((served - 5.0).abs() < f64::EPSILON, "{served}");
    assert!(metrics.sum("tollgate_upstream_in_flight", &[]).abs() < f64::EPSILON);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_higher_priority_goes_first_and_a_lower_one_is_shed() {
    let gold = json!({"name": "gold", "priority": 9});
    let mut full = Full::start(|conf| {
        let tiers: Value = json!([{"name": "free-flow"}, gold]);
        conf.set("tiers.tiers", tiers).set("tenants.tenants.1.tier", "gold").set("tollgate.queue.length", 3)
    })
    .await;
    for (tenant, name) in [("acme", "a1"), ("acme", "a2"), ("other", "o1")] {
        full.queue(tenant, name).await;
    }
    // The queue is full: one more of the lower priority is refused, one of the higher takes the place of the last.
    let refused = full.gateway.exchange(&ask("acme", "a3")).await;
    refused.expect_error(503, "overloaded");
    assert!(refused.head.get("retry-after").is_some());
    let second = full.send(&ask("other", "o2")).await;
    let mut shed = full.clients.remove(2);
    full.clients.push(second);
    shed.answer().await.expect("an answer").expect_error(503, "overloaded");
    full.until_depth(3.0).await;
    assert_eq!(full.order().await, ["o1", "o2", "a1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_ever_and_who_leaves_makes_room() {
    let mut full =
        Full::start(|conf| conf.set("tollgate.queue.length", 1).set("tollgate.queue.wait_ms", 1500)).await;
    full.queue("acme", "impatient").await;
    drop(full.clients.pop());
    full.until_depth(0.0).await;
    let late = full.gateway.exchange(&ask("acme", "late")).await;
    late.expect_error(503, "overloaded");
    assert!(late.head.get("retry-after-ms").is_some());
    full.queue("acme", "served").await;
    assert_eq!(full.order().await, ["served"]);
    full.gateway.records(4).await;
    let metrics = full.gateway.metrics().await;
    for outcome in ["left", "deadline", "served"] {
        let count = metrics.sum("tollgate_queue_wait_seconds_count", &[("outcome", outcome)]);
        assert!((count - 1.0).abs() < f64::EPSILON, "{outcome}: {count}");
    }
    assert!(metrics.sum("tollgate_tenant_reserved_tokens", &[]).abs() < f64::EPSILON, "a refusal gives back");
}

/// A place that becomes free unnoticed, because a server is healthy again, is offered too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_takes_who_waits() {
    let spare = Upstream::chatting().await;
    spare.set_healthy(false);
    let address = spare.address;
    let mut full = Full::start(|conf| conf.server_with(address, json!({"max_in_flight": 1}))).await;
    full.gateway.until_health("s1", false).await;
    full.queue("acme", "waits").await;
    spare.set_healthy(true);
    spare.request(1).await;
    let mut waited = full.clients.pop().expect("the one that waited");
    assert_eq!(waited.answer().await.expect("an answer").status, 200);
    assert!(full.order().await.is_empty());
}
