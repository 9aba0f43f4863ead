//! The ways to a store: password, TLS, a list of servers, Sentinels.

use serde_json::json;

use super::{TENANT, sharing, start, until_store};
use crate::harness::eventually;
use crate::harness::gateway::{Folder, Gateway};
use crate::harness::upstream::Upstream;
use crate::harness::valkey::{SENTINEL_PASSWORD, Sentinel, Valkey};

const LIMITS: &str = "tollgate.limits.shared";

/// A folder with a file `name` in it.
fn folder_with(name: &str, text: &str) -> Folder {
    let folder = Folder::new();
    std::fs::write(folder.path().join(name), text).expect("the folder can be written");
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_given_and_a_wrong_one_is_a_store_that_is_away() {
    let Some(store) = Valkey::start_with(&["--requirepass", "a-good-password"]) else { return };
    let upstream = Upstream::chatting().await;
    let conf = sharing(&store, &upstream, json!({"requests_per_minute": 1000}));
    let conf = conf.set(&format!("{LIMITS}.password"), "file:store.password");
    let right = Gateway::start_in(folder_with("store.password", "a-good-password\n"), &conf).await;
    until_store(&right, true).await;
    assert_eq!(right.chat(json!({})).await.status, 200);
    let wrong = Gateway::start_in(folder_with("store.password", "a-bad-password\n"), &conf).await;
    until_store(&wrong, false).await;
    assert_eq!(wrong.chat(json!({})).await.status, 200);
    assert!(!wrong.log().contains("a-bad-password"), "secrets are in no log");
    assert!(wrong.log().contains("WRONGPASS"), "{}", wrong.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_checked_against_the_authority_that_is_named() {
    let folder = Folder::new();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let (chain, key) = (folder.path().join("store.pem"), folder.path().join("store.key"));
    std::fs::write(&chain, made.cert.pem()).expect("the folder can be written");
    std::fs::write(&key, made.key_pair.serialize_pem()).expect("the folder can be written");
    let Some(store) = Valkey::start_with_tls(&chain, &key) else { return };
    let upstream = Upstream::chatting().await;
    let conf = sharing(&store, &upstream, json!({"requests_per_minute": 1000}));
    assert!(store.url().starts_with("rediss://"));
    let trusting = conf.clone().set(&format!("{LIMITS}.ca"), "store.pem");
    let trusting = Gateway::start_in(folder_with("store.pem", &made.cert.pem()), &trusting).await;
    until_store(&trusting, true).await;
    assert_eq!(trusting.chat(json!({})).await.status, 200);
    assert!(store.number(TENANT, "r0") > 0.0);
    let strange = start(1, &conf).await;
    until_store(&strange[0], false).await;
    assert!(strange[0].log().contains("certificate"), "{}", strange[0].log());
}

/// Of a list, the first that is in charge: not one that is gone, nor a replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_servers_the_one_in_charge_is_taken() {
    let Some(store) = Valkey::start() else { return };
    let port = store.port().to_string();
    let Some(replica) = Valkey::start_with(&["--replicaof", "127.0.0.1", &port]) else { return };
    let Some(mut gone) = Valkey::start() else { return };
    gone.kill();
    let upstream = Upstream::chatting().await;
    let conf = sharing(&store, &upstream, json!({"requests_per_minute": 1000}));
    let conf = conf.set("tollgate.limits.store", json!([gone.url(), replica.url(), store.url()]));
    let gateways = start(1, &conf).await;
    until_store(&gateways[0], true).await;
    assert_eq!(gateways[0].chat(json!({})).await.status, 200);
    assert!(store.number(TENANT, "r0") > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_leads_to_the_replica_when_the_master_dies() {
    let Some(mut master) = Valkey::start() else { return };
    let port = master.port().to_string();
    let Some(replica) = Valkey::start_with(&["--replicaof", "127.0.0.1", &port]) else { return };
    let folder = Folder::new();
    let sentinel = Sentinel::start(master.port(), folder.path());
    eventually("the Sentinel to know the replica", || async {
        sentinel.ask("SENTINEL replicas limits").contains(&replica.port().to_string()).then_some(())
    })
    .await;
    let upstream = Upstream::chatting().await;
    let conf = sharing(&master, &upstream, json!({"tokens_per_day": 100_000, "max_in_flight": 10}))
        .set("tollgate.limits.store", sentinel.url())
        .set(&format!("{LIMITS}.sentinel_master"), "limits")
        .set(&format!("{LIMITS}.sentinel_password"), "file:sentinel.password");
    let folder = folder_with("sentinel.password", SENTINEL_PASSWORD);
    let gateways = [Gateway::start_in(folder, &conf).await];
    until_store(&gateways[0], true).await;
    assert_eq!(gateways[0].chat(json!({})).await.status, 200);
    eventually("the replica to have it", || async { (replica.number(TENANT, "d") == 10.0).then_some(()) })
        .await;
    master.kill();
    until_store(&gateways[0], false).await;
    until_store(&gateways[0], true).await;
    assert_eq!(gateways[0].chat(json!({})).await.status, 200);
    eventually("the new master to count on", || async {
        (replica.number(TENANT, "d") == 20.0).then_some(())
    })
    .await;
}
