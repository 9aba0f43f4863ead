//! The commands, one file each.

pub mod check;
pub mod key;
pub mod run;
pub mod scan;
pub mod tokens;
pub mod usage;
