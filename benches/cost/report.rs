//! The tables, in Markdown, so that a record of a run is the run's own output.

use std::fmt::Write;

use crate::cases::{Calm, Series, Target};
use crate::processes::Memory;

/// The middle of `series`; the mean of the two middle ones where their number is even.
pub(crate) fn median(series: &[f64]) -> f64 {
    let mut sorted = series.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
}

fn bounds(series: &[f64]) -> (f64, f64) {
    series
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)))
}

/// CPU of each target and its ratio to the first.
pub(crate) fn cpu(title: &str, targets: &[Target<'_>], cpu: &[Series], joined: Option<&[Series]>) -> String {
    let mut text = format!("\n### {title}\n\n");
    let more = if joined.is_some() { (" events in a read |", "---:|") } else { ("", "") };
    text += &format!(
        "| | ratio of medians | of minima | round by round | min, µs | median, µs | max, µs |{}\n\
         |---|---:|---:|---:|---:|---:|---:|{}\n",
        more.0, more.1
    );
    for (index, (target, series)) in targets.iter().zip(cpu).enumerate() {
        let ratios: Series = series.iter().zip(&cpu[0]).map(|(own, bare)| own / bare).collect();
        let (low, high) = bounds(&ratios);
        let (min, max) = bounds(series);
        let _ = write!(
            text,
            "| {} | **{:.2}** | {:.2} | {low:.2}–{high:.2} | {min:.1} | {:.1} | {max:.1} |",
            target.name,
            median(series) / median(&cpu[0]),
            min / bounds(&cpu[0]).0,
            median(series)
        );
        if let Some(joined) = joined {
            let _ = write!(text, " {:.1} |", median(&joined[index]));
        }
        text.push('\n');
    }
    text
}

/// Latency of each target and what it adds to the first.
pub(crate) fn calm(title: &str, targets: &[Target<'_>], found: &[Calm]) -> String {
    let mut text = format!(
        "\n### {title}\n\n| | added P50, µs | added P99, µs | P50, µs | P99, µs | CPU, µs |\n|---|---:|---:|---:|---:|---:|\n"
    );
    for (target, calm) in targets.iter().zip(found) {
        let added = |own: &[f64], direct: &[f64]| median(own) - median(direct);
        let _ = writeln!(
            text,
            "| {} | **{:.0}** | **{:.0}** | {:.0} | {:.0} | {:.1} |",
            target.name,
            added(&calm.p50, &found[0].p50),
            added(&calm.p99, &found[0].p99),
            median(&calm.p50),
            median(&calm.p99),
            median(&calm.cpu)
        );
    }
    text
}

/// Memory of an open stream, for each proxy.
pub(crate) fn memory(title: &str, streams: u64, found: &[(&str, (Memory, Memory))]) -> String {
    let mut text = format!(
        "\n### {title}\n\n| | RSS per stream, KiB | PSS per stream, KiB | RSS idle, MiB | RSS open, MiB |\n|---|---:|---:|---:|---:|\n"
    );
    for (name, (before, after)) in found {
        let each = |before: u64, after: u64| (after as f64 - before as f64) / 1024.0 / streams as f64;
        let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
        let _ = writeln!(
            text,
            "| {name} | **{:.1}** | {:.1} | {:.1} | {:.1} |",
            each(before.rss, after.rss),
            each(before.pss, after.pss),
            mib(before.rss),
            mib(after.rss)
        );
    }
    text
}
