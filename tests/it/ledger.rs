//! The usage ledger: each request once, whatever is killed, and the sums that follow from it. The same on both
//! databases.

mod kills;
mod sums;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tollgate::config::settings::{PostgresTls, Secret, Storage, StoragePlace};
use tollgate::store::usage::{Verdict, verify};
use tollgate::store::{Connection, Row, StoreError};

use crate::harness::conf::{Conf, KEY, MODEL, OTHER_KEY};
use crate::harness::gateway::{Folder, Gateway, binary, chat};
use crate::harness::postgres::Postgres;
use crate::harness::request::Request;
use crate::harness::script::{self, Step};
use crate::harness::upstream::Upstream;
use crate::harness::{Dice, eventually};

/// The store of a gateway whose database is where the harness puts it.
fn sqlite(folder: &std::path::Path) -> Storage {
    storage(StoragePlace::Sqlite(folder.join("tollgate.db")))
}

fn postgres(url: &str) -> Storage {
    storage(StoragePlace::Postgres { url: Secret::new(url), tls: PostgresTls::Off })
}

fn storage(place: StoragePlace) -> Storage {
    let patience = Duration::from_secs(10);
    Storage { place, connect_timeout: patience, statement_timeout: patience, start_timeout: patience }
}

/// Asks a store, off the test's own runtime.
async fn ask<T: Send + 'static>(
    storage: &Storage,
    work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
) -> T {
    let storage = storage.clone();
    let asked = tokio::task::spawn_blocking(move || {
        Connection::open(&storage).and_then(|mut store| work(&mut store))
    });
    asked.await.expect("no panic").expect("the store answers")
}

async fn rows(storage: &Storage) -> Vec<Row> {
    ask(storage, |store| {
        store.query(
            "SELECT request_id, tenant, key_id, model, server, endpoint, status, outcome, input_tokens, output_tokens,
             cost_peur, energy_nwh, is_streaming FROM usage_rows ORDER BY time_ms, seq",
            &[],
        )
    })
    .await
}

/// Waits until this many rows are in the store, and proves the ledger.
async fn settled(storage: &Storage, count: usize) -> Vec<Row> {
    let found = eventually(&format!("{count} rows"), || async {
        let found = rows(storage).await;
        (found.len() >= count).then_some(found)
    })
    .await;
    assert_eq!(found.len(), count, "more rows than requests");
    holds(storage).await;
    found
}

async fn holds(storage: &Storage) -> Verdict {
    let verdict = ask(storage, verify).await;
    assert!(verdict.faults.is_empty(), "{verdict:?}");
    verdict
}

/// Money of an access record in 1e-12 EUR.
fn pico(cost: &Json) -> i64 {
    // Small enough for a double to hold exactly.
    (cost.as_f64().expect("a number") * 1e12).round() as i64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_of_a_tenant_leaves_one_row_that_says_what_its_record_says() {
    let upstream = Upstream::chatting().await;
    let conf = Conf::to(upstream.address).set("models.models.0.energy_kwh_per_million", json!(11.75));
    let mut gateway = Gateway::start(&conf).await;
    let storage = sqlite(gateway.folder());
    assert_eq!(gateway.chat(json!({})).await.status, 200);
    assert_eq!(gateway.chat(json!({"stream": true})).await.status, 200);
    assert_eq!(gateway.chat(json!({"model": "nothing"})).await.status, 404);
    let other = Request::get("/v1/models").key(OTHER_KEY);
    assert_eq!(gateway.exchange(&other).await.status, 200);
    // Nobody can be charged for these.
    let wrong = Request::get("/v1/models").key(&KEY.replace("0123", "3210"));
    assert_eq!(gateway.exchange(&wrong).await.status, 401);
    assert_eq!(gateway.exchange(&Request::get("/nowhere").key(KEY)).await.status, 404);
    let records = gateway.records(6).await;
    let known: Vec<_> = records.iter().filter(|record| record["tenant"] != "").collect();
    assert_eq!(known.len(), 4);
    let rows = settled(&storage, 4).await;
    let by_id: BTreeMap<&str, &Row> = rows.iter().map(|row| (row.text(0).expect("an id"), row)).collect();
    for record in known {
        let row = by_id[record["request_id"].as_str().expect("an id")];
        for (column, name) in
            [(1, "tenant"), (2, "key_id"), (3, "model"), (4, "server"), (5, "endpoint"), (7, "outcome")]
        {
            assert_eq!(row.text(column).ok(), record[name].as_str(), "{name}");
        }
        for (column, name) in [(6, "status"), (8, "input_tokens"), (9, "output_tokens")] {
            assert_eq!(row.int(column).ok(), record[name].as_i64(), "{name}");
        }
        assert_eq!(row.int(10).expect("a cost"), pico(&record["cost_eur"]));
        let energy = record["energy_kwh"].as_f64().map(|kwh| (kwh * 1e12).round() as i64);
        assert_eq!(row.maybe_int(11).expect("energy"), energy);
    }
    // 10 tokens at 11.75 kWh a million, exact.
    assert!(rows.iter().any(|row| row.maybe_int(11) == Ok(Some(117_500_000))), "{rows:?}");
    let metrics = gateway.metrics().await;
    assert!((metrics.sum("tollgate_ledger_rows_stored", &[]) - 4.0).abs() < f64::EPSILON);
    assert!(metrics.sum("tollgate_ledger_pending_bytes", &[]).abs() < f64::EPSILON);
    gateway.signal("TERM");
    assert!(gateway.exit().await.success());
    let left = std::fs::read_dir(gateway.folder().join("ledger")).expect("the folder").count();
    assert_eq!(left, 0, "a stop leaves no journal behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_keeps_the_price_of_its_day() {
    let upstream = Upstream::chatting().await;
    let yesterday = (chrono::Utc::now().date_naive() - chrono::Days::new(1)).to_string();
    let next_week = (chrono::Utc::now().date_naive() + chrono::Days::new(7)).to_string();
    let prices = json!([
        {"input": 1, "output": 1},
        {"from": yesterday, "input": 10, "output": 100},
        {"from": next_week, "input": 5000, "output": 5000}
    ]);
    let gateway = Gateway::start(&Conf::to(upstream.address).set("models.models.0.prices", prices)).await;
    assert_eq!(gateway.chat(json!({})).await.status, 200);
    let rows = settled(&sqlite(gateway.folder()), 1).await;
    // 7 × 10 + 3 × 100 EUR a million.
    assert_eq!(rows[0].int(10), Ok(370_000_000));
    let card = gateway.exchange(&Request::get(&format!("/v1/models/{MODEL}")).key(KEY)).await.json();
    assert_eq!(card["pricing"]["output"], 100.0, "what is shown is what is charged");
}

/// Half of many streams are cut by their clients, each somewhere: what is charged is what was streamed, and the ledger
/// says what the access log says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_cut_anywhere_add_up_to_their_records() {
    // `benches/record/` has the run with 5000.
    let streams: usize =
        std::env::var("TOLLGATE_STREAMS_CUT").map_or(300, |count| count.parse().expect("a number"));
    let words = ["one ", "two ", "three ", "four ", "five ", "six ", "seven ", "eight "];
    let events = script::chat_events(MODEL, &words, Some((20, 8)));
    let length = events.len();
    let mut script = vec![Step::Send(script::stream_head())];
    for event in &events {
        script.push(Step::Send(script::chunk(event.as_bytes())));
        script.push(Step::Pause(Duration::from_millis(1)));
    }
    script.push(Step::Send(script::LAST_CHUNK.to_vec()));
    let upstream = Upstream::playing(script).await;
    let gateway = std::sync::Arc::new(Gateway::start(&Conf::to(upstream.address)).await);
    let mut dice = Dice::new(4);
    let mut running = tokio::task::JoinSet::new();
    for number in 0..streams {
        let cut = (number % 2 == 0).then(|| dice.below(length));
        let gateway = std::sync::Arc::clone(&gateway);
        running.spawn(async move {
            let mut stream = gateway.connect().await.open_stream(&chat(json!({"stream": true}))).await;
            match cut {
                Some(cut) => {
                    for _ in 0..cut {
                        stream.event().await;
                    }
                }
                None => drop(stream.remaining().await),
            }
        });
        while running.len() >= 50 {
            running.join_next().await.expect("one is running").expect("no panic");
        }
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("no panic");
    }
    let records = gateway.records(streams).await;
    let rows = settled(&sqlite(gateway.folder()), streams).await;
    let of_records: i64 = records.iter().map(|record| pico(&record["cost_eur"])).sum();
    let of_rows: i64 = rows.iter().map(|row| row.int(10).expect("a cost")).sum();
    assert_eq!(of_rows, of_records);
    let cut = records.iter().filter(|record| record["outcome"] == "client_gone").count();
    assert!(cut > streams / 4, "{cut} of {streams} streams were cut");
    for name in ["tollgate_ledger_lost_rows", "tollgate_requests_in_flight"] {
        assert!(gateway.metrics().await.sum(name, &[]).abs() < f64::EPSILON, "{name}");
    }
}

/// `tollgate usage` beside the running gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_told_by_column_as_table_json_and_csv() {
    let upstream = Upstream::chatting().await;
    let gateway = crate::keys::start(Conf::to(upstream.address)).await;
    for _ in 0..3 {
        assert_eq!(gateway.chat(json!({})).await.status, 200);
    }
    settled(&sqlite(gateway.folder()), 3).await;
    let usage = |options: &[&str]| {
        let output = binary().arg("usage").arg("--conf").arg(gateway.folder()).args(options).output();
        let output = output.expect("it can be run");
        let text = String::from_utf8(output.stdout).expect("text");
        let error = String::from_utf8(output.stderr).expect("text");
        (output.status.code().expect("a code"), text, error)
    };
    let (code, json, error) = usage(&["--by", "tenant,key,model,month,day", "--json"]);
    assert_eq!(code, 0, "{error}");
    let json: Json = serde_json::from_str(&json).expect("JSON");
    let line = &json["usage"][0];
    assert_eq!(
        (&line["tenant"], &line["key"], &line["model"]),
        (&json!("acme"), &json!("main"), &json!(MODEL))
    );
    assert_eq!(
        (&line["requests"], &line["input_tokens"], &line["output_tokens"]),
        (&json!(3), &json!(21), &json!(9))
    );
    // 3 × (7 × 0.9 + 3 × 4) EUR a million.
    assert_eq!(json["total"]["cost_eur"], "0.0000549");
    let reader = crate::keys::READER;
    let (status, same) =
        gateway.call(reader, "GET", "/usage?by=tenant,key,model,month,day", Json::Null).await;
    assert_eq!((status, &same), (200, &json));
    let (status, error) = gateway.call(reader, "GET", "/usage?by=colour", Json::Null).await;
    assert_eq!((status, &error["error"]["field"]), (400, &json!("by")));
    let today = chrono::Utc::now().date_naive().to_string();
    assert!(line["day"].as_str().is_some_and(|day| day <= today.as_str()), "{line}");
    let (code, csv, _) =
        usage(&["--by", "tenant", "--csv", "--tenant", "acme", "--model", MODEL, "--key", "main"]);
    assert_eq!((code, csv.lines().nth(1)), (0, Some("acme,3,21,0,0,9,0,0.0000549,0")));
    let (code, table, _) = usage(&["--by", "hour"]);
    assert!(code == 0 && table.contains("0.0000549"), "{table}");
    let (code, none, _) = usage(&["--tenant", "other"]);
    assert_eq!((code, none.as_str()), (0, "nothing was used\n"));
    let (code, verdict, _) = usage(&["--verify"]);
    assert!(code == 0 && verdict.starts_with("3 rows of 1 lives") && verdict.contains("holds"), "{verdict}");
    let (code, _, error) = usage(&["--by", "colour"]);
    assert!(code == 2 && error.contains("expected one of tenant, key, model"), "{error}");
    let (code, _, error) = usage(&["--from", "2026-02-01", "--to", "2026-01-01"]);
    assert!(code == 2 && error.contains("--from"), "{error}");
    ask(&sqlite(gateway.folder()), |store| store.execute("DELETE FROM usage_rows WHERE seq = 1", &[])).await;
    let (code, verdict, _) = usage(&["--verify"]);
    assert!(code == 1 && verdict.contains("expected 3 rows, found 2"), "{verdict}");
}
