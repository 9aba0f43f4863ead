//! Certificates made for one test, and a client that trusts exactly them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::wire::Io;
use super::within;

/// The name the certificate is for.
pub(crate) const NAME: &str = "gateway.test";

/// A self-signed certificate on disk.
pub(crate) struct Certificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    trusted: rustls::RootCertStore,
}

impl Certificate {
    /// Makes a certificate for [`NAME`] and writes its files into `folder`.
    pub(crate) fn new(folder: &Path) -> Self {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate can be made");
        let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
        std::fs::write(&chain, made.cert.pem()).expect("the folder can be written");
        std::fs::write(&key, made.key_pair.serialize_pem()).expect("the folder can be written");
        let mut trusted = rustls::RootCertStore::empty();
        trusted.add(made.cert.der().clone()).expect("its own root");
        Self { chain, key, trusted }
    }

    /// A TLS connection that offers `protocols` by ALPN, and the one the gateway chose.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        protocols: &[&str],
    ) -> std::io::Result<(Box<dyn Io>, Option<String>)> {
        self.connect_at(address, protocols, rustls::ALL_VERSIONS).await
    }

    /// The same with only these versions of TLS.
    pub(crate) async fn connect_at(
        &self,
        address: SocketAddr,
        protocols: &[&str],
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> std::io::Result<(Box<dyn Io>, Option<String>)> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("the provider has these versions")
            .with_root_certificates(self.trusted.clone())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(NAME).expect("a valid name");
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let stream = within("a TLS handshake", connecting).await?;
        let chosen =
            stream.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        Ok((Box::new(stream), chosen))
    }
}
