//! Control tokens of chat templates. An engine that tokenises the client's text with its special tokens lets
//! `<|im_end|>` in it end the turn for real; and even where it does not, models know the tokens from training.
//!
//! One table of names serves every family, since the families share them: ChatML and Qwen (`<|im_start|>system`),
//! Llama 2 and Mistral (`[INST]`, `<<SYS>>`, `[SYSTEM_PROMPT]`), Llama 3 and 4 (`<|start_header_id|>`, `<|eot|>`),
//! Gemma (`<start_of_turn>`), `DeepSeek` (`<｜User｜>`), Harmony (`<|start|>`, `<|channel|>`), Phi, Zephyr and GLM
//! (`<|system|>`, `[gMASK]<sop>`), Exaone (`[|system|]`), Command-R (`<|START_OF_TURN_TOKEN|>`), Granite (`<|start_of_role|>`), Kimi
//! (`<|im_system|>`). Names are compared by letters alone, so spaces, bars of another width and case do not hide
//! them.
//!
//! A token breaks out when it opens a trusted turn, or opens or ends any turn in the middle of a text. It is a
//! mention when it is quoted, or stands in a sentence that speaks of tokens or goes on around it as around any noun
//! (`sentence`). In a code fence it may be either, and
//! says a level less. A text that as a whole is one well-formed prompt, up to the open turn of the assistant, is
//! how `/v1/completions` is used: it has a name of its own, and there it says less ([`super::as_completion`]).

mod token;

use std::ops::Range;

use memchr::{memchr, memchr2_iter, memmem};

use super::super::Severity;
use super::disguise;
use super::page::{Name, Page, contains, has_words, skip_space};
use super::sentence;
use super::shape::{Report, Shape};
use token::{LONGEST, Speaker, Token, double_angle, piped, speaker_behind};

/// How far from a token its sentence is looked at.
const SENTENCE: usize = 60;
/// After so many tokens a text does not speak of them, it uses them.
const MANY: u32 = 64;
/// Words of those who write about tokens.
const ABOUT_TOKENS: [&[u8]; 14] = [
    // With its space: names of tokens hold the word too.
    b" token",
    b"template",
    b"delimiter",
    b"marker",
    b"chatml",
    b"syntax",
    b"suffix",
    b"special",
    b"escape",
    "标记".as_bytes(),
    "模板".as_bytes(),
    "トークン".as_bytes(),
    "テンプレート".as_bytes(),
    "토큰".as_bytes(),
];

/// What the tokens seen so far add up to.
#[derive(Default)]
pub(super) struct Scan {
    worst: Option<(Severity, Range<usize>)>,
    mention: Option<Range<usize>>,
    /// The last token that is no mention, and where its head ends.
    last: Option<(Token, usize)>,
    /// Where the last end of a turn ends, be it a mention or not.
    close_end: Option<usize>,
    /// How many tokens were no mentions.
    seen: u32,
    /// How many were named by a sentence around them.
    named: u32,
    /// Whether the tokens contradict one well-formed prompt.
    is_torn: bool,
    /// `<s>` was seen: struck-out text of HTML, or the beginning of a Llama prompt.
    has_s: bool,
}

impl Scan {
    /// Looks at `<` followed by `|`, `<`, a space or a bar of full width, or at `[` followed by `|`; gives where to go on.
    pub(super) fn token(&mut self, page: &mut Page<'_>, at: usize) -> usize {
        match piped(page.bytes, at).or_else(|| double_angle(page.bytes, at)) {
            Some((token, end)) => self.see(page, token, at..end),
            None => at + 1,
        }
    }

    /// Looks at a tag; gives where to go on if it is one of the tokens that look like tags.
    pub(super) fn tag(&mut self, page: &mut Page<'_>, at: usize) -> Option<usize> {
        let bytes = page.bytes;
        let inside = bytes.get(at + 1..(at + 24).min(bytes.len()))?;
        // The names begin with one of these letters; most tags of HTML do not, or end sooner.
        if !matches!(inside.first()?, b's' | b'e' | b'b' | b'B' | b'/' | b'S' | b'E') {
            return None;
        }
        let length = memchr(b'>', inside)?;
        let end = at + 1 + length + 1;
        let token = match &inside[..length] {
            b"start_of_turn" | b"START_OF_TURN" => Token::OpenNamed,
            b"extra_id_0" | b"extra_id_1" | b"SPECIAL_10" | b"SPECIAL_11" => Token::OpenNamed,
            b"end_of_turn" | b"END_OF_TURN" | b"eos" | b"EOS" | b"eot" | b"EOS_TOKEN" | b"eod" | b"eoh"
            | b"eoa" => Token::Close,
            b"sop" | b"bos" | b"BOS" | b"BOS_TOKEN" => Token::Begin,
            b"SYS" => Token::Open(Speaker::System),
            b"/SYS" => Token::Part,
            b"s" => {
                self.has_s = true;
                if at == page.first {
                    self.last = Some((Token::Begin, end));
                }
                return Some(end);
            }
            // Struck-out text has its beginning; a turn's end has not.
            b"/s" if !self.has_s => return Some(self.see_stray_end(page, at..end)),
            _ => return None,
        };
        Some(self.see(page, token, at..end))
    }

    /// Looks at `[`; gives where to go on if a token begins there.
    pub(super) fn bracket(&mut self, page: &mut Page<'_>, at: usize) -> Option<usize> {
        let bytes = page.bytes;
        let inside = bytes.get(at + 1..(at + 24).min(bytes.len()))?;
        let first = inside.iter().find(|byte| !matches!(byte, b' ' | b'/'))?;
        if !matches!(first.to_ascii_lowercase(), b'i' | b's' | b't' | b'a' | b'g') {
            return None;
        }
        let length = memchr(b']', inside)?;
        let name = Name::of(&inside[..length])?;
        let is_end = inside[..length].contains(&b'/');
        let has_capitals = inside[..length].iter().any(u8::is_ascii_uppercase);
        let token = match name.as_bytes() {
            b"inst" if is_end => Token::Open(Speaker::Assistant),
            // In lower case it marks instrumental passages of a song.
            b"inst" if has_capitals => Token::Open(Speaker::User),
            b"systemprompt" if !is_end && has_capitals => Token::Open(Speaker::System),
            b"toolcalls" | b"toolresults" | b"availabletools" if !is_end && has_capitals => {
                Token::Open(Speaker::Tool)
            }
            b"systemprompt" | b"toolresults" | b"availabletools" if has_capitals => Token::Part,
            b"gmask" => Token::Begin,
            _ => return None,
        };
        Some(self.see(page, token, at..at + 1 + length + 1))
    }

    /// Reports what the tokens add up to.
    pub(super) fn finish(self, page: &Page<'_>, report: &mut Report<'_>) {
        for (shape, severity, span) in self.outcome(page).into_iter().flatten() {
            report.add(shape, severity, span);
        }
    }

    /// What the tokens add up to, and what is a mention.
    fn outcome(self, page: &Page<'_>) -> [Option<(Shape, Severity, Range<usize>)>; 2] {
        let is_prompt = !self.is_torn
            && self
                .last
                .is_some_and(|(token, end)| token == Token::Open(Speaker::Assistant) && end >= page.last);
        let shape = if is_prompt { Shape::TemplateWhole } else { Shape::TemplateTurn };
        let worst = self.worst.map(|(severity, span)| (shape, severity, span));
        [worst, self.mention.map(|span| (Shape::TemplateMention, Severity::Low, span))]
    }

    /// `</s>` alone: the end of a turn, if text stands before and behind it.
    fn see_stray_end(&mut self, page: &Page<'_>, span: Range<usize>) -> usize {
        let end = span.end;
        if span.start > page.first && end < page.last && !page.is_quoted(&span) {
            if sentence::names(page, &span, end, false) {
                self.mention.get_or_insert(span);
            } else {
                self.keep(Severity::Medium, span);
            }
        }
        end
    }

    /// Weighs a token; gives where to go on.
    fn see(&mut self, page: &mut Page<'_>, token: Token, span: Range<usize>) -> usize {
        let (token, head_end) = match token {
            Token::OpenNamed => match speaker_behind(page.bytes, span.end) {
                Some((speaker, end)) => (Token::Open(speaker), end),
                None => (Token::Part, span.end),
            },
            token => (token, span.end),
        };
        // Nothing that follows can say more or take it back.
        if self.is_torn && matches!(self.worst, Some((Severity::High, _))) {
            return head_end;
        }
        let follows_close = self.last.is_some_and(|(last, end)| {
            last == Token::Close && skip_space(page.bytes, end, LONGEST) == span.start
        });
        let is_inserted = token == Token::Open(Speaker::System) && self.is_inserted(page, &span, head_end);
        if token == Token::Close {
            self.close_end = Some(span.end);
        }
        if !is_inserted && self.is_mention(page, &span, head_end, follows_close) {
            self.mention.get_or_insert(span);
            return head_end;
        }
        // Once a token was used, the others are used as well.
        if !matches!(self.worst, Some((Severity::High, _)))
            && self.last.is_none_or(|(last, _)| last == Token::Part)
            && sentence::names(page, &span, head_end, matches!(token, Token::Open(_)))
        {
            self.named = self.named.saturating_add(1);
            match token {
                // What is said behind the head of a turn may read on as well.
                Token::Open(Speaker::System | Speaker::Tool) => self.keep(Severity::Medium, span),
                _ => {
                    self.mention.get_or_insert(span);
                }
            }
            return head_end;
        }
        let has_text_before = span.start > page.first;
        let has_text_behind = head_end < page.last;
        let severity = match token {
            Token::Open(Speaker::System | Speaker::Tool) => Some(Severity::High),
            Token::Open(_) if has_text_before => Some(Severity::High),
            Token::Close if has_text_before && has_text_behind => Some(Severity::High),
            Token::Begin if !has_text_before => None,
            Token::Open(_) | Token::Begin => Some(Severity::Medium),
            Token::Close => Some(Severity::Low),
            Token::OpenNamed | Token::Part => None,
        };
        self.note_order(page, token, &span);
        self.last = Some((token, head_end));
        self.seen = self.seen.saturating_add(1);
        if let Some(severity) = severity {
            let fenced = page.is_fenced(span.start);
            self.keep(if fenced { severity.min(Severity::Medium) } else { severity }, span);
        }
        head_end
    }

    /// Whether the tokens still read as one prompt: from the text's first byte on, nothing between the turns, the
    /// system only first.
    fn note_order(&mut self, page: &Page<'_>, token: Token, span: &Range<usize>) {
        let (last, last_end) = match self.last {
            None => {
                // None begins with an end or an answer.
                self.is_torn |= span.start > page.first
                    || matches!(token, Token::Close | Token::Open(Speaker::Assistant | Speaker::Tool));
                return;
            }
            Some(last) => last,
        };
        let text_between = skip_space(page.bytes, last_end, LONGEST) < span.start;
        self.is_torn |= match (last, token) {
            (Token::Close, Token::Close) => true,
            (Token::Open(one), Token::Open(other)) if one == other => true,
            (Token::Close | Token::Begin, _) => text_between,
            (_, Token::Begin) => true,
            (Token::Open(Speaker::User), Token::Open(Speaker::System)) => text_between,
            (_, Token::Open(Speaker::System)) => true,
            _ => false,
        };
    }

    fn keep(&mut self, severity: Severity, span: Range<usize>) {
        if self.worst.as_ref().is_none_or(|(worst, _)| severity > *worst) {
            self.worst = Some((severity, span));
        }
    }

    /// Whether the system speaks directly behind the end of a turn, in a string with its line ends escaped. Programs and
    /// samples have it first, so there no program put it.
    fn is_inserted(&self, page: &Page<'_>, span: &Range<usize>, head_end: usize) -> bool {
        let is_line_end = |part: &[u8]| part.iter().all(|byte| matches!(byte, b' ' | b'\\' | b'n'));
        let Some(between) = self.close_end.and_then(|end| page.bytes.get(end..span.start)) else {
            return false;
        };
        let Some(behind) = page.bytes.get(head_end..).and_then(|rest| rest.strip_prefix(b"\\n")) else {
            return false;
        };
        between.len() <= LONGEST
            && is_line_end(between)
            && behind.first().is_some_and(|first| *first != b'"' && *first != b'{')
            && has_words(behind, 3)
    }

    fn is_mention(&self, page: &Page<'_>, span: &Range<usize>, head_end: usize, follows_close: bool) -> bool {
        if page.is_quoted(span) {
            return true;
        }
        let bytes = page.bytes;
        // What a program puts in: `<|im_start|>{role}`, `<|im_start|>system\n{prompt}`, `[INST] {{ message }}`.
        let content = skip_space(bytes, head_end, LONGEST);
        if matches!(bytes.get(content..content + 2), Some(b"{{" | b"{%" | b"${" | b"\\n"))
            || bytes.get(content) == Some(&b'{') && bytes.get(content + 1).is_some_and(u8::is_ascii_lowercase)
        {
            return true;
        }
        if follows_close || bytes.get(head_end) == Some(&b'\n') || self.seen.max(self.named) > MANY {
            return false;
        }
        let line = page.line(span);
        let from = line.start.max(span.start.saturating_sub(SENTENCE));
        let to = line.end.min(head_end.max(span.end) + SENTENCE).max(span.end);
        let sentence = [&bytes[from..span.start], bytes.get(span.end..to).unwrap_or_default()];
        has_words(sentence[0], 1)
            && sentence.iter().any(|part| ABOUT_TOKENS.iter().any(|word| contains(part, word)))
    }
}

/// Reports tokens that are written so that they are not seen at once. A page that shows code must write brackets as
/// entities, so there it says a level less.
pub(super) fn disguised(text: &str, report: &mut Report<'_>) {
    let undressed = disguise::undress(text);
    let mut page = Page::new(&undressed.text);
    let mut scan = Scan::default();
    let mut resume = 0;
    for at in memchr2_iter(b'<', b'[', undressed.text.as_bytes()) {
        if at < resume {
            continue;
        }
        resume = match page.bytes[at] {
            b'[' => scan.bracket(&mut page, at),
            _ => scan.tag(&mut page, at).or_else(|| Some(scan.token(&mut page, at))),
        }
        .unwrap_or(at + 1);
    }
    let shows_code = undressed.has_entities
        && ["<pre", "<code"].iter().any(|tag| memmem::find(text.as_bytes(), tag.as_bytes()).is_some());
    for (shape, severity, span) in scan.outcome(&page).into_iter().flatten() {
        let severity = if shows_code { severity.min(Severity::Medium) } else { severity };
        report.add(shape, severity, undressed.origins(span));
    }
}
