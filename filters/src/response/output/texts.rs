//! The texts in an event or in a whole answer, of every interface: where they stand, and which text of the answer each
//! goes on with. One walk reads all interfaces, as in [`super::super::event`]; what is not known to be something
//! else is text, so that a server's new field is searched as well.
//!
//! A text of an answer is named by a hash of the keys that lead to it and of the indexes on the way, not of its place
//! in a list: `tool_calls[0]` of one event may have index 3.
//!
//! Cost: one pass over the JSON; no allocation once the lists have grown.

use std::ops::Range;

use memchr::memmem::Finder;

use crate::json::{JsonError, Kind, Leaf, MAX_DEPTH, Reader, Str};

type Result<T> = std::result::Result<T, JsonError>;

/// A text, as it stands in the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) has_escapes: bool,
    /// The text of the answer that it goes on with and the choice that says it; `None` if it is all there is.
    pub(super) part: Option<(u64, u64)>,
}

impl Piece {
    pub(super) fn str<'j>(&self, json: &'j [u8]) -> Str<'j> {
        Str {
            raw: &json[self.start..self.start + self.len],
            start: self.start,
            has_escapes: self.has_escapes,
        }
    }
}

/// What an event or a body holds. Used again for the next one.
#[derive(Debug)]
pub(super) struct Texts {
    /// Finds [`CHOICES`].
    choices: Finder<'static>,
    /// In the order of the JSON.
    pub(super) pieces: Vec<Piece>,
    /// Values that repeat the text in another form: log-probabilities, token numbers.
    pub(super) shadows: Vec<Range<usize>>,
    /// Choices that end here.
    pub(super) ended: Vec<u64>,
    /// The event is of a kind that no text goes on after: whatever was being said has been said.
    pub(super) is_pause: bool,
    /// The event is the last one of its answer.
    pub(super) is_end: bool,
}

impl Default for Texts {
    fn default() -> Self {
        Self {
            choices: Finder::new(CHOICES),
            pieces: Vec::new(),
            shadows: Vec::new(),
            ended: Vec::new(),
            is_pause: false,
            is_end: false,
        }
    }
}

const CHOICES: &[u8] = b"\"choices\"";

/// Containers deeper than this are texts as a whole. Answers have six.
const DEEP: u32 = 24;

impl Texts {
    /// Reads an event's data, or a whole body where nothing goes on. `name` is the event's.
    ///
    /// # Errors
    /// If it is no JSON. What was found until then is there.
    pub(super) fn read(&mut self, json: &[u8], name: &[u8], is_whole: bool) -> Result<()> {
        self.clear();
        let mut reader = Reader::new(json, MAX_DEPTH);
        if reader.peek()? == Kind::Object {
            self.top(&mut reader, name, is_whole)?;
        } else {
            reader.skip()?;
        }
        reader.end()
    }

    /// Reads an event of a chat or a completion: `choices` alone, wherever it stands.
    ///
    /// # Errors
    /// If it is no JSON.
    ///
    /// # Cost
    /// Half of what [`Self::read`] takes: what stands before and after `choices` is not looked at.
    pub(super) fn read_choices(&mut self, json: &[u8]) -> Result<()> {
        self.clear();
        let mut from = 0;
        // These bytes are a whole string wherever they are: inside of one the quotes would be escaped.
        while let Some(step) = self.choices.find(&json[from..]) {
            from += step + CHOICES.len();
            let rest = json[from..].trim_ascii_start();
            let Some(value) = rest.strip_prefix(b":") else { continue };
            let base = json.len() - value.len();
            let (pieces, shadows) = (self.pieces.len(), self.shadows.len());
            let mut reader = Reader::new(value, MAX_DEPTH);
            self.choices(&mut reader, false)?;
            from = base + reader.offset();
            self.pieces[pieces..].iter_mut().for_each(|piece| piece.start += base);
            for span in &mut self.shadows[shadows..] {
                *span = span.start + base..span.end + base;
            }
        }
        // An error, say, or what is no JSON at all: that takes the long way.
        if from == 0 { self.read(json, b"", false) } else { Ok(()) }
    }

    fn clear(&mut self) {
        self.pieces.clear();
        self.shadows.clear();
        self.ended.clear();
        (self.is_pause, self.is_end) = (false, false);
    }

    fn top(&mut self, r: &mut Reader<'_>, name: &[u8], is_whole: bool) -> Result<()> {
        // `delta` of Responses and of Messages is named by the event's type and by indexes that may come after it.
        let mut kind = name;
        let (mut place, mut going_on) = (0_u64, 0..0);
        let (mut has_choices, mut has_delta) = (false, false);
        r.enter_object()?;
        while let Some(key) = r.next_key()? {
            match key.raw {
                b"choices" => {
                    has_choices = true;
                    self.choices(r, is_whole)?;
                }
                b"delta" | b"content_block" => {
                    has_delta = true;
                    let start = self.pieces.len();
                    self.value(r, Some(0), 0)?;
                    if going_on.is_empty() {
                        going_on = start..self.pieces.len();
                    }
                }
                b"type" => {
                    if let Some(text) = string(r)? {
                        kind = text.raw;
                    }
                }
                b"index" | b"output_index" | b"content_index" | b"summary_index" => {
                    // Added up, so that their order does not matter.
                    place = place.wrapping_add(mix(hash(key.raw), r.u64_or_skip()?.unwrap_or(0)));
                }
                b"output" | b"content" | b"item" | b"part" => self.value(r, None, 0)?,
                b"text" | b"arguments" | b"refusal" | b"code" | b"input" if r.peek()? == Kind::String => {
                    self.value(r, None, 0)?;
                }
                b"response" | b"message" if r.peek()? == Kind::Object => self.inner(r)?,
                _ => _ = r.skip()?,
            }
        }
        // An event's kind stands for what it goes on with in Responses; in Messages it is the key.
        let of = if kind.starts_with(b"content_block") { 0 } else { hash(kind) };
        for piece in &mut self.pieces[going_on.clone()] {
            piece.part = piece.part.map(|(part, group)| (mix(mix(part, place), of), group));
        }
        self.is_pause = !has_choices && !has_delta && !kind.is_empty() && kind != b"ping";
        self.is_end = matches!(
            kind,
            b"message_stop" | b"response.completed" | b"response.incomplete" | b"response.failed"
        );
        Ok(())
    }

    /// The answer within an event of Responses or Messages. It repeats the request too, which is no answer.
    fn inner(&mut self, r: &mut Reader<'_>) -> Result<()> {
        r.enter_object()?;
        while let Some(key) = r.next_key()? {
            match key.raw {
                b"output" | b"content" => self.value(r, None, 0)?,
                _ => _ = r.skip()?,
            }
        }
        Ok(())
    }

    fn choices(&mut self, r: &mut Reader<'_>, is_whole: bool) -> Result<()> {
        if r.peek()? != Kind::Array {
            r.skip()?;
            return Ok(());
        }
        let part = (!is_whole).then_some(0);
        r.enter_array()?;
        while r.next_item()? {
            if r.peek()? != Kind::Object {
                r.skip()?;
                continue;
            }
            let start = self.pieces.len();
            let (mut index, mut has_ended) = (0, false);
            r.enter_object()?;
            while let Some(key) = r.next_key()? {
                match key.raw {
                    b"index" => index = r.u64_or_skip()?.unwrap_or(0),
                    b"delta" | b"message" => self.value(r, part, 0)?,
                    b"text" => self.value(r, part.map(|part| mix(part, hash(b"text"))), 0)?,
                    b"finish_reason" => {
                        has_ended = r.peek()? != Kind::Null;
                        r.skip()?;
                    }
                    b"logprobs" | b"token_ids" => self.shadow(r)?,
                    _ => _ = r.skip()?,
                }
            }
            for piece in &mut self.pieces[start..] {
                piece.part = piece.part.map(|(part, _)| (mix(part, index), index));
            }
            if has_ended {
                self.ended.push(index);
            }
        }
        Ok(())
    }

    /// All texts in a value. `part` is a hash of the keys that lead to it, where texts go on.
    fn value(&mut self, r: &mut Reader<'_>, part: Option<u64>, depth: u32) -> Result<()> {
        match r.peek()? {
            Kind::String => {
                let text = r.string()?;
                self.push(&text, part);
            }
            Kind::Object if depth < DEEP => {
                let start = self.pieces.len();
                let mut index = None;
                r.enter_object()?;
                while let Some(key) = r.next_key()? {
                    match key.raw {
                        b"index" | b"output_index" | b"content_index" if r.peek()? == Kind::Number => {
                            index = r.u64_or_skip()?;
                        }
                        b"logprobs" | b"token_ids" => self.shadow(r)?,
                        name if is_no_text(name) => _ = r.skip()?,
                        name => self.value(r, part.map(|part| mix(part, hash(name))), depth + 1)?,
                    }
                }
                if let Some(index) = index {
                    for piece in &mut self.pieces[start..] {
                        piece.part = piece.part.map(|(part, group)| (mix(part, index), group));
                    }
                }
            }
            Kind::Array if depth < DEEP => {
                r.enter_array()?;
                while r.next_item()? {
                    self.value(r, part, depth + 1)?;
                }
            }
            _ => {
                let pieces = &mut self.pieces;
                r.walk(|leaf| {
                    if let Leaf::String { value, .. } = leaf {
                        push(pieces, &value, part);
                    }
                })?;
            }
        }
        Ok(())
    }

    fn shadow(&mut self, r: &mut Reader<'_>) -> Result<()> {
        let is_there = r.peek()? != Kind::Null;
        let span = r.skip()?;
        if is_there {
            self.shadows.push(span);
        }
        Ok(())
    }

    fn push(&mut self, text: &Str<'_>, part: Option<u64>) {
        push(&mut self.pieces, text, part);
    }
}

fn push(pieces: &mut Vec<Piece>, text: &Str<'_>, part: Option<u64>) {
    if !text.raw.is_empty() {
        let part = part.map(|part| (part, 0));
        pieces.push(Piece { start: text.start, len: text.raw.len(), has_escapes: text.has_escapes, part });
    }
}

/// Keys whose value is a name, a number of things or bytes, whoever wrote it.
fn is_no_text(key: &[u8]) -> bool {
    matches!(
        key,
        b"role"
            | b"type"
            | b"id"
            | b"object"
            | b"model"
            | b"status"
            | b"data"
            | b"signature"
            | b"encrypted_content"
            | b"call_id"
            | b"item_id"
            | b"tool_call_id"
            | b"tool_use_id"
            | b"stop_reason"
            | b"finish_reason"
    )
}

fn string<'j>(r: &mut Reader<'j>) -> Result<Option<Str<'j>>> {
    if r.peek()? == Kind::String {
        return Ok(Some(r.string()?));
    }
    r.skip()?;
    Ok(None)
}

/// FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv/>), by eight bytes where there are.
#[inline]
fn hash(name: &[u8]) -> u64 {
    name.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

const PRIME: u64 = 0x0100_0000_01b3;

#[inline]
fn mix(a: u64, b: u64) -> u64 {
    (a.rotate_left(23) ^ b).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(json: &str, name: &str) -> Texts {
        let mut texts = Texts::default();
        texts.read(json.as_bytes(), name.as_bytes(), false).expect("JSON");
        texts
    }

    fn check(name: &str, json: &str, expected: &[&str]) {
        let found = texts(json, name);
        if json.contains("choices") {
            let mut again = Texts::default();
            again.read_choices(json.as_bytes()).expect("JSON");
            assert_eq!(
                (again.pieces, again.shadows, again.ended),
                (found.pieces.clone(), found.shadows.clone(), found.ended.clone())
            );
        }
        let found: Vec<_> =
            found.pieces.iter().map(|piece| &json[piece.start..piece.start + piece.len]).collect();
        assert_eq!(found, expected, "{json}");
    }

    #[test]
    fn every_interface_has_its_texts() {
        check(
            "",
            r#"{"id":"x","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"a","reasoning":"b"}}]}"#,
            &["a", "b"],
        );
        check(
            "",
            r#"{"choices":[{"delta":{"tool_calls":[{"id":"c","type":"function","index":1,"function":{"name":"f","arguments":"{\"x"}}]}}]}"#,
            &["f", r#"{\"x"#],
        );
        check(
            "",
            r#"{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"t"}]}]}}]}"#,
            &["t"],
        );
        check("", r#"{"choices":[{"text":"a","index":0}]}"#, &["a"]);
        check("", r#"{"error":{"message":"no"},"choices":null}"#, &[]);
        check("response.output_text.delta", r#"{"delta":"a","output_index":0}"#, &["a"]);
        check(
            "response.output_text.done",
            r#"{"type":"response.output_text.done","text":"a","item_id":"i"}"#,
            &["a"],
        );
        check(
            "response.completed",
            r#"{"response":{"instructions":"secret","output":[{"type":"message","content":[{"type":"output_text","text":"a"}]}]}}"#,
            &["a"],
        );
        check(
            "content_block_delta",
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"a"}}"#,
            &["a"],
        );
        check(
            "message_start",
            r#"{"message":{"id":"m","content":[{"type":"text","text":"a"}],"model":"m"}}"#,
            &["a"],
        );
    }

    #[test]
    fn a_text_is_told_from_the_others_whatever_the_order_of_keys() {
        let part = |name: &str, json: &str| texts(json, name).pieces[0].part.expect("it goes on");
        let one = part("", r#"{"choices":[{"index":1,"delta":{"content":"a"}}]}"#);
        assert_eq!(one, part("", r#"{"choices":[{"delta":{"content":"b"},"index":1}]}"#));
        assert_ne!(one, part("", r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#));
        assert_ne!(one, part("", r#"{"choices":[{"index":1,"delta":{"reasoning":"a"}}]}"#));
        assert_eq!(one.1, 1);
        let call = |index| {
            let json = format!(
                r#"{{"choices":[{{"delta":{{"tool_calls":[{{"function":{{"arguments":"a"}},"index":{index}}}]}}}}]}}"#
            );
            part("", &json)
        };
        assert_ne!(call(0), call(1));
        let block = r#"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":"a"}}"#;
        let delta = r#"{"index":2,"type":"content_block_delta","delta":{"text":"a","type":"text_delta"}}"#;
        assert_eq!(part("", block), part("", delta));
        let said = r#"{"output_index":0,"content_index":1,"delta":"a"}"#;
        assert_ne!(part("response.output_text.delta", said), part("response.refusal.delta", said));
    }

    #[test]
    fn shadows_ends_and_pauses_are_noted() {
        let json = r#"{"choices":[{"index":3,"delta":{"content":"a"},"logprobs":{"content":[{"token":"a"}]},"token_ids":null,"finish_reason":"stop"}]}"#;
        let found = texts(json, "");
        assert_eq!(
            found.shadows.iter().map(|span| &json[span.clone()]).collect::<Vec<_>>(),
            [r#"{"content":[{"token":"a"}]}"#]
        );
        assert_eq!(found.ended, [3]);
        assert!(!found.is_pause);
        assert!(texts(r#"{"type":"content_block_stop","index":0}"#, "content_block_stop").is_pause);
        assert!(!texts(r#"{"type":"ping"}"#, "ping").is_pause);
    }
}
