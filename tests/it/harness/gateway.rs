//! The real binary as a process: started on free ports, watched through its output, stopped by pid.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::client::{Answer, Client};
use super::conf::{Conf, KEY, MODEL};
use super::metrics::Metrics;
use super::request::Request;
use super::{eventually, within};

/// A running gateway. Killed, and its directory removed, when dropped.
pub(crate) struct Gateway {
    process: Child,
    /// Shared with the process that takes over from this one.
    folder: Arc<Folder>,
    /// Name of the file that standard error goes to.
    log: &'static str,
    addresses: Vec<SocketAddr>,
    admin: SocketAddr,
    output: Arc<Mutex<String>>,
}

impl Gateway {
    /// Starts the gateway with this configuration and waits until it is ready.
    pub(crate) async fn start(conf: &Conf) -> Self {
        Self::start_in(Folder::new(), conf).await
    }

    /// The same in a directory that already holds files, certificates for example.
    pub(crate) async fn start_in(folder: Folder, conf: &Conf) -> Self {
        conf.write(&folder.0);
        let (mut gateway, lines) = Self::spawn(Arc::new(folder), "stderr.log", &[]);
        gateway.wait_until_ready(lines).await;
        gateway
    }

    /// Starts a second process, tells this one to hand its sockets over, and waits until the second is ready.
    /// This one goes on with what it has in work.
    pub(crate) async fn hand_over(&self) -> Self {
        let (mut next, lines) = Self::spawn(Arc::clone(&self.folder), "next.log", &["--upgrade"]);
        // It listens there for the sockets; asked earlier, this one would have nobody to hand them to.
        eventually("the next process to ask for the sockets", || async {
            self.folder.0.join("upgrade.sock").exists().then_some(())
        })
        .await;
        self.signal("QUIT");
        next.wait_until_ready(lines).await;
        next
    }

    /// `kill -9`, which nothing can prepare for. Gives its directory, where another can be started.
    pub(crate) fn kill(mut self) -> Arc<Folder> {
        self.process.kill().expect("the process is ours");
        self.process.wait().expect("the process is ours");
        Arc::clone(&self.folder)
    }

    /// Starts the gateway in the directory of one that has ended, with the configuration that is there.
    pub(crate) async fn start_again(folder: Arc<Folder>) -> Self {
        let (mut gateway, lines) = Self::spawn(folder, "again.log", &[]);
        gateway.wait_until_ready(lines).await;
        gateway
    }

    fn spawn(folder: Arc<Folder>, log: &'static str, options: &[&str]) -> (Self, watch::Receiver<usize>) {
        let file = std::fs::File::create(folder.0.join(log)).expect("a log file");
        let mut process = binary()
            .arg("run")
            .arg("--conf")
            .arg(&folder.0)
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .expect("the binary is there");
        let (lines, output) = follow(&mut process);
        let admin = ([127, 0, 0, 1], 0).into();
        (Self { process, folder, log, addresses: Vec::new(), admin, output }, lines)
    }

    async fn wait_until_ready(&mut self, mut lines: watch::Receiver<usize>) {
        within("the gateway to be ready", async {
            loop {
                let said = self.output();
                if said.lines().any(|line| line == "ready") {
                    self.addresses =
                        said.lines().filter_map(|line| announced(line, "listening on ")).collect();
                    self.admin = said
                        .lines()
                        .find_map(|line| announced(line, "admin on "))
                        .unwrap_or_else(|| panic!("no admin listener in {said:?}"));
                    assert!(!self.addresses.is_empty(), "no listener in {said:?}");
                    return;
                }
                if lines.changed().await.is_err() {
                    panic!("the gateway ended before it was ready: {said}\n{}", self.log());
                }
            }
        })
        .await;
    }

    /// The first data-plane listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Every data-plane listener.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A new connection to it.
    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address()).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn exchange(&self, request: &Request) -> Answer {
        self.connect().await.exchange(request).await
    }

    /// One chat completion of [`MODEL`] with these further keys.
    pub(crate) async fn chat(&self, more: Value) -> Answer {
        self.exchange(&chat(more)).await
    }

    /// One request to the admin listener.
    pub(crate) async fn admin(&self, target: &str) -> Answer {
        Client::connect(self.admin).await.exchange(&Request::get(target)).await
    }

    /// One request of the admin API under this token: its status and its JSON.
    pub(crate) async fn call(&self, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::post(&format!("/admin/v1{path}"), body).method(method).key(token);
        let answer = Client::connect(self.admin).await.exchange(&request).await;
        assert_eq!(answer.head.get("content-type"), Some("application/json"), "{}", answer.text());
        (answer.status, answer.json())
    }

    /// `tollgate` with these arguments and its configuration: exit code, standard output and standard error.
    pub(crate) fn command(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = binary();
        command.args(arguments).arg("--conf").arg(self.folder());
        let output = tokio::task::block_in_place(|| command.output()).expect("the binary is there");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// Kills it (-9) and starts it again over the same files.
    pub(crate) async fn killed_and_started_again(&mut self) -> Self {
        self.process.kill().expect("the process is ours");
        self.process.wait().expect("the process is ours");
        let (mut next, lines) = Self::spawn(Arc::clone(&self.folder), "again.log", &[]);
        next.wait_until_ready(lines).await;
        next
    }

    /// One scrape.
    pub(crate) async fn metrics(&self) -> Metrics {
        let answer = self.admin("/metrics").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        Metrics::parse(&answer.text())
    }

    /// Waits until exactly `count` access records have been written, and gives them in order.
    pub(crate) async fn records(&self, count: usize) -> Vec<Value> {
        let path = self.folder.0.join("access.log");
        let records = eventually(&format!("{count} access records"), || async {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            // A line without its end is still being written.
            let lines: Vec<Value> = text
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'))
                .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}")))
                .collect();
            (lines.len() >= count).then_some(lines)
        })
        .await;
        assert_eq!(records.len(), count, "more records than requests: {records:#?}");
        records
    }

    /// Waits until the server of this name is (not) in use according to the metrics.
    pub(crate) async fn until_health(&self, server: &str, is_up: bool) {
        let goal = if is_up { 1.0 } else { 0.0 };
        eventually(&format!("server {server} to be up = {is_up}"), || async move {
            let metrics = self.metrics().await;
            let of_server = |name: &str| {
                let labels = [("server", server)];
                metrics
                    .samples
                    .iter()
                    .any(|s| s.name == name && s.labels.get("server").is_some_and(|l| l == server))
                    && (metrics.sum(name, &labels) - goal).abs() < f64::EPSILON
            };
            of_server("tollgate_upstream_up").then_some(())
        })
        .await;
    }

    /// Replaces the configuration files, sends SIGHUP and waits until the gateway says that it has dealt with it.
    pub(crate) async fn reload(&self, conf: &Conf) {
        conf.write(&self.folder.0);
        self.hang_up().await;
    }

    /// SIGHUP with whatever the directory holds now.
    pub(crate) async fn hang_up(&self) {
        let before = self.reloads().await;
        self.signal("HUP");
        eventually("a reload to be counted", || async { (self.reloads().await > before).then_some(()) })
            .await;
    }

    async fn reloads(&self) -> f64 {
        self.metrics().await.sum("tollgate_config_reloads_total", &[])
    }

    /// Sends a signal to the process.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.process.id())])
            .status()
            .expect("a shell is there");
        assert!(sent.success(), "the gateway takes SIG{name}");
    }

    /// Waits until no client connection is open.
    pub(crate) async fn until_no_connection(&self) {
        eventually("the last client connection to close", || async {
            let open = self.metrics().await.sum("tollgate_open_connections", &[]);
            (open.abs() < f64::EPSILON).then_some(())
        })
        .await;
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("the process is ours").is_some()
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let process = &mut self.process;
        within("the gateway to end", async {
            loop {
                if let Some(status) = process.try_wait().expect("the process is ours") {
                    return status;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// Its configuration directory.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// Everything it has written to standard output.
    pub(crate) fn output(&self) -> String {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.0.join(self.log)).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the gateway\n{}", self.log());
        }
        // Already ended is fine as well.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The gateway's program.
pub(crate) fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
}

/// A chat completion of [`MODEL`] with these further keys, under the usual key.
pub(crate) fn chat(more: Value) -> Request {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}]});
    body.as_object_mut().expect("a mapping").extend(more.as_object().expect("keys of a request").clone());
    Request::post("/v1/chat/completions", body.to_string()).key(KEY)
}

/// A directory of one test. Removed when dropped, kept when the test failed.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("it-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // Left over from an earlier process of the same number.
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).expect("target can be written");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }
}

fn announced(line: &str, prefix: &str) -> Option<SocketAddr> {
    let url = line.strip_prefix(prefix)?;
    let address = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    Some(address.parse().unwrap_or_else(|error| panic!("{error}: {line:?}")))
}

/// Collects standard output in a thread, which ends with the process. The count of lines tells of each new one,
/// and its sender is gone when the output has ended.
fn follow(process: &mut Child) -> (watch::Receiver<usize>, Arc<Mutex<String>>) {
    let output = Arc::new(Mutex::new(String::new()));
    let (told, lines) = watch::channel(0);
    let stdout = process.stdout.take().expect("standard output is piped");
    let kept = Arc::clone(&output);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_str(&line);
            kept.push('\n');
            told.send_modify(|count| *count += 1);
        }
    });
    (lines, output)
}
