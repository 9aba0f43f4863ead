//! The whole scanner over any text; see `checks`.
#![no_main]

#[allow(dead_code, reason = "each target asks one of two things")]
mod checks;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;

thread_local! {
    static WHOLE: RefCell<checks::Whole> = RefCell::new(checks::Whole::new());
}

fuzz_target!(init: WHOLE.with_borrow(|_| ()), |data: &[u8]| {
    WHOLE.with_borrow_mut(|whole| whole.check(data));
});
