//! `/sim/state` and `/sim/fault`: looking into the simulator and breaking it while it runs.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use pingora_core::protocols::http::ServerSession;
use serde::Deserialize;
use serde_json::{Value, json};

use super::fault::{Fault, Faults};
use super::fleet::Fleet;
use super::generate::Leave;
use super::http::read_body;
use super::reply::{self, Gone};
use super::request::Reject;

/// The body of `POST /sim/fault`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    /// A fault's name, with or without `=VALUE`; `none` heals.
    kind: String,
    value: Option<Value>,
    /// An index, or `"all"`. Absent: the instance asked, or all at the control address.
    instance: Option<Value>,
}

/// Answers a request under `/sim/`, which came in through `seat`.
///
/// # Errors
/// [`Gone`]
pub(super) async fn answer(
    fleet: &Arc<Fleet>,
    seat: Option<usize>,
    session: &mut ServerSession,
) -> Result<Leave, Gone> {
    let path = session.req_header().uri.path().to_owned();
    let method = session.req_header().method.clone();
    let outcome = match (&method, path.as_str()) {
        (&Method::GET, "/sim/state") => Ok(states(fleet, seat).await),
        (&Method::POST, "/sim/fault") => match read_body(session).await? {
            Ok(body) => order(fleet, seat, &body).await,
            Err(reject) => Err(reject),
        },
        _ => Err(Reject::new(404, "NotFoundError", "GET /sim/state and POST /sim/fault are served here.")),
    };
    match outcome {
        Ok(state) => reply::json(session, 200, Bytes::from(state.to_string())).await?,
        Err(reject) => reply::reject(session, &reject).await?,
    }
    // Only now, so that an instance can be told to refuse through its own port and still answer that.
    for instance in fleet.instances.iter().filter(|instance| instance.faults().refuses()) {
        instance.cut_connections();
    }
    Ok(Leave::Open)
}

async fn states(fleet: &Fleet, seat: Option<usize>) -> Value {
    match seat.and_then(|seat| fleet.instances.get(seat)) {
        Some(instance) => instance.state().await,
        None => {
            let mut all = Vec::with_capacity(fleet.instances.len());
            for instance in &fleet.instances {
                all.push(instance.state().await);
            }
            json!({ "instances": all })
        }
    }
}

async fn order(fleet: &Arc<Fleet>, seat: Option<usize>, body: &[u8]) -> Result<Value, Reject> {
    let wrong = |message: String| Reject::new(400, "BadRequestError", message);
    let order: Order = serde_json::from_slice(body)
        .map_err(|error| wrong(format!("expected {{\"kind\", \"value\"?, \"instance\"?}}: {error}")))?;
    let fault = fault_of(&order).map_err(wrong)?;
    let targets = targets(fleet, seat, order.instance.as_ref()).map_err(wrong)?;
    let mut changed = Vec::with_capacity(targets.len());
    for index in targets {
        let mut faults = Faults::default();
        if let Some(fault) = fault {
            faults = fleet.instances[index].faults();
            faults.set(fault);
        }
        let written = faults.written();
        fleet.set_faults(index, faults).await.map_err(|error| {
            Reject::new(
                500,
                "InternalServerError",
                format!("instance {index} could not open its port: {error}"),
            )
        })?;
        changed.push(json!({"instance": index, "faults": written}));
    }
    Ok(json!({ "instances": changed }))
}

fn fault_of(order: &Order) -> Result<Option<Fault>, String> {
    let written = match &order.value {
        None | Some(Value::Null) => order.kind.clone(),
        Some(Value::String(value)) => format!("{}={value}", order.kind),
        Some(value) => format!("{}={value}", order.kind),
    };
    if written == "none" {
        return Ok(None);
    }
    written.parse().map(Some).map_err(|error: super::fault::UnknownFault| error.to_string())
}

fn targets(fleet: &Fleet, seat: Option<usize>, asked: Option<&Value>) -> Result<Vec<usize>, String> {
    let count = fleet.instances.len();
    match (asked, seat) {
        (None | Some(Value::Null), Some(seat)) => Ok(vec![seat]),
        (None | Some(Value::Null), None) => Ok((0..count).collect()),
        (Some(Value::String(word)), _) if word == "all" => Ok((0..count).collect()),
        (Some(index), _) => index
            .as_u64()
            .and_then(|index| usize::try_from(index).ok())
            .filter(|index| *index < count)
            .map(|index| vec![index])
            .ok_or_else(|| format!("instance: expected \"all\" or a number below {count}, found {index}")),
    }
}
