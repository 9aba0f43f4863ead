//! Texts of our own: templates in `filters/data/scanner`, drawn from with a fixed seed. They put phrasings and
//! languages beside the data of others that it lacks, and for each attack's words a harmless use of them.

use std::collections::HashMap;
use std::path::Path;

use super::corpus::{Corpus, Group};
use super::fit::Random;

/// Deeper nesting than this is a list that names itself.
const DEEPEST: usize = 12;

/// Adds `each` texts of every template in every file `attacks.<language>.txt` and `harmless.<language>.txt`.
pub(crate) fn read(corpus: &mut Corpus, directory: &Path, each: usize) -> Result<(), String> {
    let fault = |error: std::io::Error| format!("{}: {error}", directory.display());
    let mut files: Vec<_> =
        std::fs::read_dir(directory).map_err(fault)?.collect::<Result<_, _>>().map_err(fault)?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        let name = file.file_name().to_string_lossy().into_owned();
        let mut parts = name.split('.');
        let (side, language) = match (parts.next(), parts.next(), parts.next()) {
            (Some(side @ ("attacks" | "harmless")), Some(language), Some("txt")) => (side, language),
            _ => continue,
        };
        let text = std::fs::read_to_string(file.path()).map_err(fault)?;
        let mut lists = HashMap::new();
        let mut heading = String::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() || line.starts_with("# ") {
                continue;
            }
            if let Some((list, options)) = line.strip_prefix('@').and_then(|list| list.split_once('=')) {
                lists.insert(list.trim().to_owned(), options.trim_start().to_owned());
                continue;
            }
            if let Some(of) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']'))
                && of
                    .chars()
                    .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-')
            {
                heading = of.to_owned();
                continue;
            }
            let (group, source) = match side {
                "attacks" => (Group::Attack, format!("attack:own {heading}")),
                _ => (Group::Hard, format!("benign:own {heading}")),
            };
            for nth in 0..each as u64 {
                let seed =
                    nth << 40 ^ number << 16 ^ name.bytes().fold(7, |hash, byte| hash * 31 + u64::from(byte));
                let drawn = draw(line, &lists, &mut Random(seed), DEEPEST);
                corpus.add(&drawn, &source, group, &heading, language, true);
                // A disguise by itself is no attack: the views undo it, and what is in it is judged.
                if side == "harmless" && nth % DISGUISED == number % DISGUISED {
                    let disguised = disguise(&drawn, number / DISGUISED);
                    corpus.add(&disguised, "benign:own disguised", group, "disguised", language, true);
                }
            }
        }
    }
    Ok(())
}

/// One harmless text of so many is there in a disguise too.
const DISGUISED: u64 = 15;

/// Letters set apart by spaces or by dots, or some of them written as digits.
fn disguise(text: &str, kind: u64) -> String {
    let apart = |with: char| {
        let mut out = String::new();
        for letter in text.chars() {
            out.extend([letter, with]);
        }
        out
    };
    let as_digit = |letter: char| match letter {
        'a' | 'A' => '4',
        'e' | 'E' => '3',
        'i' | 'I' => '1',
        'o' | 'O' => '0',
        's' | 'S' => '5',
        't' | 'T' => '7',
        other => other,
    };
    match kind % 3 {
        0 => apart(' '),
        1 => apart('.'),
        _ => text.chars().map(as_digit).collect(),
    }
}

/// One text of a template.
fn draw(template: &str, lists: &HashMap<String, String>, random: &mut Random, depth: usize) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '<']) {
        out.push_str(&rest[..at]);
        let (open, after) = rest[at..].split_at(1);
        let close = if open == "{" { closing(after) } else { after.find('>') };
        let Some(close) = close else {
            out.push_str(open);
            rest = after;
            continue;
        };
        let inner = &after[..close];
        rest = &after[close + 1..];
        let options = if open == "{" { Some(inner) } else { lists.get(inner).map(String::as_str) };
        match options {
            Some(options) if depth > 0 => {
                let options = split(options);
                let option = options[random.below(options.len())];
                out.push_str(&draw(option, lists, random, depth - 1));
            }
            _ => out.push_str(&rest_of(open, inner)),
        }
    }
    out.push_str(rest);
    out
}

fn rest_of(open: &str, inner: &str) -> String {
    let close = if open == "{" { "}" } else { ">" };
    format!("{open}{inner}{close}")
}

/// Where the brace that is open closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    text.bytes().position(|byte| {
        depth += i32::from(byte == b'{') - i32::from(byte == b'}');
        depth == 0
    })
}

/// The parts between the bars that no brace encloses.
fn split(options: &str) -> Vec<&str> {
    let mut depth = 0;
    options
        .split(|letter| {
            depth += i32::from(letter == '{') - i32::from(letter == '}');
            depth == 0 && letter == '|'
        })
        .collect()
}
