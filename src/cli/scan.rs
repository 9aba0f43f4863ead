//! `tollgate scan`: the prompt scanner over standard input, as the gateway runs it. JSON lines in, one verdict a line
//! out, in order; a line that cannot be read is answered with what is wrong with it. Lines with the same `conversation` are one key's consecutive prompts.

mod form;

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use tollgate_filters::json::{JsonError, Kind, Reader};
use tollgate_filters::request::body::Place;
use tollgate_filters::request::scan::behaviour::Attached;
use tollgate_filters::request::scan::inspect::{Inspection, Terms, Verdict};
use tollgate_filters::request::scan::policy::{Action, Mode};
use tollgate_filters::request::scan::scanner::{Scanner, Scratch};
use tollgate_filters::request::scan::{Category, Role};

use crate::config::settings::Scan;
use crate::histories::{Conversation, Histories, Moment};
use crate::state::{scan_settings, today};
use crate::{config, scanner};

/// Scans prompts from standard input: JSON lines {"id","text","conversation"?} or {"id","messages","conversation"?}.
///
/// Each line is answered by one, in order; empty lines are skipped. A line that cannot be read is answered with
/// {"id","error"}, the others are scanned, and the command ends with 1.
#[derive(Debug, Clone, Args)]
pub struct ScanArgs {
    /// Folder of the configuration whose `scan` holds; without it the default policy and the built-in rules.
    #[arg(long, value_name = "DIR")]
    pub conf: Option<PathBuf>,
    /// Folder of rule packs to use instead.
    #[arg(long, value_name = "DIR")]
    pub rules: Option<PathBuf>,
    /// Scores from here on are blocked; the configuration's `block_at` otherwise.
    #[arg(long, value_name = "SCORE", value_parser = score)]
    pub block_at: Option<f32>,
    /// Without the learned layer.
    #[arg(long)]
    pub no_learned: bool,
    /// Write for people: the verdict, each rule with its reason, and what the learned layer went by.
    #[arg(long)]
    pub explain: bool,
    /// Print throughput on standard error at the end.
    #[arg(long)]
    pub stats: bool,
}

fn score(text: &str) -> Result<f32, String> {
    let score = text.parse::<f32>().ok().filter(|score| *score > 0.0 && *score <= 1.0);
    score.ok_or_else(|| format!("expected a number above 0 and up to 1, found {text:?}"))
}

/// Runs the command and returns its exit code: 0 done, 1 failed or bad lines, 2 wrong use or bad rules.
#[must_use]
#[expect(clippy::print_stderr, reason = "faults are for whoever started the command")]
pub fn run(args: &ScanArgs) -> u8 {
    let mut settings = match &args.conf {
        None => Scan::default(),
        Some(folder) => match config::load(folder) {
            Ok(settings) => settings.scan,
            Err(faults) => {
                eprintln!("{faults}");
                return 2;
            }
        },
    };
    if let Some(block_at) = args.block_at {
        settings.policy.block_at = block_at;
        settings.policy.flag_at = settings.policy.flag_at.min(block_at);
    }
    let rules = args.rules.as_ref().or(settings.rules.as_ref());
    let is_learned = settings.learned && !args.no_learned;
    let scanner = match scanner::load(rules.map(PathBuf::as_path), is_learned, Some(&settings.cache), false) {
        Ok(rules) => rules.scanner,
        Err(faults) => {
            for fault in &faults {
                eprintln!("{fault}");
            }
            eprintln!("{} faults in rule packs", faults.len());
            return 2;
        }
    };
    let mut lines = Lines::new(&scanner, &settings, args.explain);
    match lines.run(std::io::stdin().lock(), std::io::stdout().lock()) {
        Ok(bad) => {
            if args.stats {
                eprintln!("{}", lines.stats());
            }
            match bad {
                0 => 0,
                1 => {
                    eprintln!("tollgate scan: 1 line could not be read");
                    1
                }
                _ => {
                    eprintln!("tollgate scan: {bad} lines could not be read");
                    1
                }
            }
        }
        // Whoever reads has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            eprintln!("tollgate scan: {error}");
            1
        }
    }
}

/// One line of input.
#[derive(Debug, Default)]
struct Line<'a> {
    /// The JSON text of the id, to be given back as it is.
    id: Option<&'a [u8]>,
    conversation: Option<Cow<'a, str>>,
    texts: Vec<(Role, Place, Cow<'a, str>)>,
    attached: Attached,
}

struct Lines<'l> {
    scanner: &'l Arc<Scanner>,
    settings: &'l Scan,
    explain: bool,
    scratch: Scratch,
    histories: Histories,
    hasher: RandomState,
    /// One step a prompt: consecutive prompts, whenever they were sent.
    now: Duration,
    prompts: u64,
    bytes: u64,
    spent: Duration,
    slowest: Duration,
}

impl<'l> Lines<'l> {
    fn new(scanner: &'l Arc<Scanner>, settings: &'l Scan, explain: bool) -> Self {
        Self {
            scanner,
            settings,
            explain,
            scratch: scanner.scratch(),
            histories: Histories::new(settings.behaviour.conversations),
            hasher: RandomState::new(),
            now: Duration::ZERO,
            prompts: 0,
            bytes: 0,
            spent: Duration::ZERO,
            slowest: Duration::ZERO,
        }
    }

    /// Answers every line, and tells how many could not be read.
    fn run(&mut self, mut input: impl BufRead, output: impl Write) -> std::io::Result<u64> {
        let mut output = BufWriter::with_capacity(1 << 16, output);
        let mut line = Vec::new();
        let (mut number, mut bad) = (0_u64, 0);
        loop {
            line.clear();
            if input.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            number += 1;
            // Some editors begin a file with a byte order mark.
            let line = line.strip_prefix("\u{feff}".as_bytes()).filter(|_| number == 1).unwrap_or(&line);
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            let parsed = match form::check(line).and_then(Line::parse) {
                Ok(parsed) => parsed,
                Err(message) => {
                    bad += 1;
                    self.write_fault(form::id(line), &format!("line {number}: {message}"), &mut output)?;
                    continue;
                }
            };
            let began = Instant::now();
            let verdict = self.inspect(&parsed);
            let took = began.elapsed();
            self.prompts += 1;
            self.bytes += parsed.texts.iter().map(|(_, _, text)| text.len() as u64).sum::<u64>();
            self.spent += took;
            self.slowest = self.slowest.max(took);
            if self.explain {
                self.explain(&parsed, &verdict, &mut output)?;
            } else {
                write_json(&parsed, &verdict, took, &mut output)?;
            }
        }
        output.flush()?;
        Ok(bad)
    }

    fn write_fault(&self, id: Option<&[u8]>, message: &str, out: &mut impl Write) -> std::io::Result<()> {
        if self.explain {
            let id = String::from_utf8_lossy(id.unwrap_or(b"-"));
            return writeln!(out, "{id}: error: {message}");
        }
        out.write_all(b"{\"id\":")?;
        out.write_all(id.unwrap_or(b"null"))?;
        writeln!(out, ",\"error\":{}}}", serde_json::Value::from(message))
    }

    fn inspect(&mut self, line: &Line<'_>) -> Verdict {
        self.now += Duration::from_secs(1);
        // A text by itself has nothing to be read together with.
        let is_alone = line.conversation.is_none() && line.texts.len() == 1;
        let terms = Terms {
            policy: &self.settings.policy,
            behaviour: if is_alone { Mode::Off } else { self.settings.behaviour.mode },
            history: scan_settings(&self.settings.behaviour),
            today: today(),
            owner: 0,
            is_batch: false,
            is_raw: false,
        };
        let inspection = Inspection::new(self.scanner, &mut self.scratch, terms);
        let mut inspection = inspection.with_attached(line.attached.clone());
        for (role, place, text) in &line.texts {
            inspection.text(text, *role, *place);
        }
        let Some(conversation) = &line.conversation else { return inspection.finish() };
        let id = self.hasher.hash_one(conversation.as_ref());
        let moment = Moment { now: self.now, memory: self.settings.behaviour.memory, rules: 0 };
        let whose = Conversation { key_id: "", user: Some(id) };
        inspection.finish_in(self.now, |use_it| {
            self.histories.with(whose, moment, |remembered| use_it(&mut remembered.history));
        })
    }

    fn explain(&self, line: &Line<'_>, verdict: &Verdict, out: &mut impl Write) -> std::io::Result<()> {
        let id = String::from_utf8_lossy(line.id.unwrap_or(b"-"));
        writeln!(out, "{id}: {} (score {:.2})", verdict.action.name(), verdict.score)?;
        let text = line.texts.get(verdict.text).map_or("", |(_, _, text)| text.as_ref());
        for finding in &verdict.findings {
            let span = text.get(finding.span.clone()).unwrap_or_default();
            let place = &finding.span;
            writeln!(
                out,
                "  {} {} · {} · {} text, bytes {}..{}: {:?}",
                finding.severity.name(),
                finding.rule,
                finding.category.name(),
                finding.view.name(),
                place.start,
                place.end,
                shortened(span)
            )?;
            if let Some(reason) = self.scanner.patterns().reason(&finding.rule) {
                writeln!(out, "      {reason}")?;
            }
            if finding.category == Category::Learned {
                for (words, weight) in self.scanner.explain_learned(text, 8) {
                    writeln!(out, "      {weight:+.2}  {words}")?;
                }
            }
        }
        Ok(())
    }

    fn stats(&self) -> String {
        let seconds = self.spent.as_secs_f64().max(1e-9);
        format!(
            "{} prompts, {:.1} MB, {:.1} MB/s, {:.1} µs a prompt on average, {:.0} µs the slowest; {} rules",
            self.prompts,
            self.bytes as f64 / 1e6,
            self.bytes as f64 / 1e6 / seconds,
            seconds * 1e6 / self.prompts.max(1) as f64,
            self.slowest.as_secs_f64() * 1e6,
            self.scanner.patterns().rule_count()
        )
    }
}

fn shortened(text: &str) -> String {
    const MOST: usize = 100;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST).chain(['…']).collect()
}

fn write_json(
    line: &Line<'_>,
    verdict: &Verdict,
    took: Duration,
    out: &mut impl Write,
) -> std::io::Result<()> {
    out.write_all(b"{\"id\":")?;
    out.write_all(line.id.unwrap_or(b"null"))?;
    let is_blocked = verdict.action == Action::Block;
    write!(out, ",\"verdict\":\"{}\",\"flagged\":{is_blocked}", verdict.action.name())?;
    write!(out, ",\"score\":{:.3},\"rules\":[", verdict.score)?;
    let mut comma = "";
    for rule in verdict.rules() {
        // Ids of rules are letters, digits, dots and dashes: a pack with another does not load.
        write!(out, "{comma}\"{rule}\"")?;
        comma = ",";
    }
    out.write_all(b"],\"categories\":[")?;
    let mut categories: Vec<Category> = verdict.findings.iter().map(|finding| finding.category).collect();
    categories.sort_unstable();
    categories.dedup();
    comma = "";
    for category in categories {
        write!(out, "{comma}\"{}\"", category.name())?;
        comma = ",";
    }
    out.write_all(b"],\"spans\":[")?;
    comma = "";
    for finding in &verdict.findings {
        write!(
            out,
            "{comma}{{\"rule\":\"{}\",\"view\":\"{}\",\"text\":{},\"start\":{},\"end\":{}}}",
            finding.rule,
            finding.view.name(),
            verdict.text,
            finding.span.start,
            finding.span.end
        )?;
        comma = ",";
    }
    writeln!(out, "],\"us\":{:.1}}}", took.as_secs_f64() * 1e6)
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Result<Self, String> {
        let line = line.as_bytes();
        let wrong = |error: JsonError| error.to_string();
        let mut reader = Reader::new(line, form::MOST_DEPTH);
        let mut found = Self::default();
        reader.enter_object().map_err(wrong)?;
        while let Some(key) = reader.next_key().map_err(wrong)? {
            match key.value().as_ref() {
                "id" => {
                    let span = reader.skip().map_err(wrong)?;
                    found.id = Some(&line[span]);
                }
                "conversation" if reader.peek().map_err(wrong)? == Kind::String => {
                    found.conversation = Some(reader.string().map_err(wrong)?.value());
                }
                "text" => {
                    let place = Place { key: "text", index: None };
                    found.texts.push((Role::User, place, reader.string().map_err(wrong)?.value()));
                }
                "messages" => found.messages(&mut reader, line).map_err(wrong)?,
                _ => _ = reader.skip().map_err(wrong)?,
            }
        }
        reader.end().map_err(wrong)?;
        found.attached = Attached::of(line, form::MOST_DEPTH);
        if found.texts.is_empty() && found.id.is_none() {
            return Err("expected {\"id\", \"text\"} or {\"id\", \"messages\"}, found neither".to_owned());
        }
        Ok(found)
    }

    fn messages(&mut self, reader: &mut Reader<'a>, line: &'a [u8]) -> Result<(), JsonError> {
        for text in tollgate_filters::request::body::texts_of_messages(reader)? {
            self.texts.push((text.role, text.place, text.value(line)));
        }
        Ok(())
    }
}

/// The policy that holds where no configuration is given: the same as of an empty one.
impl Default for Scan {
    fn default() -> Self {
        config::default_scan()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_filters::request::scan::policy::Policy;

    #[test]
    fn lines_are_read_in_both_forms() {
        let line = Line::parse(r#"{"text":"a\nb","id":7,"extra":[1]}"#).expect("good");
        let place = Place { key: "text", index: None };
        assert_eq!((line.id, line.texts), (Some(&b"7"[..]), vec![(Role::User, place, "a\nb".into())]));
        let line = Line::parse(
            r#"{"id":"x","conversation":"c","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"u"}]}]}"#,
        )
        .expect("good");
        assert_eq!(line.conversation.as_deref(), Some("c"));
        let place = |index| Place { key: "messages", index: Some(index) };
        assert_eq!(line.texts, [(Role::System, place(0), "s".into()), (Role::User, place(1), "u".into())]);
        for bad in ["[]", "{\"id\":1", "{\"text\":7}", "{}"] {
            assert!(Line::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn policies_can_be_compared_with_the_default() {
        assert_eq!(Scan::default().policy, Policy::default());
    }
}
