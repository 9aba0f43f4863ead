//! The configuration: five YAML files in one directory → `Settings`. What is written (`schema`), what was
//! meant (`settings`) and the checks between them are separate, so that nothing past this door can see file
//! text, a missing default or an unchecked name. A configuration is taken whole or not at all, and
//! everything that is wrong with it is said at once.
//! Invariants: no secret is ever in a message, in `render` or in `Debug`; equal files give equal settings.

mod check;
mod describe;
mod fault;
mod kind;
mod node;
mod render;
mod schema;
mod secret;
pub mod settings;
mod words;

#[cfg(test)]
mod tests;

use std::path::Path;

pub(crate) use check::default_scan;
pub use describe::{reference, schema};
pub use fault::Faults;
pub use render::{diff, render, render_json};
pub use secret::hash_key;
pub use settings::Settings;

use fault::{FileId, Place};
use schema::{FILES, Schema};
use secret::Sources;

/// The names of the files that `load` reads, in the order in which faults are shown.
#[must_use]
pub fn file_names() -> &'static [&'static str] {
    const NAMES: [&str; FILES.len()] = {
        let mut names = [""; FILES.len()];
        let mut index = 0;
        while index < FILES.len() {
            names[index] = FILES[index].name;
            index += 1;
        }
        names
    };
    &NAMES
}

/// Reads and checks the configuration in `dir`, and the certificates and secrets that it refers to.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(dir: &Path) -> Result<Settings, Faults> {
    load_with(&Sources { dir, env: &|name| std::env::var_os(name) })
}

fn load_with(sources: &Sources<'_>) -> Result<Settings, Faults> {
    let mut faults = Faults::new(sources.dir);
    let texts = std::array::from_fn(|index| {
        let place = Place::top(FileId(index), 0);
        match std::fs::read(sources.dir.join(FILES[index].name)).map(String::from_utf8) {
            Ok(Ok(text)) => Some(text),
            Ok(Err(_)) => faults.keep(&place, Err("expected UTF-8 text, found other bytes".to_owned())),
            Err(error) => faults.keep(&place, Err(format!("cannot be read: {error}"))),
        }
    });
    let schema = Schema::read(&texts, &mut faults);
    let settings = check::settings(schema, sources, &mut faults);
    faults.none_or(settings)
}
