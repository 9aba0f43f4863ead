//! `kill -9` of the gateway and of PostgreSQL in turn, under load. Every request that was answered is charged once; only
//! what settled within the last commit before the gateway's own kill may be missing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::*;
use crate::harness::valkey::Valkey;

/// A commit takes the window of 20 ms and the disk's own time; the test's machine is busy.
const COMMIT: Duration = Duration::from_millis(1500);

/// When each answered request was answered.
type Answered = Arc<Mutex<HashMap<String, Instant>>>;

/// Clients that ask as fast as they are answered, until told to stop.
struct Load {
    clients: Vec<tokio::task::JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
    failed: Arc<AtomicUsize>,
}

impl Load {
    fn start(gateway: &Gateway, round: usize, answered: &Answered) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let failed = Arc::<AtomicUsize>::default();
        let client = |number: usize| {
            let (address, answered) = (gateway.address(), Arc::clone(answered));
            let (is_over, failed) = (Arc::clone(&is_over), Arc::clone(&failed));
            tokio::spawn(async move {
                for count in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let id = format!("r{round}-c{number}-{count}");
                    let request = chat(json!({"stream": count % 2 == 0})).field("x-request-id", &id);
                    let Ok(stream) = tokio::net::TcpStream::connect(address).await else { return };
                    let mut client = crate::harness::client::Client::over(Box::new(stream));
                    match client.try_exchange(&request).await {
                        Ok(answer) if answer.is_whole && answer.status == 200 => {
                            answered.lock().expect("no panic").insert(id, Instant::now());
                        }
                        // A killed gateway answers nobody; one that lives must.
                        _ if is_over.load(Ordering::Relaxed) => return,
                        _ => {
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            })
        };
        Self { clients: (0..4).map(client).collect(), is_over, failed }
    }

    /// Gives the number of requests that were not answered well.
    async fn stop(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.expect("no panic");
        }
        self.failed.load(Ordering::Relaxed)
    }
}

/// Kills the gateway under load, and starts it again where it was.
async fn killed(gateway: Gateway, load: Load, kills: &mut Vec<Instant>) -> Gateway {
    load.is_over.store(true, Ordering::Relaxed);
    let folder = gateway.kill();
    kills.push(Instant::now());
    load.stop().await;
    Gateway::start_again(folder).await
}

/// A server that was killed, started again.
async fn back(mut server: Postgres) -> Postgres {
    let restart = move || {
        server.restart();
        server
    };
    tokio::task::spawn_blocking(restart).await.expect("it starts again")
}

async fn until_answered(answered: &Answered, more: usize) {
    let goal = answered.lock().expect("no panic").len() + more;
    eventually("requests to be answered", || async {
        (answered.lock().expect("no panic").len() >= goal).then_some(())
    })
    .await;
}

/// Every answered request is in the ledger once, but for those that ended just before a kill of the gateway.
async fn is_exact(storage: &Storage, answered: &Answered, kills: &[Instant]) -> usize {
    let answered = answered.lock().expect("no panic").clone();
    let is_excused =
        |at: &Instant| kills.iter().any(|kill| at <= kill && kill.saturating_duration_since(*at) < COMMIT);
    let must: Vec<&String> = answered.iter().filter(|(_, at)| !is_excused(at)).map(|(id, _)| id).collect();
    let seen = eventually("every answered request to be in the ledger", || async {
        let mut seen = HashMap::<String, usize>::new();
        for row in rows(storage).await {
            *seen.entry(row.text(0).expect("an id").to_owned()).or_default() += 1;
        }
        must.iter().all(|id| seen.contains_key(*id)).then_some(seen)
    })
    .await;
    let doubled: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(doubled.is_empty(), "charged twice: {doubled:?}");
    let verdict = holds(storage).await;
    assert_eq!((verdict.lost, verdict.rejected), (0, 0));
    answered.keys().filter(|id| !seen.contains_key(*id)).count()
}

/// Rounds in which the gateway is killed; the suite runs few, `benches/record/` has twenty.
fn rounds() -> usize {
    std::env::var("TOLLGATE_KILLS").map_or(3, |count| count.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_the_gateway_cost_no_committed_row_in_sqlite() {
    let upstream = Upstream::chatting().await;
    let mut gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let storage = sqlite(gateway.folder());
    let answered = Answered::default();
    let mut kills = Vec::new();
    for round in 0..rounds() {
        let load = Load::start(&gateway, round, &answered);
        until_answered(&answered, 200).await;
        gateway = killed(gateway, load, &mut kills).await;
    }
    let missing = is_exact(&storage, &answered, &kills).await;
    let total = answered.lock().expect("no panic").len();
    eprintln!("{} kills of the gateway: {total} answered, {missing} of them not in the ledger", kills.len());
    drop(gateway);
}

/// What was in work when the kill came is told by name, and what was not is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_work_at_a_kill_are_told() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let storage = sqlite(gateway.folder());
    assert_eq!(gateway.chat(json!({})).await.status, 200);
    // Streams that have begun, and a request that nobody has answered yet.
    let begun = script::chat_events(MODEL, &["word "; 5], None);
    let mut script = script::stream(&begun);
    script.truncate(3);
    script.push(Step::Hang);
    upstream.answer_with(move |_| script.clone());
    let ask = |id: &str, more: Json| chat(more).field("x-request-id", id);
    let mut streams = Vec::new();
    for id in ["stream-1", "stream-2"] {
        let request = ask(id, json!({"stream": true, "max_tokens": 77}));
        streams.push(gateway.connect().await.open_stream(&request).await);
    }
    upstream.answer_with(|_| vec![Step::Hang]);
    let mut waiting = gateway.connect().await;
    let request = ask("unanswered", json!({"max_tokens": 78}));
    waiting.send(&[request.head_bytes(), request.body_bytes()].concat()).await.expect("sent");
    upstream.request(4).await;
    // One that was in work for as long, and has settled.
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let held = Arc::clone(&gate);
    upstream.answer_with(move |_| vec![Step::Gate(Arc::clone(&held)), script::chat(MODEL).remove(0)]);
    let mut settled = gateway.connect().await;
    let request = ask("settled", json!({}));
    settled.send(&[request.head_bytes(), request.body_bytes()].concat()).await.expect("sent");
    let notes = || {
        let journals = std::fs::read_dir(gateway.folder().join("ledger")).expect("the journal's folder");
        let read = |folder: std::fs::DirEntry| std::fs::read_to_string(folder.path().join("open.jsonl")).ok();
        journals.flatten().find_map(read).unwrap_or_default()
    };
    eventually("all four to be noted", || async { (notes().matches("begun").count() == 4).then_some(()) })
        .await;
    gate.add_permits(1);
    assert_eq!(settled.answer().await.expect("an answer").status, 200);
    eventually("the end of one to be noted", || async { notes().contains("ended").then_some(()) }).await;

    let folder = gateway.kill();
    let gateway = Gateway::start_again(folder).await;
    let told = eventually("the journal to be taken over", || async {
        let (code, out, said) = gateway.command(&["usage", "--unsettled", "--json"]);
        assert_eq!(code, Some(0), "{said}");
        let told: Json = serde_json::from_str(&out).expect("JSON");
        (told["unsettled"].as_array().expect("a list").len() >= 3).then_some(told)
    })
    .await;
    let told: BTreeMap<&str, (&str, i64)> = told["unsettled"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| {
            let text = |name: &str| one[name].as_str().unwrap_or_else(|| panic!("{name} in {one}"));
            assert_eq!((text("tenant"), text("model")), ("acme", MODEL));
            (text("request_id"), (text("key"), one["output_tokens_reserved"].as_i64().expect("a number")))
        })
        .collect();
    let expected = [("stream-1", ("main", 77)), ("stream-2", ("main", 77)), ("unanswered", ("main", 78))];
    assert_eq!(told, BTreeMap::from(expected));
    let (_, table, _) = gateway.command(&["usage", "--unsettled"]);
    assert!(table.contains("REQUEST_ID") && table.contains("stream-2"), "{table}");
    let (_, nobody, _) = gateway.command(&["usage", "--unsettled", "--tenant", "other"]);
    assert_eq!(nobody, "no request is known to be without a row\n");
    let verdict = settled_rows(&storage, 2).await;
    assert_eq!((verdict.unsettled, verdict.lost), (3, 0));
    assert!(gateway.log().contains("3 requests were in work"), "{}", gateway.log());
}

/// Waits for this many rows in a ledger that holds.
async fn settled_rows(storage: &Storage, count: usize) -> Verdict {
    settled(storage, count).await;
    holds(storage).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_postgres_and_of_the_gateway_in_turn_cost_no_committed_row() {
    let Some(mut server) = tokio::task::spawn_blocking(Postgres::start).await.expect("no panic") else {
        return;
    };
    let upstream = Upstream::chatting().await;
    let conf = Conf::to(upstream.address).set("tollgate.storage.url", server.url());
    let mut gateway = Gateway::start(&conf).await;
    let storage = postgres(&server.url());
    let answered = Answered::default();
    let mut kills = Vec::new();
    for round in 0..rounds() {
        let load = Load::start(&gateway, round, &answered);
        until_answered(&answered, 100).await;
        server.kill();
        // Requests flow while it is away.
        until_answered(&answered, 200).await;
        if round % 2 == 1 {
            // Both are gone at once: the journal alone knows.
            gateway = killed(gateway, load, &mut kills).await;
            assert_eq!(gateway.chat(json!({})).await.status, 200, "it serves before its store is back");
        } else {
            assert_eq!(load.stop().await, 0, "no request fails because the store is away");
        }
        server = back(server).await;
        let load = Load::start(&gateway, round + 1000, &answered);
        until_answered(&answered, 50).await;
        gateway = killed(gateway, load, &mut kills).await;
    }
    let missing = is_exact(&storage, &answered, &kills).await;
    let total = answered.lock().expect("no panic").len();
    eprintln!(
        "{} kills of PostgreSQL, {} of the gateway: {total} answered, {missing} of them not in the ledger",
        rounds(),
        kills.len()
    );
    drop(gateway);
}

/// What holds the ledger, what holds the limits, and the gateway itself: each in turn, under load. The limits say `open`
/// where their store is away, so nobody is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_all_three_in_turn_charge_every_request_once() {
    let database = tokio::task::spawn_blocking(Postgres::start).await.expect("no panic");
    let (Some(mut database), Some(mut limits)) = (database, Valkey::start()) else { return };
    let upstream = Upstream::chatting().await;
    let conf = Conf::to(upstream.address)
        .set("tollgate.storage.url", database.url())
        .set("tollgate.limits.store", limits.url())
        .set("tiers.tiers.0.max_in_flight", 50)
        .set("tiers.tiers.0.tokens_per_day", 1_000_000_000);
    let mut gateway = Gateway::start(&conf).await;
    let storage = postgres(&database.url());
    let answered = Answered::default();
    let mut kills = Vec::new();
    for round in 0..rounds() {
        let load = Load::start(&gateway, round, &answered);
        until_answered(&answered, 60).await;
        limits.kill();
        until_answered(&answered, 60).await;
        limits.restart();
        until_answered(&answered, 60).await;
        database.kill();
        until_answered(&answered, 60).await;
        assert_eq!(load.stop().await, 0, "no request fails because a store is away");
        database = back(database).await;
        let load = Load::start(&gateway, round + 1000, &answered);
        until_answered(&answered, 60).await;
        gateway = killed(gateway, load, &mut kills).await;
    }
    let missing = is_exact(&storage, &answered, &kills).await;
    let total = answered.lock().expect("no panic").len();
    eprintln!("{} kills of each: {total} answered, {missing} of them not in the ledger", rounds());
    let held = || limits.number("tollgate:{acme}:tenant", "n");
    eventually("what killed gateways held to be free again", || async {
        // The store looks for gateways that died when it is told something of the same tenant. This one keeps a slice of
        // five in a hundred while it is used.
        assert_eq!(gateway.chat(json!({})).await.status, 200);
        (held() < 3.5).then_some(())
    })
    .await;
    eventually("the slice to go back", || async { (held().abs() < 0.5).then_some(()) }).await;
    drop(gateway);
}

/// The store is away for longer than queue and journal have room for.
async fn overfilled(when_full: &str) -> Option<(Postgres, Storage, Gateway, Vec<u16>)> {
    let mut server = tokio::task::spawn_blocking(Postgres::start).await.expect("no panic")?;
    let upstream = Upstream::chatting().await;
    let conf = Conf::to(upstream.address)
        .set("tollgate.storage.url", server.url())
        .set("tollgate.ledger.when_full", when_full)
        .set("tollgate.ledger.queue_rows", 32)
        .set("tollgate.ledger.journal_max_bytes", 4096);
    let gateway = Gateway::start(&conf).await;
    server.kill();
    let mut statuses = Vec::new();
    for _ in 0..200 {
        statuses.push(gateway.chat(json!({})).await.status);
    }
    server = back(server).await;
    let storage = postgres(&server.url());
    // Kept until the end: a gateway without a server of models is not ready.
    std::mem::forget(upstream);
    Some((server, storage, gateway, statuses))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_ledger_refuses_requests_where_nothing_may_be_lost() {
    let Some((_server, storage, gateway, statuses)) = overfilled("closed").await else { return };
    let served = statuses.iter().filter(|status| **status == 200).count();
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert!(served > 10 && refused > 50 && served + refused == statuses.len(), "{statuses:?}");
    eventually("requests to be let in again", || async {
        (gateway.chat(json!({})).await.status == 200).then_some(())
    })
    .await;
    let metrics = gateway.metrics().await;
    assert!(metrics.sum("tollgate_ledger_lost_rows", &[]).abs() < f64::EPSILON);
    let charged = eventually("the served ones to be in the ledger", || async {
        let rows = rows(&storage).await;
        let charged = rows.iter().filter(|row| row.int(6) == Ok(200)).count();
        (charged > served).then_some(charged)
    })
    .await;
    assert_eq!(charged, served + 1);
    assert_eq!(holds(&storage).await.lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_ledger_says_what_it_has_lost_where_requests_go_on() {
    let Some((_server, storage, gateway, statuses)) = overfilled("open").await else { return };
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let lost = gateway.metrics().await.sum("tollgate_ledger_lost_rows", &[]);
    assert!(lost > 50.0, "{lost}");
    // The next row takes the note on the lost ones with it.
    assert_eq!(gateway.chat(json!({})).await.status, 200);
    let verdict = eventually("rows and losses to add up", || async {
        let verdict = ask(&storage, verify).await;
        (verdict.rows + verdict.lost == 201).then_some(verdict)
    })
    .await;
    assert!(verdict.faults.is_empty() && verdict.lost as f64 >= lost, "{verdict:?}");
    let cost = ask(&storage, |store| store.query("SELECT lost_peur FROM usage_boots", &[])).await;
    // 7 × 0.9 + 3 × 4 EUR a million each.
    assert_eq!(cost[0].int(0), Ok(i64::try_from(verdict.lost).expect("few") * 18_300_000));
    assert!(gateway.log().contains("rows worth"), "{}", gateway.log());
}
