//! `models.yaml`: one name for one model, dates in order, successors that exist and end somewhere.

use std::collections::HashMap;

use super::Unique;
use crate::config::fault::{At, Faults};
use crate::config::kind::Listed;
use crate::config::schema::catalogue as schema;
use crate::config::settings::{Model, Prices};

/// The names that clients and other files may use for a model.
pub(super) struct Names {
    /// Catalogue names, those of models that could not be read included.
    models: Vec<String>,
    /// Alias → catalogue name.
    aliases: HashMap<String, String>,
}

impl Names {
    /// Collects all names and reports those that mean two things.
    pub(super) fn collect(list: &Listed<schema::Model>, faults: &mut Faults) -> Self {
        let mut unique = Unique::default();
        for model in &list.items {
            unique.take("the name", &model.value.name, faults);
        }
        let mut names =
            Self { models: super::names_of(list, |model| &model.name.value), aliases: HashMap::new() };
        // After all names, so that an alias is told which model it hides wherever that stands.
        for model in &list.items {
            for alias in &model.value.aliases.value.items {
                unique.take("the name", alias, faults);
                names.aliases.insert(alias.value.clone(), model.value.name.value.clone());
            }
        }
        names
    }

    /// Reports a name that means no model. A pattern may match none: the models it is meant for may come later.
    pub(super) fn expect_match(&self, pattern: &At<String>, faults: &mut Faults) {
        if pattern.value.contains('*') || self.has(&pattern.value) {
            return;
        }
        let words = match self.aliases.get(&pattern.value) {
            Some(model) => format!("expected a catalogue name, found an alias of {model:?}"),
            None => format!("no model of models.yaml is called {:?}", pattern.value),
        };
        faults.push(&pattern.place, words);
    }

    fn has(&self, name: &str) -> bool {
        self.models.iter().any(|model| model == name)
    }
}

/// Checks and converts the catalogue.
pub(super) fn models(list: Listed<schema::Model>, names: &Names, faults: &mut Faults) -> Vec<Model> {
    let successors: HashMap<String, String> = list
        .items
        .iter()
        .filter_map(|model| {
            let successor = model.value.successor.value.clone()?;
            Some((model.value.name.value.clone(), successor))
        })
        .collect();
    list.items.into_iter().map(|model| one(model.value, names, &successors, faults)).collect()
}

fn one(
    model: schema::Model,
    names: &Names,
    successors: &HashMap<String, String>,
    faults: &mut Faults,
) -> Model {
    successor(&model, names, successors, faults);
    dates(&model, faults);
    let prices = &model.prices.value;
    Model {
        prices: Prices {
            input_micro_eur: prices.input.value,
            output_micro_eur: prices.output.value,
            reasoning_micro_eur: prices.reasoning.value,
        },
        name: model.name.value,
        aliases: model.aliases.value.items.into_iter().map(|alias| alias.value).collect(),
        publisher: model.publisher.value,
        launched: model.launched.value,
        deprecated: model.deprecated.value,
        end_of_support: model.end_of_support.value,
        successor: model.successor.value,
        context_length: model.context_length.value,
        scan: super::scan::change(model.scan.value, faults),
        energy_kwh_per_million: model.energy_kwh_per_million.value,
    }
}

fn successor(
    model: &schema::Model,
    names: &Names,
    successors: &HashMap<String, String>,
    faults: &mut Faults,
) {
    let At { value: Some(successor), place } = &model.successor else { return };
    if !names.has(successor) {
        let words = match names.aliases.get(successor) {
            Some(name) => format!("expected a catalogue name, found an alias of {name:?}"),
            None => format!("no model of models.yaml is called {successor:?}"),
        };
        faults.push(place, words);
        return;
    }
    // Each step is to another model or we are back; more steps than models is a circle that we are not on.
    let own = &model.name.value;
    let mut next = Some(successor);
    for _ in 0..=successors.len() {
        match next {
            Some(name) if name == own => {
                faults.push(place, format!("the successors of {own:?} lead back to it"));
                return;
            }
            Some(name) => next = successors.get(name),
            None => return,
        }
    }
}

fn dates(model: &schema::Model, faults: &mut Faults) {
    let dates = [
        ("launched", &model.launched),
        ("deprecated", &model.deprecated),
        ("end_of_support", &model.end_of_support),
    ];
    let mut earlier = None;
    for (name, date) in dates {
        let Some(day) = date.value else { continue };
        if let Some((before, limit)) = earlier
            && day < limit
        {
            faults.push(&date.place, format!("{name} is {day}, which is before {before} ({limit})"));
        }
        earlier = Some((name, day));
    }
}
