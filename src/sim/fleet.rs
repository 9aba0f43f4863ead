//! The instances of one process and their ports. A port is opened and closed as a real server's would be by
//! starting and dying: a closed one refuses connections in the kernel.

use std::io;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::server::{Fds, ListenFds};
use pingora_core::services::Service as _;
use pingora_core::services::listening::Service;
use tokio::net::TcpSocket;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use super::fault::Faults;
use super::http::Door;
use super::instance::Instance;

/// Connections the kernel holds until they are accepted: enough for a load generator's first burst.
const BACKLOG: u32 = 4_096;

/// Every instance of the process.
pub(super) struct Fleet {
    pub(super) instances: Vec<Instance>,
    /// Seconds from token to token on an idle instance.
    pub(super) idle_step: Duration,
    gates: Vec<Mutex<Option<Listening>>>,
    control: std::sync::OnceLock<Listening>,
}

/// An open port.
struct Listening {
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Fleet {
    /// Instances whose ports are still closed.
    pub(super) fn new(instances: Vec<Instance>, idle_step: Duration) -> Self {
        let gates = instances.iter().map(|_| Mutex::new(None)).collect();
        Self { instances, idle_step, gates, control: std::sync::OnceLock::new() }
    }

    /// Puts `faults` in force and opens or closes the port as they ask. When this returns, new connections
    /// meet the new state; [`Instance::cut_connections`] deals with the old ones.
    ///
    /// # Errors
    /// The port could not be opened again; the instance refuses still.
    pub(super) async fn set_faults(self: &Arc<Self>, index: usize, faults: Faults) -> io::Result<()> {
        let (Some(instance), Some(gate)) = (self.instances.get(index), self.gates.get(index)) else {
            return Ok(());
        };
        let mut gate = gate.lock().await;
        if faults.refuses() {
            if let Some(listening) = gate.take() {
                listening.close().await;
            }
        } else if gate.is_none() {
            *gate = Some(serve(self, Some(index), bind(instance.address)?)?);
        }
        instance.set_faults(faults);
        Ok(())
    }

    /// Opens the port of an instance for the first time, on a socket bound already.
    ///
    /// # Errors
    /// The socket could not be handed over.
    pub(super) fn open(self: &Arc<Self>, index: usize, socket: std::net::TcpListener) -> io::Result<()> {
        if let Some(mut gate) = self.gates.get(index).and_then(|gate| gate.try_lock().ok()) {
            *gate = Some(serve(self, Some(index), socket)?);
        }
        Ok(())
    }

    /// Opens the control address, for as long as the fleet lives.
    ///
    /// # Errors
    /// The socket could not be handed over.
    pub(super) fn open_control(self: &Arc<Self>, socket: std::net::TcpListener) -> io::Result<()> {
        let listening = serve(self, None, socket)?;
        if self.control.set(listening).is_err() {
            log::warn!("sim: the control address is open already");
        }
        Ok(())
    }
}

impl Listening {
    async fn close(self) {
        self.stop.send_replace(true);
        if self.accepting.await.is_err() {
            log::debug!("sim: the accept loop had ended already");
        }
    }
}

/// A listening socket. Needs the runtime's context.
///
/// # Errors
/// The address is taken or not ours.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of the closed port may linger in TIME_WAIT; they must not keep it closed.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Serves `seat` (`None`: the control address) on `socket`. Needs the runtime's context.
///
/// # Errors
/// The socket has no address.
fn serve(fleet: &Arc<Fleet>, seat: Option<usize>, socket: std::net::TcpListener) -> io::Result<Listening> {
    let address = socket.local_addr()?.to_string();
    let mut table = Fds::new();
    table.add(address.clone(), socket.into_raw_fd());
    let sockets: ListenFds = Arc::new(table.into());
    let mut service = Service::new(format!("sim {address}"), Door::new(Arc::clone(fleet), seat));
    service.add_tcp(&address);
    let (stop, stopped) = watch::channel(false);
    #[expect(clippy::disallowed_methods, reason = "the simulator's own server, which its stop ends")]
    let accepting = tokio::spawn(async move { service.start_service(Some(sockets), stopped, 1).await });
    Ok(Listening { stop, accepting })
}
