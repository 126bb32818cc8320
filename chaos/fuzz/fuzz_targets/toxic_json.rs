//! Bodies of requests for toxics, through the API as a client has it: each is answered, what is taken does something
//! possible, and an answer sent back asks for the same toxic.
#![no_main]

use std::cell::RefCell;

use chaos::api;
use chaos::proxy::{Proxy, ProxyConfig, Registry};
use chaos::toxic::clients::Clients;
use chaos::toxic::{Number, Toxic, Type};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

struct Api {
    runtime: Runtime,
    proxy: Proxy,
    client: TcpStream,
}

thread_local! {
    static API: RefCell<Option<Api>> = const { RefCell::new(None) };
}

impl Api {
    fn start() -> Api {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (proxy, client) = runtime.block_on(async {
            let registry = Registry::new(1);
            // Nobody connects to it, and nothing listens behind it.
            let config = ProxyConfig {
                name: "link".into(),
                listen: "127.0.0.1:0".into(),
                upstream: "127.0.0.1:1".into(),
                seed: 1,
                protocol: None,
                udp: None,
                tls: None,
            };
            let proxy = registry.create(config).await.expect("a proxy");
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("an address");
            tokio::spawn(api::serve(registry, listener, CancellationToken::new()));
            (proxy, TcpStream::connect(address).await.expect("a connection"))
        });
        Api { runtime, proxy, client }
    }

    /// Status and body of the answer.
    fn post(&mut self, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let head = format!("POST {path} HTTP/1.1\r\nhost: api\r\ncontent-length: {}\r\n\r\n", body.len());
        let client = &mut self.client;
        self.runtime.block_on(async {
            client.write_all(&[head.as_bytes(), body].concat()).await.expect("sent");
            let mut answer = Vec::new();
            loop {
                assert!(client.read_buf(&mut answer).await.expect("an answer") > 0, "no answer");
                let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
                let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.and_then(|text| text.parse().ok()).expect("a length");
                if answer.len() >= end + 4 + length {
                    return (status, answer.split_off(end + 4));
                }
            }
        })
    }
}

fn create(api: &mut Api, body: &[u8]) {
    let (status, answer) = api.post("/proxies/link/toxics", body);
    let toxics = api.proxy.toxics();
    if status != 200 {
        assert!((400..500).contains(&status), "{status}: {}", answer.escape_ascii());
        assert!(toxics.is_empty(), "refused and there: {toxics:?}");
        return;
    }
    let [toxic] = &toxics[..] else { panic!("taken, but there are {toxics:?}") };
    toxic.direction().expect("a direction");
    toxic.effect();
    api.proxy.remove_toxics();
    let (again, same) = api.post("/proxies/link/toxics", &answer);
    assert_eq!(again, 200, "{}", same.escape_ascii());
    assert_eq!(same, answer);
}

fn update(api: &mut Api, body: &[u8]) {
    let toxic = Toxic {
        name: "one".into(),
        kind: Type::Slicer,
        stream: "upstream".into(),
        toxicity: 0.5,
        values: [1, 2, 3].map(Number::Whole).to_vec(),
        clients: Clients::default(),
    };
    let added = api.proxy.add_toxic(toxic.clone());
    api.runtime.block_on(added).expect("a toxic");
    let (status, answer) = api.post("/proxies/link/toxics/one", body);
    let [after] = &api.proxy.toxics()[..] else { panic!("one toxic") };
    match status {
        200 => assert!(serde_json::from_slice::<Value>(&answer).is_ok_and(|answer| answer.is_object())),
        status => {
            assert!((400..500).contains(&status), "{status}: {}", answer.escape_ascii());
            assert_eq!(*after, toxic, "refused and changed");
        }
    }
    after.effect();
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, body)) = input.split_first() else { return };
    API.with_borrow_mut(|api| {
        let api = api.get_or_insert_with(Api::start);
        match choice % 2 {
            0 => create(api, body),
            _ => update(api, body),
        }
        api.proxy.remove_toxics();
    });
});
