//! `scan`: thresholds in order, categories in one list only, exemptions that name something.

use std::time::Duration;

use tollgate_filters::request::scan::Category;
use tollgate_filters::request::scan::policy::{LEARNED_RULE, Mode, Policy};
use tollgate_filters::request::scan::structure::Shape;
use tollgate_filters::response::output::{Action, LEAK_RULE, UNREADABLE_RULE};

use super::{size, small};
use crate::config::fault::{At, Faults, FileId, Place};
use crate::config::kind::{Kind, Listed, default_node, nearest};
use crate::config::schema::catalogue::Tenant;
use crate::config::schema::scan as schema;
use crate::config::secret::Sources;
use crate::config::settings::{Behaviour, Exemption, OutputChange, OutputPolicy, Rules, Scan, ScanChange};
use crate::scanner;

/// Checks and converts `scan` of tollgate.yaml.
pub(super) fn scan(scan: &schema::Scan, sources: &Sources<'_>, faults: &mut Faults) -> Scan {
    if scan.flag_at.value > scan.block_at.value {
        faults.push(&scan.flag_at.place, "expected at most block_at: what is refused is marked as well");
    }
    let rules = match &scan.rules.value {
        Some(rules) => Some(sources.dir.join(rules)),
        None => Some(sources.dir.join("rules")).filter(|rules| rules.is_dir()),
    };
    let roles = &scan.roles.value;
    let behaviour = &scan.behaviour.value;
    Scan {
        policy: Policy {
            mode: scan.mode.value,
            flag_at: scan.flag_at.value,
            block_at: scan.block_at.value,
            categories: categories(&scan.flag_only.value, &scan.ignore.value, faults),
            system: roles.system.value,
            user: roles.user.value,
            assistant: roles.assistant.value,
            tool: roles.tool.value,
            exempt: Vec::new(),
        },
        rules,
        cache: scan.cache.value.clone(),
        learned: scan.learned.value,
        budget_bytes: size(scan.budget_bytes.value),
        remembered_texts: size(scan.remembered_texts.value),
        over_budget: scan.over_budget.value,
        behaviour: Behaviour {
            mode: behaviour.mode.value,
            repeats: small(behaviour.repeats.value),
            prompts: size(behaviour.prompts.value),
            memory: Duration::from_secs(behaviour.memory_s.value),
            conversations: behaviour.conversations.value,
            is_shared: behaviour.shared.value,
        },
        output: OutputPolicy {
            action: scan.output.value.action.value,
            categories: {
                let schema::Output { action: _, flag, redact, stop, ignore } = &scan.output.value;
                actions([&flag.value, &redact.value, &stop.value, &ignore.value], faults)
            },
        },
    }
}

/// Loads the rule packs: whatever is wrong with one is a fault of the configuration.
/// `reads_output` says that somebody's answers are looked at.
pub(super) fn rules(scan: &Scan, reads_output: bool, faults: &mut Faults) -> Option<Rules> {
    match scanner::load(scan.rules.as_deref(), scan.learned, Some(&scan.cache), reads_output) {
        Ok(rules) => Some(rules),
        Err(found) => {
            for fault in found {
                let file = faults.file(&fault.file);
                faults.push(&Place { file, line: fault.line, path: fault.path }, fault.message);
            }
            None
        }
    }
}

/// What `scan` means where nothing is written.
pub(crate) fn default_scan() -> Scan {
    let nowhere = std::path::Path::new("");
    let mut faults = Faults::new(nowhere);
    let sources = Sources { dir: nowhere, env: &|_| None };
    let node = default_node("{}");
    let read = schema::Scan::read(&node, &Place::top(FileId(0), 0), &mut faults);
    let written = read.expect("every key of `scan` has a default, which a test reads");
    Scan { rules: None, ..scan(&written, &sources, &mut faults) }
}

/// Checks and converts what a model, a tier or a tenant says otherwise.
pub(super) fn change(change: Option<schema::ScanChange>, faults: &mut Faults) -> Option<ScanChange> {
    let change = change?;
    Some(ScanChange {
        mode: change.mode.value,
        flag_at: change.flag_at.value,
        block_at: change.block_at.value,
        categories: match (change.flag_only.value, change.ignore.value) {
            (None, None) => None,
            (flag_only, ignore) => {
                let none = || Listed { items: Vec::new(), lost: Vec::new() };
                Some(categories(&flag_only.unwrap_or_else(none), &ignore.unwrap_or_else(none), faults))
            }
        },
        output: change.output.value.map(|change| output_change(change, faults)),
    })
}

fn output_change(change: schema::OutputChange, faults: &mut Faults) -> OutputChange {
    let schema::OutputChange { action, flag, redact, stop, ignore } = change;
    let lists = [flag.value, redact.value, stop.value, ignore.value];
    let categories = lists.iter().any(Option::is_some).then(|| {
        let lists = lists.map(|list| list.unwrap_or_else(|| Listed { items: Vec::new(), lost: Vec::new() }));
        actions(lists.each_ref(), faults)
    });
    OutputChange { action: action.value, categories }
}

/// Whether anybody's answers are looked at.
pub(super) fn reads_output<'s>(scan: &Scan, changes: impl Iterator<Item = &'s ScanChange>) -> bool {
    let is_on = |action: &Action| *action > Action::Off;
    let turns_on = |change: &OutputChange| {
        change.action.as_ref().is_some_and(is_on) || change.categories.iter().flatten().flatten().any(is_on)
    };
    scan.output.actions().iter().any(is_on)
        || changes.filter_map(|change| change.output.as_ref()).any(turns_on)
}

/// What tenants are exempted from, each with its place.
pub(super) fn exempted(tenants: &Listed<Tenant>) -> Vec<At<String>> {
    let lists = tenants.items.iter().filter_map(|tenant| tenant.value.scan_exemptions.value.as_ref());
    lists.flat_map(|list| &list.items).map(|exemption| exemption.value.rule.clone()).collect()
}

/// An exemption from something that is not there would be believed to hold.
pub(super) fn expect_known(exempted: &[At<String>], rules: &Rules, faults: &mut Faults) {
    const OTHERS: [&str; 8] = [
        LEARNED_RULE,
        LEAK_RULE,
        UNREADABLE_RULE,
        "behaviour.repeated-prompt",
        "behaviour.attack-in-pieces",
        "behaviour.variation-of-refused",
        "behaviour.escalation",
        "behaviour.asked-again-after-refusal",
    ];
    if exempted.is_empty() {
        return;
    }
    let known: Vec<&str> = (rules.ids.iter().map(String::as_str))
        .chain(OTHERS)
        .chain(Shape::ALL.map(Shape::id))
        .chain(Category::ALL.map(Category::name))
        .collect();
    for rule in exempted.iter().filter(|rule| !known.contains(&&*rule.value)) {
        let hint = match nearest(&rule.value, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`tollgate scan --explain` tells which rules fire in a text".to_owned(),
        };
        faults.push(&rule.place, format!("no rule and no category is called {:?}; {hint}", rule.value));
    }
}

/// Checks and converts a tenant's exemptions.
pub(super) fn exemptions(list: Listed<schema::Exemption>) -> Vec<Exemption> {
    let convert = |At { value: exemption, .. }: At<schema::Exemption>| Exemption {
        rule: exemption.rule.value,
        until: exemption.until.value,
        reason: exemption.reason.value,
    };
    list.items.into_iter().map(convert).collect()
}

/// What is done about each category of answers: the lists `flag`, `redact`, `stop` and `ignore`.
fn actions(lists: [&Listed<Category>; 4], faults: &mut Faults) -> [Option<Action>; Category::ALL.len()] {
    const LISTS: [(&str, Action); 4] =
        [("flag", Action::Flag), ("redact", Action::Redact), ("stop", Action::Stop), ("ignore", Action::Off)];
    let mut actions: [Option<(&str, Action)>; Category::ALL.len()] = [None; Category::ALL.len()];
    for (list, said) in lists.into_iter().zip(LISTS) {
        for item in &list.items {
            // The variants stand in the order of the list of all.
            let slot = &mut actions[item.value as usize];
            match slot {
                Some((other, _)) if *other != said.0 => {
                    faults.push(&item.place, format!("{} is in `{other}` too", item.value.name()));
                }
                _ => *slot = Some(said),
            }
        }
    }
    actions.map(|said| said.map(|(_, action)| action))
}

/// What is done about each category, by its place in `Category::ALL`.
fn categories(
    flag_only: &Listed<Category>,
    ignore: &Listed<Category>,
    faults: &mut Faults,
) -> [Mode; Category::ALL.len()] {
    for both in flag_only.items.iter().filter(|one| ignore.items.iter().any(|other| other.value == one.value))
    {
        faults.push(&both.place, format!("{} is in `ignore` too", both.value.name()));
    }
    Category::ALL.map(|category| {
        let is_in = |list: &Listed<Category>| list.items.iter().any(|item| item.value == category);
        match () {
            () if is_in(ignore) => Mode::Off,
            () if is_in(flag_only) => Mode::Flag,
            () => Mode::Block,
        }
    })
}
