//! Text → what its shape claims to be. An attack need not say anything suspicious if it can make the model believe
//! that the user's turn has ended and somebody more trusted speaks: a chat template's token, a closing tag, a
//! JSON break-out, a heading, a fence. Others hide a request where only a model reads it, or have an image's
//! address carry the conversation away. None of that is told by words, so it is told here, by form.
//!
//! What separates attack and mention is direction. A *break-out* closes the turn it stands in and opens another
//! one; documentation quotes a token, a whole chat body is JSON from its first byte, a few-shot prompt begins with
//! the asker. Each room says which forms it takes for which:
//! - `template`: the control tokens of chat templates; `disguise`: those that are written in other letters
//! - `turns`: "Assistant: … System: …", headings, role links, fences
//! - `tags`: XML roles and tool calls, hidden elements and comments
//! - `json`: objects that are messages or switches
//! - `links`: addresses that act or carry data
//! - `repetition`: one phrase again and again
//! - `codes`: bits, hex digits or Morse
//!
//! What always holds: no text makes this panic, spans lie on character boundaries, work is linear in the text.
//! Cost: no allocation where nothing is found; ordinary prose is searched for a few rare bytes and not looked at
//! otherwise.

mod address;
mod codes;
mod disguise;
mod fence;
mod json;
mod links;
mod markup;
mod page;
mod repetition;
mod sentence;
mod shape;
mod switch;
mod tags;
mod template;
mod turns;

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr2_iter, memchr3_iter};

use super::{Finding, Role, Severity};
use page::Page;
use shape::Report;

pub use shape::Shape;

/// How a text was kept from the eyes of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hiding {
    /// A comment of HTML or markdown.
    Comment,
    /// An element that is not drawn: `hidden`, `display:none`, off the screen, white on white and the like.
    Element,
    /// An attribute that a browser shows late or never: `alt`, `title`, `value`, `aria-label`, a link's title.
    Attribute,
}

/// Text inside a text that a person would not see, for the layers that read words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiddenText {
    /// The markup with what it hides.
    pub span: Range<usize>,
    /// What it hides.
    pub text: Range<usize>,
    /// How.
    pub hiding: Hiding,
}

/// Adds to `found` what the shape of `text` gives away, and to `hidden` the texts that its markup hides, in the
/// order of the text. Texts of [`Role::System`] were written by the operator, who may use any markup: there a
/// finding says one level less.
///
/// # Cost
/// Linear in `text`; prose without `<`, `[`, `{` costs six searches for a byte. Allocates for findings only.
pub fn check(text: &str, role: Role, found: &mut Vec<Finding>, hidden: &mut Vec<HiddenText>) {
    let mut report = Report::new(text, role, found);
    let mut page = Page::new(text);
    let mut template = template::Scan::default();
    let mut tags = tags::Scan::default();
    let mut json_from = None;
    let mut has_bracket = false;
    let mut resume = 0;
    for at in memchr3_iter(b'<', b'[', b'{', text.as_bytes()) {
        has_bracket |= page.bytes[at] == b'[';
        if at < resume {
            continue;
        }
        resume = match (page.bytes[at], page.bytes.get(at + 1)) {
            (b'<', Some(b'!')) => markup::comment(&mut page, &mut tags, at, &mut report, hidden),
            (b'<', Some(b'/' | b'a'..=b'z' | b'A'..=b'Z')) => {
                if let Some(end) = template.tag(&mut page, at) {
                    end
                } else {
                    tags.tag(&mut page, at, &mut report, hidden)
                }
            }
            (b'<', Some(b'|' | b'<' | b' ' | 0xEF)) | (b'[', Some(b'|')) => template.token(&mut page, at),
            (b'[', Some(b'a'..=b'z' | b'A'..=b'Z' | b'/' | b' ' | b'_' | b'*')) => {
                match template.bracket(&mut page, at) {
                    Some(end) => end,
                    None => {
                        turns::label(&mut page, at, &mut report);
                        markup::bracket(&mut page, at, &mut report, hidden)
                    }
                }
            }
            (b'{', _) => {
                if json_from.is_none() && json::begins(page.bytes, at) {
                    json_from = Some(at);
                }
                at + 1
            }
            _ => at + 1,
        };
    }
    template.finish(&page, &mut report);
    let mut is_dressed = disguise::has_full_width(page.bytes);
    let mut closes_until = json_from.unwrap_or(text.len());
    for at in memchr2_iter(b'|', b'}', page.bytes) {
        if page.bytes[at] == b'|' {
            is_dressed = is_dressed || disguise::is_dressed(page.bytes, at);
        } else if at < closes_until && json::closes(page.bytes, at, &mut report) {
            closes_until = 0;
        }
    }
    if is_dressed {
        template::disguised(text, &mut report);
    }
    if let Some(from) = json_from {
        json::check(text, from, &mut report);
    }
    turns::check(text, &mut report);
    if has_bracket {
        links::check(text, &mut report, hidden);
    }
    repetition::check(text, &mut report);
    codes::check(text, &mut report);
}

/// What the same findings say of a text that reaches the model as it is, as one for `/v1/completions` does: that as a whole it is a prompt
/// in the model's template is how such texts are written, and says `medium` at most.
#[must_use]
pub fn as_completion(findings: &[Finding]) -> Cow<'_, [Finding]> {
    let is_whole = |finding: &Finding| *finding.rule == *Shape::TemplateWhole.id();
    if !findings.iter().any(is_whole) {
        return Cow::Borrowed(findings);
    }
    let less = findings.iter().map(|finding| {
        let most = if is_whole(finding) { Severity::Medium } else { Severity::High };
        Finding { severity: finding.severity.min(most), ..finding.clone() }
    });
    less.collect()
}

#[cfg(test)]
mod tests;
