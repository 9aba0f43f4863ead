//! Keys as `tollgate key` prints them: tables for people, JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use crate::calendar;
use crate::keys::record::KeySpec;

/// One key, and its secret if it was just made.
pub(super) fn one(key: &Json, secret: Option<&str>, is_json: bool) -> String {
    if is_json {
        let mut answer = json!({"key": key});
        if let Some(secret) = secret {
            answer["secret"] = secret.into();
        }
        return format!("{answer:#}\n");
    }
    let mut out = String::new();
    if let Some(secret) = secret {
        let _ = writeln!(out, "{secret}\n\nThis is the only time the key is shown.\n");
    }
    for (name, value) in key.as_object().into_iter().flatten() {
        let text = plain(value);
        if !text.is_empty() {
            let _ = writeln!(out, "{name:<18}{text}");
        }
    }
    out
}

/// Keys in a table.
pub(super) fn table(keys: &[Json], is_json: bool) -> String {
    if is_json {
        return format!("{:#}\n", json!({"keys": keys}));
    }
    const COLUMNS: [(&str, &str); 7] = [
        ("ID", "id"),
        ("TENANT", "tenant"),
        ("TIER", "tier"),
        ("STATE", "state"),
        ("EXPIRES", "expires"),
        ("LAST USED", "last_used"),
        ("SOURCE", "source"),
    ];
    let cell = |key: &Json, field: &str| {
        let text = plain(&key[field]);
        if text.is_empty() { "-".to_owned() } else { text }
    };
    let mut rows = vec![COLUMNS.map(|(title, _)| title.to_owned())];
    rows.extend(keys.iter().map(|key| COLUMNS.map(|(_, field)| cell(key, field))));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// What to write into tenants.yaml.
pub(super) fn declaration(id: &str, key: &str, hash: &str, spec: &KeySpec, is_json: bool) -> String {
    if is_json {
        let made = json!({"key": key, "id": id, "tenant": spec.tenant, "hash": hash});
        return format!("{made}\n");
    }
    let mut out = format!(
        "{key}\n\nThis is the only time the key is shown. Add to tenant {} in tenants.yaml:\n\n    keys:\n      - id: \
         {id}\n        hash: {hash}\n",
        spec.tenant
    );
    let list = |items: &[String]| json!(items).to_string();
    let networks: Vec<String> = spec.source_networks.iter().map(ToString::to_string).collect();
    for (name, value) in [
        ("tier", spec.tier.clone()),
        ("models", spec.models.as_deref().map(list)),
        ("endpoints", spec.endpoints.as_deref().map(list)),
        ("source_networks", (!networks.is_empty()).then(|| list(&networks))),
        ("expires", spec.expires.map(calendar::show)),
    ] {
        if let Some(value) = value {
            let _ = writeln!(out, "        {name}: {value}");
        }
    }
    out
}

/// A value on one line; nothing for nothing.
fn plain(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        Json::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Json::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name}={}", plain(value)))
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up_and_leave_nothing_out() {
        let keys = [
            json!({"id": "abcd", "tenant": "acme", "state": "active", "source": "store"}),
            json!({"id": "efghijkl", "tenant": "a", "tier": "gold", "state": "revoked", "source": "store"}),
        ];
        let expected = "\
ID        TENANT  TIER  STATE    EXPIRES  LAST USED  SOURCE
abcd      acme    -     active   -        -          store
efghijkl  a       gold  revoked  -        -          store
";
        assert_eq!(table(&keys, false), expected);
    }

    #[test]
    fn what_is_declared_is_yaml_that_says_it() {
        let spec = KeySpec {
            tenant: "acme".to_owned(),
            models: Some(vec!["a*".to_owned()]),
            endpoints: Some(vec!["models".to_owned()]),
            ..KeySpec::default()
        };
        let text = declaration("abcd", "tg_abcd_x", "hmac-sha256:00", &spec, false);
        let expected = "    keys:\n      - id: abcd\n        hash: hmac-sha256:00\n        models: [\"a*\"]\n        \
                        endpoints: [\"models\"]\n";
        assert!(text.ends_with(expected), "{text}");
    }
}
