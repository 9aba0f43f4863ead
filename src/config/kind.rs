//! The kinds of value that a key can hold. One declaration per key (see `section!`) says its name, kind,
//! default and meaning; reading, the JSON Schema and the reference all follow from it, so they cannot
//! disagree. A default is written as YAML and read by the same code as the operator's text.
//! A value that cannot be read is reported and its default stands in, so that the checks that follow still
//! find what else is wrong; nothing is ever started from such a configuration.

use serde_json::{Value as Json, json};

use super::fault::{At, Faults, Place};
use super::node::{Node, Value, quoted};

/// A kind of value. The types that implement it are declarations and are (sections apart) never built.
pub(crate) trait Kind {
    /// What reading gives.
    type Value;
    /// Reads it, or reports why not.
    fn read(node: &Node, place: &Place, faults: &mut Faults) -> Option<Self::Value>;
    /// How it is described to editors and readers.
    fn shape() -> Shape;
    /// What an absent key means, where it has no default.
    fn absent() -> Option<Self::Value> {
        None
    }
}

/// A description of a kind.
pub(crate) enum Shape {
    /// A single value: its name for readers, its unit if the key's name does not carry it, its JSON Schema.
    Scalar {
        /// E.g. `a whole number from 1 to 256`.
        words: String,
        /// E.g. `EUR per million tokens`.
        unit: Option<&'static str>,
        /// JSON Schema.
        schema: Json,
    },
    /// Either a word or what is inside.
    Or {
        /// For readers.
        words: String,
        /// JSON Schema of the word.
        schema: Json,
        /// The other possibility.
        inner: Box<Shape>,
    },
    /// A list.
    List(Box<Shape>),
    /// A mapping with known keys.
    Section(Vec<Key>),
}

/// A key of a section.
pub(crate) struct Key {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its meaning.
    pub(crate) doc: String,
    /// What holds when it is absent.
    pub(crate) default: Default,
    /// What it can hold.
    pub(crate) shape: Shape,
}

/// What holds when a key is absent.
#[derive(Clone, Copy)]
pub(crate) enum Default {
    /// It must be there.
    Required,
    /// This YAML text.
    Text(&'static str),
    /// No value; in these words.
    Absent(&'static str),
}

/// Declares a section: `name: Kind = default;` for each key, where the default is `required`, a YAML text,
/// or `absent` with the words for what absence means.
macro_rules! section {
    (
        $(#[doc = $title:expr])+
        $name:ident {
            $( $(#[doc = $doc:expr])+ $key:ident : $kind:ty = $mode:tt $($meaning:literal)? ; )+
        }
    ) => {
        $(#[doc = $title])+
        #[derive(Debug)]
        pub(crate) struct $name {
            $( $(#[doc = $doc])+
               pub(crate) $key: $crate::config::fault::At<<$kind as $crate::config::kind::Kind>::Value>, )+
        }

        impl $crate::config::kind::Kind for $name {
            type Value = Self;

            fn read(
                node: &$crate::config::node::Node,
                place: &$crate::config::fault::Place,
                faults: &mut $crate::config::fault::Faults,
            ) -> Option<Self> {
                const KEYS: &[&str] = &[$(stringify!($key)),+];
                $crate::config::kind::expect_section(node, KEYS, place, faults)?;
                $( let $key = $crate::config::kind::key::<$kind>(
                    node, stringify!($key), section!(@default $mode $($meaning)?), place, faults); )+
                Some(Self { $( $key: $key? ),+ })
            }

            fn shape() -> $crate::config::kind::Shape {
                $crate::config::kind::Shape::Section(vec![ $( $crate::config::kind::Key {
                    name: stringify!($key),
                    doc: [$($doc),+].map(str::trim).join(" "),
                    default: section!(@default $mode $($meaning)?),
                    shape: <$kind as $crate::config::kind::Kind>::shape(),
                } ),+ ])
            }
        }
    };
    (@default required) => { $crate::config::kind::Default::Required };
    (@default absent $meaning:literal) => { $crate::config::kind::Default::Absent($meaning) };
    (@default $text:literal) => { $crate::config::kind::Default::Text($text) };
}
pub(crate) use section;

/// Reports what is no mapping and keys that nobody knows. An empty value is an empty mapping.
pub(crate) fn expect_section(node: &Node, keys: &[&str], place: &Place, faults: &mut Faults) -> Option<()> {
    match &node.value {
        Value::Map(entries) => {
            for (name, entry) in entries.iter().filter(|(name, _)| !keys.contains(&name.as_str())) {
                let hint = match nearest(name, keys) {
                    Some(known) => format!("unknown key; did you mean `{known}`?"),
                    None => format!("unknown key; known here are {}", keys.join(", ")),
                };
                faults.push(&place.key(name, entry.line), hint);
            }
            Some(())
        }
        Value::Empty | Value::Null => Some(()),
        Value::Bad => None,
        _ => {
            faults.push(place, format!("expected a mapping with keys, found {}", node.found_kind()));
            None
        }
    }
}

/// Reads one key of a section that `expect_section` has passed.
pub(crate) fn key<K: Kind>(
    section: &Node,
    name: &str,
    default: Default,
    place: &Place,
    faults: &mut Faults,
) -> Option<At<K::Value>> {
    let written = section.get(name);
    let place = place.key(name, written.map_or(section.line, |node| node.line));
    let value = written.and_then(|node| K::read(node, &place, faults));
    let value = value.or_else(|| match default {
        Default::Text(text) => {
            let mut node = default_node(text);
            node.line = place.line;
            K::read(&node, &place, faults)
        }
        Default::Absent(_) => K::absent(),
        Default::Required => {
            if written.is_none() {
                faults.push(&place, "this key is required");
            }
            K::absent()
        }
    });
    value.map(|value| At { value, place })
}

/// A default's YAML text as a tree.
pub(crate) fn default_node(text: &str) -> Node {
    let mut none = Faults::new(std::path::Path::new(""));
    super::node::parse(text, super::fault::FileId(0), &mut none)
        .expect("defaults are part of the program; a test reads each of them")
}

/// The known key that was probably meant: at most a third of its letters differ.
pub(super) fn nearest<'a>(name: &str, keys: &[&'a str]) -> Option<&'a str> {
    // No key is this long; an accident (a pasted text) is not worth comparing.
    let keys = if name.len() > 64 { &[] } else { keys };
    keys.iter()
        .map(|key| (distance(name, key), *key))
        .filter(|(distance, key)| *distance <= key.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
}

/// Edit distance: letters left out, added, changed, or swapped with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        rows[i][0] = i;
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            rows[i][j] = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                rows[i][j] = rows[i][j].min(rows[i - 2][j - 2] + 1);
            }
        }
    }
    rows[a.len()][b.len()]
}

/// A kind that is written as text.
pub(crate) trait Word {
    /// What the text stands for.
    type Value;
    /// A secret's text must not be repeated in a message.
    const HIDDEN: bool = false;
    /// What is expected, for messages and readers.
    fn words() -> String;
    /// JSON Schema.
    fn schema() -> Json {
        json!({ "type": "string", "minLength": 1 })
    }
    /// Parses it; `None` if it is not what `words` says.
    fn parse(text: &str) -> Option<Self::Value>;
}

impl<W: Word> Kind for W {
    type Value = W::Value;

    fn read(node: &Node, place: &Place, faults: &mut Faults) -> Option<W::Value> {
        let hint = match &node.value {
            Value::Bad => return None,
            Value::Text(text) => match W::parse(text) {
                Some(value) => return Some(value),
                None => "",
            },
            Value::Number(text, _) if W::parse(text).is_some() => " (put it in quotes to make it text)",
            _ => "",
        };
        let found = if W::HIDDEN {
            "something else, which is not shown because it may be secret".to_owned()
        } else {
            format!("{}{hint}", node.found())
        };
        faults.push(place, format!("expected {}, found {found}", W::words()));
        None
    }

    fn shape() -> Shape {
        Shape::Scalar { words: W::words(), unit: None, schema: W::schema() }
    }
}

/// Declares a closed set of words.
macro_rules! choice {
    ($(#[doc = $title:expr])+ $name:ident -> $value:ty { $($word:literal => $meaning:expr),+ $(,)? }) => {
        $(#[doc = $title])+
        pub(crate) enum $name {}

        impl $crate::config::kind::Word for $name {
            type Value = $value;

            fn words() -> String {
                format!("one of {}", [$($word),+].join(", "))
            }

            fn schema() -> serde_json::Value {
                serde_json::json!({ "enum": [$($word),+] })
            }

            fn parse(text: &str) -> Option<$value> {
                match text {
                    $($word => Some($meaning),)+
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use choice;

/// A list as it was read.
#[derive(Debug)]
pub(crate) struct Listed<T> {
    /// The items that could be read.
    pub(crate) items: Vec<At<T>>,
    /// Names of the items that could not: they exist, so a reference to one is no second fault.
    pub(crate) lost: Vec<String>,
}

/// A list of anything.
pub(crate) struct List<K>(std::marker::PhantomData<K>);

impl<K: Kind> Kind for List<K> {
    type Value = Listed<K::Value>;

    fn read(node: &Node, place: &Place, faults: &mut Faults) -> Option<Self::Value> {
        let mut listed = Listed { items: Vec::new(), lost: Vec::new() };
        match &node.value {
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    let place = place.item(index, item.line);
                    match K::read(item, &place, faults) {
                        Some(value) => listed.items.push(At { value, place }),
                        None => listed.lost.extend(match item.get("name").map(|name| &name.value) {
                            Some(Value::Text(name)) => Some(name.clone()),
                            _ => None,
                        }),
                    }
                }
                Some(listed)
            }
            Value::Empty | Value::Null => Some(listed),
            Value::Bad => None,
            _ => {
                faults.push(place, format!("expected a list, found {}", node.found_kind()));
                None
            }
        }
    }

    fn shape() -> Shape {
        Shape::List(Box::new(K::shape()))
    }
}

/// Something that may be left out; `null` says so too.
pub(crate) struct Maybe<K>(std::marker::PhantomData<K>);

impl<K: Kind> Kind for Maybe<K> {
    type Value = Option<K::Value>;

    fn read(node: &Node, place: &Place, faults: &mut Faults) -> Option<Self::Value> {
        match &node.value {
            Value::Null => Some(None),
            // `tls:` with nothing below it must not quietly mean cleartext.
            Value::Empty => {
                faults.push(
                    place,
                    "expected a value, found nothing (write `null` for none, `{}` for defaults)",
                );
                None
            }
            _ => K::read(node, place, faults).map(Some),
        }
    }

    fn shape() -> Shape {
        let schema = json!({ "type": "null" });
        Shape::Or { words: "null".to_owned(), schema, inner: Box::new(K::shape()) }
    }

    fn absent() -> Option<Self::Value> {
        Some(None)
    }
}

/// `off`, or what is inside.
pub(crate) struct OrOff<K>(std::marker::PhantomData<K>);

impl<K: Kind> Kind for OrOff<K> {
    type Value = Option<K::Value>;

    fn read(node: &Node, place: &Place, faults: &mut Faults) -> Option<Self::Value> {
        match &node.value {
            Value::Text(text) if text == "off" => Some(None),
            Value::Text(text) => {
                faults.push(
                    place,
                    format!("expected `off` or a mapping with keys, found the text {}", quoted(text)),
                );
                None
            }
            _ => K::read(node, place, faults).map(Some),
        }
    }

    fn shape() -> Shape {
        let schema = json!({ "const": "off" });
        Shape::Or { words: "off".to_owned(), schema, inner: Box::new(K::shape()) }
    }
}

/// A value whose fault is not covered by its default, and (if it is required) does not lose the section around it:
/// the rest is still checked, and nothing is concluded from what could not be read.
pub(crate) struct Tried<K>(std::marker::PhantomData<K>);

impl<K: Kind> Kind for Tried<K> {
    type Value = Option<K::Value>;

    fn read(node: &Node, place: &Place, faults: &mut Faults) -> Option<Self::Value> {
        Some(K::read(node, place, faults))
    }

    fn shape() -> Shape {
        K::shape()
    }

    fn absent() -> Option<Self::Value> {
        Some(None)
    }
}
