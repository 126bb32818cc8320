//! Bodies of requests for toxics, through the API as a client has it: each is answered, what is taken does something
//! possible, and an answer sent back asks for the same toxic.
#![no_main]

use std::cell::RefCell;

use chaos::proxy::Proxy;
use chaos::toxic::clients::Clients;
use chaos::toxic::{Number, Toxic, Type};
use chaos_fuzz::api::Api;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

thread_local! {
    static API: RefCell<Option<(Api, Proxy)>> = const { RefCell::new(None) };
}

fn start() -> (Api, Proxy) {
    let mut api = Api::start();
    let proxy = api.create("link");
    (api, proxy)
}

fn create(api: &mut Api, proxy: &Proxy, body: &[u8]) {
    let (status, answer) = api.call("POST", "/proxies/link/toxics", body);
    let toxics = proxy.toxics();
    if status != 200 {
        assert!((400..500).contains(&status), "{status}: {}", answer.escape_ascii());
        assert!(toxics.is_empty(), "refused and there: {toxics:?}");
        return;
    }
    let [toxic] = &toxics[..] else { panic!("taken, but there are {toxics:?}") };
    toxic.direction().expect("a direction");
    toxic.effect();
    proxy.remove_toxics();
    let (again, same) = api.call("POST", "/proxies/link/toxics", &answer);
    assert_eq!(again, 200, "{}", same.escape_ascii());
    assert_eq!(same, answer);
}

fn update(api: &mut Api, proxy: &Proxy, body: &[u8]) {
    let toxic = Toxic {
        name: "one".into(),
        kind: Type::Slicer,
        stream: "upstream".into(),
        toxicity: 0.5,
        values: [1, 2, 3].map(Number::Whole).to_vec(),
        clients: Clients::default(),
    };
    api.runtime.block_on(proxy.add_toxic(toxic.clone())).expect("a toxic");
    let (status, answer) = api.call("POST", "/proxies/link/toxics/one", body);
    let [after] = &proxy.toxics()[..] else { panic!("one toxic") };
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
        let (api, proxy) = api.get_or_insert_with(start);
        match choice % 2 {
            0 => create(api, proxy, body),
            _ => update(api, proxy, body),
        }
        proxy.remove_toxics();
    });
});
