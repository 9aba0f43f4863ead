//! A PostgreSQL of a test's own: a cluster made in a temporary folder, on a free port of loopback, gone when dropped.
//! It can be killed and started again.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// Starting, recovery after a kill included.
const START: Duration = Duration::from_secs(30);

/// A running server.
pub(crate) struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    options: Vec<String>,
    process: Option<Child>,
}

impl Postgres {
    /// A server with a database `postgres` for everybody on this machine; `None`, and a word on standard error, where
    /// PostgreSQL is not installed. The gate (scripts/test.sh) installs it and does not let this pass.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[], |_| {})
    }

    /// The same with further `name=value` settings, and with files that `prepare` puts into its folder.
    pub(crate) fn start_with(options: &[&str], prepare: impl FnOnce(&Path)) -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let Some(programs) = programs() else {
            assert!(
                std::env::var_os("TOLLGATE_GATE").is_none(),
                "PostgreSQL is missing: scripts/install-system.sh test"
            );
            eprintln!("skipped: PostgreSQL is not installed (scripts/install-system.sh test)");
            return None;
        };
        // Not below target/: the user `postgres`, as whom it runs where we are root, may not be let in there.
        let name = format!("tollgate-pg-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir(&folder).expect("the temporary folder can be written");
        if is_root() {
            let given = Command::new("chown").arg("postgres").arg(&folder).status();
            assert!(given.is_ok_and(|status| status.success()), "the package makes a user postgres");
        }
        let made = as_owner(&programs.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(folder.join("data"))
            .stdout(Stdio::null())
            .status()
            .expect("initdb can be run");
        assert!(made.success(), "initdb makes a cluster");
        prepare(&folder.join("data"));
        if is_root() {
            let given = Command::new("chown").arg("-R").arg("postgres").arg(&folder).status();
            assert!(given.is_ok_and(|status| status.success()));
        }
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut server = Self { programs, folder, port: 0, options, process: None };
        server.restart();
        Some(server)
    }

    /// Where the gateway finds it.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `kill -9`. Its children see it and end by themselves.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it is ours");
            process.wait().expect("it is ours");
        }
    }

    /// Starts it on the port it had, or the first time on a free one, and waits until it takes connections.
    pub(crate) fn restart(&mut self) {
        let deadline = std::time::Instant::now() + START;
        // Children of a killed server hold its memory for a moment, and another may have taken the free port: it ends
        // with an error then.
        while !self.try_start() {
            assert!(std::time::Instant::now() < deadline, "PostgreSQL starts within {START:?}");
        }
    }

    fn try_start(&mut self) -> bool {
        let is_new = self.port == 0;
        if is_new {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
            self.port = free.expect("a free port").port();
        }
        let mut command = as_owner(&self.programs.join("postgres"));
        command.arg("-D").arg(self.folder.join("data")).args(["-p", &self.port.to_string()]);
        for option in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "lc_messages=C"] {
            command.args(["-c", option]);
        }
        for option in &self.options {
            command.args(["-c", option]);
        }
        let mut process = command.stderr(Stdio::piped()).spawn().expect("postgres can be run");
        let log = process.stderr.take().expect("it is piped");
        let (tell, told) = sync_channel(1);
        // Ends with the process; reads on, so that it is never held up by a full pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                if line.contains("ready to accept connections") {
                    let _ = tell.try_send(());
                }
            }
        });
        if told.recv_timeout(START).is_err() {
            drop(process.kill());
            drop(process.wait());
            if is_new {
                self.port = 0;
            }
            return false;
        }
        self.process = Some(process);
        true
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// The folder of its programs, which Debian keeps out of the path.
fn programs() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = debian.map(|version| version.path().join("bin")).collect();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path));
    folders.into_iter().find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// PostgreSQL refuses to run as root.
fn as_owner(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command.current_dir("/");
    command
}
