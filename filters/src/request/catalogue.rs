//! Name → model. A client may use a model's own name or an alias; what it may see depends on its key and on
//! the day. A model that a key may not use answers exactly as one that does not exist.
//!
//! Cost: one hash lookup; no lock, no allocation.

use std::collections::HashMap;
use std::sync::Arc;

use crate::refusal::Refusal;
use crate::request::auth::Principal;
use crate::units::Day;

/// What the catalogue knows of a model that decides whether it may be used.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The catalogue name.
    pub name: Arc<str>,
    /// Other names.
    pub aliases: Vec<String>,
    /// First day of use.
    pub launched: Option<Day>,
    /// Last day of use, and how to write it.
    pub end_of_support: Option<(Day, String)>,
    /// What to use instead.
    pub successor: Option<String>,
    /// Tokens of prompt and answer together.
    pub context_length: Option<u64>,
}

/// All models, by every name.
#[derive(Debug)]
pub struct Catalogue {
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
}

impl Catalogue {
    /// Models in order; the position of a model is its index everywhere.
    #[must_use]
    pub fn new(entries: Vec<Entry>) -> Self {
        let names = |(index, entry): (usize, &Entry)| {
            let own = std::iter::once(entry.name.to_string());
            own.chain(entry.aliases.iter().cloned()).map(move |name| (name, index)).collect::<Vec<_>>()
        };
        let by_name = entries.iter().enumerate().flat_map(names).collect();
        Self { entries, by_name }
    }

    /// The model called `name`, if `principal` may use it on `today`: its index.
    ///
    /// # Errors
    /// [`Refusal::ModelNotFound`] or [`Refusal::ModelRetired`].
    pub fn find(&self, name: &str, principal: &Principal, today: Day) -> Result<usize, Refusal> {
        let visible = self.by_name.get(name).copied().filter(|&index| {
            let is_allowed = principal.may_use.get(index).copied().unwrap_or(false);
            is_allowed && self.entries[index].launched.is_none_or(|first| first <= today)
        });
        let Some(index) = visible else { return Err(Refusal::ModelNotFound(name.to_owned())) };
        match &self.entries[index].end_of_support {
            Some((last, written)) if *last < today => Err(Refusal::ModelRetired {
                model: name.to_owned(),
                since: written.clone(),
                successor: self.entries[index].successor.clone(),
            }),
            _ => Ok(index),
        }
    }

    /// The models that `principal` may use on `today`, in catalogue order.
    pub fn usable<'a>(
        &'a self,
        principal: &'a Principal,
        today: Day,
    ) -> impl Iterator<Item = (usize, &'a Entry)> {
        self.entries
            .iter()
            .enumerate()
            .filter(move |(_, entry)| self.find(&entry.name, principal, today).is_ok())
    }

    /// The model at `index`.
    #[must_use]
    pub fn entry(&self, index: usize) -> &Entry {
        &self.entries[index]
    }
}

/// Whether `name` fits `pattern`, in which `*` stands for any run of characters.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(between) = last.replace(part) {
            let Some(at) = rest.find(between) else { return false };
            rest = &rest[at + between.len()..];
        }
    }
    last.map_or(rest.is_empty(), |end| rest.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::EndpointSet;

    const TODAY: Day = Day(100);

    fn catalogue() -> (Catalogue, Principal) {
        let entry = |name: &str, launched, end: Option<i32>| Entry {
            name: name.into(),
            aliases: vec![format!("{name}-alias")],
            launched: Some(Day(launched)),
            end_of_support: end.map(|day| (Day(day), format!("day {day}"))),
            successor: Some("next".to_owned()),
            context_length: None,
        };
        let entries = vec![
            entry("now", 1, None),
            entry("last-day", 1, Some(100)),
            entry("ended", 1, Some(99)),
            entry("soon", 101, None),
            entry("hidden", 1, Some(99)),
        ];
        let principal = Principal {
            tenant: "t".into(),
            tenant_index: 0,
            tier_index: 0,
            key_id: "k".into(),
            may_use: [true, true, true, true, false].into(),
            endpoints: EndpointSet::ALL,
            networks: [[].into(), [].into()],
        };
        (Catalogue::new(entries), principal)
    }

    #[test]
    fn a_model_is_found_by_any_name_if_day_and_key_allow() {
        let (catalogue, principal) = catalogue();
        for (name, expected) in [
            ("now", Ok(0)),
            ("now-alias", Ok(0)),
            ("last-day", Ok(1)),
            ("ended", Err("model_retired")),
            ("soon", Err("model_not_found")),
            ("hidden", Err("model_not_found")),
            ("nothing", Err("model_not_found")),
            ("Now", Err("model_not_found")),
        ] {
            let found = catalogue.find(name, &principal, TODAY).map_err(|refusal| refusal.answer().code);
            assert_eq!(found, expected, "{name}");
        }
        let usable: Vec<_> = catalogue.usable(&principal, TODAY).map(|(index, _)| index).collect();
        assert_eq!(usable, [0, 1]);
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("*", "anything", true),
            ("gemma3:*", "gemma3:27b", true),
            ("gemma3:*", "gemma2:27b", false),
            ("*:27b", "gemma3:27b", true),
            ("g*3:*b", "gemma3:27b", true),
            ("gemma3:27b", "gemma3:27b", true),
            ("gemma3", "gemma3:27b", false),
            ("a*a", "a", false),
            ("a**b", "ab", true),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
