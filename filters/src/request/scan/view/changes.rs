//! Which parts of a folded text are to be read: those that the fold changed, and what stands around them. The rest stands in
//! another reading as well. A page is long, and has a word with digits here and a row of letters there.

use std::ops::Range;

use super::trace::{Trace, on_boundaries};

/// Letters before and after a change that are read with it. No rule of the packs reaches farther, which is three concepts 300 apart
/// and their atoms; one of an operator's own may, and then it is not seen across that distance in a disguise.
const MARGIN: usize = 800;

/// Bytes more in which a place between two words is looked for.
const TO_BORDER: usize = 200;

/// Changes that are kept; a text with more is read whole.
const MOST: usize = 4096;

/// Bytes between two changes that are one.
const CLOSE: usize = 64;

/// Where a text was changed, in bytes of what became of it.
#[derive(Debug, Default)]
pub(super) struct Changes {
    ranges: Vec<Range<usize>>,
    /// Where a change began that has not ended.
    open: Option<usize>,
    is_everywhere: bool,
}

impl Trace for Changes {
    fn copied(&mut self, out: usize, _: usize) {
        if let Some(start) = self.open.take() {
            self.add(start..out);
        }
    }

    fn replaced(&mut self, out: usize, _: usize) {
        self.open.get_or_insert(out);
    }
}

impl Changes {
    /// All of it.
    pub(super) fn everywhere() -> Self {
        Self { is_everywhere: true, ..Self::default() }
    }

    /// One more, in the order of their starts.
    pub(super) fn add(&mut self, range: Range<usize>) {
        let count = self.ranges.len();
        match self.ranges.last_mut() {
            Some(last) if range.start <= last.end + CLOSE => last.end = last.end.max(range.end),
            _ if count < MOST => self.ranges.push(range),
            _ => self.is_everywhere = true,
        }
    }

    /// Those of another fold of the same text, which moved nothing.
    pub(super) fn join(&mut self, other: Self) {
        self.ranges.extend(other.ranges);
        self.is_everywhere |= other.is_everywhere;
    }

    /// The parts of `text`, which it became, that are to be read, in order; none if all of it is.
    pub(super) fn parts(&self, text: &str) -> Vec<Range<usize>> {
        if self.is_everywhere || text.len() < 4 * MARGIN {
            return Vec::new();
        }
        let mut ranges = self.ranges.clone();
        ranges.extend(self.open.map(|start| start..text.len()));
        ranges.sort_by_key(|range| range.start);
        let mut parts: Vec<Range<usize>> = Vec::new();
        for range in ranges.into_iter().filter(|range| range.start < text.len()) {
            let part = around(text, range);
            match parts.last_mut() {
                Some(last) if part.start <= last.end => last.end = last.end.max(part.end),
                _ => parts.push(part),
            }
        }
        let read: usize = parts.iter().map(Range::len).sum();
        // A little less is not worth a beginning in the middle.
        if read > text.len() / 4 * 3 { Vec::new() } else { parts }
    }
}

/// What stands around a change, from a space to a space.
fn around(text: &str, change: Range<usize>) -> Range<usize> {
    let bytes = text.as_bytes();
    let is_border = |byte: &u8| byte.is_ascii_whitespace();
    // Letters are counted, which take up to three bytes outside ASCII.
    let begins = |(_, byte): &(usize, &u8)| !matches!(**byte, 0x80..=0xbf);
    let mut before = bytes[..change.start].iter().enumerate().rev().filter(begins);
    let start = before.nth(MARGIN - 1).map_or(0, |(at, _)| at);
    let from = start.saturating_sub(TO_BORDER);
    let start = bytes[from..start].iter().rposition(is_border).map_or(from, |at| from + at);
    let end = change.end.min(bytes.len());
    let mut behind = bytes[end..].iter().enumerate().filter(begins);
    let end = behind.nth(MARGIN).map_or(bytes.len(), |(at, _)| end + at);
    let to = (end + TO_BORDER).min(bytes.len());
    let end = bytes[end..to].iter().position(is_border).map_or(to, |at| end + at);
    on_boundaries(text, start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_around_changes_and_a_text_that_changed_much_is_read_whole() {
        let quiet = "Nothing to see here, move along please. ";
        let text = format!("{}move{}go{}", quiet.repeat(200), quiet.repeat(200), quiet.repeat(5));
        let [first, second] = [200 * quiet.len(), text.len() - 5 * quiet.len() - 2];
        let mut changes = Changes::default();
        changes.add(first..first + 4);
        changes.add(second..second + 2);
        let parts = changes.parts(&text);
        assert_eq!(parts.len(), 2);
        for (part, at) in parts.iter().zip([first, second]) {
            assert!(part.start + MARGIN <= at && part.len() < 2 * (MARGIN + TO_BORDER) + 4, "{part:?} {at}");
            assert!(part.end == text.len() || text[part.end..].starts_with(' '), "{part:?}");
        }
        let mut much = Changes::default();
        (0..400).for_each(|time| much.add(time * quiet.len()..time * quiet.len() + 4));
        assert!(much.parts(&text).is_empty());
        assert!(Changes::everywhere().parts(&text).is_empty());
    }

    #[test]
    fn what_is_replaced_is_changed_up_to_what_is_copied() {
        let text = "x".repeat(20_000);
        let mut changes = Changes::default();
        changes.copied(0, 0);
        changes.replaced(5_000, 5_000);
        changes.replaced(5_010, 5_020);
        changes.copied(5_020, 5_030);
        changes.replaced(20_000, 20_010);
        let parts = changes.parts(&text);
        assert_eq!(parts.len(), 1, "{parts:?}");
        assert!(parts[0].contains(&4_500) && parts[0].contains(&5_600), "{parts:?}");
    }
}
