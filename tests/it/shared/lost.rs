//! The store loses everything under gateways that run: what was used of budgets holds all the same, to the token.

use serde_json::json;
use tokio::task::JoinSet;

use super::{TENANT, sharing, start, until_store};
use crate::harness::client::Client;
use crate::harness::conf::Conf;
use crate::harness::eventually;
use crate::harness::gateway::{Gateway, chat};
use crate::harness::postgres::Postgres;
use crate::harness::upstream::Upstream;
use crate::harness::valkey::Valkey;

/// 7 tokens of input and 3 of output.
const EACH: u64 = 10;

/// One request, which reserves what it will use.
fn request() -> crate::harness::request::Request {
    chat(json!({"max_tokens": 3}))
}

/// Asks this gateway `count` times; all pass.
async fn spend(gateway: &Gateway, count: u64) {
    for _ in 0..count {
        let answer = gateway.exchange(&request()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// All gateways are asked until each has said that the budget is used up. Gives how many passed.
async fn drain(gateways: &[Gateway]) -> u64 {
    let mut clients = JoinSet::new();
    for gateway in gateways {
        let address = gateway.address();
        clients.spawn(async move {
            let (mut client, mut passed) = (Client::connect(address).await, 0);
            loop {
                let answer = client.exchange(&request()).await;
                match answer.status {
                    200 => passed += 1,
                    // Others may have room, or the store is away where limits are closed then: it may be asked again.
                    503 => tokio::task::yield_now().await,
                    _ => {
                        answer.expect_error(429, "insufficient_quota");
                        return passed;
                    }
                }
            }
        });
    }
    let mut all = 0;
    while let Some(passed) = clients.join_next().await {
        all += passed.expect("no panic");
    }
    all
}

/// What the store says was used, once nothing is outstanding.
async fn until_used(store: &Valkey, tokens: u64) {
    eventually(&format!("{tokens} tokens to be counted"), || async {
        let micros = tokens / EACH * 18_300;
        let (day, month) = (store.number(TENANT, "d"), store.number(TENANT, "m"));
        (day == tokens as f64 && (month - micros as f64).abs() <= 40.0).then_some(())
    })
    .await;
}

/// Scopes that nobody has used for a second are forgotten by their gateways.
async fn until_forgotten(gateways: &[Gateway]) {
    for gateway in gateways {
        eventually("the gateway to hold nothing", || async {
            (gateway.metrics().await.sum("tollgate_limits_scopes", &[]) == 0.0).then_some(())
        })
        .await;
    }
}

/// A store and a ledger that three gateways share, of which one has gone for good: 600 of 1,000 tokens are used, by all
/// of them.
async fn nearly_spent(when_down: &str) -> Option<(Valkey, Postgres, Vec<Gateway>, Upstream)> {
    let database = tokio::task::spawn_blocking(Postgres::start).await.expect("no panic")?;
    let store = Valkey::start()?;
    let upstream = Upstream::chatting().await;
    let tier = json!({"tokens_per_day": 1000, "eur_per_month": 1});
    let conf: Conf = sharing(&store, &upstream, tier)
        .set("tollgate.storage.url", database.url())
        .set("tollgate.limits.shared.when_down", when_down);
    let mut gateways = start(3, &conf).await;
    for gateway in &gateways {
        spend(gateway, 20).await;
    }
    // Its rows are in the ledger; nobody will tell of them but the ledger.
    let gone = gateways.pop().expect("three");
    eventually("its rows to be stored", || async {
        (gone.metrics().await.sum("tollgate_ledger_rows_stored", &[]) >= 20.0).then_some(())
    })
    .await;
    until_used(&store, 600).await;
    drop(gone);
    Some((store, database, gateways, upstream))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_holds_when_the_store_is_emptied_under_running_gateways() {
    let Some((store, _database, gateways, _upstream)) = nearly_spent("closed").await else { return };
    // Once with what gateways still remember, and once when they have forgotten it.
    for is_forgotten in [false, true] {
        if is_forgotten {
            until_forgotten(&gateways).await;
        }
        assert!(store.ask("FLUSHALL").starts_with("+OK"));
        eventually("the budget to be known again", || async {
            (store.number(TENANT, "d") == 600.0).then_some(())
        })
        .await;
        for gateway in &gateways {
            until_store(gateway, true).await;
        }
        until_used(&store, 600).await;
    }
    assert!(gateways[0].log().contains("the store has forgotten what it was told"), "{}", gateways[0].log());
    assert!(store.ask("FLUSHALL").starts_with("+OK"));
    // From the first moment on, without waiting for anything: who cannot know yet is refused with 503.
    assert_eq!(drain(&gateways).await, 40, "400 tokens were left");
    until_used(&store, 1000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_holds_when_the_store_is_killed_and_comes_back_empty() {
    let Some((mut store, _database, gateways, _upstream)) = nearly_spent("open").await else { return };
    store.kill();
    for gateway in &gateways {
        until_store(gateway, false).await;
        // Without the store they go on with their part of what was left.
        spend(gateway, 5).await;
    }
    store.restart();
    for gateway in &gateways {
        until_store(gateway, true).await;
    }
    until_used(&store, 700).await;
    // A gateway that starts now tells what the ledger has once more; it changes nothing.
    assert_eq!(drain(&gateways).await, 30);
    until_used(&store, 1000).await;
}

/// With the ledger's database away as well nobody can tell what was used: requests go on as with the store away, and what
/// they use is counted when both are back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_store_gives_nothing_before_the_ledger_has_answered() {
    let Some((store, mut database, gateways, _upstream)) = nearly_spent("closed").await else { return };
    until_forgotten(&gateways).await;
    database.kill();
    assert!(store.ask("FLUSHALL").starts_with("+OK"));
    for gateway in &gateways {
        until_store(gateway, false).await;
        gateway.exchange(&request()).await.expect_error(503, "overloaded");
    }
    let restart = move || {
        database.restart();
        database
    };
    let _database = tokio::task::spawn_blocking(restart).await.expect("it starts again");
    for gateway in &gateways {
        until_store(gateway, true).await;
    }
    until_used(&store, 600).await;
    assert_eq!(drain(&gateways).await, 40);
}
