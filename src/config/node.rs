//! YAML text → a tree whose every key knows its line. Only what a configuration needs is let through: one
//! document, text keys, no tags, no merge keys. Aliases are resolved by the YAML reader, which bounds their
//! expansion. A number keeps its text, because money is read from digits and never from a float.

use std::collections::HashSet;

use saphyr::{LoadableYamlNode, MarkedYamlOwned, ScalarOwned, ScanError, YamlDataOwned};

use super::fault::{Faults, FileId, Place};

/// A value as it was written.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Line of its key, or of itself in a list.
    pub(crate) line: usize,
    /// What stands there.
    pub(crate) value: Value,
}

/// What stands at a key.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Nothing at all, as after `limits:` with every key below it commented out.
    Empty,
    /// `null` or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number: its text and, if it is whole and fits, its value.
    Number(String, Option<i64>),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order written.
    Map(Vec<(String, Node)>),
    /// Something that has already been reported.
    Bad,
}

impl Node {
    /// The value of a key, if this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// What was found, for the second half of a fault's message. Long text is cut.
    pub(crate) fn found(&self) -> String {
        match &self.value {
            Value::Empty => "nothing".to_owned(),
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(text, _) => text.clone(),
            Value::Text(text) => format!("the text {}", quoted(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
            Value::Bad => "something else".to_owned(),
        }
    }

    /// The same without the text itself: where a mapping or a list belongs, a whole secret may have been pasted.
    pub(crate) fn found_kind(&self) -> String {
        match &self.value {
            Value::Text(_) | Value::Number(..) => "a single value".to_owned(),
            _ => self.found(),
        }
    }
}

/// Text as it may be shown in a message: quoted, control characters escaped, cut after 60 characters.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Reads one file. `None` if it is no YAML at all; the fault has then been pushed.
pub(crate) fn parse(text: &str, file: FileId, faults: &mut Faults) -> Option<Node> {
    let mut duplicates = HashSet::new();
    let documents = match load(text, &mut duplicates) {
        Ok(documents) => documents,
        Err(error) => {
            let place = Place::top(file, error.marker().line());
            faults.push(&place, format!("not valid YAML: {}", error.info()));
            return None;
        }
    };
    if let Some(second) = documents.get(1) {
        let place = Place::top(file, second.span.start.line());
        faults.push(&place, format!("expected one YAML document, found {}", documents.len()));
    }
    let reader = Reader { chars: text.chars().collect(), duplicates };
    let top = Place::top(file, 1);
    match documents.first() {
        // An empty or comment-only file is an empty mapping.
        None => Some(Node { line: 1, value: Value::Empty }),
        Some(document) if matches!(document.data, YamlDataOwned::BadValue) && documents.len() == 1 => {
            Some(Node { line: 1, value: Value::Empty })
        }
        Some(document) => Some(reader.node(document, &top, faults)),
    }
}

/// A key written twice makes the YAML reader stop, and would hide all later faults of the file. So the second
/// one is renamed in place (same length, so that every position still holds) and remembered by position.
fn load(text: &str, duplicates: &mut HashSet<usize>) -> Result<Vec<MarkedYamlOwned>, ScanError> {
    /// More than anybody wants to read at once.
    const MOST: u32 = 200;
    let mut first_error = None;
    let mut chars: Option<Vec<char>> = None;
    loop {
        let loaded = match &chars {
            None => MarkedYamlOwned::load_from_str(text),
            Some(chars) => MarkedYamlOwned::load_from_str(&chars.iter().collect::<String>()),
        };
        let error = match loaded {
            Ok(documents) => return Ok(documents),
            Err(error) => error,
        };
        let index = error.marker().index();
        let is_duplicate = error.info().contains("duplicated key");
        let number = u32::try_from(duplicates.len()).unwrap_or(MOST);
        let chars = chars.get_or_insert_with(|| text.chars().collect());
        let at = index + usize::from(matches!(chars.get(index), Some('"' | '\'')));
        // From the private use area, so that no two renamed keys are the same.
        let unique = char::from_u32(0xE000 + number);
        match (chars.get_mut(at), unique) {
            (Some(slot), Some(unique)) if is_duplicate && number < MOST && duplicates.insert(index) => {
                *slot = unique;
                first_error.get_or_insert(error);
            }
            // A syntax error that only the renaming made is not the operator's: show what came first.
            _ => return Err(first_error.filter(|_| is_duplicate).unwrap_or(error)),
        }
    }
}

/// Turns the YAML reader's tree into ours.
struct Reader {
    chars: Vec<char>,
    duplicates: HashSet<usize>,
}

impl Reader {
    fn node(&self, from: &MarkedYamlOwned, place: &Place, faults: &mut Faults) -> Node {
        let value = match &from.data {
            YamlDataOwned::Value(scalar) => self.scalar(from, scalar),
            YamlDataOwned::Sequence(items) => {
                let item = |(index, item): (usize, &MarkedYamlOwned)| {
                    self.node(item, &place.item(index, item.span.start.line()), faults)
                };
                Value::List(items.iter().enumerate().map(item).collect())
            }
            YamlDataOwned::Mapping(entries) => {
                let mut map = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    map.extend(self.entry(key, value, place, faults));
                }
                Value::Map(map)
            }
            YamlDataOwned::Tagged(..) => {
                faults.push(place, "YAML tags (!…) are not supported");
                Value::Bad
            }
            YamlDataOwned::Representation(..) | YamlDataOwned::Alias(_) | YamlDataOwned::BadValue => {
                faults.push(place, "expected a value, found a tag or an alias that does not fit");
                Value::Bad
            }
        };
        Node { line: place.line, value }
    }

    fn entry(
        &self,
        key: &MarkedYamlOwned,
        value: &MarkedYamlOwned,
        place: &Place,
        faults: &mut Faults,
    ) -> Option<(String, Node)> {
        let line = key.span.start.line();
        let Some(name) = self.key_text(key) else {
            let place = Place { line, ..place.clone() };
            faults.push(&place, "expected a plain text key");
            return None;
        };
        let place = place.key(&name, line);
        if self.duplicates.contains(&key.span.start.index()) {
            faults.push(&place, "this key was already given above");
            return None;
        }
        if name == "<<" {
            faults
                .push(&place, "merge keys are not supported; write the keys out, or use an alias as a value");
            return None;
        }
        let node = self.node(value, &place, faults);
        Some((name, node))
    }

    /// The key as it was written: a duplicate has been renamed in the tree, but not in the text.
    fn key_text(&self, key: &MarkedYamlOwned) -> Option<String> {
        match &key.data {
            YamlDataOwned::Value(ScalarOwned::String(text)) => {
                let renamed = self.duplicates.contains(&key.span.start.index());
                let written = renamed.then(|| self.written(key)).flatten();
                Some(written.map_or_else(|| text.clone(), |text| text.trim_matches(['"', '\'']).to_owned()))
            }
            YamlDataOwned::Value(_) => self.written(key),
            _ => None,
        }
    }

    fn scalar(&self, from: &MarkedYamlOwned, scalar: &ScalarOwned) -> Value {
        // An anchor or tag may stand before the digits. An alias stands where the digits do not: then the value
        // has to tell them, which it can for as many as a price has.
        let digits = |value: String| {
            let text = self.written(from).and_then(|text| text.split_whitespace().last().map(str::to_owned));
            text.filter(|text| !text.starts_with('*')).unwrap_or(value)
        };
        match scalar {
            ScalarOwned::Null if self.written(from).is_some() => Value::Null,
            ScalarOwned::Null => Value::Empty,
            ScalarOwned::Boolean(value) => Value::Bool(*value),
            ScalarOwned::Integer(value) => Value::Number(digits(value.to_string()), Some(*value)),
            ScalarOwned::FloatingPoint(value) => Value::Number(digits(value.to_string()), None),
            ScalarOwned::String(text) => Value::Text(text.clone()),
        }
    }

    fn written(&self, node: &MarkedYamlOwned) -> Option<String> {
        let span = node.span.start.index()..node.span.end.index();
        self.chars.get(span).map(|chars| chars.iter().collect()).filter(|text: &String| !text.is_empty())
    }
}
