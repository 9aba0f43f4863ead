//! Tags that a prompt's frame uses: roles, instructions, tool calls and results. Such a frame is often written
//! as XML around the user's text, so text that closes it and opens another part speaks with the frame's voice.
//!
//! `<system>` with an order in it is told from an XML document that happens to have such an element: a document
//! begins with its root, stands inside of it, and its elements have values, not sentences.

use memchr::memmem;

use super::super::Severity;
use super::HiddenText;
use super::markup;
use super::page::{Name, Page, continues, has_words, skip_space};
use super::sentence;
use super::shape::{Report, Shape};

/// How far the content of a tag is looked at.
const CONTENT: usize = 240;
/// How far behind a stray closing tag another tag still belongs to it.
const NEAR: usize = 160;

/// What a tag's name stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The voice of the operator.
    System,
    /// A voice or a part of a prompt that people also write themselves.
    Part,
    /// Around what a user or a document says.
    Wrapper,
    /// A call of a tool.
    Call,
    /// What a tool gave back.
    Result,
}

/// The tags seen so far.
#[derive(Default)]
pub(super) struct Scan {
    /// One bit for each kind that was opened.
    opened: u64,
    /// The end of the last closing tag of a frame that nothing had opened.
    stray_end: Option<usize>,
    has_cdata: bool,
    /// Whether the element that the text begins with has ended.
    root: Option<Root>,
}

/// The element that a text begins with.
#[derive(Clone, Copy)]
struct Root {
    /// Where it ends, if it does.
    end: Option<usize>,
    /// Whether it is one of HTML, which has no element for the system.
    is_html: bool,
}

impl Scan {
    /// A CDATA section began.
    pub(super) fn open_cdata(&mut self) {
        self.has_cdata = true;
    }

    /// Looks at a tag; gives where to go on.
    pub(super) fn tag(
        &mut self,
        page: &mut Page<'_>,
        at: usize,
        report: &mut Report<'_>,
        hidden: &mut Vec<HiddenText>,
    ) -> usize {
        let bytes = page.bytes;
        let is_end = bytes.get(at + 1) == Some(&b'/');
        let from = at + 1 + usize::from(is_end);
        let is_name = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b':');
        let length = bytes[from..].iter().take(Name::MOST + 8).take_while(is_name).count();
        let name_end = from + length;
        // Elements of HTML are short; the names of frames are not.
        let kind =
            if length >= 3 { Name::of(&bytes[from..name_end]).and_then(|name| kind(&name)) } else { None };
        match kind {
            Some(Kind::Wrapper) if !is_end && says_system(bytes, name_end) => {
                self.begin(page, Kind::System, at, name_end, report)
            }
            Some(Kind::Wrapper) if !is_end => {
                self.opened |= bit(Kind::Wrapper);
                markup::element(page, at, name_end, report, hidden)
            }
            Some(kind) if is_end => self.end(page, kind, at, name_end, report),
            Some(kind) => self.begin(page, kind, at, name_end, report),
            None if is_end => {
                // No document begins with an end.
                if at == page.first {
                    self.stray_end = Some(name_end + 1);
                }
                name_end
            }
            None => markup::element(page, at, name_end, report, hidden),
        }
    }

    fn end(
        &mut self,
        page: &mut Page<'_>,
        kind: Kind,
        at: usize,
        name_end: usize,
        report: &mut Report<'_>,
    ) -> usize {
        let end = (name_end + 1).min(page.bytes.len());
        if at <= page.first {
            self.stray_end = Some(end);
        }
        if self.opened & bit(kind) != 0 || at <= page.first {
            return end;
        }
        let span = at..end;
        if page.is_quoted(&span) || page.is_fenced(at) {
            return end;
        }
        self.stray_end = Some(end);
        let has_text_behind = end < page.last;
        match kind {
            Kind::Result | Kind::Call if has_text_behind => report.add(Shape::ToolTag, Severity::High, span),
            Kind::System if has_text_behind => report.add(Shape::MarkupBreakout, Severity::High, span),
            Kind::Wrapper if page.bytes[..at].ends_with(b"]]>") && !self.has_cdata => {
                report.add(Shape::MarkupBreakout, Severity::High, span);
            }
            _ => {}
        }
        end
    }

    fn begin(
        &mut self,
        page: &mut Page<'_>,
        kind: Kind,
        at: usize,
        name_end: usize,
        report: &mut Report<'_>,
    ) -> usize {
        let bytes = page.bytes;
        let was_opened = self.opened & bit(kind) != 0;
        self.opened |= bit(kind);
        let span = at..(name_end + 1).min(bytes.len());
        let content = match memchr::memchr(b'>', &bytes[name_end..(name_end + NEAR).min(bytes.len())]) {
            Some(hit) if bytes[name_end + hit - 1] != b'/' => name_end + hit + 1,
            _ => return name_end,
        };
        if page.is_quoted(&span) {
            return content;
        }
        let behind = &bytes[content..(content + CONTENT).min(bytes.len())];
        let prose = behind.split(|&byte| byte == b'<').next().unwrap_or_default();
        let is_after_stray = self.stray_end.is_some_and(|end| at <= end + NEAR);
        let is_document = at > page.first && !is_after_stray && self.is_document(page, at);
        let begins_anew = bytes[page.first] == b'<' && at > page.first;
        let severity = match kind {
            Kind::System if is_after_stray => Some(Severity::High),
            Kind::System if is_document || was_opened && !has_words(prose, 3) => None,
            // Records without a root have values too, pages have sentences.
            Kind::System if begins_anew && !is_sentence(prose) => None,
            Kind::System if has_words(prose, 3) => Some(Severity::High),
            Kind::Part | Kind::Call if is_after_stray && has_words(behind, 2) => Some(Severity::High),
            Kind::Call if !is_document && begins_call(behind) => Some(Severity::High),
            Kind::Result if !is_document && at > page.first && has_words(behind, 3) => Some(Severity::Medium),
            _ => None,
        };
        if let Some(severity) = severity {
            let fenced = page.is_fenced(at) || kind == Kind::System && is_named(page, at, content);
            let shape =
                if matches!(kind, Kind::Call | Kind::Result) { Shape::ToolTag } else { Shape::RoleTag };
            report.add(shape, if fenced { severity.min(Severity::Medium) } else { severity }, span);
        }
        content
    }

    /// Whether `at` stands in a document of its own: inside the element that the text begins with.
    fn is_document(&mut self, page: &Page<'_>, at: usize) -> bool {
        let bytes = page.bytes;
        if bytes[page.first] != b'<' {
            return false;
        }
        let root = *self.root.get_or_insert_with(|| {
            let name = &bytes[page.first + 1..];
            let length = name.iter().take(Name::MOST).take_while(|byte| byte.is_ascii_alphanumeric()).count();
            let name = &name[..length];
            let is_named =
                |at: usize| continues(bytes, at + 2, name) && bytes.get(at + 2 + length) == Some(&b'>');
            let end = (length > 0)
                .then(|| {
                    memmem::find_iter(&bytes[page.first..], b"</")
                        .map(|hit| page.first + hit)
                        .find(|at| is_named(*at))
                })
                .flatten();
            Root { end, is_html: name.iter().all(u8::is_ascii_alphanumeric) && is_html(name) }
        });
        !root.is_html && root.end.is_none_or(|end| at < end)
    }
}

/// Whether the sentence around an element names it, "Is <system>…</system> the right form?", or its tag, "The <system> tag".
fn is_named(page: &Page<'_>, at: usize, content: usize) -> bool {
    if sentence::names(page, &(at..content), content, true) {
        return true;
    }
    let behind = &page.bytes[content..(content + CONTENT).min(page.bytes.len())];
    let Some(end) = memmem::find(behind, b"</") else { return false };
    memchr::memchr(b'>', &behind[end..]).is_some_and(|hit| {
        let end = content + end + hit + 1;
        end < page.last && sentence::names(page, &(at..end), end, false)
    })
}

/// Elements that pages and formatted answers begin with.
fn is_html(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 24] = [
        b"a", b"b", b"i", b"u", b"p", b"br", b"hr", b"em", b"h1", b"h2", b"h3", b"ul", b"ol", b"li", b"div",
        b"pre", b"img", b"span", b"code", b"html", b"body", b"strong", b"table", b"center",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether a tag has `role="system"`, or a name for it, among its attributes.
fn says_system(bytes: &[u8], name_end: usize) -> bool {
    let rest = &bytes[name_end..(name_end + NEAR).min(bytes.len())];
    let tag = &rest[..memchr::memchr(b'>', rest).unwrap_or(0)];
    tag.contains(&b'=')
        && [&b"role"[..], b"from", b"author"].iter().any(|key| {
            let Some(hit) = memmem::find(tag, key) else { return false };
            let value = &tag[hit + key.len()..];
            let Some(value) = value.trim_ascii_start().strip_prefix(b"=") else { return false };
            let value = value.trim_ascii_start();
            let value = value.strip_prefix(b"\"").or_else(|| value.strip_prefix(b"'")).unwrap_or(value);
            [&b"system"[..], b"developer"].iter().any(|role| continues(value, 0, role))
        })
}

/// Whether `prose` ends like a sentence, or is as long as one.
fn is_sentence(prose: &[u8]) -> bool {
    let prose = prose.trim_ascii();
    let ends = [".", "!", "?", "。", "！", ":"];
    has_words(prose, 3) && (has_words(prose, 9) || ends.iter().any(|end| prose.ends_with(end.as_bytes())))
}

/// Whether a tool call begins: JSON with a tool's name, or another tag that names one.
fn begins_call(bytes: &[u8]) -> bool {
    let at = skip_space(bytes, 0, 16);
    continues(bytes, at, b"<invoke name=")
        || continues(bytes, at, b"<invoke")
        || continues(bytes, at, b"<function=")
        || bytes.get(at) == Some(&b'{') && {
            let at = skip_space(bytes, at + 1, 16);
            (continues(bytes, at, b"\"name\"") || continues(bytes, at, b"\"arguments\""))
                // `{"name": <function-name>}` tells the form of a call and makes none.
                && !super::page::contains(bytes, b"<function")
        }
}

fn kind(name: &Name) -> Option<Kind> {
    Some(match name.as_bytes() {
        b"system"
        | b"sys"
        | b"systemprompt"
        | b"systeminstruction"
        | b"systeminstructions"
        | b"systemmessage"
        | b"systemoverride"
        | b"systemcommand"
        | b"systemupdate"
        | b"systemnote"
        | b"systemreminder"
        | b"systemrole"
        | b"systemdirective"
        | b"systemnotice"
        | b"newsystemprompt"
        | b"developer"
        | b"developermessage"
        | b"developerinstructions"
        | b"adminoverride"
        | b"systemadmin" => Kind::System,
        b"instructions" | b"instruction" | b"assistant" | b"human" | b"admin" | b"prompt"
        | b"newinstructions" | b"newinstruction" | b"task" | b"command" | b"override" | b"directive"
        | b"important" | b"rules" | b"assistantresponse" => Kind::Part,
        b"userinput" | b"userprompt" | b"userrequest" | b"userquestion" | b"usertext" | b"userdata"
        | b"user" | b"usermessage" | b"userquery" | b"document" | b"documents" | b"context" | b"data"
        | b"input" | b"query" | b"question" | b"content" | b"message" | b"text" | b"email" | b"webpage"
        | b"turn" | b"msg" | b"searchresults" | b"searchresult" | b"untrusted" | b"untrusteddata"
        | b"externaldata" | b"article" | b"page" => Kind::Wrapper,
        b"functioncalls"
        | b"functioncall"
        | b"toolcall"
        | b"toolcalls"
        | b"tooluse"
        | b"invoke"
        | b"antmlinvoke"
        | b"antmlfunctioncalls"
        | b"toolcode" => Kind::Call,
        b"toolresult" | b"toolresults" | b"toolresponse" | b"toolresponses" | b"tooloutput"
        | b"tooloutputs" | b"functionresult" | b"functionresults" | b"functionresponse"
        | b"functionoutput" | b"observation" => Kind::Result,
        _ => return None,
    })
}

/// The bit of a kind among those opened. By kind and not by name: `<tool_result>` that `</tool_output>` closes is a
/// slip, no attack.
fn bit(kind: Kind) -> u64 {
    1 << kind as u8
}
