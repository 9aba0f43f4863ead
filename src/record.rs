//! The record of one request: who asked for what, who answered, what it cost, how it ended. It holds no prompt
//! text, no answer text and no secret, so it may be kept and shipped.

use serde::{Serialize, Serializer};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Answered to the last byte.
    Ok,
    /// A stage said no.
    Refused,
    /// The client went away first.
    ClientGone,
    /// No server gave a first byte.
    UpstreamFailed,
    /// A server gave a first byte and then broke off.
    UpstreamCut,
    /// A deadline towards a server ran out.
    TimedOut,
    /// The gateway itself failed or was stopped.
    Aborted,
}

impl Outcome {
    /// The label that metrics use.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::ClientGone => "client_gone",
            Self::UpstreamFailed => "upstream_failed",
            Self::UpstreamCut => "upstream_cut",
            Self::TimedOut => "timed_out",
            Self::Aborted => "aborted",
        }
    }
}

/// Where a number of tokens comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenSource {
    /// The server said so.
    Reported,
    /// The gateway's own count.
    Counted,
    /// Nothing was used.
    None,
}

impl TokenSource {
    /// The label that metrics use.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Counted => "counted",
            Self::None => "none",
        }
    }
}

/// Money in units of 1e-12 EUR, the smallest that tokens × micro-EUR per million tokens gives. Written as a
/// decimal number of EUR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PicoEur(pub u128);

impl PicoEur {
    /// As a decimal number of EUR, exact.
    #[must_use]
    pub fn decimal(self) -> String {
        const ONE: u128 = 1_000_000_000_000;
        let text = format!("{}.{:012}", self.0 / ONE, self.0 % ONE);
        let trimmed = text.trim_end_matches('0');
        trimmed.strip_suffix('.').unwrap_or(trimmed).to_owned()
    }
}

/// One line of the access log.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// When the headers had been read: RFC 3339 in UTC, milliseconds.
    #[serde(serialize_with = "rfc3339")]
    pub time: std::time::SystemTime,
    /// The client's own if it sent a sane one.
    pub request_id: String,
    /// Who pays; empty before the key is known.
    pub tenant: std::sync::Arc<str>,
    /// The public part of the key.
    pub key_id: std::sync::Arc<str>,
    /// Address of the client.
    pub client: Option<std::net::IpAddr>,
    /// What was addressed; empty if nothing that exists.
    pub endpoint: &'static str,
    /// Catalogue name; empty before it is known.
    pub model: std::sync::Arc<str>,
    /// The server that answered, or that was tried last.
    pub server: String,
    /// HTTP status sent to the client; 0 if none was.
    pub status: u16,
    /// Error code sent to the client, if any.
    pub code: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether an event stream was sent.
    pub is_streaming: bool,
    /// Servers tried.
    pub attempts: u32,
    /// All input tokens.
    pub input_tokens: u64,
    /// Those of them that the server had in its cache.
    pub cached_input_tokens: u64,
    /// Output tokens without reasoning.
    pub output_tokens: u64,
    /// Reasoning output tokens.
    pub reasoning_tokens: u64,
    /// Where the input's number comes from.
    pub input_source: TokenSource,
    /// Where the output's numbers come from.
    pub output_source: TokenSource,
    /// Price of all of it. Written by [`Record::write_json`]: a decimal number of our own is not one of serde's.
    #[serde(skip)]
    pub cost_eur: PicoEur,
    /// kWh of all of it, where the model's is known.
    pub energy_kwh: Option<f64>,
    /// Headers read → first event with content handed to the client, milliseconds.
    pub ttft_ms: Option<f64>,
    /// Mean gap between events with content, milliseconds.
    pub itl_mean_ms: Option<f64>,
    /// Output tokens a second after the first one.
    pub output_tokens_per_second: Option<f64>,
    /// Headers read → end, milliseconds.
    pub duration_ms: f64,
    /// What the scanner made of the prompt: `allow`, `flag`, `block`; `off` where it did not look; `exempt` where an
    /// exemption kept a rule from counting.
    pub scan: &'static str,
    /// The score, where it is above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scan_score: Option<f32>,
    /// The rules that counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scan_rules: Vec<std::sync::Arc<str>>,
    /// Bytes of the request body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub answer_bytes: u64,
}

impl Record {
    /// Appends the record to `line`, as one JSON object without a line end.
    ///
    /// # Errors
    /// If a value cannot be written as JSON.
    pub fn write_json(&self, line: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer(&mut *line, self)?;
        let brace = line.pop();
        debug_assert_eq!(brace, Some(b'}'), "a record is an object");
        line.extend_from_slice(b",\"cost_eur\":");
        line.extend_from_slice(self.cost_eur.decimal().as_bytes());
        line.push(b'}');
        Ok(())
    }
}

/// Field by field: a format string would be parsed anew for every record.
fn rfc3339<S: Serializer>(time: &std::time::SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    use chrono::{Datelike, Timelike};
    let time = chrono::DateTime::<chrono::Utc>::from(*time).naive_utc();
    serializer.collect_str(&format_args!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.and_utc().timestamp_subsec_millis()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_written_exactly() {
        for (pico, expected) in [
            (0, "0"),
            (1, "0.000000000001"),
            (900_000, "0.0000009"),
            (1_000_000_000_000, "1"),
            (12_345_600_000_000, "12.3456"),
        ] {
            assert_eq!(PicoEur(pico).decimal(), expected);
        }
    }
}
