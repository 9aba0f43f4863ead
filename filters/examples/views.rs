//! What the readings of texts cost and bring back.
//!
//! ```text
//! cargo run --release -p tollgate-filters --example views -- FILE...
//! ```
//! Each file holds JSON lines with a `text`. Lines that also have `base` (the plain text) and `transform` (how it
//! was hidden) are counted as brought back when 19 of 20 words of the base stand in one reading. Prints the cost
//! a byte and how often each kind of reading was made. Without a file: the cost of
//! texts that are made to be expensive. `SHOW=` a kind of reading or a transform prints texts that have the one, or
//! do not come back from the other.

#![expect(clippy::disallowed_methods, reason = "a measurement reads files")]

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::time::Duration;

use tollgate_filters::request::scan::View;
use tollgate_filters::request::scan::view::{self, Scratch, Views};

/// The processor's time is told in ticks of some milliseconds: this many of them make a figure.
const AT_LEAST: Duration = Duration::from_millis(200);

struct Line {
    text: String,
    base: Option<String>,
    transform: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start = clock();
    view::prepare();
    println!("tables: {:.1} ms", (clock() - start).as_secs_f64() * 1e3);
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        expensive();
    }
    for file in files {
        let lines = load(&file)?;
        println!("{file}: {} lines", lines.len());
        cost(&lines);
        readings(&lines);
        recovery(&lines);
    }
    Ok(())
}

/// Time that this thread was on a processor (Linux): what others do on the machine does not count.
fn clock() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or_default())
}

fn load(file: &str) -> Result<Vec<Line>, Box<dyn std::error::Error>> {
    let mut lines = Vec::new();
    for line in std::fs::read_to_string(file)?.lines() {
        let value: serde_json::Value = serde_json::from_str(line)?;
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        lines.push(Line {
            text: text("text").ok_or("a line has no text")?,
            base: text("base"),
            transform: text("transform").or(text("category")).unwrap_or_default(),
        });
    }
    Ok(lines)
}

fn cost(lines: &[Line]) {
    let kinds =
        [("ASCII", 0.0..=0.0), ("little else", 1e-9..=0.2), ("much else", 0.2..=1.0), ("all", 0.0..=1.0)];
    for (name, wanted) in kinds {
        let texts: Vec<&str> =
            lines.iter().map(|line| &*line.text).filter(|text| wanted.contains(&share(text))).collect();
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        let mut scratch = Scratch::default();
        let time = mean(|| {
            for text in &texts {
                black_box(Views::read(text, &mut scratch).evidence());
            }
        });
        println!("  {name:>12}: {:>5} texts, {:.2} ns a byte", texts.len(), per_byte(time, bytes));
    }
}

fn mean(mut run: impl FnMut()) -> Duration {
    let start = clock();
    let mut runs = 0;
    while runs < 3 || clock() - start < AT_LEAST {
        run();
        runs += 1;
    }
    (clock() - start) / runs
}

fn share(text: &str) -> f64 {
    text.bytes().filter(|byte| !byte.is_ascii()).count() as f64 / text.len().max(1) as f64
}

fn per_byte(time: Duration, bytes: usize) -> f64 {
    time.as_nanos() as f64 / bytes.max(1) as f64
}

fn readings(lines: &[Line]) {
    let mut made: BTreeMap<String, u32> = BTreeMap::new();
    let mut scratch = Scratch::default();
    let (mut bytes, mut read) = (0, 0);
    for line in lines {
        let views = Views::read(&line.text, &mut scratch);
        let mut of_line = BTreeSet::new();
        bytes += line.text.len();
        for reading in views.iter() {
            read += reading.text.len();
            of_line.insert(match (reading.view, reading.encoding) {
                (View::Folded, None) => {
                    let evidence = views.evidence();
                    format!(
                        "folded{}{}{}",
                        if evidence.leet_words.any() { " leet" } else { "" },
                        if evidence.spaced_words.any() { " spaced" } else { "" },
                        if evidence.mixed_script_words.any() { " mixed" } else { "" },
                    )
                }
                (_, Some(encoding)) => encoding.name().to_owned(),
                (view, None) => view.name().to_owned(),
            });
        }
        for kind in of_line {
            if std::env::var("SHOW").is_ok_and(|show| show == kind) {
                let text: String = line.text.chars().take(400).collect();
                println!("--- {text:?} {:?}", views.evidence());
            }
            *made.entry(kind).or_default() += 1;
        }
    }
    println!("  bytes to match: {:.3} of the original", read as f64 / bytes as f64);
    for (kind, times) in made {
        println!("  {kind:>30}: {times:>5} ({:.2} %)", f64::from(times) * 100.0 / lines.len() as f64);
    }
}

fn recovery(lines: &[Line]) {
    let mut by_transform: BTreeMap<&str, [u32; 3]> = BTreeMap::new();
    let mut scratch = Scratch::default();
    for line in lines {
        let Some(base) = &line.base else { continue };
        let wanted = words(base);
        let is_back = |text: &str| {
            let there = words(text);
            wanted.iter().filter(|word| there.contains(*word)).count() * 20 >= wanted.len() * 19
        };
        let views = Views::read(&line.text, &mut scratch);
        let counts = by_transform.entry(&line.transform).or_default();
        counts[0] += 1;
        counts[1] += u32::from(is_back(&line.text));
        let alone = views.iter().any(|reading| is_back(reading.text));
        counts[2] += u32::from(alone);
        if !alone && std::env::var("SHOW").is_ok_and(|show| show == line.transform) {
            println!("--- {:?}", line.text.chars().take(300).collect::<String>());
            for reading in views.iter() {
                let missing: Vec<_> = {
                    let there = words(reading.text);
                    wanted.iter().filter(|word| !there.contains(*word)).take(12).cloned().collect()
                };
                let text: String = reading.text.chars().take(160).collect();
                println!("  {:?} {:?} {text:?} missing {missing:?}", reading.view, reading.encoding);
            }
        }
    }
    for (transform, [all, before, alone]) in by_transform {
        let percent = |n: u32| f64::from(n) * 100.0 / f64::from(all.max(1));
        println!(
            "  {transform:>20}: {all:>4}, as it stands {:>5.1} %, in a reading {:>5.1} %",
            percent(before),
            percent(alone)
        );
    }
}

/// Words of three letters and more; of scripts without spaces every two characters.
fn words(text: &str) -> BTreeSet<String> {
    let text = view::normalise(text).to_lowercase();
    let mut words = BTreeSet::new();
    for word in text.split(|c: char| !c.is_alphanumeric()) {
        let letters: Vec<char> = word.chars().collect();
        if letters.iter().any(|c| u32::from(*c) >= 0x3000) {
            words.extend(letters.windows(2).map(|pair| pair.iter().collect::<String>()));
        } else if letters.len() > 2 && letters.iter().all(|c| c.is_alphabetic()) {
            words.insert(word.to_owned());
        }
    }
    words
}

/// A MiB of each.
fn expensive() {
    let of = |unit: &str| unit.repeat((1 << 20) / unit.len());
    let prose = "The train leaves at nine from platform four, and it takes two hours to the coast. ";
    let cases = [
        ("English prose", of(prose)),
        (
            "French prose",
            of("Le train part à neuf heures du quai numéro quatre, et met deux heures jusqu'à la côte. "),
        ),
        ("Chinese prose", of("火车九点从四号站台出发，到海边需要两个小时。请提前十五分钟到达车站。")),
        (
            "Japanese prose",
            of("電車は九時に四番線から出発して、海岸まで二時間かかります。駅には早めに着いてください。"),
        ),
        (
            "Russian prose",
            of("Поезд отправляется в девять часов с четвёртого пути и идёт до побережья два часа. "),
        ),
        ("Arabic prose", of("ينطلق القطار في التاسعة من الرصيف الرابع ويستغرق ساعتين إلى الساحل. ")),
        ("Hindi prose", of("ट्रेन नौ बजे प्लेटफार्म चार से निकलती है और तट तक दो घंटे लेती है। ")),
        ("Korean prose", of("기차는 아홉 시에 사번 승강장에서 출발하여 해안까지 두 시간이 걸립니다. ")),
        ("one letter", of("a")),
        ("one digit", of("1")),
        ("spaces", of(" ")),
        ("lone letters", of("a ")),
        ("dotted letters", of("a.")),
        ("lone digits", of("1 ")),
        ("lone letters and digits", of("a 1 2 3 ")),
        ("entities", of("&#105;")),
        ("percent", of("%69")),
        ("ampersands", of("&")),
        ("percent signs", of("%")),
        ("backslashes", of("\\")),
        ("equals signs", of("=4")),
        ("unicode escapes", of("\\u0069")),
        ("base64 of text", of("VGhlIHRyYWluIGxlYXZlcyBhdCBuaW5l")),
        ("base64 of noise", of("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk")),
        ("base64 in lines", of("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkaaaa\n")),
        ("base64 words", of("VGhlIHRyYWluIGxlYXZlcyBhdCBu ")),
        ("hex", of("54686520747261696e206c656176657320")),
        ("spaced hex", of("54 68 65 20 74 72 61 69 6e 20 ")),
        ("binary", of("01010100 01101000 ")),
        ("leet", of("7h3 7r41n l34v35 47 n1n3 ")),
        ("homoglyphs", of("Тhе trаin lеаvеѕ аt ninе ")),
        ("full width", of("Ｔｈｅ　ｔｒａｉｎ　")),
        ("zero width", of("t\u{200b}r\u{200b}a\u{200b}i\u{200b}n ")),
        ("tags", of("\u{e0054}\u{e0068}\u{e0065}\u{e0020}")),
        ("selectors", of("\u{e0144}\u{e0158}\u{e0155}\u{e0110}")),
        ("marks", of("a\u{301}\u{323}\u{335}")),
        ("jamo", of("\u{1112}\u{1161}\u{11ab}")),
        ("half-width kana", of("ｶﾞｷﾞ")),
        ("rot13", of("Gur genva yrnirf ng avar sebz cyngsbez sbhe ")),
        ("reversed", of("tsaoc eht ot sruoh owt sekat ti dna enin ta sevael niart ehT ")),
        ("nested", of(&nested(prose))),
    ];
    let mut scratch = Scratch::default();
    for (name, text) in &cases {
        let time = mean(|| {
            black_box(Views::read(text, &mut scratch).evidence());
        });
        let views = Views::read(text, &mut scratch);
        let (count, bytes) = views.iter().fold((0, 0), |(n, sum), reading| (n + 1, sum + reading.text.len()));
        println!(
            "  {name:>24}: {:>6.2} ns a byte, {count} readings, {:.2} bytes each",
            per_byte(time, text.len()),
            bytes as f64 / text.len() as f64
        );
    }
}

/// A sentence in percent escapes, and that in entities, and that again.
fn nested(text: &str) -> String {
    let once: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let twice: String = once.chars().map(|c| format!("&#{};", u32::from(c))).collect();
    twice.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect()
}
