//! What the store makes of rows: written once however often they come, summed up, removed by age.

use chrono::{DateTime, TimeZone, Utc};
use tollgate::config::settings::{Ledger as Settings, Retention, WhenFull};
use tollgate::ledger::{Boot, Entry, Ledger, UsageRow, What};
use tollgate::record::PicoEur;
use tollgate::store::usage::{Column, Filter, Total, purge, record, report, totals};

use super::*;

fn boot(name: &str) -> Boot {
    Boot { boot: name.to_owned(), node: "n".to_owned(), started_ms: 1 }
}

fn at(month: u32, day: u32, hour: u32) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, month, day, hour, 30, 0).single().expect("a time")
}

fn row(seq: i64, time: DateTime<Utc>, tenant: &str, cost_peur: i64) -> Entry {
    let text = |text: &str| text.to_owned();
    let row = UsageRow {
        time_ms: time.timestamp_millis(),
        request_id: format!("r{seq}"),
        tenant: text(tenant),
        key_id: text("k"),
        model: text("m"),
        server: text("s"),
        endpoint: text("chat"),
        status: 200,
        outcome: text("ok"),
        is_streaming: seq % 2 == 0,
        attempts: 1,
        input_tokens: 100,
        cached_input_tokens: 40,
        system_tokens: 5,
        output_tokens: 10,
        reasoning_tokens: 3,
        input_source: text("reported"),
        output_source: text("reported"),
        reasoning_source: text("none"),
        cost_peur,
        energy_nwh: (seq % 2 == 0).then_some(7),
        ttft_us: None,
        duration_us: 1000,
    };
    Entry { seq, what: What::Row(Box::new(row)) }
}

fn count(store: &mut Connection) -> i64 {
    store.query("SELECT COUNT(*) FROM usage_rows", &[]).expect("a count")[0].int(0).expect("a number")
}

/// All of it on one database; `store` is empty.
fn adds_up(store: &mut Connection) {
    let entries: Vec<Entry> = vec![
        row(0, at(10, 31, 23), "acme", 1),
        row(1, at(11, 1, 0), "acme", 10),
        row(2, at(11, 28, 9), "acme", 100),
        row(3, at(11, 28, 9), "other", 1000),
        row(4, at(11, 28, 10), "acme", i64::from(i32::MAX) * 1000),
    ];
    // However they come, again and overlapping, each counts once.
    for part in [&entries[0..3], &entries[0..3], &entries[1..5], &entries[4..5]] {
        record(store, &boot("a"), part).expect("stored");
    }
    assert_eq!(count(store), 5);
    let verdict = verify(store).expect("an answer");
    assert_eq!((verdict.rows, verdict.boots, verdict.faults.as_slice()), (5, 1, &[][..]));
    let known = totals(store, at(11, 28, 12)).expect("an answer");
    let total = |tenant: &str, today: u64, cost: u128| Total {
        life: "a".to_owned(),
        tenant: tenant.to_owned(),
        key_id: "k".to_owned(),
        model: "m".to_owned(),
        tokens_today: today * 113,
        cost_this_month: PicoEur(cost),
    };
    assert_eq!(known.totals, [total("acme", 2, 110 + 2_147_483_647_000), total("other", 1, 1000)]);
    // What was stored before lives were told apart is of one that never was: the same for all that read this ledger.
    store
        .execute("UPDATE usage_lives SET tokens = tokens - 13 WHERE tenant = 'other'", &[])
        .expect("a change");
    store.execute("DELETE FROM usage_lives WHERE tenant = 'acme'", &[]).expect("a change");
    let before = |total: Total, tokens_today| Total { life: "before-a".to_owned(), tokens_today, ..total };
    let rest = [
        Total { tokens_today: 100, ..total("other", 1, 1000) },
        before(total("acme", 2, 110 + 2_147_483_647_000), 226),
        before(total("other", 1, 0), 13),
    ];
    assert_eq!(totals(store, at(11, 28, 12)).expect("an answer").totals, rest);
    assert_eq!(verify(store).expect("an answer").faults, [""; 0]);
    reports(store);
    // A number that never came is a row that a damaged disk took; a note tells of those that found no room.
    let lost = Entry { seq: 7, what: What::Lost { count: 3, cost_peur: 30 } };
    record(store, &boot("a"), &[row(6, at(11, 28, 11), "acme", 1), lost, row(8, at(11, 28, 11), "acme", 1)])
        .expect("stored");
    let verdict = verify(store).expect("an answer");
    assert_eq!((verdict.rows, verdict.lost, verdict.faults.as_slice()), (7, 4, &[][..]));
    // Another life has numbers of its own; it may begin anywhere, when the store was replaced meanwhile.
    record(store, &boot("b"), &[row(20, at(11, 28, 11), "acme", 1)]).expect("stored");
    assert_eq!(verify(store).expect("an answer").faults, [""; 0]);
    let refused = record(store, &boot("b"), &[row(21, at(11, 28, 11), "nul\0", 1)]);
    assert!(refused.is_ok() || matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    removes_what_is_old(store);
    // The oldest hour may have lost rows to their age; any other must agree with its rows.
    let hour = at(11, 28, 10).timestamp() / 3600;
    let spoil = "UPDATE usage_hours SET cost_peur = cost_peur + 1 WHERE hour = $1";
    store.execute(spoil, &[hour.into()]).expect("a change");
    let faults = verify(store).expect("an answer").faults;
    assert!(faults.iter().any(|fault| fault.starts_with("hour ")), "{faults:?}");
    store.execute("UPDATE usage_lives SET tokens = tokens + 1000000", &[]).expect("a change");
    let faults = verify(store).expect("an answer").faults;
    assert!(faults.iter().any(|fault| fault.contains("expected lives to have used")), "{faults:?}");
}

fn reports(store: &mut Connection) {
    let day = |month, day| chrono::NaiveDate::from_ymd_opt(2026, month, day).expect("a day");
    let mut filter = Filter { from: day(10, 1), to: day(11, 28), tenant: None, key: None, model: None };
    let lines = report(store, &[Column::Month, Column::Tenant], &filter).expect("a report");
    let shown: Vec<_> =
        lines.iter().map(|line| (line.group.join(" "), line.sums.requests, line.sums.cost_peur)).collect();
    let expected = [
        ("2026-10 acme".to_owned(), 1, 1),
        ("2026-11 acme".to_owned(), 3, 2_147_483_647_110),
        ("2026-11 other".to_owned(), 1, 1000),
    ];
    assert_eq!(shown, expected);
    filter.tenant = Some("acme".to_owned());
    filter.from = day(11, 1);
    let lines = report(store, &[Column::Hour, Column::Key, Column::Model], &filter).expect("a report");
    let hours: Vec<_> = lines.iter().map(|line| line.group[0].as_str()).collect();
    assert_eq!(hours, ["2026-11-01T00:00Z", "2026-11-28T09:00Z", "2026-11-28T10:00Z"]);
    assert_eq!((lines[1].sums.reasoning_tokens, lines[1].sums.energy_nwh), (3, 7));
    let all = report(store, &[], &filter).expect("a report");
    assert_eq!((all.len(), all[0].sums.requests, all[0].group.len()), (1, 3, 0));
}

fn removes_what_is_old(store: &mut Connection) {
    let days = |count: u64| Duration::from_secs(count * 86_400);
    let keep = Retention { rows: days(5), hours: days(20), days: days(40) };
    let before = count(store);
    assert_eq!(purge(store, &keep, at(11, 28, 12)), Ok(2), "of October and of the first of November");
    assert_eq!(count(store), before - 2);
    let verdict = verify(store).expect("an answer");
    assert_eq!((verdict.purged, verdict.faults.as_slice()), (2, &[][..]));
    let oldest = |store: &mut Connection, sql: &str| store.query(sql, &[]).expect("an answer")[0].int(0);
    let first_day = at(10, 31, 0).timestamp() / 86_400;
    assert_eq!(oldest(store, "SELECT MIN(day) FROM usage_days"), Ok(first_day), "days are kept for longer");
    assert_eq!(oldest(store, "SELECT MIN(hour) FROM usage_hours"), Ok(at(11, 28, 9).timestamp() / 3600));
    assert_eq!(purge(store, &keep, at(11, 28, 12)), Ok(0));
    // What is already gone is not taken again when an old journal turns up.
    record(store, &boot("a"), &[row(0, at(10, 31, 23), "acme", 1)]).expect("passed over");
    assert_eq!(count(store), before - 2);
}

#[test]
fn sqlite_adds_up() {
    let folder = Folder::new();
    adds_up(&mut Connection::open(&sqlite(folder.path())).expect("it opens"));
}

#[test]
fn postgres_adds_up() {
    let Some(server) = Postgres::start() else { return };
    adds_up(&mut Connection::open(&postgres(&server.url())).expect("it opens"));
}

/// Two gateways write into the same hour at once.
#[test]
fn gateways_do_not_get_in_each_others_way() {
    let Some(server) = Postgres::start() else { return };
    let storage = postgres(&server.url());
    drop(Connection::open(&storage).expect("it opens"));
    let writers: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|name| {
            let storage = storage.clone();
            std::thread::spawn(move || {
                let mut store = Connection::open(&storage).expect("it opens");
                for group in 0..20 {
                    let tenants = ["x", "y", "z"];
                    let entries: Vec<_> = (0..30)
                        .map(|index| {
                            let tenant = tenants[(index as usize + name.len()) % 3];
                            row(group * 30 + index, at(11, 28, 9), tenant, 5)
                        })
                        .collect();
                    record(&mut store, &boot(name), &entries).expect("stored");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().expect("no panic");
    }
    let mut store = Connection::open(&storage).expect("it opens");
    let verdict = verify(&mut store).expect("an answer");
    assert_eq!((verdict.rows, verdict.faults.as_slice()), (1800, &[][..]));
}

/// What was used before a start is known at the start, and nothing of this life is in it.
#[test]
fn totals_are_those_of_before_the_start() {
    let folder = Folder::new();
    let storage = sqlite(folder.path());
    let now = Utc::now();
    let mut store = Connection::open(&storage).expect("it opens");
    record(&mut store, &boot("earlier"), &[row(0, now, "acme", 42)]).expect("stored");
    let day = Duration::from_secs(86_400);
    let settings = Settings {
        node: "n".to_owned(),
        journal: folder.path().join("ledger"),
        commit_window: Duration::from_millis(5),
        queue_rows: 100,
        journal_max_bytes: 1 << 20,
        when_full: WhenFull::Open,
        retention: Retention { rows: day, hours: day, days: 31 * day },
    };
    let ledger = Ledger::start(&settings, &storage).expect("it starts");
    assert!(ledger.wait_for_totals(Duration::from_secs(20)));
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    ledger.on_totals(move |totals| {
        let sent = tell.send(totals.clone());
        sent.expect("the test waits");
    });
    let totals = told.recv().expect("at once, since they are known");
    assert_eq!(totals.totals.len(), 1);
    assert_eq!((totals.totals[0].tenant.as_str(), totals.totals[0].cost_this_month), ("acme", PicoEur(42)));
    ledger.stop();
}
