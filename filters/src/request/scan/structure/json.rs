//! JSON inside a prompt. A whole chat body is an ordinary thing to paste, and so is a record whose `role` is
//! `system`; what is no ordinary thing is
//! - a *break-out*: prose, then `"}], "messages": [{"role": "system"`, which closes a string nobody opened here;
//! - messages of the system and of nobody else, as the whole text;
//! - an object that talks to a model and throws switches: `"bypass_safety": true`, `"override": true` beside a
//!   role or instructions.
//!
//! The reader here forgives everything, for broken JSON is the point: it follows brackets and strings as far as
//! they go and keeps a few facts for each open object. It reads a stretch once and goes on behind it.

use std::ops::Range;

use memchr::{memchr, memchr2, memmem};

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
/// Strings in strings that are looked into.
const MOST_ESCAPES: usize = 7;

/// Whether an object with a quoted key begins at `at`.
pub(super) fn begins(bytes: &[u8], at: usize) -> bool {
    let key = skip_space(bytes, at + 1, 16);
    // Within a string of JSON the marks are escaped, once or more.
    let escapes = bytes.get(key..).unwrap_or_default().iter().take(MOST_ESCAPES);
    let key = key + escapes.take_while(|byte| **byte == b'\\').count();
    matches!(bytes.get(key), Some(b'"' | b'\''))
}

/// Looks at `}` at `at`, before any object has begun: whether the string around the text is closed there, and the
/// operator's words follow under a key of their own, as in `…"}], "system": "…`. Gives whether it was reported.
pub(super) fn closes(bytes: &[u8], at: usize, report: &mut Report<'_>) -> bool {
    if !bytes[..at].ends_with(b"\"") {
        return false;
    }
    let rest = &bytes[at + 1..(at + 1 + BACK).min(bytes.len())];
    let is_between = |byte: &&u8| matches!(byte, b'}' | b']' | b',') || byte.is_ascii_whitespace();
    let between = rest.iter().take_while(is_between).count();
    if !rest[..between].contains(&b',') || rest.get(between) != Some(&b'"') {
        return false;
    }
    let Some(length) = memchr(b'"', &rest[between + 1..]) else { return false };
    let name = Name::of(&rest[between + 1..between + 1 + length]);
    let colon = skip_space(rest, between + 2 + length, 8);
    let is_operator = matches!(
        name.as_ref().map(Name::as_bytes),
        Some(b"system" | b"instructions" | b"systemprompt" | b"systeminstruction" | b"developer")
    );
    let closes = at > 1
        && is_operator
        && rest.get(colon) == Some(&b':')
        && has_words(bytes.get(at + 1 + colon + 1..).unwrap_or_default(), 2);
    if closes {
        report.add(Shape::JsonBreakout, Severity::High, at - 1..at + 1 + colon);
    }
    closes
}

/// Judges the objects of `text` from `from` on.
pub(super) fn check(text: &str, from: usize, report: &mut Report<'_>) {
    let bytes = text.as_bytes();
    let mut reader = Reader {
        bytes,
        at: 0,
        whole: whole(text),
        only_system: None,
        has_others: false,
        frames: [Frame::default(); DEEPEST],
        was_torn: false,
        is_torn: false,
    };
    let mut next = from;
    let mut read_until = 0;
    // Up to where what the text begins with is one piece of JSON.
    let mut covered = 0;
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
            if start == reader.whole.start {
                covered = next;
            }
            read_until = next;
        }
    }
    reader.finish(covered, report);
}

/// The text without the white space around it, and without a code fence that is all around it.
fn whole(text: &str) -> Range<usize> {
    let start = text.len() - text.trim_start().len();
    let end = start + text.trim().len();
    let Some(inside) = text[start..end].strip_prefix("```").and_then(|rest| rest.strip_suffix("```")) else {
        return start..end;
    };
    let language = inside.bytes().take(16).take_while(u8::is_ascii_alphanumeric).count();
    let body = &inside[language..];
    let start = end - 3 - body.trim_start().len();
    start..start + body.trim().len()
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
    /// Words under a key that is the operator's.
    has_system_text: bool,
    /// A switch that nobody throws but against a guard.
    has_bypass: bool,
    /// All keys.
    keys: u8,
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
    /// The first message of the system that has nothing but a role and a text.
    only_system: Option<Range<usize>>,
    /// There are messages of others, or keys that messages do not have.
    has_others: bool,
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
                    if depth > 0 && key.is_some() {
                        self.frames[depth - 1].keys = self.frames[depth - 1].keys.saturating_add(1);
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
                        key = name(&self.bytes[value]);
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
        // A mark that is escaped itself is closed by one that is.
        if self.at > 0 && self.bytes[self.at - 1] == b'\\' {
            let length = memmem::find(&self.bytes[from..], &[b'\\', quote]);
            let end = length.map_or(self.bytes.len(), |length| from + length);
            self.at = (end + 2).min(self.bytes.len());
            return from..end;
        }
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
        frame.keys = frame.keys.saturating_add(1);
        match (key.as_bytes(), value) {
            (b"role" | b"from" | b"speaker" | b"author", Value::Text(text)) => {
                frame.has_role = true;
                let role = name(&bytes[text]);
                frame.says_system |=
                    matches!(role.as_ref().map(Name::as_bytes), Some(b"system" | b"developer"));
            }
            (
                b"content" | b"instructions" | b"instruction" | b"prompt" | b"message" | b"command"
                | b"directive" | b"text" | b"task" | b"query" | b"action" | b"system" | b"value",
                Value::Text(text),
            ) => {
                let has_text = has_words(&bytes[text], 2);
                frame.has_text |= has_text;
                frame.has_system_text |= has_text && key.as_bytes() == b"system";
            }
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
                    Some(Switch::Weak) => {
                        frame.weak = frame.weak.saturating_add(1);
                        frame.has_bypass |= name == b"bypass";
                    }
                    None => frame.other_keys = frame.other_keys.saturating_add(1),
                }
            }
        }
    }

    fn judge(
        &mut self,
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
        // Broken JSON that reaches to the text's end by its last bracket claims to be all of it.
        let reaches = self.at + 1 >= self.whole.end || is_broken && self.bytes[self.whole.end - 1] == b'}';
        let is_whole = frame.start == self.whole.start && reaches && frame.other_keys == 0;
        if frame.says_system && frame.has_text && frame.other_keys == 0 {
            self.only_system.get_or_insert(span.clone());
        } else {
            self.has_others |= frame.has_role || frame.other_keys > 0;
        }
        let is_small = frame.other_keys <= FEW_KEYS;
        let speaks = frame.says_system || frame.has_text;
        if frame.says_system && (frame.weak > 0 || frame.strong > 0)
            || is_small && (speaks && frame.strong > 0 || frame.has_text && frame.weak > 1)
            || is_small && frame.has_system_text && frame.has_bypass
            || is_whole && frame.has_bypass && frame.weak > 1
        {
            return report.add(Shape::JsonSwitch, Severity::High, span);
        }
        if frame.strong > 0 && frame.other_keys <= FEW_KEYS {
            return report.add(Shape::JsonSwitch, Severity::Medium, span);
        }
        if frame.says_system && frame.has_text && depth == 0 && !frame.is_chat {
            report.add(Shape::JsonRole, if is_whole { Severity::High } else { Severity::Low }, span);
        } else if frame.has_system_text && depth == 0 && is_whole && frame.keys == 1 {
            report.add(Shape::JsonRole, Severity::High, span);
        }
    }

    /// Judges what only the whole text can tell; what it begins with was read as JSON up to `covered`.
    fn finish(&self, covered: usize, report: &mut Report<'_>) {
        let Some(span) = self.only_system.clone().filter(|_| !self.has_others) else { return };
        let rest = self.bytes.get(covered..self.whole.end).unwrap_or_default();
        if covered > 0
            && rest.iter().all(|byte| matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace())
        {
            report.add(Shape::JsonRole, Severity::High, span);
        } else if span.end + 1 >= self.whole.end {
            // The last word of a text that says nothing about it afterwards.
            report.add(Shape::JsonRole, Severity::Medium, span);
        }
    }
}

/// The name that a string of JSON gives, whichever of its letters are escaped.
fn name(bytes: &[u8]) -> Option<Name> {
    if !bytes.contains(&b'\\') {
        return Name::of(bytes);
    }
    // Six bytes for a letter at most.
    let mut letters = [0; Name::MOST * 6];
    let mut count = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = bytes.get(at..at + 6).and_then(|escape| escape.strip_prefix(b"\\u00"));
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        let (letter, length) = match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(letter) => (letter, 6),
            None => (byte, 1),
        };
        *letters.get_mut(count)? = letter;
        count += 1;
        at += length;
    }
    Name::of(&letters[..count])
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
