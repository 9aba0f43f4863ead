//! What fuzzing kept (`scripts/fuzz.sh`): the texts that reach most of the scanner, and those that once broke it.

use std::path::Path;

#[path = "../../fuzz/fuzz_targets/checks/mod.rs"]
mod checks;

/// Calls `check` with every text kept for a target.
fn replay(target: &str, mut check: impl FnMut(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("a corpus is kept").flatten() {
        check(&std::fs::read(entry.path()).expect("it is a file"));
        count += 1;
    }
    assert!(count > 50, "{count} texts of {target}");
}

#[test]
fn what_fuzzing_kept_is_scanned_alike() {
    let mut whole = checks::Whole::new();
    replay("scan", |data| whole.check(data));
}

#[test]
fn what_fuzzing_kept_is_found_in_pieces() {
    let mut pieces = checks::InPieces::new();
    replay("pieces", |data| pieces.check(data));
}
