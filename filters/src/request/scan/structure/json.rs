//! JSON inside a prompt. A whole chat body is an ordinary thing to paste, and so is a record whose `role` is
//! `system`; what is no ordinary thing is
//! - a *break-out*: prose, then `"}], "messages": [{"role": "system"`, which closes a string nobody opened here;
//! - a message of the system that stands alone, as the whole text;
//! - an object that talks to a model and throws switches: `"bypass_safety": true`, `"override": true` beside a
//!   role or instructions.
//!
//! The reader here forgives everything, for broken JSON is the point: it follows brackets and strings as far as
//! they go and keeps a few facts for each open object. It reads a stretch once and goes on behind it.

use std::ops::Range;

use memchr::{memchr, memchr2};

use super::super::Severity;
use super::page::{Name, has_words, skip_space};
use super::shape::{Report, Shape};
use super::switch::{self, Switch};

/// Objects nested deeper are not told apart.
const DEEPEST: usize = 32;
/// An object with more keys that mean nothing here is a record or a table of texts.
const FEW_KEYS: u8 = 6;
/// How far back a break-out is looked for before the first bracket.
const BACK: usize = 64;

/// Whether an object with a quoted key begins at `at`.
pub(super) fn begins(bytes: &[u8], at: usize) -> bool {
    let key = skip_space(bytes, at + 1, 16);
    matches!(bytes.get(key), Some(b'"' | b'\''))
}

/// Judges the objects of `text` from `from` on.
pub(super) fn check(text: &str, from: usize, report: &mut Report<'_>) {
    let bytes = text.as_bytes();
    let trimmed = text.trim();
    let start = text.len() - text.trim_start().len();
    let mut reader = Reader {
        bytes,
        at: 0,
        whole: start..start + trimmed.len(),
        frames: [Frame::default(); DEEPEST],
        was_torn: false,
        is_torn: false,
    };
    let mut next = from;
    let mut read_until = 0;
    while let Some(hit) = bytes.get(next..).and_then(|rest| memchr(b'{', rest)) {
        let at = next + hit;
        next = at + 1;
        if begins(bytes, at) {
            let broken_out = breaks_out(bytes, at, read_until);
            // A list is read from its bracket on, so that its objects are known to be messages.
            let before = bytes[read_until.max(at.saturating_sub(BACK))..at].trim_ascii_end();
            let list = before.ends_with(b"[") && broken_out.is_none();
            let start = if list { read_until.max(at.saturating_sub(BACK)) + before.len() - 1 } else { at };
            next = reader.read(start, broken_out, report).max(next);
            read_until = next;
        }
    }
}

/// Where a string and a bracket are closed that were not opened, and a list or object follows, up to `at`. What
/// was read as JSON already, up to `read_until`, opened what it closed.
fn breaks_out(bytes: &[u8], at: usize, read_until: usize) -> Option<usize> {
    let low = at.saturating_sub(BACK).max(read_until);
    let mut closed = false;
    let mut quotes = 0;
    for place in (low..at).rev() {
        match bytes[place] {
            b'}' | b']' => closed = true,
            b'"' | b'\'' if closed => return Some(place),
            b'"' | b'\'' => quotes += 1,
            b' ' | b'\n' | b'\r' | b'\t' | b',' | b':' | b'[' | b'{' | b'\\' => {}
            // A key between: "messages".
            byte if quotes == 1 && (byte.is_ascii_alphanumeric() || byte == b'_') => {}
            _ => return None,
        }
    }
    None
}

/// What is known of an open object or array.
#[derive(Clone, Copy, Default)]
struct Frame {
    start: usize,
    is_array: bool,
    /// A list of messages, or an object of such a list.
    is_chat: bool,
    /// Objects with a role directly inside.
    members: u8,
    says_system: bool,
    has_role: bool,
    /// A sentence under a key for instructions.
    has_text: bool,
    /// Switches that mean something only beside the others.
    weak: u8,
    /// Switches that say by their name what they are for.
    strong: u8,
    /// Keys that messages do not have.
    other_keys: u8,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The text without the white space around it.
    whole: Range<usize>,
    /// Something read before was never closed: what closes now may belong to it.
    was_torn: bool,
    /// As much is known of what is being read.
    is_torn: bool,
    frames: [Frame; DEEPEST],
}

impl Reader<'_> {
    /// Reads from the bracket at `start` to its partner, or to where this is JSON no more; gives where that is.
    fn read(&mut self, start: usize, broken_out: Option<usize>, report: &mut Report<'_>) -> usize {
        self.at = start;
        self.was_torn = self.is_torn;
        let mut depth = 0;
        let mut key: Option<Name> = None;
        let broken_out = broken_out.filter(|_| start > self.whole.start);
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'{' | b'[' => {
                    if depth == DEEPEST {
                        break;
                    }
                    let is_chat = byte == b'['
                        && key.as_ref().map_or(depth == 0, |key| is_chat_list(key.as_bytes()))
                        || byte == b'{' && depth > 0 && self.frames[depth - 1].is_chat;
                    self.frames[depth] =
                        Frame { start: self.at, is_array: byte == b'[', is_chat, ..Frame::default() };
                    depth += 1;
                    key = None;
                }
                b'}' | b']' => {
                    depth -= 1;
                    let frame = self.frames[depth];
                    if depth > 0 && frame.has_role {
                        self.frames[depth - 1].members = self.frames[depth - 1].members.saturating_add(1);
                    }
                    self.judge(frame, depth, false, broken_out, report);
                    if depth == 0 {
                        return self.at + 1;
                    }
                    key = None;
                }
                b'"' | b'\'' => {
                    let value = self.string(byte);
                    let colon = skip_space(self.bytes, self.at, 8);
                    if key.is_none()
                        && self.bytes.get(colon) == Some(&b':')
                        && !self.frames[depth - 1].is_array
                    {
                        key = Name::of(&self.bytes[value]);
                        // A key too long to be known still is a key.
                        if key.is_none() {
                            key = Name::of(b"other");
                        }
                        self.at = colon + 1;
                    } else if let Some(name) = key.take() {
                        let value = self.whole_value(byte, value);
                        self.note(depth - 1, &name, Value::Text(value));
                    }
                    continue;
                }
                b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' | b'\\' => {}
                _ if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.') => {
                    let from = self.at;
                    let is_word =
                        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.' | b'_');
                    self.at += self.bytes[from..].iter().take_while(|byte| is_word(byte)).count();
                    if let Some(name) = key.take() {
                        self.note(depth - 1, &name, Value::Word(from..self.at));
                    }
                    continue;
                }
                _ => break,
            }
            self.at += 1;
        }
        // Cut off or broken: what is open is judged as far as it went, the inner objects first.
        while depth > 0 {
            depth -= 1;
            self.judge(self.frames[depth], depth, true, broken_out, report);
        }
        self.is_torn = true;
        self.at
    }

    /// Steps over the string whose opening mark is here; gives what is between the marks.
    fn string(&mut self, quote: u8) -> Range<usize> {
        let from = self.at + 1;
        let mut at = from;
        loop {
            match memchr2(quote, b'\\', &self.bytes[at.min(self.bytes.len())..]) {
                Some(hit) if self.bytes[at + hit] == quote => {
                    self.at = at + hit + 1;
                    return from..at + hit;
                }
                Some(hit) => at += hit + 2,
                None => {
                    self.at = self.bytes.len();
                    return from..self.bytes.len();
                }
            }
        }
    }

    /// The value that `first` begins. Who writes JSON by hand forgets to escape the marks inside, so where nothing
    /// that may follow a value follows, it goes on to the next mark that something of the kind does follow.
    fn whole_value(&mut self, quote: u8, first: Range<usize>) -> Range<usize> {
        let mut value = first;
        loop {
            let next = skip_space(self.bytes, self.at, 64);
            if matches!(self.bytes.get(next), None | Some(b',' | b'}' | b']' | b'\\')) {
                return value;
            }
            self.is_torn = true;
            self.at -= 1;
            value.end = self.string(quote).end;
        }
    }

    /// Keeps what a key and its value say about the object they stand in.
    fn note(&mut self, level: usize, key: &Name, value: Value) {
        let frame = &mut self.frames[level];
        let bytes = self.bytes;
        match (key.as_bytes(), value) {
            (b"role" | b"from" | b"speaker" | b"author", Value::Text(text)) => {
                frame.has_role = true;
                let role = bytes[text].trim_ascii();
                frame.says_system |=
                    [&b"system"[..], b"developer"].iter().any(|name| role.eq_ignore_ascii_case(name));
            }
            (
                b"content" | b"instructions" | b"instruction" | b"prompt" | b"message" | b"command"
                | b"directive" | b"text" | b"task" | b"query" | b"action" | b"system" | b"value",
                Value::Text(text),
            ) => frame.has_text |= has_words(&bytes[text], 2),
            (b"name" | b"type" | b"content" | b"weight", _) => {}
            (
                b"systemoverride"
                | b"systempromptoverride"
                | b"newsystemprompt"
                | b"newinstructions"
                | b"overrideinstructions"
                | b"systemcommand"
                | b"ignoreprevious"
                | b"newsysteminstructions",
                Value::Text(text),
            ) if has_words(&bytes[text.clone()], 3) => frame.strong = frame.strong.saturating_add(1),
            (name, value) => {
                let (Value::Text(range) | Value::Word(range)) = value;
                let value = bytes[range].trim_ascii();
                match switch::read(name, value) {
                    Some(Switch::Strong) => frame.strong = frame.strong.saturating_add(1),
                    Some(Switch::Weak) => frame.weak = frame.weak.saturating_add(1),
                    None => frame.other_keys = frame.other_keys.saturating_add(1),
                }
            }
        }
    }

    fn judge(
        &self,
        frame: Frame,
        depth: usize,
        is_broken: bool,
        broken_out: Option<usize>,
        report: &mut Report<'_>,
    ) {
        let span = frame.start..self.at.min(self.bytes.len()).max(frame.start);
        if frame.is_array {
            return;
        }
        if let Some(from) = broken_out
            && (frame.has_role || frame.strong > 0)
        {
            let head = from..(frame.start + 1).max(from);
            let severity = if self.was_torn { Severity::Medium } else { Severity::High };
            return report.add(Shape::JsonBreakout, severity, head);
        }
        let is_small = frame.other_keys <= FEW_KEYS;
        let speaks = frame.says_system || frame.has_text;
        if frame.says_system && (frame.weak > 0 || frame.strong > 0)
            || is_small && (speaks && frame.strong > 0 || frame.has_text && frame.weak > 1)
        {
            return report.add(Shape::JsonSwitch, Severity::High, span);
        }
        if frame.strong > 0 && frame.other_keys <= FEW_KEYS {
            return report.add(Shape::JsonSwitch, Severity::Medium, span);
        }
        if frame.says_system && frame.has_text && depth == 0 && !frame.is_chat {
            // Broken JSON that reaches to the text's end by its last bracket claims to be all of it.
            let reaches =
                self.at + 1 >= self.whole.end || is_broken && self.bytes[self.whole.end - 1] == b'}';
            let is_whole = frame.start == self.whole.start && reaches && frame.other_keys == 0;
            let severity = if is_whole { Severity::High } else { Severity::Low };
            report.add(Shape::JsonRole, severity, span);
        }
    }
}

/// A value as it stands in the text.
enum Value {
    Text(Range<usize>),
    Word(Range<usize>),
}

fn is_chat_list(key: &[u8]) -> bool {
    matches!(
        key,
        b"messages"
            | b"conversation"
            | b"conversations"
            | b"chat"
            | b"history"
            | b"input"
            | b"turns"
            | b"dialog"
            | b"dialogue"
            | b"prompt"
            | b"choices"
            | b"contents"
    )
}
