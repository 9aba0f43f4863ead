//! Settings → text that people and programs can read, and the difference of two settings by key path. Secrets
//! take part in a comparison, but only ever as "changed". The order is that of the files, so equal settings
//! give equal text.

mod tree;

use std::fmt::Write as _;

use serde_json::{Map, Value as Json};

use super::settings::Settings;
use tree::Tree;

/// The resolved settings as YAML, every default filled in, without secrets.
#[must_use]
pub fn render(settings: &Settings) -> String {
    let mut out = String::new();
    write_block(&mut out, &tree::of(settings), 0);
    out
}

/// The resolved settings as JSON, without secrets.
#[must_use]
pub fn render_json(settings: &Settings) -> Json {
    to_json(&tree::of(settings))
}

/// What changes from one configuration to another, one line for each key path; empty if nothing does. Items of
/// lists go by their names, e.g. `pools[local].servers[sim-1].weight: 1 → 2`.
#[must_use]
pub fn diff(old: &Settings, new: &Settings) -> Vec<String> {
    let mut changes = Vec::new();
    compare(&mut changes, "", &tree::of(old), &tree::of(new));
    changes
}

fn compare(out: &mut Vec<String>, path: &str, old: &Tree, new: &Tree) {
    match (old, new) {
        (Tree::Map(old), Tree::Map(new)) => {
            let dot = if path.is_empty() { "" } else { "." };
            // Both are made by the same code: the same keys in the same order.
            for ((key, old), (_, new)) in old.iter().zip(new) {
                compare(out, &format!("{path}{dot}{key}"), old, new);
            }
        }
        (Tree::List(old), Tree::List(new)) => compare_lists(out, path, old, new),
        (Tree::Hidden(_, old), Tree::Hidden(_, new)) => {
            if old != new {
                out.push(format!("{path}: changed"));
            }
        }
        _ => {
            let (old, new) = (inline(old), inline(new));
            if old != new {
                out.push(format!("{path}: {old} → {new}"));
            }
        }
    }
}

fn compare_lists(out: &mut Vec<String>, path: &str, old: &[(String, Tree)], new: &[(String, Tree)]) {
    let find = |list: &[(String, Tree)], name: &str| list.iter().position(|(label, _)| label == name);
    for (name, _) in old.iter().filter(|(name, _)| find(new, name).is_none()) {
        out.push(format!("{path}[{name}]: removed"));
    }
    let mut last = None;
    let mut is_reordered = false;
    for (name, item) in new {
        match find(old, name) {
            None => out.push(format!("{path}[{name}]: added")),
            Some(at) => {
                is_reordered |= last > Some(at);
                last = Some(at);
                compare(out, &format!("{path}[{name}]"), &old[at].1, item);
            }
        }
    }
    if is_reordered {
        out.push(format!("{path}: order changed"));
    }
}

/// A value on one line.
fn inline(tree: &Tree) -> String {
    match tree {
        Tree::Value(value) => scalar(value),
        Tree::Hidden(words, _) => (*words).to_owned(),
        Tree::Map(entries) => {
            let entries: Vec<_> =
                entries.iter().map(|(key, value)| format!("{key}: {}", inline(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Tree::List(items) => {
            let items: Vec<_> = items.iter().map(|(_, item)| inline(item)).collect();
            format!("[{}]", items.join(", "))
        }
    }
}

fn scalar(value: &Json) -> String {
    match value {
        Json::Array(items) => format!("[{}]", items.iter().map(scalar).collect::<Vec<_>>().join(", ")),
        Json::String(text) if is_plain(text) => text.clone(),
        // Without an exponent, which serde_json would write for small prices.
        Json::Number(number) if number.is_f64() => number.as_f64().unwrap_or(f64::NAN).to_string(),
        other => other.to_string(),
    }
}

/// Whether YAML reads this text without quotes as the same text, on one line and in a flow list.
fn is_plain(text: &str) -> bool {
    let is_word = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/@:-".contains(&byte))
        && !text.ends_with(':');
    is_word && !["null", "true", "false", "yes", "no", "on"].contains(&text.to_ascii_lowercase().as_str())
}

fn write_block(out: &mut String, tree: &Tree, indent: usize) {
    let pad = " ".repeat(indent);
    match tree {
        Tree::Map(entries) => {
            for (key, value) in entries {
                match value {
                    Tree::Map(_) => {
                        let _ = writeln!(out, "{pad}{key}:");
                        write_block(out, value, indent + 2);
                    }
                    Tree::List(items) if !items.is_empty() => {
                        let _ = writeln!(out, "{pad}{key}:");
                        write_block(out, value, indent + 2);
                    }
                    _ => {
                        let _ = writeln!(out, "{pad}{key}: {}", inline(value));
                    }
                }
            }
        }
        Tree::List(items) => {
            for (_, item) in items {
                let mut block = String::new();
                write_block(&mut block, item, indent + 2);
                // The first key stands on the line of the dash.
                let _ = writeln!(out, "{pad}- {}", block.trim());
            }
        }
        Tree::Value(_) | Tree::Hidden(..) => {
            let _ = writeln!(out, "{pad}{}", inline(tree));
        }
    }
}

fn to_json(tree: &Tree) -> Json {
    match tree {
        Tree::Value(value) => value.clone(),
        Tree::Hidden(words, _) => Json::String((*words).to_owned()),
        Tree::Map(entries) => entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), to_json(value)))
            .collect::<Map<_, _>>()
            .into(),
        Tree::List(items) => items.iter().map(|(_, item)| to_json(item)).collect(),
    }
}
