//! Which request means what: Toxiproxy's routes and the rules of the router that it uses. Pure.
//!
//! A path is matched after percent-decoding, so a name cannot contain a slash. A path that is not in its shortest form
//! is answered with that form.

/// What a client asks for; names are decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    ListProxies,
    CreateProxy,
    Populate,
    ShowProxy(String),
    UpdateProxy(String),
    DeleteProxy(String),
    ListToxics(String),
    CreateToxic(String),
    ShowToxic(String, String),
    UpdateToxic(String, String),
    DeleteToxic(String, String),
    /// Ours: any fault of a link, as scenario files write it.
    ListFaults(String),
    CreateFault(String),
    ShowFault(String, String),
    DeleteFault(String, String),
    Reset,
    Version,
    Metrics,
    /// Ours: what happens, as it happens.
    Events,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Routed {
    To(Call),
    /// The same path in its shortest form.
    Moved(String),
    Unknown,
    WrongMethod,
    /// The path's percent-encoding is broken.
    Malformed,
}

/// `metrics` tells whether `/metrics` exists.
pub(super) fn route(method: &str, path: &str, query: Option<&str>, metrics: bool) -> Routed {
    let Some(decoded) = decode(path) else { return Routed::Malformed };
    let shortest = shorten(&decoded);
    if shortest != decoded {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        return Routed::Moved(encode(&shortest) + &query);
    }
    // A name that is not UTF-8 names nothing.
    let Ok(path) = String::from_utf8(decoded) else { return Routed::Unknown };
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let call = match parts.as_slice() {
        ["metrics"] if metrics => Some(Call::Metrics),
        ["events"] => (method == "GET").then_some(Call::Events),
        ["version"] => (method == "GET").then_some(Call::Version),
        ["reset"] => (method == "POST").then_some(Call::Reset),
        ["populate"] => (method == "POST").then_some(Call::Populate),
        ["proxies"] => match method {
            "GET" => Some(Call::ListProxies),
            "POST" => Some(Call::CreateProxy),
            _ => None,
        },
        ["proxies", proxy] if !proxy.is_empty() => of_proxy(method, (*proxy).to_owned()),
        ["proxies", proxy, "toxics"] if !proxy.is_empty() => match method {
            "GET" => Some(Call::ListToxics((*proxy).to_owned())),
            "POST" => Some(Call::CreateToxic((*proxy).to_owned())),
            _ => None,
        },
        ["proxies", proxy, "toxics", toxic] if !proxy.is_empty() && !toxic.is_empty() => {
            of_toxic(method, (*proxy).to_owned(), (*toxic).to_owned())
        }
        ["proxies", proxy, "faults"] if !proxy.is_empty() => match method {
            "GET" => Some(Call::ListFaults((*proxy).to_owned())),
            "POST" => Some(Call::CreateFault((*proxy).to_owned())),
            _ => None,
        },
        ["proxies", proxy, "faults", fault] if !proxy.is_empty() && !fault.is_empty() => {
            let (proxy, fault) = ((*proxy).to_owned(), (*fault).to_owned());
            match method {
                "GET" => Some(Call::ShowFault(proxy, fault)),
                "DELETE" => Some(Call::DeleteFault(proxy, fault)),
                _ => None,
            }
        }
        _ => return Routed::Unknown,
    };
    call.map_or(Routed::WrongMethod, Routed::To)
}

fn of_proxy(method: &str, proxy: String) -> Option<Call> {
    match method {
        "GET" => Some(Call::ShowProxy(proxy)),
        "POST" | "PATCH" => Some(Call::UpdateProxy(proxy)),
        "DELETE" => Some(Call::DeleteProxy(proxy)),
        _ => None,
    }
}

fn of_toxic(method: &str, proxy: String, toxic: String) -> Option<Call> {
    match method {
        "GET" => Some(Call::ShowToxic(proxy, toxic)),
        "POST" | "PATCH" => Some(Call::UpdateToxic(proxy, toxic)),
        "DELETE" => Some(Call::DeleteToxic(proxy, toxic)),
        _ => None,
    }
}

fn decode(path: &str) -> Option<Vec<u8>> {
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(decoded)
}

/// Without empty parts, `.` and `..`; a slash at the end stays.
fn shorten(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut shortest: Vec<u8> = parts.iter().flat_map(|part| [b"/", *part].concat()).collect();
    if shortest.is_empty() || path.ends_with(b"/") {
        shortest.push(b'/');
    }
    shortest
}

fn encode(path: &[u8]) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(byte) {
            encoded.push(char::from(*byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Routed {
        route("GET", path, None, false)
    }

    #[test]
    fn names_are_decoded_before_they_are_matched() {
        assert_eq!(get("/proxies/a%20b"), Routed::To(Call::ShowProxy("a b".into())));
        assert_eq!(get("/proxies/%C3%A9"), Routed::To(Call::ShowProxy("é".into())));
        assert_eq!(get("/proxies/a%2Fb"), Routed::Unknown);
        assert_eq!(get("/proxies/a%2Ftoxics"), Routed::To(Call::ListToxics("a".into())));
        assert_eq!(get("/proxies/%FF"), Routed::Unknown);
        assert_eq!(get("/proxies/%zz"), Routed::Malformed);
        assert_eq!(get("/proxies/%2"), Routed::Malformed);
    }

    #[test]
    fn a_path_that_could_be_shorter_is_moved_with_its_query() {
        assert_eq!(get("//proxies"), Routed::Moved("/proxies".into()));
        assert_eq!(route("POST", "/a/../proxies//x%20y/", Some("q=1"), false), {
            Routed::Moved("/proxies/x%20y/?q=1".into())
        });
        assert_eq!(get("/./"), Routed::Moved("/".into()));
        assert_eq!(get("/"), Routed::Unknown);
    }

    #[test]
    fn a_slash_at_the_end_is_another_path() {
        for path in ["/proxies/", "/version/", "/proxies/a/", "/proxies/a/toxics/"] {
            assert_eq!(get(path), Routed::Unknown, "{path}");
        }
    }

    #[test]
    fn methods_are_told_from_paths() {
        for path in
            ["/proxies", "/proxies/a", "/proxies/a/toxics", "/proxies/a/toxics/b", "/version", "/reset"]
        {
            for method in ["PUT", "HEAD", "OPTIONS"] {
                assert_eq!(route(method, path, None, true), Routed::WrongMethod, "{method} {path}");
            }
        }
        assert_eq!(get("/reset"), Routed::WrongMethod);
        assert_eq!(get("/nope"), Routed::Unknown);
        assert_eq!(get("/metrics"), Routed::Unknown);
        assert_eq!(route("PUT", "/metrics", None, true), Routed::To(Call::Metrics));
    }
}
