//! From a place in a reading back to the place it came from. Nothing is written down on the way: the few texts
//! with a finding are transformed a second time, and that time the steps are kept.

use std::ops::Range;

/// Sees what a transformation does. `()` sees nothing and costs nothing.
pub(crate) trait Trace {
    /// From `out` on, the output is the input from `from` on, byte for byte.
    fn copied(&mut self, out: usize, from: usize);
    /// From `out` on, the output stands for the input from `from` up to the next step's.
    fn replaced(&mut self, out: usize, from: usize);
}

impl Trace for () {
    fn copied(&mut self, _: usize, _: usize) {}
    fn replaced(&mut self, _: usize, _: usize) {}
}

#[derive(Debug)]
struct Step {
    out: usize,
    from: usize,
    is_copy: bool,
}

/// The steps of one transformation, in order of the output.
#[derive(Debug, Default)]
pub(super) struct Steps {
    steps: Vec<Step>,
}

impl Trace for Steps {
    fn copied(&mut self, out: usize, from: usize) {
        self.steps.push(Step { out, from, is_copy: true });
    }

    fn replaced(&mut self, out: usize, from: usize) {
        self.steps.push(Step { out, from, is_copy: false });
    }
}

impl Steps {
    /// The part of the input (`len` bytes long) that became `range` of the output.
    pub(super) fn origin(&self, range: &Range<usize>, len: usize) -> Range<usize> {
        let start = self.at(range.start).map_or(range.start, |(at, _)| self.from(at, range.start));
        if range.is_empty() {
            return start.min(len)..start.min(len);
        }
        let last = range.end - 1;
        let end = match self.at(last) {
            None => range.end,
            Some((at, next)) if self.steps[at].is_copy => {
                (self.from(at, last) + 1).min(self.start_of(next, len))
            }
            Some((_, next)) => self.start_of(next, len),
        };
        start.min(len)..end.clamp(start.min(len), len)
    }

    /// The step that made the byte at `out`, and the first one after it that stands elsewhere.
    fn at(&self, out: usize) -> Option<(usize, usize)> {
        let after = self.steps.partition_point(|step| step.out <= out);
        Some((after.checked_sub(1)?, after))
    }

    fn from(&self, at: usize, out: usize) -> usize {
        let step = &self.steps[at];
        if step.is_copy { step.from + (out - step.out) } else { step.from }
    }

    fn start_of(&self, at: usize, len: usize) -> usize {
        self.steps.get(at).map_or(len, |step| step.from)
    }
}

/// The same range widened to the boundaries of characters.
pub(super) fn on_boundaries(text: &str, range: Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(range.start);
    start..text.ceil_char_boundary(range.end).max(start)
}
