//! A text that comes in pieces; see `checks`.
#![no_main]

#[allow(dead_code, reason = "each target asks one of two things")]
mod checks;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;

thread_local! {
    static PIECES: RefCell<checks::InPieces> = RefCell::new(checks::InPieces::new());
}

fuzz_target!(init: PIECES.with_borrow(|_| ()), |data: &[u8]| {
    PIECES.with_borrow_mut(|pieces| pieces.check(data));
});
