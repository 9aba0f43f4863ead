//! The store: the same on both databases, and nobody waits for it.

use std::time::Duration;

use serde_json::json;
use tollgate::config::settings::{PostgresTls, Secret, Storage, StoragePlace};
use tollgate::store::{Connection, StoreError, Value};

use crate::harness::conf::Conf;
use crate::harness::eventually;
use crate::harness::gateway::{Folder, Gateway};
use crate::harness::postgres::Postgres;
use crate::harness::upstream::Upstream;

fn storage(place: StoragePlace) -> Storage {
    let second = Duration::from_secs(1);
    Storage { place, connect_timeout: 2 * second, statement_timeout: 2 * second, start_timeout: second }
}

fn postgres(server: &Postgres) -> Storage {
    storage(StoragePlace::Postgres { url: Secret::new(&server.url()), tls: PostgresTls::Off })
}

/// What both must do alike.
fn keeps_the_dialect(storage: &Storage) {
    let mut store = Connection::open(storage).expect("it opens");
    let make = "CREATE TABLE things (id BIGINT PRIMARY KEY, name TEXT, bytes BYTEA, count BIGINT NOT NULL)";
    store.execute(make, &[]).expect("a table");
    let insert = "INSERT INTO things (id, name, bytes, count) VALUES ($1, $2, $3, $4)
                  ON CONFLICT (id) DO UPDATE SET count = things.count + excluded.count";
    let row = |id: i64, name: Option<&str>, count: i64| {
        vec![id.into(), name.into(), Value::Bytes(vec![0, 255]), count.into()]
    };
    let sets = [row(1, Some("a\u{e9}\u{1f600}"), 2), row(2, None, i64::MAX), row(1, Some("b"), 3)];
    let count = store.transaction(|store| store.execute_each(insert, &sets));
    assert_eq!(count, Ok(3), "a row for each set");
    // Parameters count by their number, not by where they stand.
    let rows = store.query(
        "SELECT id, name, bytes, count FROM things WHERE count >= $2 AND id >= $1 ORDER BY id",
        &[1.into(), 5.into()],
    );
    let rows = rows.expect("an answer");
    assert_eq!((rows[0].int(0), rows[0].text(1), rows[0].int(3)), (Ok(1), Ok("a\u{e9}\u{1f600}"), Ok(5)));
    assert_eq!((rows[0].bytes(2), rows[1].maybe_text(1)), (Ok(&[0, 255][..]), Ok(None)));
    assert_eq!((rows.len(), rows[1].int(3)), (2, Ok(i64::MAX)));
    let sum = store.query("SELECT CAST(SUM(count) AS BIGINT) FROM things WHERE id < $1", &[2.into()]);
    assert_eq!(sum.expect("a sum")[0].int(0), Ok(5));
    let failed: Result<(), _> = store.transaction(|store| {
        store.execute("DELETE FROM things", &[])?;
        store.execute("INSERT INTO things (id, count) VALUES ($1, NULL)", &[9.into()]).map(drop)
    });
    assert!(matches!(failed, Err(StoreError::Refused(_))), "{failed:?}");
    let left = store.query("SELECT COUNT(*) FROM things", &[]).expect("an answer");
    assert_eq!(left[0].int(0), Ok(2), "nothing of a failed transaction stays");
    let missing = store.query("SELECT 1 FROM nowhere", &[]);
    assert!(matches!(missing, Err(StoreError::Broken(_))), "{missing:?}");
    assert_eq!(store.ping(), Ok(()), "an error is not the end of a connection");
}

/// Several gateways may find an empty database at once.
fn is_set_up_once(storage: &Storage) {
    let openers: Vec<_> = (0..4)
        .map(|_| {
            let storage = storage.clone();
            std::thread::spawn(move || Connection::open(&storage).map(drop))
        })
        .collect();
    for opener in openers {
        assert_eq!(opener.join().expect("no panic"), Ok(()));
    }
    let mut store = Connection::open(storage).expect("it opens");
    let steps = store.query("SELECT number FROM schema_steps ORDER BY number", &[]).expect("the steps");
    let numbers: Vec<_> = steps.iter().map(|row| row.int(0).expect("a number")).collect();
    assert_eq!(numbers, (1..=i64::try_from(numbers.len()).expect("few")).collect::<Vec<_>>());
    store.execute("UPDATE schema_steps SET digest = 'x' WHERE number = 1", &[]).expect("a change");
    let other = Connection::open(storage).map(drop);
    assert!(matches!(&other, Err(StoreError::Broken(why)) if why.contains("step 1")), "{other:?}");
}

#[test]
fn sqlite_speaks_the_dialect() {
    let folder = Folder::new();
    let file = folder.path().join("deep").join("store.db");
    keeps_the_dialect(&storage(StoragePlace::Sqlite(file.clone())));
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&file).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only its owner may read hashes of keys");
    is_set_up_once(&storage(StoragePlace::Sqlite(folder.path().join("other.db"))));
}

#[test]
fn postgres_speaks_the_dialect() {
    let Some(mut server) = Postgres::start() else { return };
    is_set_up_once(&postgres(&server));
    let second = Postgres::start().expect("it is installed");
    keeps_the_dialect(&postgres(&second));
    // A server that dies takes the connection with it, and says so at once.
    let mut open = Connection::open(&postgres(&second)).expect("it opens");
    server.kill();
    let gone = Connection::open(&postgres(&server)).map(drop);
    assert!(matches!(gone, Err(StoreError::Away(_))), "{gone:?}");
    drop(second);
    let broken = open.ping();
    assert!(matches!(broken, Err(StoreError::Away(_))), "{broken:?}");
    assert!(matches!(open.ping(), Err(StoreError::Away(_))), "and stays gone");
}

#[test]
fn a_server_that_says_nothing_has_a_deadline() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let url = format!("postgres://u@127.0.0.1:{port}/d");
    let mut storage = storage(StoragePlace::Postgres { url: Secret::new(&url), tls: PostgresTls::Off });
    storage.connect_timeout = Duration::from_millis(200);
    let start = std::time::Instant::now();
    let error = Connection::open(&storage).map(drop).expect_err("nobody answers");
    assert_eq!(error.to_string(), "the store is away: no connection within 200 ms");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_serves_without_its_store_and_finds_it_when_it_is_there() {
    let upstream = Upstream::chatting().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = nobody.local_addr().expect("an address").port();
    drop(nobody);
    let conf = Conf::to(upstream.address)
        .set("tollgate.storage.url", format!("postgres://postgres@127.0.0.1:{port}/postgres"))
        .set("tollgate.storage.start_timeout_ms", 100);
    let gateway = Gateway::start(&conf).await;
    assert_eq!(gateway.chat(json!({})).await.status, 200);
    let ready = gateway.admin("/readyz").await;
    assert_eq!(ready.status, 200, "{}", ready.text());
    let body: serde_json::Value = serde_json::from_str(&ready.text()).expect("JSON");
    assert_eq!(body["store"], json!({"up": false, "kind": "postgres"}));
    let metrics = gateway.metrics().await;
    assert!(metrics.sum("tollgate_store_up", &[]).abs() < f64::EPSILON);
    assert!(metrics.sum("tollgate_store_errors", &[]) >= 1.0);
    assert!(gateway.log().contains("the store is away"), "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_reaches_postgres_by_password_over_tls() {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let (certificate, key) = (made.cert.pem(), made.key_pair.serialize_pem());
    let ca = certificate.clone();
    let started = tokio::task::spawn_blocking(move || {
        Postgres::start_with(&["ssl=on"], |data| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::write(data.join("server.crt"), certificate).expect("a file");
            std::fs::write(data.join("server.key"), key).expect("a file");
            let own = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(data.join("server.key"), own).expect("permissions");
            let rules = "hostssl all gate 127.0.0.1/32 scram-sha-256\nhost all postgres 127.0.0.1/32 trust\n";
            std::fs::write(data.join("pg_hba.conf"), rules).expect("a file");
        })
    });
    let Some(mut server) = started.await.expect("no panic") else { return };
    let admin = postgres(&server);
    let role = tokio::task::spawn_blocking(move || {
        let mut admin = Connection::open(&admin)?;
        admin.execute("CREATE ROLE gate LOGIN PASSWORD 'p4ss'", &[])?;
        admin.execute("CREATE DATABASE gate OWNER gate", &[])
    });
    role.await.expect("no panic").expect("a role and its database");
    let upstream = Upstream::chatting().await;
    let folder = Folder::new();
    let url = format!("postgres://gate:p4ss@127.0.0.1:{}/gate", server.port());
    std::fs::write(folder.path().join("store.url"), url).expect("a file");
    std::fs::write(folder.path().join("ca.pem"), ca).expect("a file");
    let conf = Conf::to(upstream.address)
        .set("tollgate.storage.url", format!("file:{}", folder.path().join("store.url").display()))
        .set("tollgate.storage.tls", "required")
        .set("tollgate.storage.ca", folder.path().join("ca.pem").display().to_string());
    let gateway = Gateway::start_in(folder, &conf).await;
    let is_up = || async { (gateway.metrics().await.sum("tollgate_store_up", &[]) > 0.5).then_some(()) };
    eventually("the store to be up", is_up).await;
    // Away and back, without a restart of the gateway.
    server.kill();
    let is_down = || async { (gateway.metrics().await.sum("tollgate_store_up", &[]) < 0.5).then_some(()) };
    eventually("the store to be noticed as away", is_down).await;
    assert_eq!(gateway.chat(json!({})).await.status, 200);
    let server = tokio::task::spawn_blocking(move || {
        server.restart();
        server
    });
    let server = server.await.expect("it starts again");
    eventually("the store to be back", is_up).await;
    assert!(gateway.log().contains("the store is back"), "{}", gateway.log());
    assert!(!gateway.log().contains("p4ss"), "{}", gateway.log());
    drop(server);
}
