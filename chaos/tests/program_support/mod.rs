//! `chaos-proxy` as a process, and its verbs against it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

/// `chaos-proxy` without what the environment would tell it.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos-proxy"));
    for variable in ["CHAOS_PROXY_TOKEN", "TOXIPROXY_URL", "LOG_LEVEL"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

/// A server that ends with the test.
pub struct Server {
    pub child: Child,
    pub api: SocketAddr,
}

impl Server {
    pub fn start(arguments: &[&str]) -> Server {
        let mut child =
            program().args(["-port", "0"]).args(arguments).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stderr.take().expect("its output")).lines();
        let api = loop {
            let line = lines.next().expect("it listens before it ends").expect("a line");
            if let Some((_, rest)) = line.split_once("address=") {
                break rest.split(' ').next().and_then(|text| text.parse().ok()).expect("an address");
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Server { child, api }
    }

    pub fn run(&self, arguments: &str) -> Output {
        let host = format!("http://{}", self.api);
        program().args(["--host", &host]).args(arguments.split_whitespace()).output().expect("it runs")
    }

    /// The output of a verb that succeeds.
    pub fn done(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// The message of a verb that ends with `code`.
    pub fn fails(&self, arguments: &str, code: i32) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "data on stdout, talk on stderr");
        String::from_utf8(output.stderr).expect("text")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
