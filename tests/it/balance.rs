//! Which server gets a request, and that a client sees nothing of one that fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::Semaphore;

use crate::harness::conf::{Conf, MODEL};
use crate::harness::gateway::{Gateway, chat};
use crate::harness::script::{self, Step};
use crate::harness::upstream::{Seen, Upstream};

async fn three() -> [Upstream; 3] {
    [Upstream::chatting().await, Upstream::chatting().await, Upstream::chatting().await]
}

fn conf(servers: &[Upstream]) -> Conf {
    servers.iter().fold(Conf::new(), |conf, server| conf.server(server.address))
}

/// Sends `count` requests over `lanes` connections kept open, and gives how many were not answered with 200.
async fn load(gateway: &Gateway, count: usize, lanes: usize) -> usize {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..lanes {
        let mut client = gateway.connect().await;
        let next = Arc::clone(&next);
        tasks.spawn(async move {
            let mut failed = 0;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return failed;
                }
                let request = chat(json!({"stream": number.is_multiple_of(2), "user": number.to_string()}));
                let answer = client.exchange(&request).await;
                if answer.status != 200 || !answer.is_whole {
                    eprintln!("request {number}: {} {}", answer.status, answer.text());
                    failed += 1;
                }
            }
        });
    }
    tasks.join_all().await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_follows_the_weights() {
    let servers = three().await;
    let conf = Conf::new()
        .server_with(servers[0].address, json!({"weight": 1}))
        .server_with(servers[1].address, json!({"weight": 2}))
        .server_with(servers[2].address, json!({"weight": 5}));
    let gateway = Gateway::start(&conf).await;
    assert_eq!(load(&gateway, 800, 1).await, 0);
    for (server, goal) in servers.iter().zip([100, 200, 500]) {
        let count = server.count();
        assert!(count.abs_diff(goal) <= goal / 5, "{count} requests for a share of {goal}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_server_is_spared() {
    let servers = three().await;
    servers[0].answer_with(|_| vec![Step::Pause(Duration::from_millis(600)), script::chat(MODEL).remove(0)]);
    let gateway = Gateway::start(&conf(&servers)).await;
    assert_eq!(load(&gateway, 300, 6).await, 0);
    // Blind rotation would have given it a hundred.
    assert!(servers[0].count() < 40, "the slow server got {} of 300", servers[0].count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_is_passed_over_and_a_full_pool_says_so() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let hold = move |_: &Seen| vec![Step::Gate(Arc::clone(&held)), script::chat(MODEL).remove(0)];
    let servers = [Upstream::start(hold.clone()).await, Upstream::start(hold).await];
    let conf = Conf::new()
        .server_with(servers[0].address, json!({"max_in_flight": 2}))
        .server_with(servers[1].address, json!({"max_in_flight": 2}))
        .set("tollgate.queue.length", 0);
    let gateway = Gateway::start(&conf).await;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut client = gateway.connect().await;
        client
            .send(&[chat(json!({})).head_bytes(), chat(json!({})).body_bytes()].concat())
            .await
            .expect("sent");
        waiting.push(client);
    }
    servers[0].request(2).await;
    servers[1].request(2).await;
    let full = gateway.chat(json!({})).await;
    full.expect_error(503, "overloaded");
    assert!(full.head.get("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()));
    gate.add_permits(100);
    for client in &mut waiting {
        assert_eq!(client.answer().await.expect("an answer").status, 200);
    }
    assert_eq!(gateway.chat(json!({})).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_gets_nothing_until_it_is_back() {
    let servers = three().await;
    let gateway = Gateway::start(&conf(&servers)).await;
    servers[1].set_healthy(false);
    gateway.until_health("s1", false).await;
    let before = servers[1].count();
    assert_eq!(load(&gateway, 60, 3).await, 0);
    assert_eq!(servers[1].count(), before, "a server that is down was asked");
    servers[1].set_healthy(true);
    gateway.until_health("s1", true).await;
    assert_eq!(load(&gateway, 60, 3).await, 0);
    assert!(servers[1].count() > before, "a server that is back is used");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_server_the_client_is_told() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    upstream.kill().await;
    gateway.until_health("s0", false).await;
    let answer = gateway.chat(json!({})).await;
    let error = answer.expect_error(503, "no_upstream_available");
    assert_eq!(error["type"], "server_error");
    assert!(answer.head.get("retry-after").is_some());
    upstream.revive().await;
    gateway.until_health("s0", true).await;
    assert_eq!(gateway.chat(json!({})).await.status, 200);
}

/// How one of three servers fails in the middle of 2,000 requests.
async fn no_client_notices(fail: impl AsyncFn(&Upstream)) {
    let servers = three().await;
    let conf = conf(&servers)
        .pool_timeout("connect_ms", 300)
        .pool_timeout("headers_ms", 500)
        .pool_timeout("first_token_ms", 500)
        .pool_timeout("answer_ms", 500);
    let gateway = Gateway::start(&conf).await;
    assert_eq!(load(&gateway, 200, 8).await, 0);
    fail(&servers[1]).await;
    assert_eq!(load(&gateway, 1800, 8).await, 0, "clients saw the failure");
    let asked: usize = servers.iter().map(Upstream::count).sum();
    assert!(servers[0].count() > 300 && servers[2].count() > 300, "{asked} requests in all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_a_killed_server() {
    no_client_notices(async |server| server.kill().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_a_hung_server() {
    no_client_notices(async |server| server.answer_with(|_| vec![Step::Hang])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_a_server_that_hangs_up() {
    no_client_notices(async |server| server.answer_with(|_| vec![Step::Close])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_a_server_that_resets() {
    no_client_notices(async |server| server.answer_with(|_| vec![Step::Reset])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_a_server_that_answers_and_dies() {
    // Headers alone are no answer: the gateway must still be able to leave.
    let head_only = vec![Step::Send(script::stream_head()), Step::Close];
    no_client_notices(async |server| {
        let script = head_only.clone();
        server.answer_with(move |_| script.clone());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_a_server_that_answers_500() {
    no_client_notices(async |server| server.answer_with(|_| script::error_answer(500))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_a_server_that_answers_503() {
    no_client_notices(async |server| server.answer_with(|_| script::error_answer(503))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_a_server_that_answers_429() {
    no_client_notices(async |server| server.answer_with(|_| script::error_answer(429))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_the_server_closed_meanwhile_is_no_failure() {
    // Every answer promises keep-alive and is followed by a close: each pooled connection is stale.
    let upstream = Upstream::playing([script::chat(MODEL), vec![Step::Close]].concat()).await;
    let conf = Conf::to(upstream.address).set("upstreams.pools.0.retry.attempts", 2);
    let gateway = Gateway::start(&conf).await;
    for _ in 0..50 {
        assert_eq!(gateway.chat(json!({})).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_are_bounded() {
    let servers = three().await;
    for server in &servers {
        server.answer_with(|_| script::error_answer(503));
    }
    let gateway = Gateway::start(&conf(&servers).set("upstreams.pools.0.retry.attempts", 2)).await;
    let answer = gateway.chat(json!({})).await;
    assert!([502, 503].contains(&answer.status), "{}", answer.text());
    let asked: usize = servers.iter().map(Upstream::count).sum();
    assert_eq!(asked, 2, "two attempts, not more");
    assert!(servers.iter().all(|server| server.count() <= 1), "a server that failed is not asked again");
    let record = gateway.records(1).await.remove(0);
    assert_eq!(record["attempts"], 2);
    assert_eq!(record["outcome"], "upstream_failed");
}
