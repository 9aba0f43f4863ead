//! What threads keep between scans. Each has a scratch of its own, which remembers the texts that its requests send again; a few
//! more are for long texts, which are looked at while another thread goes on with the requests.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

use tollgate_filters::request::scan::scanner::{Scanner, Scratch};

thread_local! {
    static OWN: RefCell<Option<Scratch>> = const { RefCell::new(None) };
}

/// Those of threads that gave their requests away: whoever takes the requests takes what is remembered of them.
static LEFT: Spare = Spare::new();

/// Those for long texts.
static LONG: Spare = Spare::new();

/// Scratches that are kept although nobody uses them: mostly none, since a thread that takes requests over takes the scratch too.
const MOST_SPARE: usize = 16;

/// Scratches that nobody uses at the moment. The one that was used last is used first, since it remembers most of what comes again.
struct Spare(Mutex<Vec<Scratch>>);

impl Spare {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn take(&self) -> Option<Scratch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put(&self, scratch: Scratch) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MOST_SPARE {
            spare.push(scratch);
        }
    }
}

/// Lends this thread's scratch, which remembers so many texts.
pub fn with_own<R>(scanner: &Scanner, remembered: usize, use_it: impl FnOnce(&mut Scratch) -> R) -> R {
    OWN.with_borrow_mut(|own| {
        let scratch = own.get_or_insert_with(|| LEFT.take().unwrap_or_else(|| scanner.scratch()));
        scratch.remember(remembered);
        use_it(scratch)
    })
}

/// Lends a scratch for long texts. Meanwhile another thread goes on with what this one serves.
///
/// # Panics
/// On a runtime of one thread that cannot give its work away.
pub fn with_another<R>(scanner: &Scanner, remembered: usize, use_it: impl FnOnce(&mut Scratch) -> R) -> R {
    if let Some(own) = OWN.take() {
        LEFT.put(own);
    }
    tokio::task::block_in_place(|| {
        let mut scratch = LONG.take().unwrap_or_else(|| scanner.scratch());
        scratch.remember(remembered);
        let given = use_it(&mut scratch);
        LONG.put(scratch);
        given
    })
}
