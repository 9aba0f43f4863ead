//! The record of one request: who asked for what, who answered, what it cost, how it ended. It holds no prompt
//! text, no answer text and no secret, so it may be kept and shipped.

use std::sync::Arc;

use serde::Serialize;
use tollgate_filters::request::scan::policy::Aside;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Answered to the last byte.
    Ok,
    /// A stage said no.
    Refused,
    /// Answered as far as a limit allowed.
    LimitReached,
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
            Self::LimitReached => "limit_reached",
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
    /// The gateway counted with the model's tokenizer.
    Tokenizer,
    /// The gateway estimated.
    Estimated,
    /// Nothing was used.
    None,
}

impl TokenSource {
    /// The label that metrics use.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Tokenizer => "tokenizer",
            Self::Estimated => "estimated",
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
        decimal(self.0)
    }
}

/// Energy in units of 1e-12 kWh (which is 1e-9 Wh), as exact as money. Written as a decimal number of kWh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PicoKwh(pub u128);

impl PicoKwh {
    /// As a decimal number of kWh, exact.
    #[must_use]
    pub fn decimal(self) -> String {
        decimal(self.0)
    }
}

/// A number of 1e-12 as a decimal number, without zeros at its end.
fn decimal(pico: u128) -> String {
    const DIGITS: usize = 12;
    const ONE: u128 = 10_u128.pow(DIGITS as u32);
    let mut text = (pico / ONE).to_string();
    let part = (pico % ONE) as u64;
    if part > 0 {
        text.push('.');
        let mut digits = Vec::with_capacity(DIGITS);
        push_digits(&mut digits, part, DIGITS);
        let kept = digits.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
        text.extend(digits[..kept].iter().copied().map(char::from));
    }
    text
}

/// Appends the last `count` decimal digits of `number`.
fn push_digits(line: &mut Vec<u8>, number: u64, count: usize) {
    let start = line.len();
    line.resize(start + count, b'0');
    let mut left = number;
    for digit in line[start..].iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
}

/// One line of the access log.
#[derive(Debug, Clone)]
pub struct Record {
    /// When the headers had been read. Written as RFC 3339 in UTC, milliseconds.
    pub time: std::time::SystemTime,
    /// The client's own if it sent a sane one.
    pub request_id: String,
    /// Who pays; empty before the key is known.
    pub tenant: Arc<str>,
    /// The public part of the key.
    pub key_id: Arc<str>,
    /// Address of the client.
    pub client: Option<std::net::IpAddr>,
    /// What was addressed; empty if nothing that exists.
    pub endpoint: &'static str,
    /// Catalogue name; empty before it is known.
    pub model: Arc<str>,
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
    /// Those of them that are system and developer messages, always by the gateway's count.
    pub system_tokens: u64,
    /// Output tokens without reasoning.
    pub output_tokens: u64,
    /// Reasoning output tokens.
    pub reasoning_tokens: u64,
    /// Where the input's number comes from.
    pub input_source: TokenSource,
    /// Where the number of all output comes from.
    pub output_source: TokenSource,
    /// Who told reasoning apart from the rest of the output.
    pub reasoning_source: TokenSource,
    /// Price of all of it.
    pub cost_eur: PicoEur,
    /// kWh of all of it, where the model's is known.
    pub energy_kwh: Option<PicoKwh>,
    /// Headers read → first event with content handed to the client, milliseconds.
    pub ttft_ms: Option<f64>,
    /// Mean gap between events with content, milliseconds.
    pub itl_mean_ms: Option<f64>,
    /// Output tokens a second after the first one.
    pub output_tokens_per_second: Option<f64>,
    /// Headers read → end, milliseconds.
    pub duration_ms: f64,
    /// What the scanner made of the prompt: `allow`, `flag`, `block`; `off` where it did not look; `exempt` where it passes
    /// and an exemption kept a rule from counting; `over_budget` where it was refused for its length.
    pub scan: &'static str,
    /// The score, where it is above 0; else left out.
    pub scan_score: Option<f32>,
    /// The rules that counted; left out where there are none.
    pub scan_rules: Vec<Arc<str>>,
    /// The rules that did not count, as `scan_exempt`, `scan_exemptions` and `scan_ignored`; each left out where there are none.
    pub scan_aside: Aside,
    /// Bytes of text beyond the budget, which nobody looked at; left out where there are none.
    pub scan_unread_bytes: u64,
    /// What was made of the answer: `allow`, `flag`, `redact`, `stop`, `exempt`; `off`, and left out, where nobody looked.
    pub output_scan: &'static str,
    /// The rules that counted in the answer; left out where there are none.
    pub output_rules: Vec<Arc<str>>,
    /// Bytes of the request body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub answer_bytes: u64,
}

/// Appends `,"name":value` for each field named.
macro_rules! write_fields {
    ($record:ident, $line:ident, $($name:ident)*) => {$(
        $line.extend_from_slice(concat!(",\"", stringify!($name), "\":").as_bytes());
        serde_json::to_writer(&mut *$line, &$record.$name)?;
    )*};
}

impl Record {
    /// Appends the record to `line`, as one JSON object without a line end.
    ///
    /// # Errors
    /// If a value cannot be written as JSON.
    ///
    /// # Cost
    /// The names of the fields are written as they stand: derived code would look at each of their letters,
    /// which is half of the work, for every record.
    pub fn write_json(&self, line: &mut Vec<u8>) -> serde_json::Result<()> {
        line.extend_from_slice(b"{\"time\":\"");
        push_rfc3339(line, self.time);
        line.push(b'"');
        write_fields!(self, line, request_id tenant key_id client endpoint model server status code outcome);
        write_fields!(self, line, is_streaming attempts input_tokens cached_input_tokens system_tokens);
        write_fields!(self, line, output_tokens reasoning_tokens input_source output_source reasoning_source);
        line.extend_from_slice(b",\"energy_kwh\":");
        match self.energy_kwh {
            Some(energy) => line.extend_from_slice(energy.decimal().as_bytes()),
            None => line.extend_from_slice(b"null"),
        }
        write_fields!(self, line, ttft_ms itl_mean_ms output_tokens_per_second);
        write_fields!(self, line, duration_ms request_bytes answer_bytes scan);
        if self.scan_score.is_some() {
            write_fields!(self, line, scan_score);
        }
        for (name, rules) in [
            ("scan_rules", &self.scan_rules),
            ("scan_exempt", &self.scan_aside.exempt),
            ("scan_exemptions", &self.scan_aside.exemptions),
            ("scan_ignored", &self.scan_aside.ignored),
        ] {
            push_rules(line, name, rules)?;
        }
        if self.scan_unread_bytes > 0 {
            write_fields!(self, line, scan_unread_bytes);
        }
        if self.output_scan != "off" {
            write_fields!(self, line, output_scan);
        }
        push_rules(line, "output_rules", &self.output_rules)?;
        line.extend_from_slice(b",\"cost_eur\":");
        line.extend_from_slice(self.cost_eur.decimal().as_bytes());
        line.push(b'}');
        Ok(())
    }
}

/// Names of rules, where there are any.
fn push_rules(line: &mut Vec<u8>, name: &str, rules: &[Arc<str>]) -> serde_json::Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    line.extend_from_slice(b",\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":");
    let rules: Vec<&str> = rules.iter().map(|rule| &**rule).collect();
    serde_json::to_writer(line, &rules)
}

/// Digit by digit: a format string would be read anew for every record.
fn push_rfc3339(line: &mut Vec<u8>, time: std::time::SystemTime) {
    use chrono::{Datelike, Timelike};
    let time = chrono::DateTime::<chrono::Utc>::from(time).naive_utc();
    let year = u64::try_from(time.year()).unwrap_or_default();
    let parts = [
        (year, 4, b'-'),
        (time.month().into(), 2, b'-'),
        (time.day().into(), 2, b'T'),
        (time.hour().into(), 2, b':'),
        (time.minute().into(), 2, b':'),
        (time.second().into(), 2, b'.'),
        (time.and_utc().timestamp_subsec_millis().into(), 3, b'Z'),
    ];
    for (number, count, end) in parts {
        push_digits(line, number, count);
        line.push(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_json_object_with_every_field_once() {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_795_420_800_007);
        let record = Record {
            time,
            request_id: "req \"1\"\n".to_owned(),
            tenant: "acmé".into(),
            key_id: "k".into(),
            client: Some([127, 0, 0, 1].into()),
            endpoint: "chat",
            model: "m".into(),
            server: "s".to_owned(),
            status: 200,
            code: None,
            outcome: Outcome::ClientGone,
            is_streaming: true,
            attempts: 2,
            input_tokens: u64::MAX,
            cached_input_tokens: 1,
            system_tokens: 4,
            output_tokens: 2,
            reasoning_tokens: 3,
            input_source: TokenSource::Reported,
            output_source: TokenSource::None,
            reasoning_source: TokenSource::Tokenizer,
            cost_eur: PicoEur(1_500_000_000_000),
            energy_kwh: Some(PicoKwh(250_000_000_000)),
            ttft_ms: None,
            itl_mean_ms: Some(1.5),
            output_tokens_per_second: None,
            duration_ms: 12.345,
            scan: "flag",
            scan_score: Some(0.5),
            scan_rules: vec!["a.b".into(), "c".into()],
            scan_aside: Aside {
                exempt: vec!["e".into()],
                exemptions: vec!["persona".into()],
                ignored: vec!["i".into()],
            },
            scan_unread_bytes: 7,
            output_scan: "redact",
            output_rules: vec!["d".into()],
            request_bytes: 5,
            answer_bytes: 6,
        };
        let mut line = Vec::new();
        record.write_json(&mut line).expect("it can be written");
        let text = String::from_utf8(line).expect("it is text");
        assert_eq!(
            text,
            "{\"time\":\"2026-11-23T08:00:00.007Z\",\"request_id\":\"req \\\"1\\\"\\n\",\"tenant\":\"acmé\",\
             \"key_id\":\"k\",\"client\":\"127.0.0.1\",\"endpoint\":\"chat\",\"model\":\"m\",\"server\":\"s\",\
             \"status\":200,\"code\":null,\"outcome\":\"client_gone\",\"is_streaming\":true,\"attempts\":2,\
             \"input_tokens\":18446744073709551615,\"cached_input_tokens\":1,\"system_tokens\":4,\
             \"output_tokens\":2,\"reasoning_tokens\":3,\"input_source\":\"reported\",\"output_source\":\"none\",\
             \"reasoning_source\":\"tokenizer\",\"energy_kwh\":0.25,\"ttft_ms\":null,\"itl_mean_ms\":1.5,\
             \"output_tokens_per_second\":null,\"duration_ms\":12.345,\
             \"request_bytes\":5,\"answer_bytes\":6,\"scan\":\"flag\",\"scan_score\":0.5,\"scan_rules\":[\"a.b\",\"c\"],\
             \"scan_exempt\":[\"e\"],\"scan_exemptions\":[\"persona\"],\"scan_ignored\":[\"i\"],\"scan_unread_bytes\":7,\
             \"output_scan\":\"redact\",\"output_rules\":[\"d\"],\"cost_eur\":1.5}"
        );
    }

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
