//! `tollgate usage`: what was used, by tenant, key, model, month, day or hour, from the sums in the store; and whether
//! the ledger proves itself. It reads the store that the configuration names, beside a running gateway or without one.

use std::fmt::Write as _;
use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use clap::Args;
use serde_json::json;

use crate::config;
use crate::store::usage::{
    Column, Filter, Line, NUMBERS, Unsettled, Verdict, report, to_json, total, unsettled, verify,
};
use crate::store::{Connection, StoreError};

/// Options of `tollgate usage`.
#[derive(Debug, Args)]
pub struct UsageArgs {
    /// What to tell apart, separated by commas: tenant, key, model, month, day, hour.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', value_parser = column, default_value = "tenant,model")]
    pub by: Vec<Column>,
    /// First day, UTC. Default: the first of this month.
    #[arg(long, value_name = "DATE")]
    pub from: Option<NaiveDate>,
    /// Last day, UTC. Default: today.
    #[arg(long, value_name = "DATE")]
    pub to: Option<NaiveDate>,
    /// Only this tenant.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only this key, by its public id.
    #[arg(long)]
    pub key: Option<String>,
    /// Only this model, by its catalogue name.
    #[arg(long)]
    pub model: Option<String>,
    /// Print JSON, for programs. Money and energy are decimal texts there.
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print CSV, for spreadsheets.
    #[arg(long)]
    pub csv: bool,
    /// Prove the ledger instead: every row there once, none missing, every sum right.
    #[arg(long)]
    pub verify: bool,
    /// List the requests that have no row because their gateway was killed while they were in work.
    #[arg(long, conflicts_with_all = ["verify", "by"])]
    pub unsettled: bool,
    /// Folder of the configuration files.
    #[arg(long, default_value = "conf", value_name = "DIR")]
    pub conf: PathBuf,
}

fn column(name: &str) -> Result<Column, String> {
    Column::named(name).ok_or_else(|| format!("expected one of {}, found {name:?}", Column::names()))
}

/// Runs the command. Gives the exit code: 0 done, 1 failed or the ledger does not hold, 2 wrong use.
#[must_use]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what the command is for")]
pub fn run(args: &UsageArgs) -> u8 {
    let settings = match config::load(&args.conf) {
        Ok(settings) => settings,
        Err(faults) => {
            eprintln!("{faults}");
            return 2;
        }
    };
    let filter = filter(args, Utc::now().date_naive());
    if filter.from > filter.to {
        eprintln!("--from: expected a day up to {} (--to), found {}", filter.to, filter.from);
        return 2;
    }
    let answer =
        Connection::open(&settings.storage).and_then(|mut connection| answer(args, &filter, &mut connection));
    match answer {
        Ok((text, is_good)) => {
            print!("{text}");
            u8::from(!is_good)
        }
        Err(error) => {
            eprintln!("tollgate usage: {error}");
            1
        }
    }
}

/// What was asked for.
fn filter(args: &UsageArgs, today: NaiveDate) -> Filter {
    Filter {
        tenant: args.tenant.clone(),
        key: args.key.clone(),
        model: args.model.clone(),
        ..Filter::between(args.from, args.to, today)
    }
}

fn answer(
    args: &UsageArgs,
    filter: &Filter,
    connection: &mut Connection,
) -> Result<(String, bool), StoreError> {
    if args.verify {
        let verdict = verify(connection)?;
        let text = if args.json { verdict_json(&verdict) } else { verdict_text(&verdict) };
        return Ok((text, verdict.faults.is_empty()));
    }
    if args.unsettled {
        let found = unsettled(connection, filter)?;
        let text = if args.json {
            unsettled_json(filter, &found)
        } else if args.csv {
            unsettled_csv(&found)
        } else {
            unsettled_table(&found)
        };
        return Ok((text, true));
    }
    let lines = report(connection, &args.by, filter)?;
    let text = if args.json {
        format!("{}\n", to_json(&args.by, filter, &lines))
    } else if args.csv {
        csv(&args.by, &lines)
    } else {
        table(&args.by, &lines)
    };
    Ok((text, true))
}

fn csv(by: &[Column], lines: &[Line]) -> String {
    let names = by.iter().map(|column| column.name()).chain(NUMBERS.iter().map(|(name, ..)| *name));
    let mut text = names.collect::<Vec<_>>().join(",");
    text.push_str("\r\n");
    for line in lines {
        let cells = line.group.iter().map(|cell| quoted(cell));
        let cells = cells.chain(NUMBERS.iter().map(|(_, _, write)| write(&line.sums)));
        text.push_str(&cells.collect::<Vec<_>>().join(","));
        text.push_str("\r\n");
    }
    text
}

/// RFC 4180 §2.
fn quoted(cell: &str) -> String {
    if cell.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

fn table(by: &[Column], lines: &[Line]) -> String {
    if lines.is_empty() {
        return "nothing was used\n".to_owned();
    }
    let mut rows: Vec<Vec<String>> = Vec::with_capacity(lines.len() + 2);
    let names = by.iter().map(|column| column.name().to_uppercase());
    rows.push(names.chain(NUMBERS.iter().map(|(_, title, _)| title.to_string())).collect());
    for line in lines {
        let shown = line.group.iter().map(|cell| if cell.is_empty() { "–".to_owned() } else { cell.clone() });
        rows.push(shown.chain(NUMBERS.iter().map(|(_, _, write)| write(&line.sums))).collect());
    }
    if lines.len() > 1 {
        let sums = total(lines);
        let label = (0..by.len()).map(|index| if index == 0 { "total".to_owned() } else { String::new() });
        rows.push(label.chain(NUMBERS.iter().map(|(_, _, write)| write(&sums))).collect());
    }
    let width = |index: usize| rows.iter().map(|row| row[index].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Names to the left, numbers to the right.
            let _ = if index < by.len() {
                write!(line, "{cell:<width$}  ")
            } else {
                write!(line, "{cell:>width$}  ")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

const UNSETTLED: [&str; 9] = [
    "time",
    "request_id",
    "tenant",
    "key",
    "model",
    "endpoint",
    "input_tokens",
    "output_tokens_reserved",
    "gateway",
];

/// The cells of one of them. Input was counted before it was forwarded; of output only the reservation is known.
fn cells(found: &Unsettled) -> [String; 9] {
    let request = &found.request;
    let time = DateTime::from_timestamp_millis(request.time_ms).unwrap_or_default();
    let gateway = if found.node.is_empty() { &found.boot } else { &found.node };
    [
        time.to_rfc3339_opts(SecondsFormat::Millis, true),
        request.request_id.clone(),
        request.tenant.clone(),
        request.key_id.clone(),
        request.model.clone(),
        request.endpoint.clone(),
        request.input_tokens.to_string(),
        request.output_tokens.to_string(),
        gateway.clone(),
    ]
}

fn unsettled_table(found: &[Unsettled]) -> String {
    if found.is_empty() {
        return "no request is known to be without a row\n".to_owned();
    }
    let mut rows = vec![UNSETTLED.map(str::to_uppercase)];
    rows.extend(found.iter().map(cells));
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..UNSETTLED.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn unsettled_csv(found: &[Unsettled]) -> String {
    let lines = found.iter().map(|found| cells(found).map(|cell| quoted(&cell)).join(","));
    let all: Vec<String> = std::iter::once(UNSETTLED.join(",")).chain(lines).collect();
    all.join("\r\n") + "\r\n"
}

fn unsettled_json(filter: &Filter, found: &[Unsettled]) -> String {
    let one = |found: &Unsettled| {
        let request = &found.request;
        let [time, ..] = cells(found);
        json!({
            "time": time, "request_id": request.request_id, "tenant": request.tenant, "key": request.key_id,
            "model": request.model, "endpoint": request.endpoint, "input_tokens": request.input_tokens,
            "output_tokens_reserved": request.output_tokens, "gateway": found.node, "life": found.boot,
        })
    };
    let all: Vec<_> = found.iter().map(one).collect();
    format!("{}\n", json!({"from": filter.from.to_string(), "to": filter.to.to_string(), "unsettled": all}))
}

fn verdict_text(verdict: &Verdict) -> String {
    let Verdict { boots, rows, purged, lost, rejected, unsettled, faults } = verdict;
    let mut text = format!(
        "{rows} rows of {boots} lives of gateways; {purged} removed by age, {lost} declared lost, {rejected} put aside\n"
    );
    if *unsettled > 0 {
        let _ = writeln!(
            text,
            "{unsettled} requests were in work when their gateway was killed (--unsettled lists them)"
        );
    }
    for fault in faults {
        let _ = writeln!(text, "{fault}");
    }
    text.push_str(match faults.as_slice() {
        [] => "the ledger holds: every row is there once, and the sums are those of the rows\n",
        _ => "the ledger does not hold\n",
    });
    text
}

fn verdict_json(verdict: &Verdict) -> String {
    let Verdict { boots, rows, purged, lost, rejected, unsettled, faults } = verdict;
    let json = json!({
        "ok": faults.is_empty(), "boots": boots, "rows": rows, "purged": purged, "lost": lost, "rejected": rejected,
        "unsettled": unsettled, "faults": faults,
    });
    format!("{json}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::usage::Sums;

    fn line(group: &[&str], cost_peur: i128) -> Line {
        let sums = Sums { requests: 2, input_tokens: 10, output_tokens: 1, cost_peur, ..Sums::default() };
        Line { group: group.iter().map(|cell| (*cell).to_owned()).collect(), sums }
    }

    #[test]
    fn a_report_is_written_for_people_sheets_and_programs() {
        let by = [Column::Tenant, Column::Model];
        let lines = [line(&["acme", "a,\"b\""], 100_000_000_001), line(&["x", ""], 900_000_000_000)];
        assert_eq!(
            table(&by, &lines),
            "TENANT  MODEL  requests  input  cached  system  output  reasoning             EUR  kWh\n\
             acme    a,\"b\"         2     10       0       0       1          0  0.100000000001    0\n\
             x       –             2     10       0       0       1          0             0.9    0\n\
             total                 4     20       0       0       2          0  1.000000000001    0\n"
        );
        assert_eq!(
            csv(&by, &lines),
            "tenant,model,requests,input_tokens,cached_input_tokens,system_tokens,output_tokens,reasoning_tokens,\
             cost_eur,energy_kwh\r\n\
             acme,\"a,\"\"b\"\"\",2,10,0,0,1,0,0.100000000001,0\r\nx,,2,10,0,0,1,0,0.9,0\r\n"
        );
        let day = NaiveDate::from_ymd_opt(2026, 11, 1).expect("a day");
        let filter = Filter { from: day, to: day, tenant: None, key: None, model: None };
        let json = to_json(&by, &filter, &lines);
        assert_eq!(json["usage"][0]["cost_eur"], "0.100000000001");
        assert_eq!(json["total"]["cost_eur"], "1.000000000001");
        assert_eq!(json["total"]["input_tokens"], 20);
        assert_eq!(table(&by, &[]), "nothing was used\n");
    }
}
