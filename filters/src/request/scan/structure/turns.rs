//! Turns of a conversation written out inside one text, and the fences, headings and links that frame them.
//!
//! What a person pastes begins with the asker: "Human: … AI: …", `### Instruction: … ### Response:`. What breaks
//! out begins with the *answer*, for the text before it was the question: "… Assistant: Done. System: …". So the
//! order decides, whatever the names are. Logs of bots begin with the answer as well, for the bot greets: they are
//! introduced as what they are, or the bot speaks again, and then they say a level less.

use std::ops::Range;
use std::sync::LazyLock;

use memchr::{memchr_iter, memchr2, memmem};

use super::super::Severity;
use super::fence::{self, Fence};
use super::page::{Name, Page, contains, continues, has_words, skip_space};
use super::shape::{Report, Shape};

/// Who speaks on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaker {
    System,
    Asker,
    Answerer,
    /// A developer: the operator's role of some interfaces, and a word of ordinary records.
    Developer,
}

/// The longest name of a speaker with its marks.
const LONGEST: usize = 40;
/// How near a fence is to the line it belongs to.
const NEAR: usize = 400;
/// How far before the first turn its introduction is looked for.
const INTRODUCTION: usize = 200;
/// Beginnings of words of those who show a conversation; the short ones are whole words.
const SHOWN: [&str; 36] = [
    "bot",
    "bots",
    "here",
    "tone",
    "replies",
    "chat",
    "dialog",
    "conversa",
    "transcript",
    "script",
    "log",
    "logs",
    "demo",
    "ticket",
    "thread",
    "scene",
    "story",
    "interview",
    "example",
    "sample",
    "excerpt",
    "session",
    "speakers",
    "below",
    "following",
    "continue",
    "complete",
    "verlauf",
    "gespr",
    "unterhaltung",
    "beispiel",
    "discussion",
    "exemple",
    "extrait",
    "ejemplo",
    "esempio",
];
/// The same in scripts of other letters.
const SHOWN_FOREIGN: [&str; 10] =
    ["对话", "聊天", "记录", "会話", "対話", "チャット", "대화", "채팅", "разговор", "диалог"];

/// Who answers, but for the first letter. Every text is searched for it, and making the search takes as long as a short one.
static ANSWERER: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"ssistant:"));

/// Judges the lines of `text`.
pub(super) fn check(text: &str, report: &mut Report<'_>) {
    let mut lines = Lines {
        page: Page::new(text),
        answer: None,
        answers: 0,
        open_answer: None,
        first: None,
        lead: Lead::default(),
        first_asked: None,
        asked: None,
        fence: None,
        is_mixed: false,
    };
    let bytes = text.as_bytes();
    let mut start = 0;
    for end in memchr_iter(b'\n', bytes).chain([bytes.len()]) {
        lines.line(start..end, report);
        start = end + 1;
    }
    lines.finish(report);
    // On one line: only where an answer is spoken of that way at all.
    // In capitals only behind somebody who speaks at a line's beginning: a second search of every text is dear.
    let in_capitals = || lines.first.and_then(|_| memmem::find(bytes, b"SSISTANT:"));
    if lines.answer.is_none()
        && let Some(hit) = ANSWERER.find(bytes).or_else(in_capitals)
        && hit > 1
    {
        inline(&mut lines.page, hit - 1, report);
    }
}

struct Lines<'a> {
    page: Page<'a>,
    /// Where an answer was written before anybody had been shown asking, and whether as a heading.
    answer: Option<(usize, bool)>,
    /// How many answers say something.
    answers: u32,
    /// The end of the mark of an answer that says nothing on its line: what the model is to go on from, if it is last.
    open_answer: Option<usize>,
    first: Option<Speaker>,
    /// What stands before the first turn.
    lead: Lead,
    /// The first turn of an asker, and whether it is a heading.
    first_asked: Option<(Range<usize>, bool)>,
    /// A turn of an asker behind an answer that nobody had asked for, and whether it stands in a code fence or a record.
    asked: Option<(Range<usize>, bool)>,
    /// The end of the last fence that closed somebody's input.
    fence: Option<usize>,
    is_mixed: bool,
}

/// What the text before the first turn is.
#[derive(Default)]
struct Lead {
    /// It says that a conversation is shown.
    is_introduction: bool,
    /// It is a question,
    ends_in_question: bool,
    /// and an empty line stands behind it.
    is_question: bool,
}

impl Lines<'_> {
    fn line(&mut self, line: Range<usize>, report: &mut Report<'_>) {
        let bytes = self.page.bytes;
        let start = skip_space(bytes, line.start, 8).min(line.end);
        let Some(&first) = bytes.get(start) else { return };
        match first {
            b'#' | b'*' | b'-' | b'=' | b'<' | b'[' | b'_' | b'~' | b'+' => {
                let body = &bytes[start..line.end.min(start + 2 * LONGEST + 20)];
                if !self.fence_line(body, start, &line, report) {
                    self.speaker_line(start, &line, report);
                }
            }
            0x80.. => self.speaker_line(start, &line, report),
            // The beginnings of all names in `speaker` and `foreign`.
            _ => {
                let second = bytes.get(start + 1).map_or(0, |byte| byte | 0x20);
                if matches!(
                    &[first | 0x20, second],
                    b"sy"
                        | b"us"
                        | b"ut"
                        | b"hu"
                        | b"as"
                        | b"ai"
                        | b"de"
                        | b"mo"
                        | b"bo"
                        | b"be"
                        | b"ch"
                        | b"cl"
                        | b"gp"
                ) {
                    self.speaker_line(start, &line, report);
                }
            }
        }
    }

    /// `System:`, `### Instruction:`, `**Assistant:**` at the beginning of a line.
    fn speaker_line(&mut self, start: usize, line: &Range<usize>, report: &mut Report<'_>) {
        let bytes = self.page.bytes;
        let window = &bytes[start..line.end.min(start + LONGEST)];
        // The last byte of a colon of full width stands for it.
        if bytes[start] != b'#' && memchr2(b':', 0x9A, window).is_none() {
            return;
        }
        let Some((speaker, length, is_heading)) = speaker(window) else { return };
        let span = start..start + length;
        let has_text_before = start > self.page.first;
        let first = match self.first {
            Some(first) => first,
            None => {
                self.lead = self.lead(start);
                *self.first.insert(speaker)
            }
        };
        match speaker {
            Speaker::Answerer => {
                if first == Speaker::Answerer && has_text_before {
                    self.answer.get_or_insert((start, is_heading));
                }
                if bytes[span.end.min(line.end)..line.end].trim_ascii().is_empty() {
                    self.open_answer = Some(line.end);
                } else {
                    self.answers += 1;
                }
            }
            Speaker::Asker | Speaker::System | Speaker::Developer => {
                let content = &bytes[start + length..(start + length + 200).min(bytes.len())];
                if !has_words(content, 2) {
                    return;
                }
                if speaker == Speaker::Asker {
                    self.first_asked.get_or_insert((span.clone(), is_heading));
                }
                let is_fenced = self.page.is_fenced(start);
                let after_fence = self.fence.is_some_and(|end| start <= end + NEAR);
                let breaks_out = self.answer.is_some_and(|(_, heading)| heading == is_heading) || after_fence;
                let severity = match speaker {
                    _ if breaks_out && is_fenced => Severity::Medium,
                    _ if after_fence => Severity::High,
                    // What else stands in the text tells a log.
                    Speaker::Asker if breaks_out && !is_heading => {
                        let is_less = is_fenced || self.is_record(line);
                        self.asked.get_or_insert((span, is_less));
                        return;
                    }
                    // Records have developers.
                    Speaker::Developer if breaks_out => Severity::Medium,
                    _ if self.answer.is_some() && self.lead.is_introduction => Severity::Medium,
                    Speaker::System if self.answer.is_some() && self.is_record(line) => Severity::Medium,
                    _ if breaks_out => Severity::High,
                    Speaker::System if self.answer.is_some() => Severity::High,
                    // In the middle of a conversation the system has nothing to say.
                    Speaker::System if self.answers > 0 && !self.lead.is_introduction => Severity::Medium,
                    Speaker::System if has_text_before && is_heading && first != Speaker::System => {
                        Severity::Medium
                    }
                    Speaker::System if has_text_before && self.follows_blank(line.start) => Severity::Medium,
                    _ => return,
                };
                let shape = if is_heading { Shape::HeadingTurn } else { Shape::SpokenTurn };
                report.add(shape, severity, span);
            }
        }
    }

    /// Whether a line and the one directly before it are entries of a record: values, not sentences.
    fn is_record(&self, line: &Range<usize>) -> bool {
        let bytes = self.page.bytes;
        let near = &bytes[line.start.saturating_sub(INTRODUCTION)..line.start];
        let before = near.strip_suffix(b"\n").unwrap_or(near).rsplit(|&byte| byte == b'\n').next();
        let is_value = |line: &[u8]| {
            let line = line.trim_ascii_end();
            let ends = [".", "!", "?", "。", "！", "？", "\"", ")", "*"];
            !line.is_empty()
                && !line.ends_with(b":")
                && !ends.iter().any(|end| line.ends_with(end.as_bytes()))
        };
        !self.lead.ends_in_question && before.is_some_and(is_value) && is_value(&bytes[line.clone()])
    }

    /// What stands before the first turn, at `start`.
    fn lead(&self, start: usize) -> Lead {
        let before = self.page.bytes[start.saturating_sub(INTRODUCTION)..start].trim_ascii_end();
        let line = before.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
        let ends_with = |marks: [&str; 2]| marks.iter().any(|mark| line.ends_with(mark.as_bytes()));
        let ends_in_question = ends_with(["?", "？"]);
        Lead {
            ends_in_question,
            is_introduction: ends_with([":", "："]) || is_shown(line),
            is_question: ends_in_question && self.follows_blank(start),
        }
    }

    /// Judges what only the whole text can tell.
    fn finish(&mut self, report: &mut Report<'_>) {
        let is_open = self.open_answer.is_some_and(|end| end >= self.page.last);
        if let Some((span, is_less)) = self.asked.take() {
            // A bot that speaks again was not put in for the sake of one turn, unless a question has led to it.
            let is_log =
                self.lead.is_introduction || self.answers > 2 || self.answers == 2 && !self.lead.is_question;
            let severity = if is_less || is_log { Severity::Medium } else { Severity::High };
            report.add(Shape::SpokenTurn, severity, span);
        } else if let Some((span, is_heading)) = self.first_asked.take()
            && is_open
            && self.answers == 0
            && !self.lead.is_introduction
        {
            // "Where is Oslo? Human: … Assistant:" has asked already; "System: … Human: … Assistant:" is a whole prompt.
            let severity = match self.first {
                Some(Speaker::Asker) if self.lead.is_question => Severity::High,
                Some(Speaker::System) => Severity::Medium,
                _ => return,
            };
            let shape = if is_heading { Shape::HeadingTurn } else { Shape::SpokenTurn };
            report.add(shape, severity, span);
        }
    }

    /// Whether the line before `start` is empty.
    fn follows_blank(&self, start: usize) -> bool {
        start >= 2 && self.page.bytes[..start].ends_with(b"\n\n")
            || self.page.bytes[..start].ends_with(b"\n\r\n")
    }

    /// `--- END OF USER INPUT ---`; gives whether the line is a fence.
    fn fence_line(
        &mut self,
        body: &[u8],
        start: usize,
        line: &Range<usize>,
        report: &mut Report<'_>,
    ) -> bool {
        let Some(fence) = fence::read(body) else { return false };
        let end = line.end;
        let has_text_before = start > self.page.first;
        let has_text_behind = end < self.page.last;
        match fence {
            Fence::Begin => self.is_mixed = true,
            Fence::End if self.is_mixed || !has_text_behind => {}
            Fence::End => {
                self.fence = Some(end);
                report.add(Shape::Fence, Severity::Medium, start..end);
            }
            // The end of the input may well come first: the frame's slot begins with the text.
            Fence::EndOfInput if !has_text_behind || self.is_mixed => {}
            Fence::BeginSystem if !has_text_before || !has_text_behind => {}
            Fence::EndOfInput | Fence::BeginSystem => {
                self.fence = Some(end);
                let fenced = self.page.is_fenced(start);
                report.add(Shape::Fence, if fenced { Severity::Medium } else { Severity::High }, start..end);
            }
        }
        true
    }
}

/// Whether a line says that a conversation is shown.
fn is_shown(line: &[u8]) -> bool {
    let begins = |word: &[u8]| {
        SHOWN.iter().map(|shown| shown.as_bytes()).any(|shown| {
            let is_long_enough = shown.len() > 4 || word.len() == shown.len() || shown == b"chat";
            is_long_enough && continues(word, 0, shown)
        })
    };
    line.split(|byte| !byte.is_ascii_alphabetic()).any(begins)
        || SHOWN_FOREIGN.iter().any(|shown| memmem::find(line, shown.as_bytes()).is_some())
}

/// The speaker that a line begins with, the length of the mark, and whether it is a heading.
fn speaker(line: &[u8]) -> Option<(Speaker, usize, bool)> {
    let mut from = line.iter().take_while(|byte| matches!(byte, b'#' | b'*' | b'>' | b' ' | b'_')).count();
    let is_heading = line.starts_with(b"##") || line.starts_with(b"# ");
    if let Some((speaker, length)) = foreign(&line[from..]) {
        return Some((speaker, from + length, is_heading));
    }
    let name = line[from..].iter().take_while(|byte| byte.is_ascii_alphabetic() || **byte == b' ').count();
    let colon = from
        + name
        + line[from + name..].iter().take_while(|byte| matches!(byte, b'*' | b'_' | b' ' | b'#')).count();
    let is_ended = line.get(colon) == Some(&b':') || is_heading && colon == line.len();
    if !is_ended {
        return None;
    }
    let speaker = match Name::of(&line[from..from + name])?.as_bytes() {
        b"system"
        | b"systemprompt"
        | b"systemmessage"
        | b"systeminstruction"
        | b"systeminstructions"
        | b"newsysteminstruction"
        | b"newsystemprompt"
        | b"systemoverride" => Speaker::System,
        b"developer" => Speaker::Developer,
        b"user" | b"human" | b"instruction" | b"instructions" | b"newinstruction" | b"newinstructions"
        | b"userinput" | b"newtask" => Speaker::Asker,
        // In records a model is a car's or a machine's.
        b"model" if is_heading => Speaker::Answerer,
        b"assistant" | b"response" | b"ai" | b"aiassistant" | b"bot" | b"chatbot" | b"chatgpt"
        | b"claude" | b"gpt" | b"modelresponse" | b"assistantresponse" => Speaker::Answerer,
        _ => return None,
    };
    from = colon + 1;
    Some((speaker, from.min(line.len()), is_heading))
}

/// Names of speakers in other scripts and tongues, with their colon.
fn foreign(line: &[u8]) -> Option<(Speaker, usize)> {
    const NAMES: [(&str, Speaker); 24] = [
        ("系统", Speaker::System),
        ("系統", Speaker::System),
        ("システム", Speaker::System),
        ("시스템", Speaker::System),
        ("Система", Speaker::System),
        ("النظام", Speaker::System),
        ("Système", Speaker::System),
        ("用户", Speaker::Asker),
        ("用戶", Speaker::Asker),
        ("ユーザー", Speaker::Asker),
        ("사용자", Speaker::Asker),
        ("Пользователь", Speaker::Asker),
        ("Utilisateur", Speaker::Asker),
        ("Benutzer", Speaker::Asker),
        ("Usuario", Speaker::Asker),
        ("Utente", Speaker::Asker),
        ("Usuário", Speaker::Asker),
        ("助手", Speaker::Answerer),
        ("アシスタント", Speaker::Answerer),
        ("어시스턴트", Speaker::Answerer),
        ("Ассистент", Speaker::Answerer),
        ("Asistente", Speaker::Answerer),
        ("Assistente", Speaker::Answerer),
        ("Assistent", Speaker::Answerer),
    ];
    let (name, speaker) = NAMES.iter().find(|(name, _)| line.starts_with(name.as_bytes()))?;
    let rest = &line[name.len()..];
    let colon = [":", "：", " :"].iter().find(|colon| rest.starts_with(colon.as_bytes()))?;
    Some((*speaker, name.len() + colon.len()))
}

/// "… Assistant: Done. System: …" on one line; the answer's name begins at `at`.
fn inline(page: &mut Page<'_>, at: usize, report: &mut Report<'_>) {
    let bytes = page.bytes;
    if at <= page.first || page.is_quoted(&(at..at + 10)) {
        return;
    }
    let behind = &bytes[at..(at + 1000).min(bytes.len())];
    for (mark, is_system) in [
        (&b"System:"[..], true),
        (b"SYSTEM:", true),
        (b"Human:", false),
        (b"User:", false),
        (b"HUMAN:", false),
        (b"USER:", false),
    ] {
        let Some(hit) = memmem::find(behind, mark) else { continue };
        if !matches!(behind[hit.saturating_sub(1)], b' ' | b'>') {
            continue;
        }
        let before = memmem::find(&bytes[at.saturating_sub(1000)..at], mark).is_some();
        if !before && has_words(&behind[hit + mark.len()..], 2) {
            let severity = if is_system && !page.is_fenced(at) { Severity::High } else { Severity::Medium };
            return report.add(Shape::SpokenTurn, severity, at..at + hit + mark.len());
        }
    }
}

/// Looks at the words in brackets at `at`: a link whose text is a role, or a role before an order. What follows
/// the brackets is at `behind`.
pub(super) fn bracket(page: &mut Page<'_>, at: usize, words: &[u8], behind: usize, report: &mut Report<'_>) {
    let bytes = page.bytes;
    let role = words.strip_prefix(b"/").unwrap_or(words);
    if !matches!(
        Name::of(role).as_ref().map(Name::as_bytes),
        Some(
            b"system"
                | b"assistant"
                | b"developer"
                | b"systemprompt"
                | b"systemmessage"
                | b"admin"
                | b"sys"
                | b"user"
                | b"override"
        )
    ) {
        return;
    }
    let is_system = !role.eq_ignore_ascii_case(b"assistant") && !role.eq_ignore_ascii_case(b"user");
    let span = at..behind;
    if bytes.get(behind) == Some(&b'(') {
        let target = &bytes[behind + 1..(behind + 60).min(bytes.len())];
        let target = &target[..target.iter().position(|&byte| byte == b')').unwrap_or(target.len())];
        if target.first() == Some(&b'#') && is_frame(&target[1..]) && !page.is_quoted(&span) {
            let severity = if page.is_fenced(at) { Severity::Medium } else { Severity::High };
            report.add(Shape::RoleLink, severity, at..behind + target.len() + 2);
        }
        return;
    }
    if !is_system || !page.begins_line(at) || page.is_fenced(at) || page.is_quoted(&span) {
        return;
    }
    let is_repeated = bytes[behind..].starts_with(&bytes[at..behind]);
    let content = &bytes[behind..(behind + 200).min(bytes.len())];
    let line = content.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let is_closed = memchr::memchr(b'/', content).is_some_and(|hit| {
        content[..hit].ends_with(b"[") && content[hit + 1..].starts_with(&bytes[at + 1..behind])
    });
    if at <= page.first && !is_closed {
        return;
    }
    // Lines of a log begin with a bracket too, one after the other.
    let line_start = memchr::memrchr(b'\n', &bytes[..at]).unwrap_or(0);
    let before = bytes[line_start.saturating_sub(200)..line_start]
        .rsplit(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let after = content.get(line.len() + 1..).unwrap_or_default();
    let is_log = [before, after].iter().any(|line| line.trim_ascii_start().starts_with(b"["));
    let severity = match (has_words(line, 6), is_log) {
        _ if is_repeated || is_closed && has_words(content, 3) => Severity::High,
        (true, false) => Severity::High,
        (false, false) if has_words(line, 2) => Severity::Medium,
        _ => return,
    };
    report.add(Shape::RoleBracket, severity, span);
}

/// Looks at `[` at the beginning of a line for `[system]: do this`, which would define a link if an address followed.
pub(super) fn label(page: &mut Page<'_>, at: usize, report: &mut Report<'_>) {
    let bytes = page.bytes;
    let window = &bytes[at + 1..(at + LONGEST).min(bytes.len())];
    let Some(length) = memmem::find(window, b"]:") else { return };
    let behind = at + 1 + length + 2;
    let target = skip_space(bytes, behind, 4);
    let target = &bytes[target..(target + LONGEST).min(bytes.len())];
    let word = target.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    if !word.iter().any(|byte| matches!(byte, b'/' | b'#' | b'<' | b'.' | b'@')) {
        bracket(page, at, &window[..length], behind, report);
    }
}

/// Whether a link's target is a part of a prompt's frame and not a section of a document.
fn is_frame(target: &[u8]) -> bool {
    [
        &b"instruction"[..],
        b"message",
        b"prompt",
        b"context",
        b"rules",
        b"monologue",
        b"override",
        b"directive",
        b"suggestions",
        b"additional",
        b"internal",
    ]
    .iter()
    .any(|word| contains(target, word))
}
