//! What limits.lua is told, and what it answers. Public for the test that holds the script against its copy in Rust.

use std::sync::Arc;
use std::time::Duration;

use ring::digest;
use serde_json::{Value as Json, json};
use tollgate_filters::request::quota::shared::{EXPIRY, Item, ItemReply, Order, Reply, Spent, Tell};

use super::resp::Value;

/// Does everything in one step.
pub const LIMITS: &str = include_str!("limits.lua");
/// Counts the gateways.
pub(super) const PRESENCE: &str = include_str!("presence.lua");

/// The largest whole number up to which doubles are exact, which Lua counts in.
const MOST: u64 = 1 << 53;

/// The name of a script once it has been loaded: its SHA-1 in hexadecimal.
pub(crate) fn name(script: &str) -> String {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, script.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the store says.
pub(super) enum Answer {
    /// To what was asked.
    Reply(Reply),
    /// That it does not know what this gateway holds, and has done nothing.
    SayAnew,
}

/// What presence.lua answers.
pub(super) struct Presence {
    /// How many gateways there are.
    pub(super) count: i64,
    /// What time the store has, milliseconds since 1970.
    pub(super) now: i64,
    /// What its memory is called, and how old that is.
    pub(super) memory: String,
    pub(super) age: Duration,
    /// Whether some gateway has told it everything.
    pub(super) is_told: bool,
}

/// What the script that counts gateways answers; `None` if that is nothing that it says.
pub(super) fn presence(value: &Value) -> Option<Presence> {
    let [count, now, memory, age, is_told] = value.list()? else { return None };
    Some(Presence {
        count: count.number()?,
        now: now.number()?,
        memory: memory.text()?.to_owned(),
        age: Duration::from_millis(u64::try_from(age.number()?).unwrap_or(0)),
        is_told: is_told.number()? == 1,
    })
}

/// The order as the script reads it, from a gateway that has told everything to this memory of the store.
#[must_use]
pub fn arguments(order: &Order, memory: &str, gateway: &str, epoch: u64) -> String {
    let scopes = order.entries.iter().map(|entry| scope(&entry.tell, &entry.items));
    json!({
        "q": memory,
        "g": gateway,
        "e": epoch,
        "x": milliseconds(EXPIRY),
        "o": order.output.min(MOST),
        "l": order.least_output.min(MOST),
        "s": scopes.collect::<Vec<_>>(),
    })
    .to_string()
}

fn scope(tell: &Tell, items: &[Item]) -> Json {
    let item = |item: &Item| {
        let Item { measure, limit, fixed, each, have, unit, extra } = *item;
        let fixed = fixed.clamp(-(MOST as i64), MOST as i64);
        json!([
            measure as usize,
            limit.min(MOST),
            fixed,
            each.min(MOST),
            have.min(MOST),
            unit,
            extra.min(MOST)
        ])
    };
    let [day, month] = tell.budgets;
    let life = |(life, [day, month]): &(Arc<str>, Spent)| {
        json!([life.as_ref(), day.0, day.1.min(MOST), month.0, month.1.min(MOST)])
    };
    json!({
        "k": milliseconds(tell.keep),
        "w": tell.is_whole,
        "f": tell.is_known,
        "r": tell.rates.iter().map(|(rate, limit, back, owed)| json!([rate, (*limit).min(MOST), back, owed]))
            .collect::<Vec<_>>(),
        "n": tell.in_flight,
        "d": day,
        "m": month,
        "v": tell.lives.iter().map(life).collect::<Vec<_>>(),
        "i": items.iter().map(item).collect::<Vec<_>>(),
    })
}

/// What the script answers to `order`; `None` if that is nothing that it says.
pub(super) fn answer(order: &Order, value: &Value) -> Option<Answer> {
    let numbers: Option<Vec<i64>> = value.list()?.iter().map(Value::number).collect();
    let numbers = numbers?;
    let [status, now, output, items @ ..] = numbers.as_slice() else { return None };
    if *status == -1 {
        return Some(Answer::SayAnew);
    }
    let amount = |number: i64| u64::try_from(number).unwrap_or(0);
    let item = |numbers: &[i64]| match numbers {
        [granted, left, wait, lacks] => Some(ItemReply {
            granted: amount(*granted),
            left: Some(amount(*left)),
            wait: Duration::from_millis(amount(*wait)),
            is_lacking: *lacks == 1,
        }),
        _ => None,
    };
    let items: Option<Vec<_>> = items.chunks(4).map(item).collect();
    let items = items?;
    let expected: usize = order.entries.iter().map(|entry| entry.items.len()).sum();
    (items.len() == expected).then(|| {
        Answer::Reply(Reply {
            is_granted: *status == 1,
            output: amount(*output).min(order.output),
            unix: Duration::from_millis(amount(*now)),
            items,
        })
    })
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Doubles are exact to 2^53, and a store's numbers turn negative beyond 2^63.
    #[test]
    fn what_no_double_holds_is_not_asked() {
        let order = Order { entries: Vec::new(), output: u64::MAX, least_output: u64::MAX };
        let arguments: Json = serde_json::from_str(&arguments(&order, "q", "g", 1)).expect("JSON");
        assert_eq!((&arguments["o"], &arguments["l"]), (&json!(MOST), &json!(MOST)));
        let order = Order { output: 7, ..order };
        let value = Value::List([1, 1000, i64::MAX].map(Value::Number).to_vec());
        let Some(Answer::Reply(reply)) = answer(&order, &value) else { panic!("it is an answer") };
        assert_eq!(reply.output, 7, "nobody gets more than was asked");
    }

    #[test]
    fn a_script_has_the_name_that_servers_give_it() {
        // `redis-cli script load 'return 1'`
        assert_eq!(name("return 1"), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }
}
