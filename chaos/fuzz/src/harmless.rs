//! What an input may ask of this machine: a fuzzer's body is nobody's order to look a name up, to take a port that
//! others may want, to dial, or to read a file.
//!
//! A body is read by the reader that the API has, so what is let through cannot mean something else there. Addresses
//! and paths that do harm are replaced by harmless ones, and the rest stays; a body without any stays byte for byte.

use std::borrow::Cow;
use std::net::SocketAddr;

use chaos::json::Json;

/// Files that can be named: `c` is a certificate, `k` its key, `x` neither.
const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tls/");
const FREE: &str = "127.0.0.1:0";
/// Nothing listens there.
const NOBODY: &str = "127.0.0.1:1";

/// Addresses that bodies can name although they are made up anew in every run.
#[derive(Debug, Clone)]
pub struct Known {
    /// What port 1 stands for: one that is taken.
    pub taken: SocketAddr,
    /// What port 2 stands for: where the proxy `a` listens now.
    pub own: Option<SocketAddr>,
}

impl Known {
    /// The body as it may be sent.
    pub fn harmless<'a>(&self, body: &'a [u8]) -> Cow<'a, [u8]> {
        let Ok(mut json) = Json::first(body) else { return Cow::Borrowed(body) };
        match self.tame(&mut json, false) {
            true => Cow::Owned(json.to_string().into_bytes()),
            false => Cow::Borrowed(body),
        }
    }

    /// True when something was replaced; `files`: this is what stands under `tls`.
    fn tame(&self, json: &mut Json, files: bool) -> bool {
        match json {
            Json::Array(items) => {
                items.iter_mut().fold(false, |changed, item| self.tame(item, files) | changed)
            }
            Json::Object(fields) => fields.iter_mut().fold(false, |changed, (key, value)| {
                let key = key.to_ascii_lowercase();
                let Json::Text(text) = value else {
                    return self.tame(value, files || key == "tls") | changed;
                };
                let other = match key.as_str() {
                    "listen" => self.listen(text),
                    "upstream" => upstream(text),
                    "certificate" | "key" | "ca" if files => {
                        Some(format!("{FILES}{}", text.replace('/', "")))
                    }
                    _ => None,
                };
                let Some(other) = other else { return changed };
                *text = other;
                true
            }),
            _ => false,
        }
    }

    /// What stands for an address; `None`: it is a free port of this machine, or none that anything is looked up for.
    fn listen(&self, text: &str) -> Option<String> {
        let (host, port) = text.rsplit_once(':')?;
        match port {
            "1" => Some(self.taken.to_string()),
            "2" => Some(self.own.map_or_else(|| FREE.to_owned(), |own| own.to_string())),
            "" | "0" if ["127.0.0.1", "[::1]"].contains(&host) => None,
            port if !port.is_empty() && port.parse::<u16>().is_err() => None,
            _ => Some(FREE.to_owned()),
        }
    }
}

/// Nobody is to connect, but a proxy that asks its own port may be let in by it.
fn upstream(text: &str) -> Option<String> {
    let (_, port) = text.rsplit_once(':')?;
    let is_none = port.parse::<u16>().is_err();
    (!is_none && text != NOBODY).then(|| NOBODY.to_owned())
}
