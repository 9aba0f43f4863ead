//! Builds the shipped rule packs into the program, so that it guards prompts also where no folder of rules is.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or_else(|| io::Error::other("run by cargo"))?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("run by cargo"))?);
    let folder = root.join("conf/rules");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut packs = Vec::new();
    collect(&folder, &mut packs)?;
    packs.sort();
    let mut code = String::from(
        "/// Name and text of every shipped rule pack.\npub(crate) const PACKS: &[(&str, &str)] = &[\n",
    );
    for pack in &packs {
        let name = pack.strip_prefix(&folder).unwrap_or(pack).display().to_string();
        let path = pack.display().to_string();
        writeln!(code, "    ({name:?}, include_str!({path:?})),").map_err(io::Error::other)?;
    }
    code.push_str("];\n");
    fs::write(out.join("packs.rs"), code)
}

fn collect(folder: &Path, packs: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, packs)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            packs.push(path);
        }
    }
    Ok(())
}
