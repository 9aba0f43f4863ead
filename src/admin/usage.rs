//! `/admin/v1/usage`: what was used, as `tollgate usage --json` says it.

use chrono::{NaiveDate, Utc};
use http::StatusCode;

use super::api::{Answer, ApiError, Call};
use crate::store::usage::{Column, Filter, report, to_json};

/// `GET /admin/v1/usage?by=tenant,model&from=&to=&tenant=&key=&model=`
pub(super) async fn usage(call: &Call) -> Answer {
    let mut by = vec![Column::Tenant, Column::Model];
    let (mut from, mut to) = (None, None);
    let (mut tenant, mut key, mut model) = (None, None, None);
    for (name, value) in call.query(&["by", "from", "to", "tenant", "key", "model"])? {
        match name.as_str() {
            "by" => by = columns(value)?,
            "from" => from = Some(day("from", value)?),
            "to" => to = Some(day("to", value)?),
            "tenant" => tenant = Some(value.clone()),
            "key" => key = Some(value.clone()),
            _ => model = Some(value.clone()),
        }
    }
    let filter = Filter { tenant, key, model, ..Filter::between(from, to, Utc::now().date_naive()) };
    if filter.from > filter.to {
        let message = format!("expected a day up to {} (`to`), found {}", filter.to, filter.from);
        return Err(ApiError::field("from", message));
    }
    let asked = (by.clone(), filter.clone());
    let lines = call.state.store.run(move |connection| report(connection, &asked.0, &asked.1)).await;
    let lines = lines.map_err(|error| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", error.to_string())
    })?;
    Ok((StatusCode::OK, to_json(&by, &filter, &lines)))
}

fn columns(names: &str) -> Result<Vec<Column>, ApiError> {
    let unknown =
        |name: &str| ApiError::field("by", format!("expected any of {}, found {name:?}", Column::names()));
    let named = |name: &str| Column::named(name).ok_or_else(|| unknown(name));
    names.split(',').filter(|name| !name.is_empty()).map(named).collect()
}

fn day(field: &str, text: &str) -> Result<NaiveDate, ApiError> {
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    day.ok_or_else(|| ApiError::field(field, format!("expected a date such as 2026-12-31, found {text:?}")))
}
