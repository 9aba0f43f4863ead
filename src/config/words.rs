//! The single values that keys hold: numbers with bounds, names, dates, addresses, money. Each knows what it
//! expects in words, so that a message, the JSON Schema and the reference say the same.

use std::net::SocketAddr;
use std::path::PathBuf;

use chrono::NaiveDate;
use serde_json::{Value as Json, json};
use tollgate_filters::endpoint::{Endpoint, EndpointSet};
use tollgate_filters::request::auth::Network;
use tollgate_filters::units::Moment;

use super::fault::{Faults, Place};
use super::kind::{Kind, Shape, Word, choice};
use super::node::{Node, Value};
use super::settings::{AccessLogTarget, Engine, WebUrl};
use crate::calendar;

/// No upper bound: the largest whole number that YAML readers agree on.
pub(crate) const ANY: u64 = i64::MAX as u64;
/// A week. Longer deadlines are mistakes, and adding them to a clock must not overflow.
const WEEK_MS: u64 = 7 * 24 * 3600 * 1000;

/// A whole number within bounds, both included.
pub(crate) enum Whole<const MIN: u64, const MAX: u64> {}
/// A duration in milliseconds that may be 0.
pub(crate) type Millis = Whole<0, WEEK_MS>;
/// A duration in milliseconds.
pub(crate) type SomeMillis = Whole<1, WEEK_MS>;

impl<const MIN: u64, const MAX: u64> Whole<MIN, MAX> {
    fn words() -> String {
        match (MIN, MAX) {
            (0, ANY) => "a whole number".to_owned(),
            (_, ANY) => format!("a whole number of at least {MIN}"),
            _ => format!("a whole number from {MIN} to {MAX}"),
        }
    }
}

impl<const MIN: u64, const MAX: u64> Kind for Whole<MIN, MAX> {
    type Value = u64;

    fn read(node: &Node, place: &Place, faults: &mut Faults) -> Option<u64> {
        let Value::Number(_, Some(number)) = node.value else {
            return expected(&Self::words(), node, place, faults);
        };
        match u64::try_from(number) {
            Ok(number) if number > MAX => {
                expected(&format!("a whole number of at most {MAX}"), node, place, faults)
            }
            Ok(number) if number >= MIN => Some(number),
            _ => expected(&format!("a whole number of at least {MIN}"), node, place, faults),
        }
    }

    fn shape() -> Shape {
        let mut schema = json!({ "type": "integer", "minimum": MIN });
        if MAX < ANY {
            schema["maximum"] = json!(MAX);
        }
        Shape::Scalar { words: Self::words(), unit: None, schema }
    }
}

/// `true` or `false`.
pub(crate) enum Flag {}

impl Kind for Flag {
    type Value = bool;

    fn read(node: &Node, place: &Place, faults: &mut Faults) -> Option<bool> {
        match node.value {
            Value::Bool(value) => Some(value),
            _ => expected("true or false", node, place, faults),
        }
    }

    fn shape() -> Shape {
        Shape::Scalar { words: "true or false".into(), unit: None, schema: json!({ "type": "boolean" }) }
    }
}

/// Money: EUR for a million tokens, read digit by digit into units of 1e-6 EUR.
pub(crate) enum Euros {}

const EUROS: &str = "an amount such as 0.9, with at most 6 decimals and 9 digits before the point";

impl Kind for Euros {
    type Value = u64;

    fn read(node: &Node, place: &Place, faults: &mut Faults) -> Option<u64> {
        match &node.value {
            Value::Number(text, _) if let Some(amount) = micro(text) => Some(amount),
            _ => expected(EUROS, node, place, faults),
        }
    }

    fn shape() -> Shape {
        let schema = json!({ "type": "number", "minimum": 0 });
        Shape::Scalar { words: EUROS.into(), unit: Some("EUR per million tokens"), schema }
    }
}

/// `0.9` → 900 000.
pub(crate) fn micro(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits =
        |part: &str, most| (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole, 9) || !is_digits(decimals, 6) {
        return None;
    }
    Some(whole.parse::<u64>().ok()? * 1_000_000 + format!("{decimals:0<6}").parse::<u64>().ok()?)
}

/// Energy: kWh for a million tokens, read digit by digit into units of 1e-6 kWh.
pub(crate) enum Energy {}

const ENERGY: &str = "a number such as 0.15, with at most 6 decimals and 9 digits before the point";

impl Kind for Energy {
    type Value = u64;

    fn read(node: &Node, place: &Place, faults: &mut Faults) -> Option<u64> {
        match &node.value {
            Value::Number(text, _) if let Some(amount) = micro(text) => Some(amount),
            _ => expected(ENERGY, node, place, faults),
        }
    }

    fn shape() -> Shape {
        let schema = json!({ "type": "number", "minimum": 0 });
        Shape::Scalar { words: ENERGY.into(), unit: Some("kWh per million tokens"), schema }
    }
}

/// Reports what stands there instead; always `None`.
pub(crate) fn expected<T>(words: &str, node: &Node, place: &Place, faults: &mut Faults) -> Option<T> {
    let hint = match &node.value {
        Value::Bad => return None,
        Value::Text(text) if text.parse::<f64>().is_ok() => " (remove the quotes)",
        Value::Text(text)
            if words == "true or false" && ["yes", "no", "on", "off"].contains(&text.as_str()) =>
        {
            " (which is plain text in YAML 1.2)"
        }
        _ => "",
    };
    faults.push(place, format!("expected {words}, found {}{hint}", node.found()));
    None
}

/// Declares a kind of text: what it is in words, its JSON Schema beyond `type: string`, how it is parsed.
macro_rules! word {
    ($(#[doc = $title:expr])+ $name:ident -> $value:ty, $words:expr, $schema:tt, $parse:expr) => {
        $(#[doc = $title])+
        pub(crate) enum $name {}

        impl Word for $name {
            type Value = $value;

            fn words() -> String {
                $words.to_owned()
            }

            fn schema() -> Json {
                let mut schema = json!($schema);
                schema["type"] = json!("string");
                schema
            }

            fn parse(text: &str) -> Option<$value> {
                let parse: fn(&str) -> Option<$value> = $parse;
                parse(text)
            }
        }
    };
}

word! {
    /// Any text.
    Text -> String, "text", { "minLength": 1 }, |text| (!text.is_empty()).then(|| text.to_owned())
}
word! {
    /// A name that may stand in a metric label, a log line and a URL path segment.
    Name -> String,
    "a name of at most 128 letters, digits and ._:/@- that begins with a letter or digit",
    { "pattern": "^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$" },
    |text| is_name(text).then(|| text.to_owned())
}
word! {
    /// The name of a catalogue model, or a pattern over those names.
    Pattern -> String,
    "a model name, or a pattern with * for any letters",
    { "pattern": "^[A-Za-z0-9*][A-Za-z0-9._:/@*-]{0,127}$" },
    |text| {
        // With each `*` taken for a letter it is a name.
        is_name(&text.replace('*', "x")).then(|| text.to_owned())
    }
}
word! {
    /// A day.
    Date -> NaiveDate, "a date such as 2026-12-31", { "format": "date" },
    |text| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|_| text.len() == 10)
}
word! {
    /// An address to listen on.
    ListenAddress -> SocketAddr,
    "an IP address and port such as 127.0.0.1:8080 or [::]:8443", { "examples": ["127.0.0.1:8080", "[::]:8443"] },
    |text| text.parse().ok()
}
word! {
    /// A server's address.
    HostPort -> (String, u16),
    "a host and port such as gpu-1.example:8000, 192.0.2.7:8000 or [2001:db8::7]:8000",
    { "examples": ["gpu-1.example:8000", "[2001:db8::7]:8000"] }, host_port
}
word! {
    /// A network.
    Cidr -> Network, "a network such as 192.0.2.0/24 or 2001:db8::/32 (/32 or /128 for one address)",
    { "examples": ["192.0.2.0/24", "2001:db8::/32"] }, |text| text.parse().ok()
}
word! {
    /// An end in time.
    End -> Moment, calendar::END, { "examples": ["2026-12-31", "2026-12-31T18:00:00Z"] }, calendar::parse_end
}
word! {
    /// An endpoint by its label.
    EndpointLabel -> String, format!("one of {}", endpoint_labels().join(", ")), { "enum": (endpoint_labels()) },
    |text| Endpoint::called(text).next().map(|_| text.to_owned())
}
word! {
    /// A file to read, relative to the directory of the configuration.
    InputFile -> PathBuf, "the path of a file", { "minLength": 1 },
    |text| (!text.is_empty()).then(|| PathBuf::from(text))
}
word! {
    /// A file that the gateway makes, relative to its working directory.
    OutputFile -> PathBuf, "the path of a file", { "minLength": 1 },
    |text| (!text.is_empty()).then(|| PathBuf::from(text))
}
word! {
    /// Where access records go.
    LogTarget -> AccessLogTarget, "`stdout`, `off` or the path of a file", { "minLength": 1 },
    |text| match text {
        "" => None,
        "stdout" => Some(AccessLogTarget::Stdout),
        "off" => Some(AccessLogTarget::Off),
        path => Some(AccessLogTarget::File(PathBuf::from(path))),
    }
}
word! {
    /// A path on a server.
    UrlPath -> String, "a path that begins with / and holds no blanks", { "pattern": "^/[!-~]*$" },
    |text| {
        (text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.to_owned())
    }
}
word! {
    /// Where something is posted to.
    WebAddress -> WebUrl, "an http or https URL without user name, such as https://hooks.example/tollgate",
    { "pattern": "^https?://[A-Za-z0-9._:\\[\\]-]+(/[!-~]*)?$" }, web_url
}
word! {
    /// A web origin (RFC 6454): what a browser sends as `Origin`.
    Origin -> String, "`*` or an origin such as https://app.example:8443, without path or final slash",
    { "pattern": "^(\\*|https?://[A-Za-z0-9.:\\[\\]-]+)$" },
    |text| is_origin(text).then(|| text.to_owned())
}
choice! {
    /// How much is logged.
    Level -> log::LevelFilter {
        "off" => log::LevelFilter::Off, "error" => log::LevelFilter::Error, "warn" => log::LevelFilter::Warn,
        "info" => log::LevelFilter::Info, "debug" => log::LevelFilter::Debug, "trace" => log::LevelFilter::Trace,
    }
}
choice! {
    /// What runs on a server.
    EngineName -> Engine {
        "vllm" => Engine::Vllm, "sglang" => Engine::Sglang, "tgi" => Engine::Tgi, "llama.cpp" => Engine::LlamaCpp,
        "ollama" => Engine::Ollama, "transformers" => Engine::Transformers, "openai" => Engine::OpenAi,
    }
}

/// What a health check does, before its path is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbeKind {
    /// `GET`.
    Http,
    /// Connect.
    Tcp,
    /// Nothing.
    Off,
}

choice! {
    /// What a health check does.
    ProbeName -> ProbeKind { "http" => ProbeKind::Http, "tcp" => ProbeKind::Tcp, "off" => ProbeKind::Off }
}

fn is_name(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte))
}

fn host_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse::<u16>().ok())??;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
        None => is_host(host).then(|| host.to_owned())?,
    };
    (port > 0).then_some((host, port))
}

/// A host name (RFC 1123, and `_`, which container networks use) or an IPv4 address.
fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits can only be an IPv4 address.
    let looks_numeric =
        host.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    host.len() <= 253
        && if looks_numeric {
            host.parse::<std::net::Ipv4Addr>().is_ok()
        } else {
            host.split('.').all(is_label)
        }
}

/// What a list of endpoints can hold.
pub(crate) fn endpoint_labels() -> Vec<&'static str> {
    EndpointSet::ALL.labels().collect()
}

fn web_url(text: &str) -> Option<WebUrl> {
    let (scheme, rest) = text.split_once("://")?;
    let is_tls = match scheme {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    let usual = if is_tls { 443 } else { 80 };
    let (host, port) = host_port(authority).or_else(|| host_port(&format!("{authority}:{usual}")))?;
    path.bytes().all(|byte| byte.is_ascii_graphic()).then(|| WebUrl {
        is_tls,
        host,
        port,
        path: path.to_owned(),
    })
}

fn is_origin(text: &str) -> bool {
    let Some(authority) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return text == "*";
    };
    let is_name_only = !authority.contains(':') && is_host(authority);
    let has_port = host_port(authority).is_some();
    let is_v6 = host_port(&format!("{authority}:1")).is_some() && authority.ends_with(']');
    // Browsers send origins in lower case (RFC 6454 §6.2), so any other would never match.
    (is_name_only || has_port || is_v6) && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}
