//! Rule packs: YAML files that say which words speak of what (`concepts`) and which of them together make an
//! attack (`rules`). A pack is parsed alone ([`Pack::parse`]) and then linked with the others ([`Packs::link`]),
//! since a concept belongs to all of them and any pack may add words to it.
//!
//! Everything that is wrong is reported at once, each with file, line and key path: a pack is written by people
//! who read the whole list, and a rule that loads only in part would be a hole nobody sees. So unknown keys,
//! unknown languages and rules without examples are faults, not warnings.
//!
//! What words mean (how a text is compared with an atom, when a rule fires) is written down in
//! [`super::pattern`]; here it is only read.

mod link;
mod node;
mod read;
mod words;

use std::fmt;

pub use link::Packs;
pub(crate) use link::{LinkedAtom, LinkedRule, Trigger};
pub use words::{Languages, Roles, Views};

use super::{Category, Severity};
use node::Place;

/// Concepts that one rule may name. The proximity matcher keeps a set of reached combinations in one word.
pub(crate) const MAX_CONCEPTS: usize = 6;

/// The default of `gap`, in characters: about seven words.
const DEFAULT_GAP: u32 = 40;

/// The largest `gap`. Farther apart, two words of one attack are no longer told from two of an essay.
const MAX_GAP: i64 = 400;

/// One file of rules, as it was written.
#[derive(Debug, Clone)]
pub struct Pack {
    file: String,
    name: String,
    name_place: Place,
    concepts: Vec<ConceptPart>,
    rules: Vec<Rule>,
}

impl Pack {
    /// Reads one pack. `file_name` is used in messages only.
    ///
    /// # Errors
    /// Every fault of the file, in its order.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, Vec<PackFault>> {
        read::pack(file_name, text)
    }

    /// Its unique name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The words one pack gives to one concept.
#[derive(Debug, Clone)]
struct ConceptPart {
    name: String,
    atoms: Vec<Atom>,
}

/// A word or phrase as written, with `*` where an end is open.
#[derive(Debug, Clone)]
struct Atom {
    text: String,
    languages: Languages,
    place: Place,
}

/// A rule as written.
#[derive(Debug, Clone)]
struct Rule {
    place: Place,
    id: String,
    category: Category,
    severity: Severity,
    languages: Option<(Languages, Place)>,
    views: Views,
    roles: Roles,
    condition: Condition,
    reason: String,
    examples: Vec<Example>,
}

/// What makes a rule fire.
#[derive(Debug, Clone)]
enum Condition {
    All {
        concepts: Vec<(String, Place)>,
        unless: Vec<(String, Place)>,
        except: Vec<(String, Place)>,
        /// In these languages the order counts.
        ordered: Languages,
        gap: u32,
    },
    Pattern {
        text: String,
        /// The concept at whose atoms it is looked for, and where from there.
        near: Option<((String, Place), Reach)>,
    },
}

/// Where a pattern is looked for, from an atom on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reach {
    /// So many characters to either side.
    Around(u32),
    /// It begins where the atom does.
    From,
}

/// A text that a rule must find, or must not.
#[derive(Debug, Clone)]
pub(crate) struct Example {
    /// The text.
    pub(crate) text: String,
    /// Whether the rule must find it.
    pub(crate) must_match: bool,
    place: Place,
}

/// One thing that is wrong with a rule pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackFault {
    /// The file, as it was named to [`Pack::parse`].
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Key path, e.g. `rules[3].severity`; empty for the file as a whole.
    pub path: String,
    /// What was expected and what was found.
    pub message: String,
}

impl fmt::Display for PackFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: ", self.file, self.line)?;
        if !self.path.is_empty() {
            write!(out, "{}: ", self.path)?;
        }
        out.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests;
