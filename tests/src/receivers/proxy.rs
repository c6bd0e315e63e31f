//! An HTTP proxy (RFC 9110, 9.3.6 for CONNECT), to which every host is the same one.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Server, locked};

/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// The proxy. Dropping it closes it.
#[derive(Debug)]
pub struct Proxy {
    server: Server,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Takes everybody to 127.0.0.1 at `port`, whatever host they ask for: so it is certain who took them there.
    #[track_caller]
    pub fn to(port: u16) -> Self {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let shared = Arc::clone(&asked);
        let server = Server::run(move |listener| async move {
            while let Ok((client, _)) = listener.accept().await {
                let asked = Arc::clone(&shared);
                // How a connection ends is its ends' business.
                tokio::spawn(async move { serve(client, port, &asked).await });
            }
        });
        Self { server, asked }
    }

    /// The value of `https_proxy` and the like.
    pub fn url(&self) -> String {
        self.server.url("")
    }

    /// The heads of all requests so far, as they came.
    pub fn asked(&self) -> Vec<String> {
        locked(&self.asked).clone()
    }
}

async fn serve(mut client: TcpStream, port: u16, asked: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD {
        head.push(client.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let is_tunnel = text.starts_with("CONNECT ");
    locked(asked).push(text);
    let mut server = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    if is_tunnel {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    } else {
        // A request with a whole URL: every server takes it as it is (RFC 9112, 3.2.2).
        server.write_all(&head).await?;
    }
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}
