//! The server under test, and the calls that most cases make.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::{Child, Command, Stdio};

use chaos::api::{self, Options};
use chaos::proxy::Registry;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::http::{self, Answer};
use crate::tcp::{Upstream, lasting_port};

/// The token of servers that demand one.
pub const TOKEN: &str = "a token, with spaces";

#[derive(Debug, Clone)]
pub enum Mode {
    InProcess,
    StandAlone,
    Foreign(String),
}

impl Mode {
    pub fn name(&self) -> &'static str {
        match self {
            Mode::InProcess => "in-process",
            Mode::StandAlone => "stand-alone",
            Mode::Foreign(_) => "foreign",
        }
    }
}

/// What the server is started with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup {
    pub seed: u64,
    pub metrics: bool,
    pub token: bool,
}

pub struct Server {
    pub api: SocketAddr,
    pub mode: Mode,
    running: Running,
}

enum Running {
    InProcess { runtime: Option<Runtime>, registry: Registry, cancel: CancellationToken },
    StandAlone(Child),
    Foreign,
}

/// A proxy under test.
pub struct Proxy<'a> {
    server: &'a Server,
    pub name: String,
    pub address: SocketAddr,
}

impl Server {
    pub fn start(mode: &Mode, setup: &Setup) -> Server {
        let (api, running) = match mode {
            Mode::InProcess => in_process(setup),
            Mode::StandAlone => stand_alone(setup),
            Mode::Foreign(address) => {
                let found = address.to_socket_addrs().expect("CHAOS_CONFORMANCE_SERVER is HOST:PORT").next();
                (found.expect("an address"), Running::Foreign)
            }
        };
        let server = Server { api, mode: mode.clone(), running };
        if let Mode::Foreign(_) = mode {
            let Value::Object(proxies) = server.get("/proxies").json() else { panic!("no list of proxies") };
            for name in proxies.keys() {
                let path =
                    name.bytes().fold("/proxies/".to_owned(), |path, byte| format!("{path}%{byte:02X}"));
                assert_eq!(server.delete(&path).status, 204, "{name} cannot be deleted from the server");
            }
        }
        server
    }

    /// Another server of the same sort.
    pub fn another(&self, setup: Setup) -> Server {
        Server::start(&self.mode, &setup)
    }

    pub fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        http::request(self.api, method, path, headers, body.as_bytes())
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "", "")
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.request("POST", path, "", body)
    }

    pub fn patch(&self, path: &str, body: &str) -> Answer {
        self.request("PATCH", path, "", body)
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path, "", "")
    }

    /// The body of a GET.
    pub fn show(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// A proxy on a port that stays its own while it is disabled.
    pub fn proxy(&self, name: &str, upstream: &str) -> Proxy<'_> {
        let listen = format!("127.0.0.1:{}", lasting_port());
        self.proxy_with(json!({"name": name, "listen": listen, "upstream": upstream}))
    }

    /// A proxy from a whole description, which enables it.
    pub fn proxy_with(&self, description: Value) -> Proxy<'_> {
        let answer = self.post("/proxies", &description.to_string());
        assert_eq!(answer.status, 201, "{}", answer.text());
        let shown = answer.json();
        let address =
            shown["listen"].as_str().and_then(|text| text.parse().ok()).expect("a resolved address");
        Proxy { server: self, name: shown["name"].as_str().expect("a name").to_owned(), address }
    }

    /// A proxy before an echo.
    pub fn echo(&self) -> (Proxy<'_>, Upstream) {
        let upstream = Upstream::echo();
        (self.proxy("echo", &upstream.text()), upstream)
    }

    /// The process of a stand-alone server is alive, any other answers.
    pub fn assert_alive(&self) {
        assert_eq!(self.get("/version").status, 200, "the server has gone");
    }
}

impl Proxy<'_> {
    pub fn path(&self) -> String {
        format!("/proxies/{}", self.name)
    }

    /// Adds a toxic.
    pub fn toxic(&self, toxic: Value) {
        let answer = self.server.post(&format!("{}/toxics", self.path()), &toxic.to_string());
        assert_eq!(answer.status, 200, "{toxic}: {}", answer.text());
    }

    pub fn remove_toxic(&self, name: &str) {
        assert_eq!(
            self.server.delete(&format!("{}/toxics/{name}", self.path())).pair(),
            (204, String::new())
        );
    }

    pub fn update_toxic(&self, name: &str, change: Value) {
        let answer = self.server.post(&format!("{}/toxics/{name}", self.path()), &change.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub fn update(&self, change: Value) -> Answer {
        self.server.post(&self.path(), &change.to_string())
    }

    pub fn enable(&self, enabled: bool) {
        let answer = self.update(json!({"enabled": enabled}));
        assert_eq!((answer.status, &answer.json()["enabled"]), (200, &json!(enabled)));
    }

    pub fn show(&self) -> Value {
        self.server.show(&self.path())
    }
}

fn in_process(setup: &Setup) -> (SocketAddr, Running) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let registry = Registry::new(setup.seed);
    let cancel = CancellationToken::new();
    let options = Options {
        token: setup.token.then(|| TOKEN.to_owned()),
        proxy_metrics: setup.metrics,
        runtime_metrics: setup.metrics,
    };
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let api = listener.local_addr().expect("an address");
    runtime.spawn(api::serve_with(registry.clone(), listener, options, cancel.clone()));
    (api, Running::InProcess { runtime: Some(runtime), registry, cancel })
}

fn stand_alone(setup: &Setup) -> (SocketAddr, Running) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos-proxy"));
    command.args(["-port", "0", "-seed", &setup.seed.to_string()]);
    command.env("LOG_LEVEL", "info").env("NO_COLOR", "1").env_remove("CHAOS_PROXY_TOKEN");
    if setup.metrics {
        command.args(["-proxy-metrics", "-runtime-metrics"]);
    }
    if setup.token {
        command.args(["--token", TOKEN]);
    }
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let mut lines = BufReader::new(child.stderr.take().expect("its output")).lines();
    let mut address = None;
    while address.is_none() {
        let line = lines.next().expect("the server listens before it ends").expect("a line");
        let found = line.split_once("address=").and_then(|(_, rest)| rest.split(' ').next());
        address = found.map(|text| text.parse().expect("an address"));
    }
    // Whoever does not read lets the server wait.
    std::thread::spawn(move || lines.for_each(drop));
    (address.expect("found"), Running::StandAlone(child))
}

impl Drop for Server {
    fn drop(&mut self) {
        match &mut self.running {
            Running::InProcess { runtime, registry, cancel } => {
                cancel.cancel();
                if let Some(runtime) = runtime.take() {
                    runtime.block_on(registry.clear());
                    runtime.shutdown_background();
                }
            }
            Running::StandAlone(child) => {
                // One that has ended already cannot be ended.
                let _ = child.kill();
                let _ = child.wait();
            }
            Running::Foreign => {}
        }
    }
}
