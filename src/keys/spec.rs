//! What an operator says about a key, from JSON: the bodies of `/admin/v1/keys` and the options of `tollgate key` take
//! the same way, so that they are checked alike. Every fault names the field, what was expected and what was found.

use std::fmt;

use serde_json::{Map, Value as Json};
use tollgate_filters::endpoint::{Endpoint, EndpointSet};
use tollgate_filters::request::auth::Network;
use tollgate_filters::request::catalogue::matches;
use tollgate_filters::units::Moment;

use super::record::KeySpec;
use crate::calendar;
use crate::config::settings::Settings;

/// Labels of one key.
const MAX_LABELS: usize = 16;
/// Longest name of a label, bytes.
const MAX_LABEL_NAME: usize = 63;
/// Longest value of a label, bytes.
const MAX_LABEL_VALUE: usize = 256;
/// Models, endpoints or networks of one key.
const MAX_ITEMS: usize = 64;
/// Ten years: what is longer is a mistake in the unit.
const MAX_SECONDS: u64 = 315_360_000;

/// A field that cannot be what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecFault {
    /// The field.
    pub field: String,
    /// What was expected, and what was found.
    pub message: String,
}

impl fmt::Display for SpecFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl std::error::Error for SpecFault {}

fn fault<T>(field: &str, message: impl Into<String>) -> Result<T, SpecFault> {
    Err(SpecFault { field: field.to_owned(), message: message.into() })
}

/// The fields that can be set, for messages.
const FIELDS: &str =
    "tier, models, endpoints, source_networks, expires, labels, rotate_every_s, rotation_grace_s";

impl KeySpec {
    /// A new key's, from its fields.
    ///
    /// # Errors
    /// [`SpecFault`] for the first field that is wrong.
    pub fn read(fields: &Map<String, Json>) -> Result<Self, SpecFault> {
        let mut spec = Self::default();
        let Some(tenant) = fields.get("tenant") else {
            return fault("tenant", "expected the name of a tenant, found nothing");
        };
        spec.tenant = text("tenant", tenant)?;
        for (field, value) in fields.iter().filter(|(field, _)| *field != "tenant" && *field != "id") {
            spec.set(field, value)?;
        }
        Ok(spec)
    }

    /// Changes one field; `null` takes it back to what holds without it.
    ///
    /// # Errors
    /// [`SpecFault`] if there is no such field or its value is wrong.
    pub fn set(&mut self, field: &str, value: &Json) -> Result<(), SpecFault> {
        match field {
            "tier" => self.tier = maybe(value, |value| text(field, value))?,
            "models" => self.models = maybe(value, |value| list(field, value))?,
            "endpoints" => self.endpoints = maybe(value, |value| endpoints(field, value))?,
            "source_networks" => {
                self.source_networks = maybe(value, |value| networks(field, value))?.unwrap_or_default();
            }
            "expires" => self.expires = maybe(value, |value| moment(field, value))?,
            "labels" => {
                self.labels.clear();
                for (name, value) in maybe(value, |value| object(field, value))?.unwrap_or_default() {
                    let value = text(&format!("{field}.{name}"), &value)?;
                    self.labels.insert(name, value);
                }
            }
            "rotate_every_s" => self.rotate_every_s = maybe(value, |value| seconds(field, value, 1))?,
            "rotation_grace_s" => self.rotation_grace_s = maybe(value, |value| seconds(field, value, 0))?,
            "tenant" => {
                return fault(field, "a key belongs to its tenant for good; make one for the other tenant");
            }
            _ => return fault(field, format!("unknown field; known are {FIELDS}")),
        }
        Ok(())
    }

    /// Whether what differs from `before` makes sense under `settings`; all of it, for a new key.
    ///
    /// # Errors
    /// [`SpecFault`] for the first field that does not.
    pub fn check(&self, settings: &Settings, before: Option<&Self>, now: Moment) -> Result<(), SpecFault> {
        let tenant = settings.tenants.iter().find(|tenant| tenant.name == self.tenant);
        let Some(tenant) = tenant else {
            return fault("tenant", format!("no tenant of tenants.yaml is called {:?}", self.tenant));
        };
        if let Some(tier) = &self.tier
            && before.is_none_or(|before| before.tier != self.tier)
            && !settings.tiers.iter().any(|known| known.name == *tier)
        {
            return fault("tier", format!("no tier of tiers.yaml is called {tier:?}"));
        }
        let is_narrowed = before.is_none_or(|before| before.models != self.models);
        for pattern in self.models.iter().flatten().filter(|_| is_narrowed) {
            let is_usable = |name: &str| {
                matches(pattern, name) && tenant.models.iter().any(|allowed| matches(allowed, name))
            };
            if !settings.models.iter().any(|model| is_usable(&model.name)) {
                let message = format!(
                    "{pattern:?} fits no model of models.yaml that the tenant {:?} may use",
                    tenant.name
                );
                return fault("models", message);
            }
        }
        let is_moved = before.is_none_or(|before| before.expires != self.expires);
        if self.expires.is_some_and(|end| end <= now) && is_moved {
            return fault("expires", "expected a time to come, found one that is past");
        }
        self.check_labels()?;
        let grace = self.grace_s(settings);
        if self.rotate_every_s.is_some_and(|every| every <= grace) {
            return fault(
                "rotate_every_s",
                format!(
                    "expected more than the grace period of {grace} s, or the secret before last would be cut off"
                ),
            );
        }
        Ok(())
    }

    /// How long an old secret works on, seconds.
    #[must_use]
    pub fn grace_s(&self, settings: &Settings) -> u64 {
        self.rotation_grace_s.unwrap_or(settings.keys.rotation_grace.as_secs())
    }

    fn check_labels(&self) -> Result<(), SpecFault> {
        if self.labels.len() > MAX_LABELS {
            let message = format!("expected at most {MAX_LABELS} labels, found {}", self.labels.len());
            return fault("labels", message);
        }
        for (name, value) in &self.labels {
            let is_name = (1..=MAX_LABEL_NAME).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte));
            if !is_name {
                let message = format!("expected names of 1 to {MAX_LABEL_NAME} letters, digits and ._/-");
                return fault("labels", format!("{message}, found {name:?}"));
            }
            if value.len() > MAX_LABEL_VALUE || value.contains('\0') {
                return fault(
                    &format!("labels.{name}"),
                    format!("expected at most {MAX_LABEL_VALUE} bytes without the character 0"),
                );
            }
        }
        Ok(())
    }
}

/// The value of a field that may be `null`.
fn maybe<T>(value: &Json, read: impl FnOnce(&Json) -> Result<T, SpecFault>) -> Result<Option<T>, SpecFault> {
    if value.is_null() { Ok(None) } else { read(value).map(Some) }
}

fn text(field: &str, value: &Json) -> Result<String, SpecFault> {
    match value {
        Json::String(text) if text.contains('\0') => fault(field, "expected text without the character 0"),
        Json::String(text) => Ok(text.clone()),
        other => fault(field, format!("expected a text, found {}", kind(other))),
    }
}

fn list(field: &str, value: &Json) -> Result<Vec<String>, SpecFault> {
    let Json::Array(items) = value else {
        return fault(field, format!("expected a list of texts or null, found {}", kind(value)));
    };
    if items.is_empty() || items.len() > MAX_ITEMS {
        return fault(field, format!("expected 1 to {MAX_ITEMS} items or null, found {}", items.len()));
    }
    items.iter().enumerate().map(|(index, item)| text(&format!("{field}[{index}]"), item)).collect()
}

fn endpoints(field: &str, value: &Json) -> Result<Vec<String>, SpecFault> {
    let labels = list(field, value)?;
    match labels.iter().find(|label| Endpoint::called(label).next().is_none()) {
        Some(unknown) => {
            let known: Vec<_> = EndpointSet::ALL.labels().collect();
            fault(field, format!("expected some of {}, found {unknown:?}", known.join(", ")))
        }
        None => Ok(labels),
    }
}

fn networks(field: &str, value: &Json) -> Result<Vec<Network>, SpecFault> {
    if value.as_array().is_some_and(Vec::is_empty) {
        return Ok(Vec::new());
    }
    let parse = |text: String| text.parse().or_else(|error| fault(field, format!("{error}, found {text:?}")));
    list(field, value)?.into_iter().map(parse).collect()
}

fn moment(field: &str, value: &Json) -> Result<Moment, SpecFault> {
    let written = text(field, value)?;
    match calendar::parse_end(&written) {
        Some(moment) => Ok(moment),
        None => fault(field, format!("expected {}, found {written:?}", calendar::END)),
    }
}

fn seconds(field: &str, value: &Json, least: u64) -> Result<u64, SpecFault> {
    match value.as_u64() {
        Some(seconds) if (least..=MAX_SECONDS).contains(&seconds) => Ok(seconds),
        _ => fault(
            field,
            format!("expected a whole number of seconds from {least} to {MAX_SECONDS}, found {value}"),
        ),
    }
}

fn object(field: &str, value: &Json) -> Result<Map<String, Json>, SpecFault> {
    match value {
        Json::Object(map) => Ok(map.clone()),
        other => fault(field, format!("expected an object of texts, found {}", kind(other))),
    }
}

/// What stands there, without repeating it.
fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(fields: Json) -> Result<KeySpec, String> {
        let fields = fields.as_object().expect("an object");
        KeySpec::read(fields).map_err(|fault| fault.to_string())
    }

    #[test]
    fn every_field_is_read() {
        let spec = read(json!({
            "tenant": "t", "id": "abcd", "tier": "gold", "models": ["a*"], "endpoints": ["models"],
            "source_networks": ["10.0.0.0/8"], "expires": "2030-01-31", "labels": {"team": "x"},
            "rotate_every_s": 100, "rotation_grace_s": 10,
        }));
        let mut spec = spec.expect("it is good");
        assert_eq!((spec.tier.as_deref(), spec.rotate_every_s), (Some("gold"), Some(100)));
        assert_eq!(spec.expires.map(calendar::show).as_deref(), Some("2030-02-01T00:00:00Z"));
        for field in ["tier", "models", "endpoints", "source_networks", "expires", "labels"] {
            spec.set(field, &Json::Null).expect("null is nothing");
        }
        spec.set("rotate_every_s", &Json::Null).expect("null is nothing");
        spec.set("rotation_grace_s", &Json::Null).expect("null is nothing");
        assert_eq!(spec, KeySpec { tenant: "t".to_owned(), ..KeySpec::default() });
    }

    #[test]
    fn faults_name_the_field_and_what_is_expected() {
        for (fields, expected) in [
            (json!({}), "tenant: expected the name of a tenant, found nothing"),
            (json!({"tenant": 1}), "tenant: expected a text, found a number"),
            (json!({"tenant": "t", "models": []}), "models: expected 1 to 64 items or null, found 0"),
            (json!({"tenant": "t", "models": [1]}), "models[0]: expected a text, found a number"),
            (json!({"tenant": "t", "labels": {"a": 1}}), "labels.a: expected a text, found a number"),
            (
                json!({"tenant": "t", "rotate_every_s": 0}),
                "rotate_every_s: expected a whole number of seconds from 1 to 315360000, found 0",
            ),
            (
                json!({"tenant": "t", "expires": "soon"}),
                "expires: expected a date such as 2026-12-31 (its last second counts) or a time such as \
                 2026-12-31T18:00:00Z, found \"soon\"",
            ),
            (
                json!({"tenant": "t", "source_networks": ["10.0.0.1"]}),
                "source_networks: expected a network such as 192.0.2.0/24 or 2001:db8::/32 (/32 or /128 for one \
                 address), found \"10.0.0.1\"",
            ),
            (
                json!({"tenant": "t", "secret": "x"}),
                "secret: unknown field; known are tier, models, endpoints, source_networks, expires, labels, \
                 rotate_every_s, rotation_grace_s",
            ),
        ] {
            assert_eq!(read(fields.clone()), Err(expected.to_owned()), "{fields}");
        }
        let endpoint = read(json!({"tenant": "t", "endpoints": ["chat"]})).expect_err("no such endpoint");
        assert!(endpoint.starts_with("endpoints: expected some of chat_completions, "), "{endpoint}");
    }
}
