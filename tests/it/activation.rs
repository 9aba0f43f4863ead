//! Socket activation: a listening socket that the service manager has opened is used as it is.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::harness::client::Client;
use crate::harness::conf::Conf;
use crate::harness::gateway::{Folder, chat};
use crate::harness::upstream::Upstream;

/// Opens a socket, makes it descriptor 3, and becomes the gateway, as systemd does (sd_listen_fds(3)).
const MANAGER: &str = "
import os, socket, sys
listener = socket.socket()
listener.bind(('127.0.0.1', int(sys.argv[1])))
listener.listen()
os.dup2(listener.fileno(), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')
os.execv(sys.argv[2], sys.argv[2:])
";

struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have ended by itself, which its output then tells.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_of_the_service_manager_is_taken_over() {
    let upstream = Upstream::chatting().await;
    let folder = Folder::new();
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let conf = Conf::to(upstream.address).set("tollgate.listeners.0.address", format!("127.0.0.1:{port}"));
    conf.write(folder.path());
    let started = Command::new("python3")
        .args(["-c", MANAGER, &port.to_string(), env!("CARGO_BIN_EXE_tollgate"), "run", "--conf"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn();
    let mut gateway = Stopped(started.expect("python3 is there"));
    let output = BufReader::new(gateway.0.stdout.take().expect("piped"));
    let said: Vec<String> =
        output.lines().map(|line| line.expect("text")).take_while(|line| line != "ready").collect();
    // Binding the port itself would have failed: the manager's socket holds it.
    assert!(said.contains(&format!("listening on http://127.0.0.1:{port}")), "{said:?}");
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    let answer = Client::over(Box::new(stream)).exchange(&chat(json!({}))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}
