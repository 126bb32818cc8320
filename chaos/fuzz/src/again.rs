//! What the API shows is a description: sent back it changes nothing, and where nothing is it makes the same.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::api::Api;

/// Sends what is listed back, once as it is and once after everything was removed.
pub fn send_back(api: &mut Api) {
    let before = api.state();
    // The address of a proxy that is disabled may be none at all.
    if before.values().all(|proxy| proxy["enabled"] == true) {
        let answer = api.call("POST", "/populate", &list(&before));
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert_eq!(api.state(), before, "sent back as it is shown");
    }
    api.clear();
    let wanted = anywhere(before);
    let answer = api.call("POST", "/populate", &list(&wanted));
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(anywhere(api.state()), wanted, "made as it is shown");
    api.clear();
}

fn list(state: &BTreeMap<String, Value>) -> Vec<u8> {
    serde_json::to_vec(&state.values().collect::<Vec<_>>()).expect("JSON")
}

/// On free ports, since somebody else may have taken these meanwhile, and without what a list cannot say.
pub fn anywhere(mut state: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    for proxy in state.values_mut() {
        proxy["listen"] = json!("");
        proxy["faults"] = json!([]);
    }
    state
}
