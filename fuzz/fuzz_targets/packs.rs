//! The rule packs as they ship.

use std::path::{Path, PathBuf};

use tollgate_filters::request::scan::pack::{Pack, Packs};

/// The directory of the configuration that ships.
pub fn conf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf")
}

/// All packs.
pub fn linked() -> Packs {
    Packs::link(read(&conf().join("rules"))).expect("the packs link")
}

fn read(folder: &Path) -> Vec<Pack> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(read(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).expect("a pack is text");
            found.push(Pack::parse(&path.to_string_lossy(), &text).expect("a pack is sound"));
        }
    }
    found
}
