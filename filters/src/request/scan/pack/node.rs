//! A pack's YAML as a tree whose every value knows its line and key path, and the few ways to read a value out
//! of it. A value that does not fit is reported and left out, so that reading goes on to the next fault.

use saphyr::{LoadableYamlNode, MarkedYamlOwned, ScalarOwned, YamlDataOwned};

use super::PackFault;

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Line, from 1.
    pub(super) line: usize,
    /// Key path, e.g. `rules[3].severity`.
    pub(super) path: String,
}

/// A value and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'y> {
    yaml: &'y MarkedYamlOwned,
}

/// The entries of one mapping that have not been read yet. What remains is unknown.
pub(super) struct Map<'y> {
    /// Where the mapping stands.
    pub(super) place: Place,
    entries: Vec<(String, Place, Node<'y>)>,
}

/// The faults of one file.
pub(super) struct Faults<'f> {
    file: &'f str,
    /// In the order of the file.
    pub(super) list: Vec<PackFault>,
}

impl<'f> Faults<'f> {
    pub(super) fn new(file: &'f str) -> Self {
        Self { file, list: Vec::new() }
    }

    pub(super) fn push(&mut self, place: &Place, message: impl Into<String>) {
        let Place { line, path } = place.clone();
        self.list.push(PackFault { file: self.file.to_owned(), line, path, message: message.into() });
    }

    fn expected(&mut self, place: &Place, what: &str, node: Node<'_>) {
        self.push(place, format!("expected {what}, found {}", node.found()));
    }
}

/// Reads the one document of a file.
pub(super) fn load(text: &str, faults: &mut Faults<'_>) -> Option<MarkedYamlOwned> {
    let top = |line| Place { line, path: String::new() };
    match MarkedYamlOwned::load_from_str(text) {
        Ok(documents) if documents.len() > 1 => {
            faults.push(&top(1), format!("expected one YAML document, found {}", documents.len()));
            None
        }
        Ok(documents) => {
            let first = documents.into_iter().next();
            if first.is_none() {
                faults.push(&top(1), "expected a rule pack, found an empty file");
            }
            first
        }
        Err(error) => {
            faults.push(&top(error.marker().line()), format!("not valid YAML: {}", error.info()));
            None
        }
    }
}

impl<'y> Node<'y> {
    pub(super) fn new(yaml: &'y MarkedYamlOwned) -> Self {
        Self { yaml }
    }

    fn line(self) -> usize {
        self.yaml.span.start.line()
    }

    /// What was found, for the second half of a message.
    fn found(self) -> String {
        match &self.yaml.data {
            YamlDataOwned::Value(ScalarOwned::Null) => "nothing".to_owned(),
            YamlDataOwned::Value(ScalarOwned::Boolean(value)) => value.to_string(),
            YamlDataOwned::Value(ScalarOwned::Integer(value)) => value.to_string(),
            YamlDataOwned::Value(ScalarOwned::FloatingPoint(value)) => value.to_string(),
            YamlDataOwned::Value(ScalarOwned::String(text)) => quoted(text),
            YamlDataOwned::Sequence(_) => "a list".to_owned(),
            YamlDataOwned::Mapping(_) => "a mapping".to_owned(),
            _ => "a tag or an alias that does not fit".to_owned(),
        }
    }

    /// As a mapping with text keys.
    pub(super) fn map(self, place: &Place, faults: &mut Faults<'_>) -> Option<Map<'y>> {
        let YamlDataOwned::Mapping(pairs) = &self.yaml.data else {
            faults.expected(place, "a mapping", self);
            return None;
        };
        let mut entries = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            let line = key.span.start.line();
            let YamlDataOwned::Value(ScalarOwned::String(name)) = &key.data else {
                faults.expected(&Place { line, path: place.path.clone() }, "a text key", Node::new(key));
                continue;
            };
            let dot = if place.path.is_empty() { "" } else { "." };
            let at = Place { line, path: format!("{}{dot}{name}", place.path) };
            entries.push((name.clone(), at, Node::new(value)));
        }
        Some(Map { place: place.clone(), entries })
    }

    /// As a list.
    pub(super) fn list(self, place: &Place, faults: &mut Faults<'_>) -> Vec<(Place, Node<'y>)> {
        let YamlDataOwned::Sequence(items) = &self.yaml.data else {
            faults.expected(place, "a list", self);
            return Vec::new();
        };
        let item = |(index, yaml): (usize, &'y MarkedYamlOwned)| {
            let node = Node::new(yaml);
            (Place { line: node.line(), path: format!("{}[{index}]", place.path) }, node)
        };
        items.iter().enumerate().map(item).collect()
    }

    /// As text with something in it.
    pub(super) fn text(self, place: &Place, faults: &mut Faults<'_>) -> Option<&'y str> {
        match &self.yaml.data {
            YamlDataOwned::Value(ScalarOwned::String(text)) if !text.trim().is_empty() => Some(text),
            YamlDataOwned::Value(ScalarOwned::Integer(_) | ScalarOwned::Boolean(_)) => {
                faults.expected(place, "text (in quotes if it looks like something else)", self);
                None
            }
            _ => {
                faults.expected(place, "text", self);
                None
            }
        }
    }

    /// As a whole number.
    pub(super) fn number(self, place: &Place, faults: &mut Faults<'_>) -> Option<i64> {
        match &self.yaml.data {
            YamlDataOwned::Value(ScalarOwned::Integer(value)) => Some(*value),
            _ => {
                faults.expected(place, "a whole number", self);
                None
            }
        }
    }

    /// As a word of a closed list.
    pub(super) fn word<T>(
        self,
        place: &Place,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
        faults: &mut Faults<'_>,
    ) -> Option<T> {
        let word = match &self.yaml.data {
            YamlDataOwned::Value(ScalarOwned::String(text)) => parse(text),
            _ => None,
        };
        if word.is_none() {
            faults.expected(place, expected, self);
        }
        word
    }
}

impl<'y> Map<'y> {
    /// Takes a key's value out.
    pub(super) fn take(&mut self, key: &str) -> Option<(Place, Node<'y>)> {
        let index = self.entries.iter().position(|(name, ..)| name == key)?;
        let (_, place, node) = self.entries.remove(index);
        Some((place, node))
    }

    /// Takes the value of a key that has to be there.
    pub(super) fn need(&mut self, key: &str, faults: &mut Faults<'_>) -> Option<(Place, Node<'y>)> {
        let taken = self.take(key);
        if taken.is_none() {
            faults.push(&self.place, format!("expected a key `{key}`"));
        }
        taken
    }

    /// Takes everything, for mappings whose keys are names.
    pub(super) fn take_all(&mut self) -> Vec<(String, Place, Node<'y>)> {
        std::mem::take(&mut self.entries)
    }

    /// Reports the keys that nobody took.
    pub(super) fn refuse_rest(self, known: &str, faults: &mut Faults<'_>) {
        for (_, place, _) in &self.entries {
            faults.push(place, format!("unknown key; the keys here are {known}"));
        }
    }
}

/// Text as it may be shown in a message: quoted, control characters escaped, cut after 60 characters.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
