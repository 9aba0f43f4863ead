//! `models.yaml`: one name for one model, dates in order, successors that exist and end somewhere.

use std::collections::HashMap;

use tollgate_filters::tokenizer::chat::Overhead;
use tollgate_filters::tokenizer::image::ImageRule;

use super::Unique;
use crate::config::fault::{At, Faults};
use crate::config::kind::Listed;
use crate::config::schema::catalogue as schema;
use crate::config::secret::Sources;
use crate::config::settings::{DatedPrices, Model, ModelTokenizer, PriceList, Prices};
use crate::tokenizers::{self, TokenizerSource};

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
pub(super) fn models(
    list: Listed<schema::Model>,
    names: &Names,
    sources: &Sources<'_>,
    faults: &mut Faults,
) -> Vec<Model> {
    let mut tokenizers = Tokenizers::default();
    let successors: HashMap<String, String> = list
        .items
        .iter()
        .filter_map(|model| {
            let successor = model.value.successor.value.clone()?;
            Some((model.value.name.value.clone(), successor))
        })
        .collect();
    list.items
        .into_iter()
        .map(|model| one(model.value, names, &successors, (sources, &mut tokenizers), faults))
        .collect()
}

fn one(
    model: schema::Model,
    names: &Names,
    successors: &HashMap<String, String>,
    (sources, tokenizers): (&Sources<'_>, &mut Tokenizers),
    faults: &mut Faults,
) -> Model {
    successor(&model, names, successors, faults);
    dates(&model, faults);
    let images = &model.images.value;
    Model {
        tokenizer: tokenizers.load(&model.tokenizer, sources, faults),
        chat_template: model.chat_template.value.as_ref().map(|template| Overhead {
            request: template.request.value,
            message: template.message.value,
            tools: template.tools.value,
        }),
        images: ImageRule {
            tokens: images.tokens.value,
            tile_px: images.tile_px.value,
            tile_tokens: images.tile_tokens.value,
            fit_px: images.fit_px.value,
        },
        prices: prices(&model.prices, faults),
        name: model.name.value,
        aliases: model.aliases.value.items.into_iter().map(|alias| alias.value).collect(),
        publisher: model.publisher.value,
        launched: model.launched.value,
        deprecated: model.deprecated.value,
        end_of_support: model.end_of_support.value,
        successor: model.successor.value,
        context_length: model.context_length.value,
        scan: super::scan::change(model.scan.value, faults),
        energy_micro_kwh: model.energy_kwh_per_million.value,
    }
}

/// The tokenizers of a catalogue. What two models name alike is read once, and what is wrong with it said once.
#[derive(Default)]
struct Tokenizers {
    loaded: Vec<(TokenizerSource, Option<ModelTokenizer>)>,
}

impl Tokenizers {
    fn load(
        &mut self,
        written: &At<Option<TokenizerSource>>,
        sources: &Sources<'_>,
        faults: &mut Faults,
    ) -> Option<ModelTokenizer> {
        let source = written.value.as_ref()?;
        if let Some((_, known)) = self.loaded.iter().find(|(known, _)| known == source) {
            return known.clone();
        }
        let loaded = faults.keep(&written.place, tokenizers::load(source, sources.dir));
        let loaded = loaded.map(|tokenizer| ModelTokenizer { name: source.to_string(), tokenizer });
        self.loaded.push((source.clone(), loaded.clone()));
        loaded
    }
}

fn prices(list: &At<Listed<schema::Prices>>, faults: &mut Faults) -> PriceList {
    let dated = |prices: &schema::Prices| DatedPrices {
        from: prices.from.value,
        prices: Prices {
            input_micro_eur: prices.input.value,
            output_micro_eur: prices.output.value,
            reasoning_micro_eur: prices.reasoning.value,
        },
    };
    let items = &list.value.items;
    if items.is_empty() && !faults.has_below(&list.place) {
        faults.push(&list.place, "expected at least one set of prices, found none");
    }
    let mut before: Option<chrono::NaiveDate> = None;
    for (index, item) in items.iter().enumerate() {
        let from = &item.value.from;
        match (from.value, before) {
            // Not where it was tried: that is reported already.
            (None, _) if index > 0 && !faults.has_below(&from.place) => {
                faults.push(
                    &from.place,
                    "expected the first day of these prices, since others hold before them",
                );
            }
            (Some(day), Some(before)) if day <= before => {
                faults.push(&from.place, format!("expected a day after {before}, found {day}"));
            }
            _ => {}
        }
        before = from.value.or(before);
    }
    let mut dated = items.iter().map(|item| dated(&item.value));
    // Without any there is a fault, and nothing is started.
    let free = Prices { input_micro_eur: 0, output_micro_eur: 0, reasoning_micro_eur: 0 };
    let first = dated.next().unwrap_or(DatedPrices { from: None, prices: free });
    PriceList { first, later: dated.collect() }
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
