//! What was used, by any of tenant, key, model, month, day and hour.

use std::collections::BTreeMap;

use chrono::{Datelike, NaiveDate};
use serde_json::{Map, Value as Json, json};

use crate::record::{PicoEur, PicoKwh};
use crate::store::{Connection, StoreError, Value};

/// By what usage is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Who pays.
    Tenant,
    /// The public part of the key.
    Key,
    /// The model's catalogue name.
    Model,
    /// The calendar month, UTC.
    Month,
    /// The day, UTC.
    Day,
    /// The hour, UTC; hours are kept for less long than days.
    Hour,
}

impl Column {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 6] = [
        ("tenant", Self::Tenant),
        ("key", Self::Key),
        ("model", Self::Model),
        ("month", Self::Month),
        ("day", Self::Day),
        ("hour", Self::Hour),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, column)| *column == self).map_or("", |(name, _)| name)
    }

    /// All names, for messages.
    #[must_use]
    pub fn names() -> String {
        Self::ALL.map(|(name, _)| name).join(", ")
    }

    /// The column of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, column)| *column)
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Filter {
    /// First day, UTC.
    pub from: NaiveDate,
    /// Last day, UTC.
    pub to: NaiveDate,
    /// Only this tenant.
    pub tenant: Option<String>,
    /// Only this key.
    pub key: Option<String>,
    /// Only this model.
    pub model: Option<String>,
}

impl Filter {
    /// Everything from a day to a day; without them from the first of the month to today.
    #[must_use]
    pub fn between(from: Option<NaiveDate>, to: Option<NaiveDate>, today: NaiveDate) -> Self {
        let to = to.unwrap_or(today);
        let from = from.or(to.with_day(1)).unwrap_or(to);
        Self { from, to, tenant: None, key: None, model: None }
    }
}

/// What was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// Requests.
    pub requests: i128,
    /// Input tokens.
    pub input_tokens: i128,
    /// Those of them that servers had in their cache.
    pub cached_input_tokens: i128,
    /// Those of them that are system and developer messages.
    pub system_tokens: i128,
    /// Output tokens without reasoning.
    pub output_tokens: i128,
    /// Reasoning tokens.
    pub reasoning_tokens: i128,
    /// Cost, 1e-12 EUR.
    pub cost_peur: i128,
    /// Energy, 1e-12 kWh.
    pub energy_nwh: i128,
}

impl Sums {
    /// Adds to each.
    pub fn add(&mut self, more: &Self) {
        self.requests += more.requests;
        self.input_tokens += more.input_tokens;
        self.cached_input_tokens += more.cached_input_tokens;
        self.system_tokens += more.system_tokens;
        self.output_tokens += more.output_tokens;
        self.reasoning_tokens += more.reasoning_tokens;
        self.cost_peur += more.cost_peur;
        self.energy_nwh += more.energy_nwh;
    }
}

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// One for each column asked for.
    pub group: Vec<String>,
    /// What was used.
    pub sums: Sums,
}

/// Sums up, in the order of the columns.
///
/// # Errors
/// [`StoreError`].
pub fn report(connection: &mut Connection, by: &[Column], filter: &Filter) -> Result<Vec<Line>, StoreError> {
    let is_hourly = by.contains(&Column::Hour);
    let (table, time, per_day) =
        if is_hourly { ("usage_hours", "hour", 24) } else { ("usage_days", "day", 1) };
    let day =
        |date: NaiveDate| date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp().div_euclid(86_400);
    let first = day(filter.from) * per_day;
    let last = (day(filter.to) + 1) * per_day - 1;
    let mut values: Vec<Value> = vec![first.into(), last.into()];
    let mut conditions = format!("{time} >= $1 AND {time} <= $2");
    for (column, wanted) in [("tenant", &filter.tenant), ("key_id", &filter.key), ("model", &filter.model)] {
        if let Some(wanted) = wanted {
            values.push(wanted.as_str().into());
            conditions.push_str(&format!(" AND {column} = ${}", values.len()));
        }
    }
    // Time is always told apart here: sums of one day or hour fit into 64 bits, those of years need not.
    let text =
        |column: Column, name: &str| if by.contains(&column) { name.to_owned() } else { "''".to_owned() };
    let (tenant, key, model) =
        (text(Column::Tenant, "tenant"), text(Column::Key, "key_id"), text(Column::Model, "model"));
    let sum = |name: &str| format!("CAST(SUM({name}) AS BIGINT)");
    let names = [
        "requests",
        "input_tokens",
        "cached_input_tokens",
        "system_tokens",
        "output_tokens",
        "reasoning_tokens",
        "cost_peur",
        "energy_nwh",
    ];
    let sums = names.map(sum).join(", ");
    let sql = format!(
        "SELECT {time}, {tenant}, {key}, {model}, {sums} FROM {table} WHERE {conditions} GROUP BY 1, 2, 3, 4"
    );
    let mut lines = BTreeMap::<Vec<String>, Sums>::new();
    for row in connection.query(&sql, &values)? {
        let at = row.int(0)? * if is_hourly { 3600 } else { 86_400 };
        let at = chrono::DateTime::from_timestamp(at, 0).unwrap_or_default();
        let mut group = Vec::with_capacity(by.len());
        for column in by {
            group.push(match column {
                Column::Tenant => row.text(1)?.to_owned(),
                Column::Key => row.text(2)?.to_owned(),
                Column::Model => row.text(3)?.to_owned(),
                Column::Month => at.format("%Y-%m").to_string(),
                Column::Day => at.format("%Y-%m-%d").to_string(),
                Column::Hour => at.format("%Y-%m-%dT%H:00Z").to_string(),
            });
        }
        let number = |column: usize| row.int(4 + column).map(i128::from);
        lines.entry(group).or_default().add(&Sums {
            requests: number(0)?,
            input_tokens: number(1)?,
            cached_input_tokens: number(2)?,
            system_tokens: number(3)?,
            output_tokens: number(4)?,
            reasoning_tokens: number(5)?,
            cost_peur: number(6)?,
            energy_nwh: number(7)?,
        });
    }
    Ok(lines.into_iter().map(|(group, sums)| Line { group, sums }).collect())
}

/// A column of numbers: its name for programs, for people, and how a number of it is written.
pub type Number = (&'static str, &'static str, fn(&Sums) -> String);

/// The columns of numbers.
pub const NUMBERS: [Number; 8] = [
    ("requests", "requests", |sums| sums.requests.to_string()),
    ("input_tokens", "input", |sums| sums.input_tokens.to_string()),
    ("cached_input_tokens", "cached", |sums| sums.cached_input_tokens.to_string()),
    ("system_tokens", "system", |sums| sums.system_tokens.to_string()),
    ("output_tokens", "output", |sums| sums.output_tokens.to_string()),
    ("reasoning_tokens", "reasoning", |sums| sums.reasoning_tokens.to_string()),
    ("cost_eur", "EUR", |sums| PicoEur(sums.cost_peur.unsigned_abs()).decimal()),
    ("energy_kwh", "kWh", |sums| PicoKwh(sums.energy_nwh.unsigned_abs()).decimal()),
];

/// All lines together.
#[must_use]
pub fn total(lines: &[Line]) -> Sums {
    let mut total = Sums::default();
    lines.iter().for_each(|line| total.add(&line.sums));
    total
}

/// A report as JSON: counts are numbers, money and energy decimal texts.
#[must_use]
pub fn to_json(by: &[Column], filter: &Filter, lines: &[Line]) -> Json {
    let numbers = |sums: &Sums| {
        let mut map = Map::new();
        for (name, _, write) in NUMBERS {
            let text = write(sums);
            // Counts are numbers; decimals are texts, which no reader turns into a float.
            let is_decimal = name.ends_with("_eur") || name.ends_with("_kwh");
            let number = text.parse::<u64>().ok().filter(|_| !is_decimal);
            map.insert(name.to_owned(), number.map_or_else(|| json!(text), |number| json!(number)));
        }
        map
    };
    let rows = lines.iter().map(|line| {
        let mut map = Map::new();
        for (column, value) in by.iter().zip(&line.group) {
            map.insert(column.name().to_owned(), json!(value));
        }
        map.extend(numbers(&line.sums));
        Json::Object(map)
    });
    json!({
        "from": filter.from.to_string(),
        "to": filter.to.to_string(),
        "usage": rows.collect::<Vec<_>>(),
        "total": numbers(&total(lines)),
    })
}
