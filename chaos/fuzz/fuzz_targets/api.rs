//! Requests to the API, one a line: its first character chooses the route, and the rest is the body, or with `U` the
//! whole request.
//!
//! Each is answered soon and as the documents say; what is refused, or only asks, changes nothing; what is shown can be
//! read by strict readers and sent back; and nothing goes on when all proxies are gone.
#![no_main]

use std::cell::RefCell;
use std::collections::BTreeMap;

use chaos_fuzz::api::{Answer, Api};
use chaos_fuzz::{again, metrics};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Requests of one input; more find nothing that these do not.
const REQUESTS_MAX: usize = 12;
/// Each makes the port's silence be waited for.
const SLOW: &[u8] = b"connect_blackhole";

/// `A` to `T`.
const ROUTES: [(&str, &str); 20] = [
    ("POST", "/proxies"),
    ("POST", "/populate"),
    ("POST", "/proxies/a"),
    ("PATCH", "/proxies/b"),
    ("DELETE", "/proxies/a"),
    ("GET", "/proxies/a"),
    ("POST", "/proxies/a/toxics"),
    ("POST", "/proxies/b/toxics"),
    ("POST", "/proxies/a/toxics/t"),
    ("PATCH", "/proxies/b/toxics/t"),
    ("DELETE", "/proxies/a/toxics/t"),
    ("GET", "/proxies/a/toxics"),
    ("POST", "/proxies/a/faults"),
    ("POST", "/proxies/b/faults"),
    ("GET", "/proxies/a/faults"),
    ("DELETE", "/proxies/a/faults/f"),
    ("POST", "/reset"),
    ("GET", "/metrics"),
    ("GET", "/version"),
    ("GET", "/proxies/b/faults/f"),
];

type State = BTreeMap<String, Value>;

thread_local! {
    static API: RefCell<Option<Api>> = const { RefCell::new(None) };
}

/// Sends a line; the state after it.
fn request(api: &mut Api, line: &[u8], before: State) -> State {
    let Some((choice, rest)) = line.split_first() else { return before };
    if *choice == b'U' {
        return any_request(api, rest, before);
    }
    let (method, path) = ROUTES[usize::from(choice.wrapping_sub(b'A')) % ROUTES.len()];
    let body = api.known().harmless(rest);
    let answer = api.call(method, path, &body);
    let after = api.state();
    let told = || format!("{method} {path}: {}\nfrom {before:?}\nto {after:?}", answer.text());
    match answer.status {
        200 if path == "/metrics" => metrics::check(&answer.body),
        200 | 201 => assert!(!answer.json().is_null(), "{}", told()),
        204 => assert!(answer.body.is_empty(), "{}", told()),
        400..500 => assert!(!answer.reason().is_empty() && after == before, "{}", told()),
        500 => {
            assert!(cannot_listen(&answer), "{}", told());
            // The others have done, or undone, what came before.
            assert!(path != "/proxies" || after == before, "{}", told());
        }
        _ => panic!("{}", told()),
    }
    assert!(method != "GET" || after == before, "{}", told());
    after
}

/// The one reason for a status of 500: an address is none, or cannot be had.
fn cannot_listen(answer: &Answer) -> bool {
    let reason = answer.reason();
    ["listen tcp", "listen udp", "address ", "lookup "].iter().any(|begin| reason.starts_with(begin))
}

/// Method and path as they stand there, and the body behind them.
fn any_request(api: &mut Api, rest: &[u8], before: State) -> State {
    let mut parts = rest.splitn(3, |byte| *byte == b' ');
    let [method, path] = [parts.next(), parts.next()].map(Option::unwrap_or_default);
    let body = api.known().harmless(parts.next().unwrap_or_default());
    let line = [method, b" ", path, b" "].concat();
    let answer = api.exchange(&line, method == b"HEAD", &body);
    let after = api.state();
    let told = || format!("{}: {}\nfrom {before:?}\nto {after:?}", line.escape_ascii(), answer.text());
    match answer.status {
        200..400 => {}
        400..500 => assert_eq!(before, after, "{}", told()),
        500 => assert!(cannot_listen(&answer), "{}", told()),
        _ => panic!("{}", told()),
    }
    let is_asking = [&b"GET"[..], b"HEAD", b"OPTIONS", b"PUT"].contains(&method);
    assert!(!is_asking || after == before, "{}", told());
    after
}

fuzz_target!(|input: &[u8]| {
    API.with_borrow_mut(|api| {
        let api = api.get_or_insert_with(Api::start);
        let mut state = State::new();
        let mut slow = 0;
        for line in input.split(|byte| *byte == b'\n').take(REQUESTS_MAX) {
            slow += usize::from(line.windows(SLOW.len()).any(|word| word == SLOW));
            if slow > 1 {
                break;
            }
            state = request(api, line, state);
        }
        again::send_back(api);
    });
});
