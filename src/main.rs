//! The command line. The only place that exits.

use std::process::ExitCode;

/// A request makes many small allocations that live as long as it does; this allocator serves them with less of the
/// CPU than the system's (`benches/record/` has the figures).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use clap::{Parser, Subcommand};
use tollgate::{cli, sim};

/// A governed, byte-exact gateway in front of language-model inference servers.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve.
    Run(cli::run::RunArgs),
    /// Validate the configuration and print what is meant by it.
    Check(cli::check::CheckArgs),
    /// Make, list, rotate and end API keys.
    Key(cli::key::KeyArgs),
    /// What was used, by tenant, key, model and time.
    Usage(cli::usage::UsageArgs),
    /// Scan prompts from standard input.
    Scan(cli::scan::ScanArgs),
    /// Count tokens as the gateway does.
    Tokens(cli::tokens::TokensArgs),
    /// Simulate inference servers.
    Sim(sim::SimArgs),
}

fn main() -> ExitCode {
    // The configuration's `log.level` then bounds what is ours; the framework tells its troubles only. RUST_LOG says
    // otherwise, for whoever looks for a fault.
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,tollgate=trace"))
        .target(env_logger::Target::Stderr)
        .init();
    log::set_max_level(log::LevelFilter::Info);
    let code = match Arguments::parse().command {
        Command::Run(args) => cli::run::run(&args),
        Command::Check(args) => cli::check::run(&args),
        Command::Key(args) => cli::key::run(&args),
        Command::Usage(args) => cli::usage::run(&args),
        Command::Scan(args) => cli::scan::run(&args),
        Command::Tokens(args) => cli::tokens::run(&args),
        Command::Sim(args) => match sim::run(args) {
            Ok(()) => 0,
            Err(error) => {
                log::error!("{error}");
                1
            }
        },
    };
    ExitCode::from(code)
}
