//! What the ledger keeps of a request, as it stands in the journal and in the store: whole numbers, no text that a
//! client chose but its request id, no prompt, no secret.

use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::record::Record;

/// The most tokens that one request can mean. A server that reports more is out of its mind, and a few such rows would
/// overflow sums that are exact otherwise.
const MOST_TOKENS: i64 = 1_000_000_000_000;
/// The most that one request can cost: 9000 EUR, so that sums of a thousand such still fit.
const MOST_PEUR: i64 = 9_000_000_000_000_000;

/// One life of one gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Its random id.
    pub boot: String,
    /// The gateway's name.
    pub node: String,
    /// When it began, milliseconds since 1970.
    pub started_ms: i64,
}

/// One numbered entry of a life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts from 0 in each life, without a gap.
    pub seq: i64,
    /// What it says.
    pub what: What,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A request.
    Row(Box<UsageRow>),
    /// Requests that could not be kept since the entry before, because queue and journal were full.
    Lost {
        /// How many.
        count: i64,
        /// What they came to, 1e-12 EUR.
        cost_peur: i64,
    },
}

/// One request. The names are those of the table `usage_rows`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the table's definition explains each column")]
pub struct UsageRow {
    pub time_ms: i64,
    pub request_id: String,
    pub tenant: String,
    pub key_id: String,
    pub model: String,
    pub server: String,
    pub endpoint: String,
    pub status: i64,
    pub outcome: String,
    pub is_streaming: bool,
    pub attempts: i64,
    pub input_tokens: i64,
    pub cached_input_tokens: i64,
    pub system_tokens: i64,
    pub output_tokens: i64,
    pub reasoning_tokens: i64,
    pub input_source: String,
    pub output_source: String,
    pub reasoning_source: String,
    pub cost_peur: i64,
    pub energy_nwh: Option<i64>,
    pub ttft_us: Option<i64>,
    pub duration_us: i64,
}

impl UsageRow {
    /// What is kept of a settled request.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let since_1970 = record.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            time_ms: number(since_1970.as_millis()),
            request_id: record.request_id.clone(),
            tenant: record.tenant.to_string(),
            key_id: record.key_id.to_string(),
            model: record.model.to_string(),
            server: record.server.clone(),
            endpoint: record.endpoint.to_owned(),
            status: record.status.into(),
            outcome: record.outcome.label().to_owned(),
            is_streaming: record.is_streaming,
            attempts: record.attempts.into(),
            input_tokens: number(record.input_tokens.into()),
            cached_input_tokens: number(record.cached_input_tokens.into()),
            system_tokens: number(record.system_tokens.into()),
            output_tokens: number(record.output_tokens.into()),
            reasoning_tokens: number(record.reasoning_tokens.into()),
            input_source: record.input_source.label().to_owned(),
            output_source: record.output_source.label().to_owned(),
            reasoning_source: record.reasoning_source.label().to_owned(),
            cost_peur: number(record.cost_eur.0),
            energy_nwh: record.energy_kwh.map(|energy| number(energy.0)),
            ttft_us: record.ttft_ms.map(micros),
            duration_us: micros(record.duration_ms),
        }
    }

    /// Whether its numbers can be true.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        let tokens = [self.input_tokens, self.output_tokens, self.reasoning_tokens];
        tokens.iter().all(|count| (0..=MOST_TOKENS).contains(count))
            && (0..=MOST_PEUR).contains(&self.cost_peur)
    }

    /// Hours from 1970 to it, in UTC.
    #[must_use]
    pub fn hour(&self) -> i64 {
        self.time_ms / 3_600_000
    }
}

fn number(value: u128) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn micros(millis: f64) -> i64 {
    // Durations of requests are far below what a double counts exactly.
    (millis * 1000.0).round() as i64
}

/// Appends a value as a line of the journal: a checksum, a blank, JSON, a line end.
pub(super) fn write_line(line: &mut Vec<u8>, value: &impl Serialize) {
    let start = line.len();
    line.extend_from_slice(b"00000000 ");
    serde_json::to_writer(&mut *line, value).expect("texts and numbers always have a JSON form");
    let sum = crc32fast::hash(&line[start + 9..]);
    line[start..start + 8].copy_from_slice(format!("{sum:08x}").as_bytes());
    line.push(b'\n');
}

/// Reads a line of the journal without its end; `None` if it is not what was written.
pub(super) fn read_line<T: for<'de> Deserialize<'de>>(line: &[u8]) -> Option<T> {
    let (sum, rest) = line.split_at_checked(9)?;
    let sum = u32::from_str_radix(std::str::from_utf8(sum.strip_suffix(b" ")?).ok()?, 16).ok()?;
    (crc32fast::hash(rest) == sum).then(|| serde_json::from_slice(rest).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_only_as_it_was_written() {
        let entry = Entry { seq: 7, what: What::Lost { count: 3, cost_peur: 9 } };
        let mut line = Vec::new();
        write_line(&mut line, &entry);
        let body = line.strip_suffix(b"\n").expect("a line");
        assert_eq!(&body[9..], br#"{"seq":7,"what":{"lost":{"count":3,"cost_peur":9}}}"#);
        assert_eq!(read_line(body), Some(entry));
        for cut in 0..body.len() {
            assert_eq!(read_line::<Entry>(&body[..cut]), None, "cut at {cut}");
            let mut bent = body.to_vec();
            bent[cut] ^= 1;
            assert_eq!(read_line::<Entry>(&bent), None, "bent at {cut}");
        }
    }
}
