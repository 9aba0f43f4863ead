//! What the gateway costs beside bare Pingora: CPU of an answer and of an event, latency, memory of a stream.
//!
//! Both stand in front of the same server and under the same load, on the same core, in turns. What counts is
//! the ratio: the CPU time of a process does not contain what else runs on the machine, and what is left of that
//! (caches, clock speed) falls on both. A second process of bare Pingora is measured like another proxy; how far
//! its ratio is from 1 is how far to trust the others.
//!
//!     cargo bench --bench cost                          everything, under five minutes
//!     cargo bench --bench cost -- paced memory          some of: answers full-speed paced calm memory
//!     cargo bench --bench cost -- --rounds 30           instead of 10
//!     cargo bench --bench cost -- memory --streams 5000
//!     TOLLGATE=/other/tollgate cargo bench --bench cost measures that binary instead
#![expect(clippy::print_stdout, reason = "the table is what it is run for")]

mod bare;
mod cases;
mod client;
mod processes;
mod report;
mod upstream;

use std::path::PathBuf;
use std::process::ExitCode;

use cases::{Target, proxies};
use processes::Proxy;

const CASES: [&str; 5] = ["answers", "full-speed", "paced", "calm", "memory"];

struct Arguments {
    cases: Vec<String>,
    rounds: usize,
    streams: u64,
}

impl Arguments {
    fn wants(&self, case: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|wanted| wanted == case)
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [role, upstream, rest @ ..] = &args[..]
        && role == "bare"
    {
        let buffer = rest.first().map(|bytes| bytes.parse().expect("a number of bytes"));
        bare::serve(upstream.parse().expect("an address"), buffer);
    }
    let args = match parse(&args) {
        Ok(args) => args,
        Err(fault) => {
            println!("{fault}");
            return ExitCode::from(2);
        }
    };
    if let Some(mut again) = processes::on_load_core() {
        let status = again.status().expect("this program can be started again");
        return if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(measure(&args));
    ExitCode::SUCCESS
}

fn parse(args: &[String]) -> Result<Arguments, String> {
    let mut found = Arguments { cases: Vec::new(), rounds: 10, streams: 2_000 };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || {
            let value: Option<u64> = args.next().and_then(|value| value.parse().ok());
            value.filter(|&value| value > 0).ok_or_else(|| format!("{arg}: expected a number above 0"))
        };
        match arg.as_str() {
            "--rounds" => found.rounds = number()? as usize,
            "--streams" => found.streams = number()?,
            case if CASES.contains(&case) => found.cases.push(case.to_owned()),
            other => return Err(format!("{other}: expected --rounds, --streams or one of {CASES:?}")),
        }
    }
    Ok(found)
}

/// A directory that is removed when the run is over.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind in the temporary directory does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn measure(args: &Arguments) {
    let folder = Folder(std::env::temp_dir().join(format!("tollgate-bench-{}", std::process::id())));
    let server = upstream::start();
    println!("## What the gateway costs, {} rounds\n\n{}", args.rounds, machine());
    let (bare, bare_again) = (Proxy::bare(server, None), Proxy::bare(server, None));
    // The prompts of a bench are all the same: looked at each time as if it were new, then as it would be by default.
    let gateway = Proxy::gateway(server, &folder.0.join("time"), "block", 0);
    let reminded = Proxy::gateway(server, &folder.0.join("reminded"), "block", 1024);
    let unguarded = Proxy::gateway(server, &folder.0.join("unguarded"), "off", 0);
    let mut targets = proxies(&bare, &bare_again, &gateway);
    targets.push(Target::new("gateway, prompts seen before", &reminded, upstream::MODEL));
    targets.push(Target::new("gateway, prompts not scanned", &unguarded, upstream::MODEL));
    if args.wants("answers") {
        let found = cases::answers(&targets, args.rounds).await;
        println!(
            "{}",
            report::cpu("CPU of an answer that is not streamed, 1.2 KB prompt", &targets, &found, None)
        );
    }
    if args.wants("paced") {
        let (found, joined) = cases::paced(&targets, args.rounds).await;
        println!("{}", report::cpu("CPU of an event, each on its own", &targets, &found, Some(&joined)));
    }
    if args.wants("full-speed") {
        let (found, joined) = cases::full_speed(&targets, args.rounds).await;
        let title = "CPU of an event at full speed, with its share of the request (1/200)";
        println!("{}", report::cpu(title, &targets, &found, Some(&joined)));
    }
    if args.wants("calm") {
        let direct =
            Target { name: "the server itself", proxy: None, address: server, model: upstream::MODEL };
        let targets = [direct, targets[0].clone(), targets[2].clone()];
        let found = cases::calm(&targets, args.rounds).await;
        println!("{}", report::calm("Time of an answer at low load, 4 KB prompt", &targets, &found));
    }
    drop((bare, bare_again, gateway, reminded, unguarded));
    if args.wants("memory") {
        memory(args, server, &folder).await;
    }
}

/// Each proxy is fresh, so that nothing that an earlier case left behind is taken for a stream's.
async fn memory(args: &Arguments, server: std::net::SocketAddr, folder: &Folder) {
    let mut found = Vec::new();
    let proxies: [(&str, &dyn Fn() -> Proxy); 3] = [
        ("bare Pingora", &|| Proxy::bare(server, None)),
        ("bare Pingora, 8 KiB client buffers", &|| Proxy::bare(server, Some(8 * 1024))),
        ("gateway, 8 KiB client buffers", &|| {
            Proxy::gateway(server, &folder.0.join("memory"), "block", 1024)
        }),
    ];
    for (name, start) in proxies {
        found.push((name, cases::memory(&start(), args.streams).await));
    }
    println!("{}", report::memory(&format!("Memory of {} open streams", args.streams), args.streams, &found));
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu_info = read("/proc/cpuinfo");
    let cpu = cpu_info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .unwrap_or_default()
        .1;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = read("/proc/loadavg");
    format!(
        "{cpu}, {} cores; Linux {}; load before: {}",
        cpu_info.lines().filter(|line| line.starts_with("processor")).count().max(cores),
        read("/proc/sys/kernel/osrelease").trim(),
        load.split(' ').next().unwrap_or_default()
    )
}
