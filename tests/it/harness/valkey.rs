//! A Valkey (or Redis) of a test's own, on a free port of loopback, without files, gone when dropped. It can be killed,
//! stopped in its tracks, and started again.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use super::gateway::Folder;

/// Starting takes milliseconds; two busy cores may run several tests at once.
const START: Duration = Duration::from_secs(20);

/// A running server.
pub(crate) struct Valkey {
    port: u16,
    tls_port: u16,
    options: Vec<String>,
    folder: Folder,
    process: Option<Child>,
}

impl Valkey {
    /// A server that anybody on this machine may use; `None`, and a word on standard error, where there is none. The gate
    /// (scripts/test.sh) installs one and does not let this pass.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with further options, e.g. `["--requirepass", "x"]`.
    pub(crate) fn start_with(options: &[&str]) -> Option<Self> {
        if program("server").is_none() {
            assert!(
                std::env::var_os("TOLLGATE_GATE").is_none(),
                "Valkey is missing: scripts/install-system.sh test"
            );
            eprintln!("skipped: neither Valkey nor Redis is installed (scripts/install-system.sh test)");
            return None;
        }
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut server = Self { port: 0, tls_port: 0, options, folder: Folder::new(), process: None };
        server.restart();
        Some(server)
    }

    /// A server that speaks TLS only, with this certificate and key.
    pub(crate) fn start_with_tls(certificate: &Path, key: &Path) -> Option<Self> {
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        Self::start_with(&[
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &certificate,
            "--tls-auth-clients",
            "no",
            "--tls-port",
            "TLS",
        ])
    }

    /// Where gateways find it.
    pub(crate) fn url(&self) -> String {
        if self.tls_port > 0 {
            format!("rediss://127.0.0.1:{}", self.tls_port)
        } else {
            format!("redis://127.0.0.1:{}", self.port)
        }
    }

    /// Its port without TLS.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `kill -9`: what it had in memory is lost.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it is ours");
            process.wait().expect("it is ours");
        }
    }

    /// Stops it in its tracks: connections stay, nothing is answered.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.process.as_ref().expect("it runs").id();
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status();
        assert!(sent.is_ok_and(|status| status.success()), "it takes SIG{name}");
    }

    /// Starts it on the port it had, or the first time on a free one, and waits until it takes connections.
    pub(crate) fn restart(&mut self) {
        let deadline = Instant::now() + START;
        // Another may have taken the free port: it ends with an error then.
        while !self.try_start() {
            assert!(Instant::now() < deadline, "it starts within {START:?}");
        }
    }

    fn try_start(&mut self) -> bool {
        let is_new = self.port == 0;
        let has_tls = self.options.iter().any(|option| option == "TLS");
        if is_new {
            self.port = free_port();
            self.tls_port = if has_tls { free_port() } else { 0 };
        }
        let (port, tls_port) = (self.port.to_string(), self.tls_port.to_string());
        // What a replica is given goes through a file there, which nobody may find again.
        let _ = std::fs::remove_file(self.folder.path().join("dump.rdb"));
        let folder = self.folder.path().display().to_string();
        let mut command = Command::new(program("server").expect("it was there"));
        command.args([
            "--bind",
            "127.0.0.1",
            "--port",
            &port,
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            &folder,
            "--daemonize",
            "no",
        ]);
        command.args(self.options.iter().map(|option| if option == "TLS" { &tls_port } else { option }));
        match ready(command, "Ready to accept connections") {
            Some(process) => {
                self.process = Some(process);
                true
            }
            None => {
                if is_new {
                    self.port = 0;
                }
                false
            }
        }
    }

    /// What it answers to a command, as it came.
    pub(crate) fn ask(&self, command: &str) -> String {
        ask(self.port, command)
    }

    /// A connection for many commands.
    pub(crate) fn session(&self) -> Session {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(START)).expect("a timeout can be set");
        stream.set_nodelay(true).expect("a connection of its own");
        Session(BufReader::new(stream))
    }

    /// A field of a hash, as a number; 0 if it is not there.
    pub(crate) fn number(&self, key: &str, field: &str) -> f64 {
        let text = self.ask(&format!("HGET {key} {field}"));
        let text = text.lines().nth(1).unwrap_or_default();
        text.split(' ').next_back().unwrap_or_default().parse().unwrap_or(0.0)
    }
}

/// A connection that takes commands one after another.
pub(crate) struct Session(BufReader<TcpStream>);

impl Session {
    /// What is answered: the elements of a list, or one text; numbers as they are written. Errors are the test's.
    pub(crate) fn call(&mut self, words: &[&[u8]]) -> Vec<String> {
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            command.extend_from_slice(word);
            command.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&command).expect("it reads");
        self.value()
    }

    fn value(&mut self) -> Vec<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("it answers");
        let line = line.trim_end();
        let (kind, rest) = line.split_at(1);
        match kind {
            "+" | ":" => vec![rest.to_owned()],
            "$" => {
                let length: usize = rest.parse().expect("a text");
                let mut text = vec![0; length + 2];
                self.0.read_exact(&mut text).expect("all of it");
                text.truncate(length);
                vec![String::from_utf8(text).expect("text")]
            }
            "*" => {
                let count: usize = rest.parse().expect("a list");
                (0..count).flat_map(|_| self.value()).collect()
            }
            _ => panic!("the store says {line}"),
        }
    }
}

impl Drop for Valkey {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a Sentinel asks for.
pub(crate) const SENTINEL_PASSWORD: &str = "who-watches";

/// A Sentinel that watches one server under the name `limits`, and answers those who know its password.
pub(crate) struct Sentinel {
    port: u16,
    process: Child,
    folder: PathBuf,
}

impl Sentinel {
    /// Watches the server at `master`, and takes it for dead after a second.
    pub(crate) fn start(master: u16, folder: &Path) -> Self {
        let deadline = Instant::now() + START;
        loop {
            let port = free_port();
            let file = folder.join(format!("sentinel-{port}.conf"));
            let text = format!(
                "port {port}\nbind 127.0.0.1\nrequirepass {SENTINEL_PASSWORD}\nsentinel monitor limits 127.0.0.1 {master} 1\n\
                 sentinel down-after-milliseconds limits 1000\nsentinel failover-timeout limits 3000\n"
            );
            std::fs::write(&file, text).expect("the folder can be written");
            let mut command = Command::new(program("server").expect("it was there"));
            command.arg(&file).arg("--sentinel");
            if let Some(process) = ready(command, "+monitor master") {
                return Self { port, process, folder: file };
            }
            assert!(Instant::now() < deadline, "a Sentinel starts within {START:?}");
        }
    }

    /// Where gateways find it.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What it answers to a command, as it came.
    pub(crate) fn ask(&self, command: &str) -> String {
        ask(self.port, &format!("AUTH {SENTINEL_PASSWORD}\r\n{command}"))
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        drop(std::fs::remove_file(&self.folder));
    }
}

/// Starts a server and waits for this line of its log; `None` if it ends before.
fn ready(mut command: Command, line: &'static str) -> Option<Child> {
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it can be run");
    let log = process.stdout.take().expect("it is piped");
    let (tell, told) = sync_channel(1);
    // Ends with the process; reads on, so that it is never held up by a full pipe.
    std::thread::spawn(move || {
        for said in BufReader::new(log).lines().map_while(Result::ok) {
            if said.contains(line) {
                let _ = tell.try_send(());
            }
        }
    });
    if told.recv_timeout(START).is_err() {
        drop(process.kill());
        drop(process.wait());
        return None;
    }
    Some(process)
}

/// One command in the inline form, and all of a short answer.
fn ask(port: u16, command: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(START)).expect("a timeout can be set");
    stream.write_all(format!("{command}\r\n").as_bytes()).expect("it reads");
    // It answers what it has read, and then closes.
    stream.shutdown(std::net::Shutdown::Write).expect("the connection is open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
}

/// The server under either of its names.
fn program(part: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).chain([PathBuf::from("/usr/bin")]).collect();
    let names = [format!("valkey-{part}"), format!("redis-{part}")];
    names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|path| path.exists()))
}
