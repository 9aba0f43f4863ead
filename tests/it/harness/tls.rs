//! Certificates made for one test, and a client that trusts exactly them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::{TlsAcceptor, TlsConnector};

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

/// A TLS front: what arrives over TLS goes to a cleartext server. Stops when dropped.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    handshakes: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Front {
    /// Shows `certificate`, chooses among `protocols` by ALPN, and passes everything on to `target`.
    pub(crate) async fn start(certificate: &Certificate, target: SocketAddr, protocols: &[&str]) -> Self {
        let chain = CertificateDer::pem_file_iter(&certificate.chain).expect("it was written");
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(&certificate.key).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has these versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("the key is the certificate's");
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let handshakes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&handshakes);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
                connections.spawn(async move {
                    // A handshake that the gateway breaks off is what some tests want.
                    let Ok(mut secured) = acceptor.accept(stream).await else { return };
                    count.fetch_add(1, Ordering::Relaxed);
                    let mut plain = TcpStream::connect(target).await.expect("the server listens");
                    drop(tokio::io::copy_bidirectional(&mut secured, &mut plain).await);
                });
            }
        });
        Self { address, handshakes, accepting }
    }

    /// Handshakes that both sides were content with.
    pub(crate) fn handshakes(&self) -> usize {
        self.handshakes.load(Ordering::Relaxed)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
