//! YAML tree → [`Pack`]. One function a mapping, each reading its keys in the order of the documentation.

use super::node::{self, Faults, Map, Node, Place};
use super::words::{self, Languages, Roles, Views};
use super::{
    Atom, ConceptPart, Condition, DEFAULT_GAP, Example, MAX_CONCEPTS, MAX_GAP, Pack, PackFault, Reach, Rule,
};
use crate::request::scan::Category;

pub(super) fn pack(file: &str, text: &str) -> Result<Pack, Vec<PackFault>> {
    let mut faults = Faults::new(file);
    let pack = node::load(text, &mut faults).and_then(|yaml| read_pack(file, Node::new(&yaml), &mut faults));
    match pack {
        Some(pack) if faults.list.is_empty() => Ok(pack),
        _ => {
            faults.list.sort_by_key(|fault| fault.line);
            Err(faults.list)
        }
    }
}

fn read_pack(file: &str, node: Node<'_>, faults: &mut Faults<'_>) -> Option<Pack> {
    let mut map = node.map(&Place { line: 1, path: String::new() }, faults)?;
    let name = map.need("pack", faults).and_then(|(place, node)| {
        let name = node.text(&place, faults)?.to_owned();
        Some((name, place))
    });
    let mut concepts = Vec::new();
    if let Some((place, node)) = map.take("concepts") {
        for (name, place, node) in node.map(&place, faults).map_or_else(Vec::new, |mut map| map.take_all()) {
            concepts.extend(concept(name, &place, node, faults));
        }
    }
    let mut rules = Vec::new();
    if let Some((place, node)) = map.take("rules") {
        for (place, node) in node.list(&place, faults) {
            rules.extend(node.map(&place, faults).and_then(|map| rule(map, faults)));
        }
    }
    map.refuse_rest("pack, concepts, rules", faults);
    let (name, name_place) = name?;
    Some(Pack { file: file.to_owned(), name, name_place, concepts, rules })
}

fn concept(name: String, place: &Place, node: Node<'_>, faults: &mut Faults<'_>) -> Option<ConceptPart> {
    let mut atoms = Vec::new();
    for (code, place, node) in node.map(place, faults)?.take_all() {
        let languages = match code.as_str() {
            "any" => Some(Languages::ANY),
            code => Languages::from_code(code),
        };
        let Some(languages) = languages else {
            faults.push(&place, format!("expected `any` or one of {}", Languages::known()));
            continue;
        };
        for (place, node) in node.list(&place, faults) {
            let text = node.text(&place, faults).map(str::to_owned);
            atoms.extend(text.map(|text| Atom { text, languages, place }));
        }
    }
    Some(ConceptPart { name, atoms })
}

fn rule(mut map: Map<'_>, faults: &mut Faults<'_>) -> Option<Rule> {
    let place = map.place.clone();
    let id = map.need("id", faults).and_then(|(at, node)| node.word(&at, ID, rule_id, faults));
    let category = map.need("category", faults).and_then(|(at, node)| {
        let known = Category::ALL.map(Category::name).join(", ");
        node.word(&at, &format!("one of {known}"), Category::from_name, faults)
    });
    let severity = map
        .need("severity", faults)
        .and_then(|(at, node)| node.word(&at, "low, medium or high", words::severity, faults));
    let languages = map.take("languages").map(|(at, node)| {
        let codes = words_of(&at, node, &Languages::known(), Languages::from_code, faults);
        (codes.into_iter().fold(Languages::NONE, Languages::or), at)
    });
    let views = map.take("views").map_or(Views::ALL, |(at, node)| {
        let views = words_of(&at, node, "raw, normalised, folded, decoded", words::view, faults);
        views.into_iter().fold(Views::NONE, Views::with)
    });
    let roles = map.take("roles").map_or(Roles::ALL, |(at, node)| {
        let roles = words_of(&at, node, "user, tool, assistant, system, output", words::role, faults);
        roles.into_iter().fold(Roles::NONE, Roles::with)
    });
    let condition = condition(&mut map, faults);
    let reason = map.need("reason", faults).and_then(|(at, node)| node.text(&at, faults).map(str::to_owned));
    let mut examples = Vec::new();
    for (key, must_match) in [("match", true), ("pass", false)] {
        let Some((at, node)) = map.need(key, faults) else { continue };
        let list = node.list(&at, faults);
        if list.is_empty() {
            faults.push(&at, "expected at least one example");
        }
        for (place, node) in list {
            let text = node.text(&place, faults).map(str::to_owned);
            examples.extend(text.map(|text| Example { text, must_match, place }));
        }
    }
    map.refuse_rest(
        "id, category, severity, languages, views, roles, all, order, order_by_language, gap, unless, except, pattern, \
         near, begin, reason, match, pass",
        faults,
    );
    let (id, category, severity) = (id?, category?, severity?);
    let (condition, reason) = (condition?, reason?);
    Some(Rule { place, id, category, severity, languages, views, roles, condition, reason, examples })
}

fn condition(map: &mut Map<'_>, faults: &mut Faults<'_>) -> Option<Condition> {
    match (map.take("all"), map.take("pattern")) {
        (Some(all), None) => proximity(all, map, faults),
        (None, Some((at, node))) => {
            for key in ["order", "order_by_language", "unless", "except"] {
                if let Some((at, _)) = map.take(key) {
                    faults.push(&at, "goes with `all` only; say it in the pattern");
                }
            }
            let given = map.take("gap");
            let gap = gap(given.clone(), faults);
            let mut at_atoms = |key: &str, reach: Reach, faults: &mut Faults<'_>| {
                let (at, node) = map.take(key)?;
                let name = node.text(&at, faults)?.to_owned();
                Some(((name, at), reach))
            };
            let around = at_atoms("near", Reach::Around(gap), faults);
            let from = at_atoms("begin", Reach::From, faults);
            if let (Some(_), Some(((_, at), _))) = (&around, &from) {
                faults.push(at, "goes without `near`: the pattern is looked for here and nowhere else");
            }
            if around.is_none()
                && let Some((at, _)) = given
            {
                faults.push(&at, "goes with `all`, or with `near` beside a pattern");
            }
            let text = node.text(&at, faults)?.to_owned();
            Some(Condition::Pattern { text, near: around.or(from) })
        }
        (Some(_), Some((at, _))) => {
            faults.push(&at, "expected either `all` or `pattern`, found both");
            None
        }
        (None, None) => {
            faults.push(&map.place, "expected a key `all` or `pattern`");
            None
        }
    }
}

fn proximity(all: (Place, Node<'_>), map: &mut Map<'_>, faults: &mut Faults<'_>) -> Option<Condition> {
    let concepts = names(&all.0, all.1, faults);
    if concepts.is_empty() || concepts.len() > MAX_CONCEPTS {
        faults.push(&all.0, format!("expected 1 to {MAX_CONCEPTS} concepts, found {}", concepts.len()));
    }
    let mut ordered = Languages::NONE;
    if let Some((at, node)) = map.take("order")
        && node.word(&at, ORDER, is_given, faults) == Some(true)
    {
        ordered = Languages::ANY;
    }
    if let Some((at, node)) = map.take("order_by_language") {
        for (code, at, node) in node.map(&at, faults).map_or_else(Vec::new, |mut map| map.take_all()) {
            let Some(language) = Languages::from_code(&code) else {
                faults.push(&at, format!("expected one of {}", Languages::known()));
                continue;
            };
            match node.word(&at, ORDER, is_given, faults) {
                Some(true) => ordered = ordered.or(language),
                Some(false) => ordered = ordered.without(language),
                None => {}
            }
        }
    }
    let gap = gap(map.take("gap"), faults);
    let unless = map.take("unless").map_or_else(Vec::new, |(at, node)| names(&at, node, faults));
    let except = map.take("except").map_or_else(Vec::new, |(at, node)| names(&at, node, faults));
    Some(Condition::All { concepts, unless, except, ordered, gap })
}

fn gap(given: Option<(Place, Node<'_>)>, faults: &mut Faults<'_>) -> u32 {
    let gap = given.and_then(|(at, node)| {
        let gap = node.number(&at, faults)?;
        if !(1..=MAX_GAP).contains(&gap) {
            faults.push(&at, format!("expected 1 to {MAX_GAP} characters, found {gap}"));
        }
        u32::try_from(gap).ok()
    });
    gap.unwrap_or(DEFAULT_GAP)
}

const ORDER: &str = "given or any";

fn is_given(word: &str) -> Option<bool> {
    match word {
        "given" => Some(true),
        "any" => Some(false),
        _ => None,
    }
}

const ID: &str = "a name of lower-case letters, digits, `.`, `-` and `_`";

fn rule_id(id: &str) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    (!id.is_empty() && id.bytes().all(fits)).then(|| id.to_owned())
}

fn words_of<T>(
    place: &Place,
    node: Node<'_>,
    known: &str,
    parse: impl Fn(&str) -> Option<T>,
    faults: &mut Faults<'_>,
) -> Vec<T> {
    let items = node.list(place, faults);
    let expected = format!("one of {known}");
    if items.is_empty() {
        faults.push(place, format!("expected a list with {expected}"));
    }
    items.iter().filter_map(|(place, node)| node.word(place, &expected, &parse, faults)).collect()
}

fn names(place: &Place, node: Node<'_>, faults: &mut Faults<'_>) -> Vec<(String, Place)> {
    let items = node.list(place, faults);
    items.into_iter().filter_map(|(at, node)| Some((node.text(&at, faults)?.to_owned(), at))).collect()
}
