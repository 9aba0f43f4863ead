//! `tiers.yaml`: limits that can be met together, for models that exist.

use std::sync::Arc;

use tollgate_filters::request::quota::{Plan, Rule};

use super::catalogue::Names;
use super::{Unique, scan};
use crate::config::fault::{At, Faults};
use crate::config::kind::Listed;
use crate::config::schema::tiers as schema;
use crate::config::settings::Tier;

/// Checks and converts the tiers.
pub(super) fn tiers(list: Listed<schema::Tier>, catalogue: Option<&Names>, faults: &mut Faults) -> Vec<Tier> {
    let mut unique = Unique::default();
    let mut tiers = Vec::new();
    for At { value: tier, .. } in list.items {
        unique.take("the tier name", &tier.name, faults);
        let limits = tier.limits();
        let plan = Plan { limits, rules: rules(tier.per_model.value, catalogue, faults) };
        let key_plan = tier.per_key.value.map(|key| {
            let limits = key.limits();
            Plan { limits, rules: rules(key.per_model.value, catalogue, faults) }
        });
        tiers.push(Tier {
            name: tier.name.value,
            plan: Arc::new(plan),
            key_plan: Arc::new(key_plan.unwrap_or_default()),
            // Without `max_tokens` a request must not come to more than with it.
            default_max_tokens: tier.default_max_tokens.value.min(tier.max_tokens.value.unwrap_or(u64::MAX)),
            max_tokens: tier.max_tokens.value,
            over_max_tokens: tier.over_max_tokens.value,
            max_context: tier.max_context.value,
            at_limit: tier.at_limit.value,
            // At most 9.
            priority: tier.priority.value as u8,
            scan: scan::change(tier.scan.value, faults),
        });
    }
    tiers
}

fn rules(
    list: Option<Listed<schema::PerModel>>,
    catalogue: Option<&Names>,
    faults: &mut Faults,
) -> Vec<Rule> {
    let mut unique = Unique::default();
    let items = list.map(|list| list.items).unwrap_or_default();
    let rule = |At { value: rule, .. }: At<schema::PerModel>| {
        unique.take("the pattern", &rule.model, faults);
        if let Some(catalogue) = catalogue {
            catalogue.expect_match(&rule.model, faults);
        }
        Rule { limits: rule.limits(), pattern: rule.model.value.into() }
    };
    items.into_iter().map(rule).collect()
}
