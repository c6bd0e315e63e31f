//! The way to a server: a port that passes bytes on, with TLS if wanted, and that can be slow or break.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use super::{Server, locked};
use crate::certificate::Certificate;

/// What happens to the bytes that the server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// They arrive.
    Whole,
    /// One arrives each second.
    Drip,
    /// None: connections are ended as soon as they are made, and those that are open as soon as something comes.
    Refused,
    /// After so many of one connection it breaks.
    CutAfter(usize),
}

/// The port. Dropping it closes it.
#[derive(Debug)]
pub struct Wire {
    server: Server,
    flow: Arc<Mutex<Flow>>,
    refused: Arc<Mutex<Vec<Instant>>>,
}

impl Wire {
    /// Passes everything on to 127.0.0.1 at `port`.
    #[track_caller]
    pub fn to(port: u16) -> Self {
        Self::lay(port, None)
    }

    /// The same, with TLS on the outer side.
    #[track_caller]
    pub fn tls_to(port: u16, certificate: &Certificate) -> Self {
        Self::lay(port, Some(acceptor(certificate)))
    }

    #[track_caller]
    fn lay(target: u16, tls: Option<TlsAcceptor>) -> Self {
        let flow = Arc::new(Mutex::new(Flow::Whole));
        let refused = Arc::default();
        let (shared, refusals) = (Arc::clone(&flow), Arc::<Mutex<Vec<Instant>>>::clone(&refused));
        let server = Server::run(move |listener| async move {
            while let Ok((outer, _)) = listener.accept().await {
                if *locked(&shared) == Flow::Refused {
                    locked(&refusals).push(Instant::now());
                    continue;
                }
                let (flow, tls) = (Arc::clone(&shared), tls.clone());
                // How a connection ends is its ends' business.
                tokio::spawn(async move { join(outer, target, tls, &flow).await });
            }
        });
        Self { server, flow, refused }
    }

    /// Changes what happens from now on, also to connections that are open.
    pub fn set(&self, flow: Flow) {
        *locked(&self.flow) = flow;
    }

    /// When it refused a connection, each time.
    pub fn refused(&self) -> Vec<Instant> {
        locked(&self.refused).clone()
    }

    /// Its port at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }
}

async fn join(outer: TcpStream, target: u16, tls: Option<TlsAcceptor>, flow: &Mutex<Flow>) -> io::Result<()> {
    let inner = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, target))).await?;
    match tls {
        Some(tls) => both_ways(tls.accept(outer).await?, inner, flow).await,
        None => both_ways(outer, inner, flow).await,
    }
}

/// Until either side ends, or the flow is cut.
async fn both_ways(outer: impl AsyncRead + AsyncWrite, inner: TcpStream, flow: &Mutex<Flow>) -> io::Result<()> {
    let (mut from_client, mut to_client) = tokio::io::split(outer);
    let (mut from_server, mut to_server) = inner.into_split();
    tokio::select! {
        end = tokio::io::copy(&mut from_client, &mut to_server) => end.map(drop),
        end = pour(&mut from_server, &mut to_client, flow) => end,
    }
}

async fn pour(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    flow: &Mutex<Flow>,
) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    let mut sent = 0;
    loop {
        let now = *locked(flow);
        let room = match now {
            Flow::Whole => buffer.len(),
            Flow::Drip => 1,
            Flow::Refused => return Ok(()),
            Flow::CutAfter(limit) if sent >= limit => return Ok(()),
            Flow::CutAfter(limit) => buffer.len().min(limit - sent),
        };
        let count = from.read(&mut buffer[..room]).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        if now == Flow::Drip {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
        sent += count;
    }
}

#[track_caller]
fn acceptor(certificate: &Certificate) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(&certificate.chain).and_then(Iterator::collect);
    let chain: Vec<_> = chain.expect("openssl writes PEM");
    let key = PrivateKeyDer::from_pem_file(&certificate.key).expect("openssl writes PEM");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the ciphers of TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("the key is the certificate's");
    TlsAcceptor::from(Arc::new(config))
}
