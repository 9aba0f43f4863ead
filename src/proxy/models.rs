//! `GET /v1/models` and `/v1/models/{id}`: the catalogue as this key may use it, in OpenAI's shape with what a
//! client needs to choose a model: `lifecycle`, `context_length`, `pricing` and `energy`.

use bytes::Bytes;
use serde_json::{Value, json};
use tollgate_filters::refusal::Refusal;
use tollgate_filters::request::auth::Principal;

use crate::config::settings::Model;
use crate::state::{Stages, today};

/// Every model that the key may use and that some server serves.
#[must_use]
pub(super) fn list(stages: &Stages, principal: &Principal) -> Bytes {
    let usable = stages.catalogue.usable(principal, today());
    let served = usable.filter(|(index, _)| !stages.models[*index].route.candidates().is_empty());
    let cards: Vec<Value> = served.map(|(index, _)| describe(&stages.settings.models[index], None)).collect();
    Bytes::from(json!({"object": "list", "data": cards}).to_string())
}

/// One model, under the name that was asked for.
///
/// # Errors
/// [`Refusal::ModelNotFound`] or [`Refusal::ModelRetired`].
pub(super) fn card(stages: &Stages, principal: &Principal, name: &str) -> Result<Bytes, Refusal> {
    let index = stages.catalogue.find(name, principal, today())?;
    Ok(Bytes::from(describe(&stages.settings.models[index], Some(name)).to_string()))
}

fn describe(model: &Model, asked: Option<&str>) -> Value {
    let today = chrono::Utc::now().date_naive();
    let midnight = |date: chrono::NaiveDate| date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp();
    let euros = |micro: u64| micro as f64 / 1e6;
    let prices = model.prices.on(today);
    json!({
        "id": asked.unwrap_or(&model.name),
        "object": "model",
        "created": model.launched.map_or(0, midnight),
        "owned_by": model.publisher,
        "lifecycle": {
            "phase": model.phase(today).to_string(),
            "launched": model.launched.map(|date| date.to_string()),
            "deprecated": model.deprecated.map(|date| date.to_string()),
            "end_of_support": model.end_of_support.map(|date| date.to_string()),
            "successor": model.successor,
        },
        "context_length": model.context_length,
        "pricing": {
            "currency": "EUR",
            "unit": "1M tokens",
            "input": euros(prices.input_micro_eur),
            "output": euros(prices.output_micro_eur),
            "reasoning": euros(prices.reasoning_micro_eur),
        },
        "energy": model.energy_micro_kwh.map(|micro| json!({"kwh_per_1m_tokens": micro as f64 / 1e6})),
    })
}
