//! The declarations of `schema`, told to editors (JSON Schema 2020-12) and to readers (Markdown). Both are made
//! from what the reader itself uses; docs/configuration.md is this module's output, and a test keeps it so.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use super::kind::{Default, Key, Shape, default_node};
use super::node::{Node, Value};
use super::schema::FILES;

/// A JSON Schema for each configuration file, by its name.
#[must_use]
pub fn schema() -> Json {
    let mut files = Map::new();
    for file in &FILES {
        let mut schema = schema_of(&(file.shape)());
        schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
        schema["title"] = json!(format!("Tollgate: {}", file.name));
        schema["description"] = json!(file.title);
        files.insert(file.name.to_owned(), schema);
    }
    Json::Object(files)
}

/// The reference of all keys, in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(INTRODUCTION);
    for file in &FILES {
        let _ = write!(out, "\n## {}\n\n{}\n\n", file.name, file.title);
        out.push_str("| key | value | unit | default | meaning |\n|---|---|---|---|---|\n");
        rows(&mut out, "", &(file.shape)());
    }
    out
}

const INTRODUCTION: &str = "\
# Configuration

<!-- Made by `tollgate check --reference`; a test compares. Change the declarations in src/config/schema/. -->

Five YAML files in one directory, `conf/` unless `--conf` names another. All five must exist; one that holds
only comments is an empty one. `tollgate check` reads them, says everything that is wrong with file, line and
key path, and prints what they mean; the gateway refuses to start on, or to reload, what `check` refuses.

- Unknown keys, keys given twice, and values of the wrong type are faults. Numbers are not read from text.
- Units are part of the key: `_ms` milliseconds, `_s` seconds, `_bytes` bytes, `_percent` percent.
- Secrets are never written here. `env:NAME` is an environment variable, `file:PATH` a file, `credential:NAME` a
  systemd credential. One final line break is not part of the secret. A literal is refused and not repeated.
- Files to read (secrets, certificates, keys, authorities) are relative to the directory of the configuration;
  files that the gateway makes (access log, upgrade socket) to its working directory.
- Names are at most 128 letters, digits and `._:/@-`, and begin with a letter or digit: they stand in metrics.
- Patterns over model names: `*` stands for any letters, also none.
- Aliases (`*anchor`) may stand for a value. Merge keys (`<<`) and tags (`!…`) are not supported.
- Key paths below: `pools[].name` is the key `name` of each item of the list `pools`.

Editors check these files while you write, with `tollgate check --schema upstreams.yaml > upstreams.schema.json` and
`# yaml-language-server: $schema=upstreams.schema.json` as the first line of the file.
";

/// The JSON Schema of a kind.
pub(crate) fn schema_of(shape: &Shape) -> Json {
    match shape {
        Shape::Scalar { schema, .. } => schema.clone(),
        Shape::Or { schema, inner, .. } => json!({ "anyOf": [schema, schema_of(inner)] }),
        // A key with everything below it commented out is null to an editor.
        Shape::List(item) => json!({ "type": ["array", "null"], "items": schema_of(item) }),
        Shape::Section(keys) => {
            let mut properties = Map::new();
            for key in keys {
                properties.insert(key.name.to_owned(), schema_of_key(key));
            }
            let is_required = |key: &&Key| matches!(key.default, Default::Required);
            let required: Vec<_> = keys.iter().filter(is_required).map(|key| key.name).collect();
            let kinds = if required.is_empty() { json!(["object", "null"]) } else { json!("object") };
            json!({
                "type": kinds,
                "properties": properties,
                "required": required,
                "additionalProperties": false,
            })
        }
    }
}

fn schema_of_key(key: &Key) -> Json {
    let mut schema = schema_of(&key.shape);
    let mut doc = key.doc.clone();
    if let Some(unit) = unit(key) {
        let _ = write!(doc, " Unit: {unit}.");
    }
    match key.default {
        Default::Required => {}
        Default::Text(text) => schema["default"] = to_json(&default_node(text)),
        Default::Absent(words) => {
            let _ = write!(doc, " Absent: {words}.");
        }
    }
    schema["description"] = json!(doc);
    schema
}

fn rows(out: &mut String, prefix: &str, shape: &Shape) {
    let Shape::Section(keys) = shape else { return };
    for key in keys {
        let path = format!("{prefix}{}", key.name);
        let default = match key.default {
            Default::Required => "required".to_owned(),
            Default::Text(text) => format!("`{text}`"),
            Default::Absent(words) => words.to_owned(),
        };
        let cells = [format!("`{path}`"), words(&key.shape), unit(key).unwrap_or("").to_owned(), default];
        for cell in cells.iter().chain([&key.doc]) {
            let _ = write!(out, "| {} ", cell.replace('|', "\\|"));
        }
        out.push_str("|\n");
        below(out, &path, &key.shape);
    }
}

fn below(out: &mut String, path: &str, shape: &Shape) {
    match shape {
        Shape::Scalar { .. } => {}
        Shape::Or { inner, .. } => below(out, path, inner),
        Shape::List(item) => below(out, &format!("{path}[]"), item),
        Shape::Section(_) => rows(out, &format!("{path}."), shape),
    }
}

fn words(shape: &Shape) -> String {
    match shape {
        Shape::Scalar { words, .. } => words.clone(),
        Shape::Or { words: word, inner, .. } => format!("{}, or {word}", words(inner)),
        Shape::List(item) => format!("a list, each {}", words(item)),
        Shape::Section(_) => "a mapping".to_owned(),
    }
}

/// The unit of a key: that of its kind, or the one that its name ends in.
fn unit(key: &Key) -> Option<&'static str> {
    const BY_NAME: [(&str, &str); 8] = [
        ("_days", "days"),
        ("_ms", "milliseconds"),
        ("_ms_per_1k_tokens", "milliseconds per 1,000 tokens"),
        ("_s", "seconds"),
        ("_bytes", "bytes"),
        ("_percent", "percent"),
        ("_per_minute", "per minute"),
        ("_per_day", "per day"),
    ];
    const TOKENS: [&str; 4] = ["default_max_tokens", "max_tokens", "max_context", "context_length"];
    unit_of(&key.shape)
        .or_else(|| BY_NAME.iter().find(|(end, _)| key.name.ends_with(end)).map(|(_, unit)| *unit))
        .or_else(|| TOKENS.contains(&key.name).then_some("tokens"))
}

fn unit_of(shape: &Shape) -> Option<&'static str> {
    match shape {
        Shape::Scalar { unit, .. } => *unit,
        Shape::Or { inner, .. } => unit_of(inner),
        Shape::List(_) | Shape::Section(_) => None,
    }
}

/// A tree as JSON; what has no JSON form is null.
pub(super) fn to_json(node: &Node) -> Json {
    match &node.value {
        Value::Empty | Value::Null | Value::Bad => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Number(_, Some(number)) => json!(number),
        Value::Number(text, None) => text.parse::<f64>().map_or(Json::Null, |number| json!(number)),
        Value::Text(text) => json!(text),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(entries) => {
            entries.iter().map(|(name, node)| (name.clone(), to_json(node))).collect::<Map<_, _>>().into()
        }
    }
}
