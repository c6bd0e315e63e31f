//! A private certificate authority and the certificate of a server, made by the real `openssl`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::program::Run;

/// A name that no resolver knows.
pub const NAME: &str = "git.evenkeel.test";

/// The files of a server with a certificate for [`NAME`] and 127.0.0.1, and of the authority that signed it.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The authority's own certificate, in PEM.
    pub ca: PathBuf,
    /// The server's, in PEM.
    pub chain: PathBuf,
    /// The server's private key, in PEM.
    pub key: PathBuf,
}

impl Certificate {
    /// Makes both in `folder`.
    #[track_caller]
    pub fn make(folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("the world's folder is writable");
        let names = format!("subjectAltName=IP:127.0.0.1,DNS:{NAME}");
        let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let openssl = |args: &[&str], with_key: bool| {
            let key = if with_key { &new_key[..] } else { &[] };
            Run::of(Command::new("openssl").args(args).args(key).current_dir(folder)).exits(0);
        };
        let ca = ["req", "-x509", "-subj", "/CN=Evenkeel test CA", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"];
        openssl(&[&ca[..], &["-addext", "keyUsage=critical,keyCertSign"]].concat(), true);
        let request = ["req", "-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr", "-addext", &names];
        openssl(&request, true);
        let sign = ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
        openssl(&[&sign[..], &["-days", "2", "-copy_extensions", "copy", "-out", "server.pem"]].concat(), false);
        Self { ca: folder.join("ca.pem"), chain: folder.join("server.pem"), key: folder.join("server.key") }
    }
}
