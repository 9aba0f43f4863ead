//! The proxies as processes of their own, and what the kernel says of their time and memory. All proxies are
//! held to one core and everything else to another, where there are two, so that load and proxy do not take
//! turns on a core.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::upstream::MODEL;

/// The key of the only tenant.
pub(crate) const KEY: &str = "tg_bench_0123456789abcdefghijABCDEFGHIJ0123456789abc";
/// Another name of the model, which the gateway has to replace in the request and in each event.
pub(crate) const ALIAS: &str = "bench-alias";

/// A limit that is enforced but never reached.
const PLENTY: u64 = 1_000_000_000_000;

/// A running proxy. Killed when dropped.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) address: SocketAddr,
    // A proxy that writes to a closed pipe would die.
    _output: BufReader<ChildStdout>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself, which shows elsewhere.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    /// Starts bare Pingora in front of `upstream`.
    pub(crate) fn bare(upstream: SocketAddr, client_buffer: Option<usize>) -> Self {
        let mut command = held_to(Side::Proxy, &std::env::current_exe().expect("this program has a path"));
        command.arg("bare").arg(upstream.to_string()).args(client_buffer.map(|bytes| bytes.to_string()));
        Self::start(command, "listening on ")
    }

    /// Starts the gateway in front of `upstream`, with its configuration and its access log in `folder`; `scan` is what
    /// is done about prompts, `block` or `off`; `remembered` is how many texts are known again.
    pub(crate) fn gateway(upstream: SocketAddr, folder: &Path, scan: &str, remembered: u32) -> Self {
        fs::create_dir_all(folder).expect("the temporary directory can be written");
        write_conf(folder, upstream, scan, remembered);
        let program = std::env::var_os("TOLLGATE").unwrap_or_else(|| env!("CARGO_BIN_EXE_tollgate").into());
        let mut command = held_to(Side::Proxy, Path::new(&program));
        command.arg("run").arg("--conf").arg(folder);
        Self::start(command, "ready")
    }

    fn start(mut command: Command, last_line: &str) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the proxy starts");
        let mut output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let mut address = None;
        loop {
            let mut line = String::new();
            let read = output.read_line(&mut line).expect("the proxy says where it listens");
            assert!(read > 0, "the proxy ended before it was ready");
            if let Some(found) = line.trim().strip_prefix("listening on http://") {
                address = Some(found.parse().expect("an address"));
            }
            if line.starts_with(last_line) {
                break;
            }
        }
        let address = address.expect("a proxy says where it listens before it is ready");
        // Bare Pingora says it before it does it.
        while std::net::TcpStream::connect(address).is_err() {
            assert!(child.try_wait().is_ok_and(|ended| ended.is_none()), "the proxy ended");
            std::thread::yield_now();
        }
        Self { child, address, _output: output }
    }

    /// The time that all its threads have spent on a core since they started, to the nanosecond.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("the proxy runs");
        let of_task = |folder: PathBuf| {
            let text = fs::read_to_string(folder.join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        };
        let nanoseconds = tasks.flatten().filter_map(|task| of_task(task.path())).sum();
        Duration::from_nanos(nanoseconds)
    }

    /// Resident memory: all of it, and its proportional share, bytes.
    pub(crate) fn memory(&self) -> Memory {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = fs::read_to_string(path).expect("the proxy runs");
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel knows it");
            let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().expect("a number");
            kib * 1024
        };
        Memory { rss: of("Rss:"), pss: of("Pss:") }
    }
}

/// Bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) rss: u64,
    pub(crate) pss: u64,
}

/// Set in the process that was started again on the core for load.
const MARK: &str = "TOLLGATE_BENCH_IS_HELD";

/// Who gets which core.
#[derive(Debug, Clone, Copy)]
enum Side {
    Load,
    Proxy,
}

impl Side {
    /// The core, or `None` where there is only one.
    fn core(self) -> Option<&'static str> {
        // Once held to a core, this process would count one.
        let is_held = std::env::var_os(MARK).is_some();
        let has_two = is_held || std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2);
        has_two.then_some(match self {
            Side::Load => "0",
            Side::Proxy => "1",
        })
    }
}

/// `program` on its side's core, and killed when this process ends in whatever way. Both are asked of util-linux,
/// which every Debian has, because asking the kernel directly takes unsafe code.
fn held_to(side: Side, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(core) = side.core() {
        command.args(["taskset", "-c", core]);
    }
    command.arg(program);
    command
}

/// Runs this program again on the core that is meant for load; `None` if it is there already, or need not be.
pub(crate) fn on_load_core() -> Option<Command> {
    Side::Load.core().filter(|_| std::env::var_os(MARK).is_none())?;
    let mut command = held_to(Side::Load, &std::env::current_exe().expect("this program has a path"));
    command.env(MARK, "1").args(std::env::args_os().skip(1));
    Some(command)
}

/// A configuration with everything on that a small installation has: a key, limits, an access log in a file,
/// metrics, health checks.
fn write_conf(folder: &Path, upstream: SocketAddr, scan: &str, remembered: u32) {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).to_string();
    let file = |name: &str| folder.join(name).display().to_string();
    let files = json!({
        "tollgate": {
            "server": {"workers": 1, "upgrade_socket": file("upgrade.sock")},
            "listeners": [{"address": any_port, "cleartext": true}],
            "admin": {"address": any_port},
            "limits": {"connections_per_address": 20_000},
            "auth": {"pepper": format!("file:{}", file("pepper"))},
            // The same prompt over and over is what a bench is.
            "scan": {"mode": scan, "remembered_texts": remembered, "behaviour": {"repeats": 1_000_000}},
            "access_log": {"target": file("access.log")}
        },
        "models": {"models": [{"name": MODEL, "aliases": [ALIAS], "publisher": "Bench", "context_length": 131_072}]},
        "upstreams": {"pools": [{
            "name": "main", "models": ["*"],
            "servers": [{"name": "one", "address": upstream.to_string(), "engine": "vllm"}]
        }]},
        "tiers": {"tiers": [{
            "name": "measured", "requests_per_minute": PLENTY, "tokens_per_minute": PLENTY, "max_in_flight": 100_000
        }]},
        "tenants": {"tenants": [{
            "name": "bench", "tier": "measured",
            "keys": [{"id": "bench", "secret": format!("file:{}", file("bench.key"))}]
        }]}
    });
    write(&folder.join("pepper"), "a-pepper-of-the-bench-that-nobody-need-guess-0123456789");
    write(&folder.join("bench.key"), KEY);
    let Value::Object(files) = files else { unreachable!("it is written as an object above") };
    for (name, content) in files {
        // JSON is YAML.
        write(&folder.join(format!("{name}.yaml")), &content.to_string());
    }
}

fn write(path: &Path, text: &str) {
    use std::io::Write;
    // The gateway need not accept secrets that others can read.
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.expect("the temporary directory can be written");
}
