//! Links Hyperscan, or Vectorscan, which is the same for processors that are not Intel's. Statically, so that
//! the binary runs where neither is installed.

#![expect(
    clippy::disallowed_methods,
    reason = "the walls of this crate are for its decisions, not for its build"
)]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for name in ["CC", "CXX", "HYPERSCAN_LIB_DIR"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    if env::var_os("CARGO_FEATURE_HYPERSCAN").is_none() {
        return;
    }
    let given = env::var_os("HYPERSCAN_LIB_DIR").map(|dir| PathBuf::from(dir).join("libhs.a"));
    let Some(library) = given.filter(|file| file.exists()).or_else(|| from_compiler("CC", "cc", "libhs.a"))
    else {
        let is_intel = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
        let package = if is_intel { "libhyperscan-dev" } else { "libvectorscan-dev" };
        panic!(
            "libhs.a is missing, which the feature `hyperscan` links. On Debian: apt-get install {package} \
             (scripts/install-system.sh build does it). Where it lies elsewhere: HYPERSCAN_LIB_DIR=<its folder>. \
             To build without it, slower: --no-default-features"
        );
    };
    link(&library, "hs");
    // Hyperscan is C++. Its runtime comes along where the compiler has it as an archive.
    match from_compiler("CXX", "c++", "libstdc++.a") {
        Some(library) => link(&library, "stdc++"),
        None => println!("cargo:rustc-link-lib=dylib=stdc++"),
    }
    println!("cargo:rustc-link-lib=dylib=m");
}

fn link(library: &Path, name: &str) {
    if let Some(folder) = library.parent() {
        println!("cargo:rustc-link-search=native={}", folder.display());
    }
    println!("cargo:rustc-link-lib=static={name}");
    println!("cargo:rerun-if-changed={}", library.display());
}

/// Where the compiler that links finds a library, if it does.
fn from_compiler(variable: &str, default: &str, library: &str) -> Option<PathBuf> {
    let compiler = env::var(variable).unwrap_or_else(|_| default.to_owned());
    let output = Command::new(compiler).arg(format!("-print-file-name={library}")).output().ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    // A compiler that does not find it answers with the bare name.
    (path.is_absolute() && path.exists()).then(|| path.canonicalize().unwrap_or(path))
}
