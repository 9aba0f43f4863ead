//! One connection to the store that is in charge: found (through Sentinels if there are any), logged in, in the right
//! database, with the scripts loaded.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::resp::{self, Value};
use crate::config::settings::{Secret, SharedLimits};

/// Finding one server, connecting, TLS and log-in. Each has its time: one that does not answer must not keep the gateway
/// from those behind it.
const CONNECT: Duration = Duration::from_secs(1);

/// Either kind of connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// A connection on which commands can be given.
pub(crate) struct Link {
    pub(crate) stream: Pin<Box<dyn Stream>>,
    input: BytesMut,
    output: BytesMut,
}

/// Makes connections.
pub(crate) struct Dialer {
    settings: SharedLimits,
    /// Those that are loaded into the store.
    scripts: &'static [&'static str],
    tls: Option<Arc<ClientConfig>>,
}

impl Dialer {
    /// Makes connections by these settings, on which these scripts can be used.
    ///
    /// # Errors
    /// If the authorities for TLS cannot be read.
    pub(crate) fn new(settings: SharedLimits, scripts: &'static [&'static str]) -> Result<Self, String> {
        let tls = settings.is_tls.then(|| crate::tls::client_config(settings.ca.as_deref())).transpose()?;
        Ok(Self { settings, scripts, tls })
    }

    /// A connection to the first server that is in charge.
    ///
    /// # Errors
    /// Why there is none, for each server.
    pub(crate) async fn connect(&self) -> Result<Link, String> {
        let mut faults = Vec::new();
        for (host, port) in &self.settings.servers {
            match tokio::time::timeout(CONNECT, self.by(host, *port)).await {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(error)) => faults.push(format!("{host}:{port}: {error}")),
                Err(_) => faults.push(format!("{host}:{port}: no connection within {CONNECT:?}")),
            }
        }
        Err(faults.join("; "))
    }

    /// A connection to this server, or to the one that it names where it is a Sentinel.
    async fn by(&self, host: &str, port: u16) -> Result<Link, String> {
        match &self.settings.sentinel_master {
            None => self.to_store(host, port).await,
            Some(master) => {
                let (host, port) = self.ask_sentinel(host, port, master).await?;
                self.to_store(&host, port).await
            }
        }
    }

    async fn to_store(&self, host: &str, port: u16) -> Result<Link, String> {
        let mut link = self.open(host, port).await?;
        let SharedLimits { user, password, database, .. } = &self.settings;
        link.log_in(user.as_ref(), password.as_ref()).await?;
        if *database > 0 {
            link.call(&[b"SELECT", database.to_string().as_bytes()]).await?;
        }
        let role = link.call(&[b"ROLE"]).await?;
        let role = role.list().and_then(|role| role.first()).and_then(Value::text).unwrap_or("no role");
        if role != "master" {
            return Err(format!("expected the server in charge, found a {role}"));
        }
        for script in self.scripts {
            link.call(&[b"SCRIPT", b"LOAD", script.as_bytes()]).await?;
        }
        Ok(link)
    }

    /// Where the store in charge is, as a Sentinel knows it.
    async fn ask_sentinel(&self, host: &str, port: u16, master: &str) -> Result<(String, u16), String> {
        let mut link = self.open(host, port).await?;
        link.log_in(None, self.settings.sentinel_password.as_ref()).await?;
        let place = link.call(&[b"SENTINEL", b"get-master-addr-by-name", master.as_bytes()]).await?;
        let place = place.list().and_then(|place| {
            let [host, port] = place else { return None };
            Some((host.text()?.to_owned(), port.text()?.parse().ok()?))
        });
        place.ok_or_else(|| format!("this Sentinel knows no {master}"))
    }

    async fn open(&self, host: &str, port: u16) -> Result<Link, String> {
        let said = |error: std::io::Error| error.to_string();
        let stream = TcpStream::connect((host, port)).await.map_err(said)?;
        stream.set_nodelay(true).map_err(said)?;
        let stream: Pin<Box<dyn Stream>> = match &self.tls {
            None => Box::pin(stream),
            Some(config) => {
                let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
                let connector = TlsConnector::from(Arc::clone(config));
                Box::pin(connector.connect(name, stream).await.map_err(said)?)
            }
        };
        Ok(Link { stream, input: BytesMut::new(), output: BytesMut::new() })
    }
}

impl Link {
    async fn log_in(&mut self, user: Option<&Secret>, password: Option<&Secret>) -> Result<(), String> {
        let Some(password) = password else { return Ok(()) };
        let user = user.map_or("default", Secret::expose);
        let answer = self.call(&[b"AUTH", user.as_bytes(), password.expose().as_bytes()]).await;
        // A server that does not know the command repeats what it was sent: its first word says enough.
        let code = |error: String| error.split(' ').next().unwrap_or_default().to_owned();
        answer.map(|_| ()).map_err(|error| format!("AUTH was refused: {}", code(error)))
    }

    /// One command and its reply, an error for an error. Not for a link that other commands are under way on.
    async fn call(&mut self, words: &[&[u8]]) -> Result<Value, String> {
        self.output.clear();
        resp::command(&mut self.output, words);
        let said = |error: std::io::Error| error.to_string();
        self.stream.write_all(&self.output).await.map_err(said)?;
        self.stream.flush().await.map_err(said)?;
        loop {
            match resp::reply(&mut self.input)? {
                Some(Value::Error(error)) => return Err(error),
                Some(value) => return Ok(value),
                None if self.stream.read_buf(&mut self.input).await.map_err(said)? == 0 => {
                    return Err("the connection was closed".to_owned());
                }
                None => {}
            }
        }
    }
}
