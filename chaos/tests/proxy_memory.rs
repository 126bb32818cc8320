//! Memory of `chaos-proxy` from outside: what connections took is given back after they have ended.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

#[expect(dead_code, reason = "tests of the verbs need more of it")]
mod program_support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use program_support::Server;

const CONNECTIONS: usize = 400;
const DEADLINE: Duration = Duration::from_secs(20);

/// Kilobytes that the process has in memory.
fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().strip_suffix(" kB").and_then(|number| number.parse().ok()).expect("a number")
}

/// An upstream that takes connections and holds them.
fn upstream() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut held = Vec::new();
        while let Ok((mut socket, _)) = listener.accept() {
            socket.write_all(b"!").expect("written");
            held.push(socket);
        }
    });
    address.to_string()
}

/// Connections that both sides of the proxy know of.
fn open(address: &str, count: usize) -> Vec<TcpStream> {
    let connect = |_| {
        let mut socket = TcpStream::connect(address).expect("a connection");
        socket.read_exact(&mut [0]).expect("the upstream's word");
        socket
    };
    (0..count).map(connect).collect()
}

#[test]
fn what_connections_took_is_given_back_after_they_have_ended() {
    let server = Server::start(&[]);
    let created = server.done(&format!("create -l 127.0.0.1:0 -u {} link", upstream()));
    let address = created.trim().strip_prefix("Created new proxy link on ").expect("a sentence");
    // What the first connection takes is not the price of a connection.
    drop(open(address, 8));
    let before = resident(&server);
    let sockets = open(address, CONNECTIONS);
    let taken = resident(&server).saturating_sub(before);
    assert!(taken > 800, "{taken} kB are too few to tell");
    // The upstream never ends its side, so that both ways of each are over only when the proxy is.
    server.done("toggle link");
    drop(sockets);
    let until = Instant::now() + DEADLINE;
    while resident(&server).saturating_sub(before) > taken / 3 {
        let kept = resident(&server).saturating_sub(before);
        assert!(Instant::now() < until, "of {taken} kB {kept} are kept");
        std::thread::sleep(Duration::from_millis(50));
    }
}
