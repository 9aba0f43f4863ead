//! `tollgate run`: loads the configuration and serves.

use std::path::PathBuf;

use clap::Args;

use crate::control::Leave;
use crate::{config, server};

/// Options of `tollgate run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Folder of the configuration files.
    #[arg(long, default_value = "conf", value_name = "DIR")]
    pub conf: PathBuf,
    /// Take over the listening sockets of the running process (send it SIGQUIT once this one has started).
    #[arg(long)]
    pub upgrade: bool,
}

/// Serves until told to stop. Gives the exit code.
#[must_use]
#[expect(clippy::print_stderr, reason = "faults of the configuration are for whoever started the command")]
pub fn run(args: &RunArgs) -> u8 {
    let settings = match config::load(&args.conf) {
        Ok(settings) => settings,
        Err(faults) => {
            eprintln!("{faults}");
            return 2;
        }
    };
    log::set_max_level(settings.log.level);
    match server::run(settings, &args.conf, args.upgrade) {
        Ok(Leave::Drained) => {
            log::info!("drained; leaving");
            0
        }
        Ok(Leave::AtOnce) => {
            log::info!("leaving at once");
            0
        }
        Err(error) => {
            eprintln!("tollgate: {error}");
            1
        }
    }
}
