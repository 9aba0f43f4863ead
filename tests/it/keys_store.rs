//! Keys and their store: several gateways on one PostgreSQL, a store that goes away, a store that was put back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate::config::settings::{Storage, StoragePlace};
use tollgate::store::Connection;

use crate::harness::conf::Conf;
use crate::harness::eventually;
use crate::harness::gateway::Gateway;
use crate::harness::postgres::Postgres;
use crate::harness::upstream::Upstream;
use crate::keys::{OPERATOR, create, status, with_admin};

async fn postgres() -> Option<Postgres> {
    tokio::task::spawn_blocking(Postgres::start).await.expect("no panic")
}

async fn readiness(gateway: &Gateway) -> (u16, Value) {
    let answer = gateway.admin("/readyz").await;
    (answer.status, answer.json())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_gateway_on_one_postgres_hears_within_a_second() {
    let Some(server) = postgres().await else { return };
    let upstream = Upstream::chatting().await;
    let mut gateways = Vec::new();
    for _ in 0..2 {
        let (folder, conf) = with_admin(Conf::to(upstream.address));
        gateways.push(Gateway::start_in(folder, &conf.set("tollgate.storage.url", server.url())).await);
    }
    let (id, key) = create(&gateways[0], json!({"tenant": "acme", "labels": {"a": "b"}})).await;
    assert_eq!(status(&gateways[0], &key).await, 200, "at once");
    let eventual = |expected| {
        let (gateway, key) = (&gateways[1], &key);
        move || async move { (status(gateway, key).await == expected).then_some(()) }
    };
    eventually("the other gateway to know the key", eventual(200)).await;
    // Changed there, undone here.
    let path = format!("/keys/{id}");
    for gateway in gateways.iter().rev() {
        let (code, rotated) = gateway
            .call(OPERATOR, "POST", &format!("{path}/rotate"), json!({"grace_s": 600, "force": true}))
            .await;
        assert_eq!(code, 200, "{rotated}");
    }
    let (_, listed) =
        gateways[1].call(OPERATOR, "GET", "/keys?state=rotating&tenant=acme", Value::Null).await;
    assert_eq!(listed["keys"][0]["id"], json!(id), "{listed}");
    assert_eq!(gateways[0].call(OPERATOR, "POST", &format!("{path}/revoke"), Value::Null).await.0, 200);
    let since = Instant::now();
    eventually("the other gateway to refuse", eventual(401)).await;
    assert!(since.elapsed() < Duration::from_secs(1), "a revocation took {:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_put_back_is_read_anew() {
    let upstream = Upstream::chatting().await;
    let (folder, conf) = with_admin(Conf::to(upstream.address));
    let place = StoragePlace::Sqlite(folder.path().join("tollgate.db"));
    let gateway = Gateway::start_in(folder, &conf).await;
    let (_, kept) = create(&gateway, json!({"tenant": "acme", "id": "kept"})).await;
    let (_, gone) = create(&gateway, json!({"tenant": "acme", "id": "gone"})).await;
    assert_eq!((status(&gateway, &kept).await, status(&gateway, &gone).await), (200, 200));
    let second = Duration::from_secs(1);
    let storage =
        Storage { place, connect_timeout: second, statement_timeout: 5 * second, start_timeout: second };
    let put_back = tokio::task::spawn_blocking(move || {
        // As a backup from before the second key would have it.
        Connection::open(&storage)?.transaction(|store| {
            store.execute("DELETE FROM api_keys WHERE id = $1", &["gone".into()])?;
            store.execute("UPDATE api_key_changes SET change = 1", &[])
        })
    });
    assert_eq!(put_back.await.expect("no panic"), Ok(1));
    eventually("the key to be gone", || async { (status(&gateway, &gone).await == 401).then_some(()) }).await;
    assert_eq!(status(&gateway, &kept).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_keys_work_without_the_store_also_after_a_start() {
    let Some(mut server) = postgres().await else { return };
    let upstream = Upstream::chatting().await;
    let (folder, conf) = with_admin(Conf::to(upstream.address));
    let conf = conf
        .set("tollgate.storage.url", server.url())
        .set("tollgate.storage.start_timeout_ms", 2_000)
        .set("tollgate.storage.connect_timeout_ms", 500);
    let mut gateway = Gateway::start_in(folder, &conf).await;
    let (id, key) = create(&gateway, json!({"tenant": "acme"})).await;
    let snapshot = gateway.folder().join("keys.snapshot");
    eventually("the snapshot to hold the key", || async {
        std::fs::read_to_string(&snapshot).is_ok_and(|text| text.contains(&id)).then_some(())
    })
    .await;
    let text = std::fs::read_to_string(&snapshot).expect("it is there");
    assert!(!text.contains(&key), "it holds hashes only");

    server.kill();
    eventually("the gateway to notice", || async {
        let (status, body) = readiness(&gateway).await;
        assert_eq!(status, 200, "{body}");
        (body["keys"]["store_up"] == json!(false)).then_some(())
    })
    .await;
    assert_eq!(status(&gateway, &key).await, 200);
    let metrics = gateway.metrics().await;
    assert!(metrics.sum("tollgate_keys_store_up", &[]).abs() < f64::EPSILON);
    let (code, refused) = gateway.call(OPERATOR, "POST", "/keys", json!({"tenant": "acme"})).await;
    assert_eq!((code, &refused["error"]["code"]), (503, &json!("store_unavailable")), "{refused}");

    let again = gateway.killed_and_started_again().await;
    assert_eq!(status(&again, &key).await, 200, "from the snapshot");
    let (_, body) = readiness(&again).await;
    assert_eq!(
        (&body["keys"]["from_snapshot"], &body["keys"]["stored"]),
        (&json!(true), &json!(1)),
        "{body}"
    );
    assert!(again.log().contains("starting with 1 keys as they were at"), "{}", again.log());

    let server = tokio::task::spawn_blocking(move || {
        server.restart();
        server
    });
    let server = server.await.expect("it starts again");
    eventually("the keys to be those of the store", || async {
        let (_, body) = readiness(&again).await;
        (body["keys"]["from_snapshot"] == json!(false) && body["keys"]["store_up"] == json!(true))
            .then_some(())
    })
    .await;
    assert_eq!(again.call(OPERATOR, "POST", &format!("/keys/{id}/revoke"), Value::Null).await.0, 200);
    assert_eq!(status(&again, &key).await, 401);
    drop(server);
}
