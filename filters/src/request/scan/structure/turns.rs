//! Turns of a conversation written out inside one text, and the fences, headings and links that frame them.
//!
//! What a person pastes begins with the asker: "Human: … AI: …", `### Instruction: … ### Response:`. What breaks
//! out begins with the *answer*, for the text before it was the question: "… Assistant: Done. System: …". So the
//! order decides, whatever the names are. Logs of bots begin with the answer as well, for the bot greets: they are
//! introduced as what they are, or the bot speaks again, and then they say a level less.

mod inline;
mod speaker;

use std::ops::Range;
use std::sync::LazyLock;

use memchr::{memchr_iter, memchr2, memmem};

use super::super::Severity;
use super::fence::{self, Fence};
use super::page::{Page, has_words, skip_space};
use super::shape::{Report, Shape};
pub(super) use inline::{bracket, label};
use speaker::{Speaker, is_shown, speaker};

/// The longest name of a speaker with its marks.
const LONGEST: usize = 40;
/// How near a fence is to the line it belongs to.
const NEAR: usize = 400;
/// How far before the first turn its introduction is looked for.
const INTRODUCTION: usize = 200;

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
        inline::answered(&mut lines.page, hit - 1, report);
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
