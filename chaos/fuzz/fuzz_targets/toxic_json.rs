//! Bodies of requests for toxics, through the API as a client has it: each is answered, what is taken does something
//! possible, and an answer sent back asks for the same toxic.
#![no_main]

use std::cell::RefCell;

use chaos::proxy::Proxy;
use chaos::toxic::clients::Clients;
use chaos::toxic::{Number, Toxic, Type};
use chaos_fuzz::api::Api;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static API: RefCell<Option<(Api, Proxy)>> = const { RefCell::new(None) };
}

fn start() -> (Api, Proxy) {
    let mut api = Api::start();
    let proxy = api.create("link");
    (api, proxy)
}

fn create(api: &mut Api, proxy: &Proxy, body: &[u8]) {
    let answer = api.call("POST", "/proxies/link/toxics", body);
    let toxics = proxy.toxics();
    if answer.status != 200 {
        assert!((400..500).contains(&answer.status), "{}", answer.reason());
        assert!(toxics.is_empty(), "refused and there: {toxics:?}");
        return;
    }
    let [toxic] = &toxics[..] else { panic!("taken, but there are {toxics:?}") };
    toxic.direction().expect("a direction");
    toxic.effect();
    proxy.remove_toxics();
    let again = api.call("POST", "/proxies/link/toxics", &answer.body);
    assert_eq!(again.text(), answer.text());
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
    let answer = api.call("POST", "/proxies/link/toxics/one", body);
    let [after] = &proxy.toxics()[..] else { panic!("one toxic") };
    match answer.status {
        200 => assert!(answer.json().is_object(), "{}", answer.text()),
        status => {
            assert!((400..500).contains(&status), "{}", answer.reason());
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
