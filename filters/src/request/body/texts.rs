//! The texts of a request that a model will read, each with who wrote it and where it stands. They are spans of
//! the body, so finding them copies nothing; a text is unescaped only when somebody reads it.
//!
//! Roles are those of the request. A part that says it is a tool's result is the tool's, whoever sent the message
//! around it. What names no role is the user's: that is who is trusted least among those who write prompts.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use super::apart::{is_name, is_no_text, says_much};
use crate::json::{Kind, Leaf, Reader, Result, Str};
use crate::request::scan::Role;
use crate::tokenizer::image::is_image;

/// One text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Who wrote it.
    pub role: Role,
    /// In which value of the request it stands.
    pub place: Place,
    /// Its first byte in the body.
    start: usize,
    /// Its bytes in the body, without quotes.
    len: usize,
    /// Its Unicode characters.
    chars: u64,
    has_escapes: bool,
}

/// A value of the request: `messages[2]`, `prompt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The key of the request.
    pub key: &'static str,
    /// The item, where that key holds a list.
    pub index: Option<u32>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) if self.key == "messages" => write!(f, "messages[{index}].content"),
            Some(index) => write!(f, "{}[{index}]", self.key),
            None => f.write_str(self.key),
        }
    }
}

impl Text {
    /// The `prompt` field of a form, which stands at `span` of `body`. It comes with the file that the model reads, the same
    /// one with many files: no turn of whoever asks.
    #[must_use]
    pub fn of_form(body: &[u8], span: Range<usize>) -> Self {
        let (start, raw) = (span.start, &body[span]);
        let chars = Str { raw, start, has_escapes: false }.chars();
        let place = Place { key: "prompt", index: None };
        Self { role: Role::Tool, place, start, len: raw.len(), chars, has_escapes: false }
    }

    /// Its bytes as they stand in the body.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "empty texts are left out")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Its Unicode characters.
    #[must_use]
    pub fn chars(&self) -> u64 {
        self.chars
    }

    /// Whether it is an instruction by whoever runs the application: system and developer messages. Definitions of
    /// tools and of answers are instructions too, but not told apart as such.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.role == Role::System
            && matches!(self.place.key, "messages" | "input" | "instructions" | "system")
    }

    /// Whether a model reads it as it stands. Definitions of tools are read as JSON ([`super::Prompt::tools`]), and the
    /// shape that an answer must have is mostly not read but enforced.
    #[must_use]
    pub fn is_read(&self) -> bool {
        is_input(self.place.key)
    }

    /// The text, unescaped. `body` is the body that it was found in.
    ///
    /// # Cost
    /// Allocates only where there are escapes.
    #[must_use]
    pub fn value<'b>(&self, body: &'b [u8]) -> Cow<'b, str> {
        let raw = body.get(self.start..self.start + self.len).unwrap_or_default();
        Str { raw, start: self.start, has_escapes: self.has_escapes }.value()
    }
}

/// The keys of a request under which there is text for a model, each with who writes there unless the value says
/// otherwise.
static KEYS: [(&str, Role); 36] = [
    ("messages", Role::User),
    ("prompt", Role::User),
    ("input", Role::User),
    ("query", Role::User),
    ("queries", Role::User),
    ("suffix", Role::User),
    ("text_1", Role::User),
    ("text_2", Role::Tool),
    ("data_1", Role::User),
    ("data_2", Role::Tool),
    ("items", Role::Tool),
    ("content", Role::User),
    ("tokens", Role::User),
    ("documents", Role::Tool),
    ("instructions", Role::System),
    ("instruction", Role::System),
    ("system", Role::System),
    ("system_prompt", Role::System),
    // What the model is said to be about to answer.
    ("prediction", Role::Assistant),
    ("tools", Role::System),
    ("functions", Role::System),
    ("response_format", Role::System),
    ("text", Role::System),
    ("chat_template", Role::System),
    ("chat_template_kwargs", Role::System),
    // The shape that an answer must have: engines keep to it, and the model comes to say what is in it.
    ("structured_outputs", Role::System),
    ("guided_json", Role::System),
    ("guided_regex", Role::System),
    ("guided_choice", Role::System),
    ("guided_grammar", Role::System),
    ("guided_whitespace_pattern", Role::System),
    ("json_schema", Role::System),
    ("regex", Role::System),
    ("ebnf", Role::System),
    ("grammar", Role::System),
    ("structural_tag", Role::System),
];

/// The key as [`KEYS`] has it and who writes there, if there is text for a model under it.
pub(super) fn role_of_key(key: &str) -> Option<(&'static str, Role)> {
    KEYS.iter().copied().find(|(name, _)| *name == key)
}

/// All keys under which there is text for a model.
pub(super) fn text_keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(name, _)| *name)
}

/// Whether the texts under a key are something that a model is given to answer. The rest says what tools there are, how
/// the prompt is put together, and what an answer must look like.
fn is_input(key: &str) -> bool {
    KEYS.iter().take_while(|(name, _)| *name != "prediction").any(|(name, _)| *name == key)
}

/// What was found under the keys that hold text.
#[derive(Default)]
pub(super) struct Texts {
    /// The texts, in the order of the request.
    pub(super) texts: Vec<Text>,
    /// Their Unicode characters.
    pub(super) chars: u64,
    /// Numbers among them: prompts given as tokens.
    pub(super) numbers: u64,
    /// Items of the keys in which a chat's messages stand, or as many inputs.
    pub(super) items: u64,
    /// Parts that say that they are images.
    pub(super) image_parts: u64,
    /// Where images in base64 stand.
    pub(super) image_data: Vec<Range<usize>>,
}

/// The texts of a list of messages, which comes next.
///
/// # Errors
/// If it is not JSON.
pub fn texts_of_messages(reader: &mut Reader<'_>) -> Result<Vec<Text>> {
    let mut texts = Texts::default();
    texts.read(reader, "messages", Role::User)?;
    Ok(texts.texts)
}

impl Texts {
    /// Reads the value of `key`, which comes next.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, key: &'static str, role: Role) -> Result<()> {
        let is_item = key != "suffix" && is_input(key);
        // Anthropic's `system` may be a list of blocks, which are one message.
        let is_one = key == "system" || reader.peek()? == Kind::String;
        self.items += u64::from(is_item && is_one);
        if reader.peek()? != Kind::Array {
            return self.read_item(reader, Place { key, index: None }, role);
        }
        reader.enter_array()?;
        let mut index = 0;
        while reader.next_item()? {
            // A list of numbers is one input.
            let is_next = index == 0 || reader.peek()? != Kind::Number;
            self.items += u64::from(is_item && !is_one && is_next);
            self.read_item(reader, Place { key, index: Some(index) }, role)?;
            index = index.saturating_add(1);
        }
        Ok(())
    }

    /// Reads a message, or any other item.
    fn read_item(&mut self, reader: &mut Reader<'_>, place: Place, default: Role) -> Result<()> {
        if reader.peek()? != Kind::Object {
            return self.walk(reader, place, default);
        }
        let first = self.texts.len();
        let (mut role, mut is_named) = (default, false);
        reader.enter_object()?;
        while let Some(key) = reader.next_key()? {
            let is_string = reader.peek()? == Kind::String;
            self.key(key, place, default);
            if is_string && key.is("role") {
                let name = reader.string()?;
                (role, is_named) = (role_named(&name.value(), default), true);
                self.string(Some(key), name, place, default);
            } else if is_string {
                let value = reader.string()?;
                if key.is("type") {
                    role = role_of_type(&value, role);
                    if !is_named && role == default && is_call(&value) {
                        role = Role::Assistant;
                    }
                }
                self.string(Some(key), value, place, default);
            } else if reader.peek()? == Kind::Array {
                // Content parts: each says for itself what it is.
                reader.enter_array()?;
                while reader.next_item()? {
                    self.walk(reader, place, default)?;
                }
            } else {
                self.walk(reader, place, default)?;
            }
        }
        // The role may stand after the text. What a part said of itself stays.
        for text in self.texts[first..].iter_mut().filter(|text| text.role == default) {
            text.role = role;
        }
        Ok(())
    }

    fn walk(&mut self, reader: &mut Reader<'_>, place: Place, default: Role) -> Result<()> {
        let mut role = default;
        reader.walk(|leaf| match leaf {
            Leaf::Key(key) => self.key(key, place, role),
            Leaf::String { key, value } => {
                if key.is_some_and(|key| key.is("type")) {
                    // What a tool's result holds is the tool's, at any depth.
                    role = role_of_type(&value, role);
                    self.image_parts += u64::from(is_image_type(&value));
                }
                self.string(key, value, place, role);
            }
            Leaf::Number(_) => self.numbers += 1,
        })?;
        Ok(())
    }

    /// Takes in a key. Most are names; one that is a sentence is read like any other, in the definition of a tool or in
    /// what a tool was called with. A long name in what a person wrote is the client's, and no turn of that person.
    fn key(&mut self, key: Str<'_>, place: Place, role: Role) {
        if !is_name(&key) || (role != Role::User && says_much(&key)) {
            self.text(key, place, role);
        }
    }

    fn string(&mut self, key: Option<Str<'_>>, value: Str<'_>, place: Place, role: Role) {
        if may_be_image(key, &value) {
            self.image_data.extend(image_data(&value));
        }
        if !is_no_text(key, &value) {
            self.text(value, place, role);
        }
    }

    fn text(&mut self, value: Str<'_>, place: Place, role: Role) {
        let chars = value.chars();
        self.chars += chars;
        let Str { raw, start, has_escapes } = value;
        if !raw.is_empty() {
            self.texts.push(Text { role, place, start, len: raw.len(), chars, has_escapes });
        }
    }
}

fn role_named(name: &str, default: Role) -> Role {
    match name {
        "system" | "developer" => Role::System,
        "assistant" | "model" => Role::Assistant,
        "tool" | "function" | "ipython" | "observation" => Role::Tool,
        "user" => Role::User,
        _ => default,
    }
}

/// What a tool gave back is the tool's, in whatever it is wrapped.
fn role_of_type(kind: &Str<'_>, otherwise: Role) -> Role {
    const RESULTS: [&str; 6] = [
        "search_result",
        "document",
        "mcp_call",
        "file_search_call",
        "code_interpreter_call",
        "web_search_call",
    ];
    let is_result = RESULTS.iter().any(|name| kind.is(name))
        || [&b"_output"[..], b"tool_result"].iter().any(|end| kind.raw.ends_with(end));
    if is_result { Role::Tool } else { otherwise }
}

/// Whether an item without a role is what the model wrote: a call of a tool, or its thoughts.
fn is_call(kind: &Str<'_>) -> bool {
    kind.is("reasoning") || kind.raw.ends_with(b"_call")
}

fn is_image_type(kind: &Str<'_>) -> bool {
    ["image_url", "input_image", "image"].iter().any(|name| kind.is(name))
}

/// Whether an image may stand in a string: where media are kept, or in any `data:` address.
fn may_be_image(key: Option<Str<'_>>, value: &Str<'_>) -> bool {
    let is_media = |key: Str<'_>| matches!(key.raw, b"url" | b"data" | b"file_data");
    value.raw.starts_with(b"data:") || key.is_some_and(is_media)
}

/// Where the base64 of an image stands, if `value` is one: in a `data:` address, or by itself.
fn image_data(value: &Str<'_>) -> Option<Range<usize>> {
    let base64 = if value.raw.starts_with(b"data:image/") {
        // What says the type is short.
        let head = &value.raw[..value.raw.len().min(128)];
        memchr::memchr(b',', head)? + 1
    } else if is_image(value.raw) {
        0
    } else {
        return None;
    };
    Some(value.start + base64..value.start + value.raw.len())
}

#[cfg(test)]
mod tests {
    use super::super::{Prompt, parse};
    use super::*;
    use crate::endpoint::Endpoint;

    /// Every text as `place role text`.
    fn texts(endpoint: Endpoint, body: &str) -> Vec<String> {
        let prompt: Prompt = parse(endpoint, body.as_bytes(), 64).expect("a good body");
        let show = |text: &Text| format!("{} {:?} {}", text.place, text.role, text.value(body.as_bytes()));
        prompt.texts.iter().map(show).collect()
    }

    #[test]
    fn every_text_has_its_writer_and_its_place() {
        let chat = r#"{"model":"m","messages":[
            {"role":"system","content":"a"},
            {"content":"b\n\u0063","role":"user"},
            {"role":"user","content":[{"type":"text","text":"d"},
                {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},
                {"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"e"}]}]},
            {"role":"tool","tool_call_id":"x","content":"f"},
            {"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function",
                "function":{"name":"g","arguments":"{\"q\":\"h\"}"}}]}],
            "tools":[{"type":"function","function":{"name":"g","description":"i"}}]}"#;
        assert_eq!(
            texts(Endpoint::ChatCompletions, chat),
            [
                "messages[0].content System a",
                "messages[1].content User b\nc",
                "messages[2].content User d",
                "messages[2].content Tool e",
                "messages[3].content Tool f",
                "messages[4].content Assistant g",
                "messages[4].content Assistant {\"q\":\"h\"}",
                "tools[0] System g",
                "tools[0] System i",
            ]
        );
    }

    #[test]
    fn other_endpoints_have_texts_of_their_own() {
        for (endpoint, body, expected) in [
            (Endpoint::Completions, r#"{"model":"m","prompt":"a"}"#, vec!["prompt User a"]),
            (
                Endpoint::Completions,
                r#"{"model":"m","prompt":["a","b"]}"#,
                vec!["prompt[0] User a", "prompt[1] User b"],
            ),
            (
                Endpoint::Responses,
                r#"{"model":"m","instructions":"a","input":[{"type":"function_call_output","output":"b"},
                    {"role":"developer","content":[{"type":"input_text","text":"c"}]}]}"#,
                vec!["instructions System a", "input[0] Tool b", "input[1] System c"],
            ),
            (
                Endpoint::Responses,
                r#"{"model":"m","input":[{"type":"reasoning","summary":[{"type":"summary_text","text":"a"}]},
                    {"type":"function_call","call_id":"1","name":"f","arguments":"{\"q\":\"b\"}"},
                    {"arguments":"c","type":"custom_tool_call"},{"type":"local_shell_call_output","output":"d"},
                    {"type":"mcp_call","arguments":"e","output":"f"},{"type":"x_call","role":"user","content":"g"},
                    {"role":"user","type":"x_call","content":[{"type":"y_call","text":"h"}]}]}"#,
                vec![
                    "input[0] Assistant a",
                    "input[1] Assistant f",
                    "input[1] Assistant {\"q\":\"b\"}",
                    "input[2] Assistant c",
                    "input[3] Tool d",
                    "input[4] Tool e",
                    "input[4] Tool f",
                    "input[5] User g",
                    "input[6] User h",
                ],
            ),
            (Endpoint::Embeddings, r#"{"model":"m","input":[[1,2],[3]]}"#, vec![]),
            (
                Endpoint::Score,
                r#"{"model":"m","data_1":"a","data_2":["b"]}"#,
                vec!["data_1 User a", "data_2[0] Tool b"],
            ),
        ] {
            assert_eq!(texts(endpoint, body), expected, "{body}");
        }
    }

    #[test]
    fn a_sentence_is_a_text_whatever_its_key() {
        for (endpoint, body, expected) in [
            (
                Endpoint::Messages,
                r#"{"model":"m","messages":[{"role":"user","content":[{"type":"document",
                    "source":{"type":"text","media_type":"text/plain","data":"go to the beach"}}]}]}"#,
                vec!["messages[0].content Tool text/plain", "messages[0].content Tool go to the beach"],
            ),
            (
                Endpoint::Messages,
                r#"{"model":"m","messages":[{"role":"assistant","content":[{"type":"tool_use","id":"toolu_1",
                    "name":"f","input":{"data":"go to the beach","go there at noon":true,"type":"and swim there"}}]}]}"#,
                vec![
                    "messages[0].content Assistant f",
                    "messages[0].content Assistant go to the beach",
                    "messages[0].content Assistant go there at noon",
                    "messages[0].content Assistant and swim there",
                ],
            ),
            (
                Endpoint::Rerank,
                r#"{"model":"m","query":"q","documents":[{"data":"go to the beach"},{"id":"walk to the sea"},
                    {"id":"7","url":"https://example.org/a","detail":"low"},{"url":"swim in the sea"}]}"#,
                vec![
                    "query User q",
                    "documents[0] Tool go to the beach",
                    "documents[1] Tool walk to the sea",
                    "documents[3] Tool swim in the sea",
                ],
            ),
            (
                Endpoint::ChatCompletions,
                r#"{"model":"m","messages":[{"role":"user of this place","content":"a"},
                    {"role":"tool","content":[{"type":"json","data":"go to the beach"}]}]}"#,
                vec![
                    "messages[0].content User user of this place",
                    "messages[0].content User a",
                    "messages[1].content Tool go to the beach",
                ],
            ),
        ] {
            assert_eq!(texts(endpoint, body), expected, "{body}");
        }
    }

    #[test]
    fn what_shapes_an_answer_is_read_and_no_input() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"12345678"}],
            "prediction":{"type":"content","content":"a"},"chat_template":"b","chat_template_kwargs":{"c":"d"},
            "guided_json":{"description":"e"},"guided_choice":["f"],"structured_outputs":{"json":{"title":"g"}},
            "tools":[{"function":{"parameters":{"properties":{"go to the beach":{"type":"string"},
                "walk_to_the_sea":{"type":"string"},"include_raw_data":{"type":"string"}}}}}]}"#;
        assert_eq!(
            texts(Endpoint::ChatCompletions, body)[1..],
            [
                "prediction Assistant a",
                "chat_template System b",
                "chat_template_kwargs System d",
                "guided_json System e",
                "guided_choice[0] System f",
                "structured_outputs System g",
                "tools[0] System go to the beach",
                "tools[0] System walk_to_the_sea",
            ]
        );
        let prompt = parse(Endpoint::ChatCompletions, body.as_bytes(), 64).expect("a good body");
        assert_eq!((prompt.messages, prompt.texts.iter().filter(|text| text.is_read()).count()), (1, 1));
    }
}
