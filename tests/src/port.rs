//! Free TCP ports on the loopback address.

use std::{
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the range from which the kernel takes ports for outgoing connections, so that none is taken between choosing
/// and use.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port that nothing listens on. No two calls in this process get the same one, and processes start at different places.
pub fn free() -> u16 {
    let start = process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(step) % COUNT;
        let port = u16::try_from(port).expect("FIRST + COUNT is below 65536");
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT)
}

/// A listener on a port of the loopback address. Between [`free`] and its use another process may take a port: then it is the next.
pub fn listener() -> TcpListener {
    (0..COUNT)
        .find_map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, free())).ok())
        .expect("one of so many ports can be listened on")
}
