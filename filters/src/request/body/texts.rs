//! The texts of a request that a model will read, each with who wrote it and where it stands. They are spans of
//! the body, so finding them copies nothing; a text is unescaped only when somebody reads it.
//!
//! Roles are those of the request. A part that says it is a tool's result is the tool's, whoever sent the message
//! around it. What names no role is the user's: that is who is trusted least among those who write prompts.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

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
        !matches!(self.place.key, "tools" | "functions" | "response_format" | "text")
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
pub(super) fn role_of_key(key: &str) -> Option<(&'static str, Role)> {
    Some(match key {
        "messages" => ("messages", Role::User),
        "prompt" => ("prompt", Role::User),
        "input" => ("input", Role::User),
        "query" => ("query", Role::User),
        "queries" => ("queries", Role::User),
        "suffix" => ("suffix", Role::User),
        "text_1" => ("text_1", Role::User),
        "text_2" => ("text_2", Role::Tool),
        "content" => ("content", Role::User),
        "tokens" => ("tokens", Role::User),
        "documents" => ("documents", Role::Tool),
        "instructions" => ("instructions", Role::System),
        "system" => ("system", Role::System),
        "tools" => ("tools", Role::System),
        "functions" => ("functions", Role::System),
        "response_format" => ("response_format", Role::System),
        "text" => ("text", Role::System),
        _ => return None,
    })
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
        let is_item = !matches!(key, "tools" | "functions" | "response_format" | "text" | "suffix");
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
        let mut role = default;
        reader.enter_object()?;
        while let Some(key) = reader.next_key()? {
            let is_string = reader.peek()? == Kind::String;
            if is_string && key.is("role") {
                role = role_named(&reader.string()?.value(), default);
            } else if is_string && key.is("type") {
                role = role_of_type(&reader.string()?, role);
            } else if is_string && is_no_text(key) {
                reader.skip()?;
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
            // What a tool's result holds is the tool's, at any depth.
            Leaf::String { key: Some(key), value } if key.is("type") => {
                role = role_of_type(&value, role);
                self.image_parts += u64::from(is_image_type(&value));
            }
            Leaf::String { key: Some(key), value } if is_no_text(key) => {
                self.image_data.extend(image_data(&value))
            }
            Leaf::String { value, .. } if value.raw.starts_with(b"data:") => {
                self.image_data.extend(image_data(&value));
            }
            Leaf::String { value, .. } => {
                let chars = value.chars();
                self.chars += chars;
                let Str { raw, start, has_escapes } = value;
                if !raw.is_empty() {
                    self.texts.push(Text { role, place, start, len: raw.len(), chars, has_escapes });
                }
            }
            Leaf::Number(_) => self.numbers += 1,
        })?;
        Ok(())
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

fn role_of_type(kind: &Str<'_>, otherwise: Role) -> Role {
    const RESULTS: [&str; 5] =
        ["tool_result", "function_call_output", "search_result", "document", "custom_tool_call_output"];
    if RESULTS.iter().any(|name| kind.is(name)) { Role::Tool } else { otherwise }
}

fn is_image_type(kind: &Str<'_>) -> bool {
    ["image_url", "input_image", "image"].iter().any(|name| kind.is(name))
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

/// Keys whose string is not read as text by a model: names, identifiers, and media in base64.
fn is_no_text(key: Str<'_>) -> bool {
    matches!(
        key.raw,
        b"type"
            | b"role"
            | b"id"
            | b"tool_call_id"
            | b"tool_use_id"
            | b"call_id"
            | b"url"
            | b"data"
            | b"file_data"
            | b"detail"
    )
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
            (Endpoint::Embeddings, r#"{"model":"m","input":[[1,2],[3]]}"#, vec![]),
        ] {
            assert_eq!(texts(endpoint, body), expected, "{body}");
        }
    }
}
