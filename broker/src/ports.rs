//! Ports of the nodes that unit tests start.

use std::sync::atomic::{AtomicU16, Ordering};

/// A port that is free, and stays so: each is given once, and the kernel gives outgoing connections none of these.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + u16::try_from(std::process::id() % 9).unwrap() * 1000;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 1000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
