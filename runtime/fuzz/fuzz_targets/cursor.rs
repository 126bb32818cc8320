//! Cursors that callers made up: one that is taken is one that could have been given out, and in an operation it is refused
//! with its place or becomes a parameter.
#![no_main]

use async_graphql::{Variables, value};
use fraiseql_runtime::engine::Request;
use fraiseql_runtime::engine::plan::cursor;
use fraiseql_runtime_fuzz::Shop;
use libfuzzer_sys::fuzz_target;

const QUERY: &str = "query Page($after: String!) {
    productsConnection(first: 2, after: $after, orderBy: [{name: DESC}]) { edges { cursor } }
    ordersConnection(last: 2, before: $after) { edges { cursor } } }";

thread_local! {
    static SHOP: Shop = Shop::open();
}

fuzz_target!(|input: (String, Vec<Option<String>>)| {
    let (text, keys) = input;
    // The fuzzer finds the form of a cursor by this; the texts go through as they are.
    let list: Vec<Option<&str>> = keys.iter().map(Option::as_deref).collect();
    let written = cursor::write(&text, &list);
    match cursor::read(&written, &text) {
        Some(read) => assert_eq!(read, keys),
        None => assert!(
            text.contains('\0')
                || list.iter().flatten().any(|key| key.contains('\0'))
                || written.len() > 16 * 1024
        ),
    }
    if let Some(read) = cursor::read(&text, "order") {
        let list: Vec<Option<&str>> = read.iter().map(Option::as_deref).collect();
        assert_eq!(cursor::read(&cursor::write("order", &list), "order"), Some(read.clone()));
    }
    SHOP.with(|shop| {
        for after in [&text, &written] {
            let variables = Variables::from_value(value!({ "after": after.clone() }));
            let request = Request { query: QUERY.to_owned(), operation_name: None, variables };
            let (_, body) = shop.answer(&request);
            assert!(body["errors"].as_array().is_some_and(|errors| !errors.is_empty()), "{body}");
        }
    });
});
