//! Several requests to the API, one a line: its first character chooses the route, the rest is the body. Each is answered,
//! what is refused changes nothing, and the list of proxies is JSON that can be sent back.
#![no_main]

use std::cell::RefCell;

use chaos_fuzz::api::{Api, is_harmless};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Requests of one input; more find nothing that these do not.
const REQUESTS_MAX: usize = 12;

/// Method, path, and whether a refusal leaves everything as it was: a list may have been taken in part.
const ROUTES: [(&str, &str, bool); 19] = [
    ("POST", "/proxies", true),
    ("POST", "/populate", false),
    ("POST", "/proxies/a", false),
    ("PATCH", "/proxies/b", false),
    ("DELETE", "/proxies/a", true),
    ("GET", "/proxies/a", true),
    ("POST", "/proxies/a/toxics", true),
    ("POST", "/proxies/b/toxics", true),
    ("POST", "/proxies/a/toxics/t", true),
    ("PATCH", "/proxies/b/toxics/t", true),
    ("DELETE", "/proxies/a/toxics/t", true),
    ("GET", "/proxies/a/toxics", true),
    ("POST", "/proxies/a/faults", true),
    ("POST", "/proxies/b/faults", true),
    ("GET", "/proxies/a/faults", true),
    ("DELETE", "/proxies/a/faults/f", true),
    ("POST", "/reset", true),
    ("GET", "/metrics", true),
    ("GET", "/version", true),
];

thread_local! {
    static API: RefCell<Option<Api>> = const { RefCell::new(None) };
}

fn list(api: &mut Api) -> Value {
    let (status, answer) = api.call("GET", "/proxies", b"");
    assert_eq!(status, 200);
    serde_json::from_slice(&answer).unwrap_or_else(|error| panic!("{error}: {}", answer.escape_ascii()))
}

fn request(api: &mut Api, line: &[u8]) {
    let Some((choice, body)) = line.split_first() else { return };
    if !is_harmless(body) {
        return;
    }
    // The letters of the seeds are readable; any other byte chooses as well.
    let (method, path, whole) = ROUTES[usize::from(choice.wrapping_sub(b'A')) % ROUTES.len()];
    let before = list(api);
    let (status, answer) = api.call(method, path, body);
    let after = list(api);
    let told = || format!("{method} {path}: {status} {}", answer.escape_ascii());
    match status {
        200 | 201 | 204 => {}
        // The address cannot be listened on.
        500 => assert!(
            answer.windows(6).any(|word| word == b"listen" || word == b"addres" || word == b"lookup"),
            "{}",
            told()
        ),
        400..500 => {}
        _ => panic!("{}", told()),
    }
    assert!(status < 400 || !whole || before == after, "{}\nfrom {before}\nto {after}", told());
}

/// The list as a body of `populate` is what is there already, unless a proxy that is disabled has an address that is none.
fn populate_again(api: &mut Api) {
    let before = list(api);
    let all: Vec<&Value> = before.as_object().expect("an object").values().collect();
    let body = serde_json::to_vec(&all).expect("JSON");
    let (status, answer) = api.call("POST", "/populate", &body);
    assert!([201, 500].contains(&status), "{status} {}", answer.escape_ascii());
    assert_eq!(list(api), before);
}

fuzz_target!(|input: &[u8]| {
    API.with_borrow_mut(|api| {
        let api = api.get_or_insert_with(Api::start);
        for line in input.split(|byte| *byte == b'\n').take(REQUESTS_MAX) {
            request(api, line);
        }
        populate_again(api);
        api.clear();
    });
});
