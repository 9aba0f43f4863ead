//! What the JSON of one event, or of one whole answer, says: the model's name and where it stands, what
//! text it brings, which choices end, what usage it reports and whether it is an error. One walk reads all
//! interfaces, because their top-level keys do not collide and servers mix them in errors; what a key means is
//! decided afterwards, when the event's type is known.
//!
//! Cost: one pass; no allocation, unless there are more texts than in any event of a stream. Nothing is looked into deeper than needed; the rest is checked and skipped.

use super::usage::{self, Usage};
use crate::json::{JsonError, Kind, MAX_DEPTH, Reader, Str};

type Result<T> = std::result::Result<T, JsonError>;

/// How much text there is, in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Text {
    /// What a user sees: content, refusals, tool calls.
    pub(super) visible: u64,
    /// What the model thinks.
    pub(super) reasoning: u64,
    /// Content that has no characters to count, as audio.
    pub(super) is_other: bool,
}

impl Text {
    pub(super) fn is_empty(self) -> bool {
        self.visible == 0 && self.reasoning == 0 && !self.is_other
    }

    fn add(&mut self, other: Text) {
        self.visible += other.visible;
        self.reasoning += other.reasoning;
        self.is_other |= other.is_other;
    }
}

/// A text that an event or an answer brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said<'a> {
    pub(super) text: Str<'a>,
    /// The choice that says it.
    pub(super) choice: u64,
    pub(super) is_reasoning: bool,
    pub(super) place: Place,
}

/// Where a text stands. What that means depends on the event's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In `choices`.
    Choice,
    /// In a top-level `delta`.
    Delta,
    /// In `output`, a top-level `content` or `text`.
    Output,
}

/// The texts of an event or an answer, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Texts<'a> {
    /// As many as an event of a stream has.
    first: [Option<Said<'a>>; 4],
    rest: Vec<Said<'a>>,
    len: usize,
}

impl<'a> Texts<'a> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Said<'a>> {
        self.first.iter().flatten().chain(&self.rest)
    }

    /// Adds what the walk has come to; who says it is set when that is known.
    fn push(&mut self, text: Str<'a>, is_reasoning: bool) {
        if text.raw.is_empty() {
            return;
        }
        let said = Said { text, choice: 0, is_reasoning, place: Place::Choice };
        match self.first.get_mut(self.len) {
            Some(slot) => *slot = Some(said),
            None => self.rest.push(said),
        }
        self.len += 1;
    }

    /// Corrects what was added since there were `from`.
    fn since(&mut self, from: usize, correct: impl FnMut(&mut Said<'a>)) {
        self.first.iter_mut().flatten().chain(&mut self.rest).skip(from).for_each(correct);
    }
}

/// A set of choice indexes. Those above 255 are only known to exist.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Choices {
    bits: [u64; 4],
    has_more: bool,
}

impl Choices {
    pub(super) fn insert(&mut self, index: u64) {
        match self.bits.get_mut((index / 64) as usize) {
            Some(bits) => *bits |= 1 << (index % 64),
            None => self.has_more = true,
        }
    }

    pub(super) fn join(&mut self, other: &Choices) {
        for (bits, more) in self.bits.iter_mut().zip(other.bits) {
            *bits |= more;
        }
        self.has_more |= other.has_more;
    }

    pub(super) fn count(&self) -> u64 {
        self.bits.iter().map(|bits| u64::from(bits.count_ones())).sum::<u64>() + u64::from(self.has_more)
    }

    /// The indexes that are known.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        (0..256).filter(|index| self.bits[index / 64] >> (index % 64) & 1 == 1).map(|index| index as u64)
    }

    /// Those that are not in `other`; the first choice if this set is empty.
    pub(super) fn without(&self, other: &Choices) -> Choices {
        let mut rest = *self;
        if rest.count() == 0 {
            rest.insert(0);
        }
        for (bits, gone) in rest.bits.iter_mut().zip(other.bits) {
            *bits &= !gone;
        }
        rest
    }

    /// Whether this set is not empty and is the same as `other`, as far as is known.
    pub(super) fn is_all_of(&self, other: &Choices) -> bool {
        self == other && !self.has_more && self.count() > 0
    }
}

/// What one event says.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading<'a> {
    /// The JSON is `null`.
    pub(super) is_null: bool,
    /// Top-level `model`.
    pub(super) model: Option<Str<'a>>,
    /// `response.model` or `message.model`.
    pub(super) inner_model: Option<Str<'a>>,
    /// Top-level `type`.
    pub(super) kind: Option<Str<'a>>,
    /// Top-level `id`.
    pub(super) id: Option<Str<'a>>,
    /// `response.id` or `message.id`.
    pub(super) inner_id: Option<Str<'a>>,
    /// `created`, or `response.created_at`.
    pub(super) created: Option<u64>,
    /// Top-level `sequence_number`, of the Responses interface.
    pub(super) sequence: Option<u64>,
    /// Top-level `index`, of the Messages interface.
    pub(super) index: Option<u64>,
    /// How many elements `choices` has, if it is an array.
    pub(super) choices: Option<u64>,
    /// The index of the first of them.
    pub(super) first_choice: u64,
    pub(super) seen: Choices,
    pub(super) finished: Choices,
    /// Those of them that the model ended by itself, with a token that is no text.
    pub(super) stopped: Choices,
    /// Calls of tools that begin.
    pub(super) calls: u64,
    /// All texts.
    pub(super) texts: Texts<'a>,
    /// Top-level `usage` is an object.
    pub(super) has_usage_object: bool,
    /// Top-level usage.
    pub(super) usage: Option<Usage>,
    /// `response.usage` or `message.usage`, or Groq's `x_groq.usage`.
    pub(super) inner_usage: Option<Usage>,
    /// Text in choices.
    pub(super) text: Text,
    /// Text in a top-level `delta` of the Messages interface.
    pub(super) delta_text: Text,
    /// A top-level `delta` that is a string, of the Responses interface.
    pub(super) delta: Option<Str<'a>>,
    /// Text in `output` or a top-level `content`: the whole answer of Responses or Messages.
    pub(super) output_text: Text,
    /// `error` is there and not null.
    pub(super) has_error: bool,
    /// `"object": "error"`, or a `detail` where an answer would be.
    pub(super) is_flat_error: bool,
    /// llama.cpp's `timings`.
    pub(super) has_timings: bool,
}

impl<'a> Reading<'a> {
    /// Reads the JSON text `json`.
    ///
    /// # Errors
    /// If it is no JSON.
    pub(super) fn of(json: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(json, MAX_DEPTH);
        let mut reading = Self::default();
        match reader.peek()? {
            Kind::Object => reading.read_top(&mut reader)?,
            kind => {
                reading.is_null = kind == Kind::Null;
                reader.skip()?;
            }
        }
        reader.end()?;
        Ok(reading)
    }

    fn read_top(&mut self, r: &mut Reader<'a>) -> Result<()> {
        let mut has_detail = false;
        r.enter_object()?;
        while let Some(key) = r.next_key()? {
            match key.raw {
                b"model" => self.model = string(r)?,
                b"type" => self.kind = string(r)?,
                b"id" => self.id = string(r)?,
                b"created" => self.created = r.u64_or_skip()?,
                b"sequence_number" => self.sequence = r.u64_or_skip()?,
                b"index" => self.index = r.u64_or_skip()?,
                b"choices" => self.read_choices(r)?,
                b"usage" => {
                    self.has_usage_object = r.peek()? == Kind::Object;
                    self.usage = usage::read(r)?;
                }
                b"response" | b"message" => self.read_inner(r)?,
                b"x_groq" => {
                    self.inner_usage = member(r, b"usage", usage::read)?.flatten().or(self.inner_usage);
                }
                b"delta" => match r.peek()? {
                    Kind::String => self.delta = Some(r.string()?),
                    _ => {
                        let from = self.texts.len;
                        self.delta_text = read_block(r, &mut self.texts)?;
                        self.texts.since(from, |said| said.place = Place::Delta);
                    }
                },
                b"output" | b"content" | b"text" => {
                    let from = self.texts.len;
                    self.output_text.add(read_items(r, &mut self.texts)?);
                    self.texts.since(from, |said| said.place = Place::Output);
                }
                b"error" => {
                    self.has_error = r.peek()? != Kind::Null;
                    r.skip()?;
                }
                b"object" => self.is_flat_error |= string(r)?.is_some_and(|object| object.is("error")),
                b"detail" => {
                    has_detail = true;
                    r.skip()?;
                }
                b"timings" => {
                    self.has_timings = true;
                    r.skip()?;
                }
                _ => _ = r.skip()?,
            }
        }
        self.is_flat_error |= has_detail && self.choices.is_none() && self.kind.is_none();
        Ok(())
    }

    /// The answer within an event of Responses or Messages.
    fn read_inner(&mut self, r: &mut Reader<'a>) -> Result<()> {
        if !enter(r)? {
            return Ok(());
        }
        while let Some(key) = r.next_key()? {
            match key.raw {
                b"model" => self.inner_model = string(r)?,
                b"id" => self.inner_id = string(r)?,
                b"created_at" => self.created = r.u64_or_skip()?,
                b"usage" => self.inner_usage = usage::read(r)?.or(self.inner_usage),
                _ => _ = r.skip()?,
            }
        }
        Ok(())
    }

    fn read_choices(&mut self, r: &mut Reader<'a>) -> Result<()> {
        if r.peek()? != Kind::Array {
            r.skip()?;
            return Ok(());
        }
        let mut count = 0;
        r.enter_array()?;
        while r.next_item()? {
            let (mut index, from) = (0, self.texts.len);
            let (mut is_finished, mut has_stopped) = (false, false);
            if enter(r)? {
                while let Some(key) = r.next_key()? {
                    match key.raw {
                        b"index" => index = r.u64_or_skip()?.unwrap_or(0),
                        b"delta" | b"message" => self.read_delta(r)?,
                        b"text" => self.text.visible += say(r, &mut self.texts)?,
                        b"finish_reason" => {
                            is_finished = r.peek()? != Kind::Null;
                            has_stopped = string(r)?.is_some_and(|reason| is_stop(&reason));
                        }
                        _ => _ = r.skip()?,
                    }
                }
            }
            self.texts.since(from, |said| said.choice = index);
            self.seen.insert(index);
            if is_finished {
                self.finished.insert(index);
            }
            if has_stopped {
                self.stopped.insert(index);
            }
            if count == 0 {
                self.first_choice = index;
            }
            count += 1;
        }
        self.choices = Some(count);
        Ok(())
    }

    /// A choice's `delta` or `message`.
    fn read_delta(&mut self, r: &mut Reader<'a>) -> Result<()> {
        // Some servers send the same thought under both names.
        let (mut reasoning, mut reasoning_content) = (None, None);
        if !enter(r)? {
            return Ok(());
        }
        while let Some(key) = r.next_key()? {
            match key.raw {
                b"content" => match r.peek()? {
                    Kind::Array => self.text.add(read_items(r, &mut self.texts)?),
                    _ => self.text.visible += say(r, &mut self.texts)?,
                },
                b"reasoning" => reasoning = string(r)?,
                b"reasoning_content" => reasoning_content = string(r)?,
                b"refusal" => self.text.visible += say(r, &mut self.texts)?,
                b"function_call" => self.read_call(r)?,
                b"tool_calls" => {
                    if r.peek()? != Kind::Array {
                        r.skip()?;
                        continue;
                    }
                    r.enter_array()?;
                    while r.next_item()? {
                        if !enter(r)? {
                            continue;
                        }
                        while let Some(key) = r.next_key()? {
                            match key.raw {
                                b"function" => self.read_call(r)?,
                                _ => _ = r.skip()?,
                            }
                        }
                    }
                }
                b"audio" => self.text.is_other |= member(r, b"data", chars)?.unwrap_or(0) > 0,
                _ => _ = r.skip()?,
            }
        }
        let longer = [reasoning, reasoning_content].into_iter().flatten().max_by_key(Str::chars);
        if let Some(thought) = longer {
            self.text.reasoning += thought.chars();
            self.texts.push(thought, true);
        }
        Ok(())
    }

    /// The name and arguments of a call.
    fn read_call(&mut self, r: &mut Reader<'a>) -> Result<()> {
        if enter(r)? {
            while let Some(key) = r.next_key()? {
                match key.raw {
                    b"name" => {
                        let chars = say(r, &mut self.texts)?;
                        self.text.visible += chars;
                        self.calls += u64::from(chars > 0);
                    }
                    b"arguments" => self.text.visible += say(r, &mut self.texts)?,
                    _ => _ = r.skip()?,
                }
            }
        }
        Ok(())
    }
}

/// Whether the model itself ended its turn; that takes a token, which all engines count.
fn is_stop(reason: &Str<'_>) -> bool {
    ["stop", "tool_calls", "function_call"].iter().any(|stop| reason.is(stop))
}

/// A list of content: parts of a message (Mistral, Anthropic), or the items of a Responses answer, which have
/// such lists of their own.
fn read_items<'a>(r: &mut Reader<'a>, texts: &mut Texts<'a>) -> Result<Text> {
    let mut text = Text::default();
    match r.peek()? {
        Kind::String => text.visible = say(r, texts)?,
        Kind::Array => {
            r.enter_array()?;
            while r.next_item()? {
                text.add(read_block(r, texts)?);
            }
        }
        _ => _ = r.skip()?,
    }
    Ok(text)
}

/// One part, item or delta of Anthropic's shape. Its text is reasoning if its type, or the name it stands
/// under, says so.
fn read_block<'a>(r: &mut Reader<'a>, texts: &mut Texts<'a>) -> Result<Text> {
    let (mut text, mut is_reasoning) = (Text::default(), false);
    let from = texts.len;
    if !enter(r)? {
        return Ok(text);
    }
    while let Some(key) = r.next_key()? {
        match key.raw {
            b"type" => {
                is_reasoning =
                    string(r)?.is_some_and(|kind| kind.raw.starts_with(b"reasoning") || kind.is("thinking"));
            }
            b"text" | b"refusal" | b"partial_json" | b"name" | b"arguments" => text.visible += say(r, texts)?,
            b"thinking" => {
                let from = texts.len;
                text.reasoning += all(read_parts(r, texts)?);
                texts.since(from, |said| said.is_reasoning = true);
            }
            b"content" | b"summary" => text.add(read_parts(r, texts)?),
            // A tool call of Anthropic's shape: an object, of which the model wrote every character.
            b"input" if r.peek()? == Kind::Object => {
                let raw = r.raw()?;
                text.visible += raw.len() as u64;
                texts.push(Str { raw, start: 0, has_escapes: false }, false);
            }
            _ => _ = r.skip()?,
        }
    }
    if is_reasoning {
        text = Text { visible: 0, reasoning: all(text), ..text };
        texts.since(from, |said| said.is_reasoning = true);
    }
    Ok(text)
}

/// The innermost lists: `thinking`, `summary` and an item's `content`. They hold plain text parts.
fn read_parts<'a>(r: &mut Reader<'a>, texts: &mut Texts<'a>) -> Result<Text> {
    let mut text = Text::default();
    if r.peek()? != Kind::Array {
        text.visible = say(r, texts)?;
        return Ok(text);
    }
    r.enter_array()?;
    while r.next_item()? {
        if !enter(r)? {
            continue;
        }
        while let Some(key) = r.next_key()? {
            match key.raw {
                b"text" | b"refusal" => text.visible += say(r, texts)?,
                _ => _ = r.skip()?,
            }
        }
    }
    Ok(text)
}

fn all(text: Text) -> u64 {
    text.visible + text.reasoning
}

/// Steps into the object that comes next, or skips what is none.
fn enter(r: &mut Reader<'_>) -> Result<bool> {
    if r.peek()? == Kind::Object {
        r.enter_object()?;
        return Ok(true);
    }
    r.skip()?;
    Ok(false)
}

/// The string that comes next; anything else is skipped.
fn string<'a>(r: &mut Reader<'a>) -> Result<Option<Str<'a>>> {
    if r.peek()? == Kind::String {
        return Ok(Some(r.string()?));
    }
    r.skip()?;
    Ok(None)
}

/// The length of the string that comes next; anything else is skipped and has none.
fn chars(r: &mut Reader<'_>) -> Result<u64> {
    Ok(string(r)?.map_or(0, |text| text.chars()))
}

/// Takes up the string that comes next, and gives its length; anything else is skipped and has none.
fn say<'a>(r: &mut Reader<'a>, texts: &mut Texts<'a>) -> Result<u64> {
    let Some(text) = string(r)? else { return Ok(0) };
    texts.push(text, false);
    Ok(text.chars())
}

/// What `read` makes of the member `name` of the object that comes next.
fn member<'a, T>(
    r: &mut Reader<'a>,
    name: &[u8],
    read: impl Fn(&mut Reader<'a>) -> Result<T>,
) -> Result<Option<T>> {
    let mut found = None;
    if enter(r)? {
        while let Some(key) = r.next_key()? {
            if key.raw == name {
                found = Some(read(r)?);
            } else {
                r.skip()?;
            }
        }
    }
    Ok(found)
}
