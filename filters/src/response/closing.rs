//! Ends a stream in its server's place, in the shape that the server would have given it: the last events that a
//! client of each interface waits for, with the reason that it knows for a cap ("length", "max_tokens") and with
//! what was used. For that, the little that such events repeat is kept of the stream.
//!
//! Cost: one short copy a stream, when its first event comes.

use super::Api;
use super::event::{Choices, Reading};
use super::usage::Charge;

/// What the last events of a stream have in common with those before.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Closing {
    /// The answer's id, as it stands in JSON without its quotes.
    id: Option<Box<[u8]>>,
    created: Option<u64>,
    /// Of the last event of a Responses stream.
    sequence: Option<u64>,
    /// The block of a Messages stream that has begun and not ended.
    open_block: Option<u64>,
}

impl Closing {
    /// Notes what an event says. `kind` is the event's type.
    pub(super) fn observe(&mut self, reading: &Reading<'_>, kind: &[u8]) {
        if self.id.is_none()
            && let Some(id) = reading.id.or(reading.inner_id)
        {
            self.id = Some(id.raw.into());
            self.created = reading.created;
        }
        self.sequence = reading.sequence.or(self.sequence);
        match kind {
            b"content_block_start" | b"content_block_delta" => self.open_block = reading.index,
            b"content_block_stop" => self.open_block = None,
            _ => {}
        }
    }

    /// The events that end the stream. `model` is its name as it stands in JSON without quotes, `unfinished` are the
    /// choices that have not ended.
    pub(super) fn events(
        &self,
        api: Api,
        model: &str,
        unfinished: &Choices,
        charge: &Charge,
        tells_usage: bool,
    ) -> String {
        let id = self.id.as_deref().map_or_else(String::new, |id| String::from_utf8_lossy(id).into_owned());
        let created = self.created.unwrap_or(0);
        let output = charge.output.saturating_add(charge.reasoning);
        let (input, total) = (charge.input, charge.input.saturating_add(output));
        match api {
            Api::Chat | Api::Completions => {
                let is_chat = api == Api::Chat;
                let object = if is_chat { "chat.completion.chunk" } else { "text_completion" };
                let rest = if is_chat { "\"delta\":{}" } else { "\"text\":\"\",\"logprobs\":null" };
                let head = format!(
                    "{{\"id\":\"{id}\",\"object\":\"{object}\",\"created\":{created},\"model\":\"{model}\""
                );
                let choice = |index| format!("{{\"index\":{index},{rest},\"finish_reason\":\"length\"}}");
                let choices = unfinished.iter().map(choice).collect::<Vec<_>>().join(",");
                let mut events = format!("data: {head},\"choices\":[{choices}]}}\n\n");
                if tells_usage {
                    events.push_str(&format!(
                        "data: {head},\"choices\":[],\"usage\":{{\"prompt_tokens\":{input},\
                         \"completion_tokens\":{output},\"total_tokens\":{total}}}}}\n\n"
                    ));
                }
                events.push_str("data: [DONE]\n\n");
                events
            }
            Api::Responses => {
                let sequence = self.sequence.map_or(0, |last| last + 1);
                let name = "response.incomplete";
                format!(
                    "event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":{sequence},\"response\":{{\
                     \"id\":\"{id}\",\"object\":\"response\",\"created_at\":{created},\"status\":\"incomplete\",\
                     \"incomplete_details\":{{\"reason\":\"max_output_tokens\"}},\"error\":null,\
                     \"model\":\"{model}\",\"output\":[],\"usage\":{{\"input_tokens\":{input},\
                     \"output_tokens\":{output},\"total_tokens\":{total}}}}}}}\n\n"
                )
            }
            Api::Messages => {
                let block = self.open_block.map_or_else(String::new, |index| {
                    format!(
                        "event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":{index}}}\n\n"
                    )
                });
                format!(
                    "{block}event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\
                     \"stop_reason\":\"max_tokens\",\"stop_sequence\":null}},\"usage\":{{\
                     \"output_tokens\":{output}}}}}\n\n\
                     event: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n"
                )
            }
            Api::Other => String::new(),
        }
    }
}
