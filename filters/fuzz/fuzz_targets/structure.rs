//! Any text as what a model reads: no panic, spans that are parts of the text, findings that are few.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_filters::request::scan::Role;
use tollgate_filters::request::scan::structure::{self, Shape};

fuzz_target!(|input: &[u8]| {
    let [settings, text @ ..] = input else { return };
    let text = String::from_utf8_lossy(text);
    let role = [Role::System, Role::User, Role::Assistant, Role::Tool][usize::from(*settings) % 4];
    let (mut found, mut hidden) = (Vec::new(), Vec::new());
    structure::check(&text, role, &mut found, &mut hidden);
    assert!(found.len() <= Shape::ALL.len() * 12, "one shape is not reported without end");
    for finding in &found {
        assert!(text.get(finding.span.clone()).is_some(), "a finding lies in the text");
        assert!(Shape::ALL.iter().any(|shape| shape.id() == &*finding.rule), "a rule that is known");
    }
    for hidden in &hidden {
        assert!(text.get(hidden.span.clone()).is_some() && text.get(hidden.text.clone()).is_some());
        assert!(hidden.span.start <= hidden.text.start && hidden.text.end <= hidden.span.end);
    }
});
