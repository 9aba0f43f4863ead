//! The text of `/metrics`, read as Prometheus reads it.

use std::collections::{BTreeMap, BTreeSet};

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// Everything that one scrape gave.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    pub(crate) samples: Vec<Sample>,
    /// Families with a `# TYPE` line.
    pub(crate) typed: BTreeMap<String, String>,
    /// Families with a `# HELP` line.
    pub(crate) explained: BTreeSet<String>,
}

impl Metrics {
    /// Reads the text format 0.0.4; a panic names the line that is not in it.
    pub(crate) fn parse(text: &str) -> Self {
        let mut metrics = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no type in {line:?}"));
                let earlier = metrics.typed.insert(name.to_owned(), kind.to_owned());
                assert_eq!(earlier, None, "{name} has two # TYPE lines");
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help in {line:?}"));
                assert!(help.len() > 4, "{name} explains nothing");
                metrics.explained.insert(name.to_owned());
            } else if !line.starts_with('#') {
                metrics.samples.push(sample(line));
            }
        }
        metrics
    }

    /// Sum of the samples of this name that carry all these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let carries = |sample: &&Sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(*key).is_some_and(|found| found == value))
        };
        self.samples.iter().filter(carries).map(|sample| sample.value).sum()
    }

    /// Sum of all samples whose name contains `part`.
    pub(crate) fn sum_like(&self, part: &str) -> f64 {
        self.samples.iter().filter(|sample| sample.name.contains(part)).map(|sample| sample.value).sum()
    }
}

fn sample(line: &str) -> Sample {
    let wrong = || -> ! { panic!("not a sample: {line:?}") };
    let name_end = line.find(['{', ' ']).unwrap_or_else(|| wrong());
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"").unwrap_or_else(|| wrong());
            let (value, after) = quoted(after).unwrap_or_else(|| wrong());
            assert_eq!(labels.insert(key.to_owned(), value), None, "label {key} twice in {line:?}");
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next().unwrap_or_else(|| wrong());
    let value = value.replace("+Inf", "inf").parse().unwrap_or_else(|_| wrong());
    Sample { name: name.to_owned(), labels, value }
}

/// The text up to the closing quote, and what follows the quote.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match letters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}
