//! The reference: a Pingora proxy that does nothing. Every hook but the choice of the peer is Pingora's own, and
//! so is every setting, so that a ratio against it is the price of what the gateway adds.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use async_trait::async_trait;
use pingora_core::listeners::ListenerConfig;
use pingora_core::protocols::l4::stream::L4BufferSettings;
use pingora_core::server::Server;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::Result;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

struct Bare {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

/// Serves until killed, with one worker, which is Pingora's default. `client_buffer` is the size of the client
/// connection's buffers in bytes, if it is not to be Pingora's own.
pub(crate) fn serve(upstream: SocketAddr, client_buffer: Option<usize>) -> ! {
    let mut server = Server::new(None).expect("Pingora's defaults are sound");
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Bare { upstream });
    // Pingora cannot tell which port it got for 0, so one that is free is looked for and taken again at once.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
    let address = free.expect("a port is free").to_string();
    let mut listener = ListenerConfig::tcp(address.clone());
    if let Some(bytes) = client_buffer {
        listener = listener.l4_buffer(L4BufferSettings::new(bytes, bytes));
    }
    service.add_listener(listener);
    server.add_service(service);
    println!("listening on http://{address}");
    server.run_forever()
}
