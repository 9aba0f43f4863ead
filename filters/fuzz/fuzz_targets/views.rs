//! Any text: its readings are made, bounded in number and size, and every place in them leads back to characters
//! of the text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_filters::request::scan::view::{Scratch, Views, normalise};

fuzz_target!(|text: &str| {
    let once = normalise(text);
    if !text.is_ascii() {
        assert_eq!(normalise(&once).to_ascii_lowercase(), once, "normalising twice");
    }
    let mut scratch = Scratch::default();
    let views = Views::read(text, &mut scratch);
    let mut readings = 0;
    for reading in views.iter() {
        readings += 1;
        assert!(reading.text.len() <= 6 * text.len() + 64, "a reading grows by a constant at most");
        let middle = reading.text.floor_char_boundary(reading.text.len() / 2);
        for range in [0..middle, middle..reading.text.len(), 0..reading.text.len()] {
            assert!(text.get(reading.origin(range)).is_some(), "a place is on characters");
        }
    }
    assert!(readings < 256, "{readings} readings");
});
