//! `/metrics` in Prometheus' text format.
//!
//! Toxiproxy's two counters by their names and labels, moving while connections are open, and ours: connections,
//! failed dials, resets, and what each toxic touched. The counters of a proxy live as long as it does.

use std::fmt::{Display, Write};

use super::reply::Reply;
use super::{Options, process};
use crate::fault::Evidence;
use crate::proxy::{Counters, Proxy, Registry};
use crate::toxic::Toxic;

pub(super) fn reply(registry: &Registry, options: &Options) -> Reply {
    let mut page = Page::default();
    if options.proxy_metrics {
        proxies(&mut page, &registry.list());
    }
    if options.runtime_metrics {
        process::write(&mut page);
    }
    Reply::new(200, "text/plain; version=0.0.4; charset=utf-8", page.0)
}

/// A page of metrics under construction.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// Begins a family; `kind` is `counter` or `gauge`.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{}\"", escaped(text));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

fn proxies(page: &mut Page, proxies: &[Proxy]) {
    let counted: Vec<(&Proxy, Counters)> = proxies.iter().map(|proxy| (proxy, proxy.counters())).collect();
    type Read = fn(&Counters) -> u64;
    let own: [(&str, &str, &str, Read); 5] = [
        ("chaos_proxy_connections_total", "counter", "Connections taken from clients.", |of| of.accepted),
        ("chaos_proxy_connections", "gauge", "Connections that are open.", |of| of.active),
        ("chaos_proxy_failed_dials_total", "counter", "Dials to the upstream that failed.", |of| {
            of.refused_dials
        }),
        ("chaos_proxy_failed_handshakes_total", "counter", "TLS handshakes that failed.", |of| {
            of.failed_handshakes
        }),
        ("chaos_proxy_resets_total", "counter", "Connections that a fault or toxic reset.", |of| of.reset),
    ];
    for (name, kind, help, read) in own {
        page.family(name, kind, help);
        for (proxy, counters) in &counted {
            page.sample(name, &[("proxy", proxy.name())], read(counters));
        }
    }
    toxics(page, proxies);
    let theirs: [(&str, &str, Read, Read); 2] = [
        (
            "toxiproxy_proxy_received_bytes_total",
            "Bytes read from the sending side of a link.",
            |of| of.received_upstream,
            |of| of.received_downstream,
        ),
        (
            "toxiproxy_proxy_sent_bytes_total",
            "Bytes written to the receiving side of a link.",
            |of| of.bytes_upstream,
            |of| of.bytes_downstream,
        ),
    ];
    for (name, help, upstream, downstream) in theirs {
        page.family(name, "counter", help);
        for (proxy, counters) in &counted {
            let (listener, upstream_address) = (proxy.listen(), proxy.upstream());
            for (direction, read) in [("downstream", downstream), ("upstream", upstream)] {
                let labels = [
                    ("direction", direction),
                    ("listener", listener.as_str()),
                    ("proxy", proxy.name()),
                    ("upstream", upstream_address.as_str()),
                ];
                page.sample(name, &labels, read(counters));
            }
        }
    }
}

/// Name, help and where the figure is found.
type Family = (&'static str, &'static str, fn(&Evidence) -> u64);

fn toxics(page: &mut Page, proxies: &[Proxy]) {
    let touched: Vec<(&Proxy, Vec<(Toxic, Evidence)>)> =
        proxies.iter().map(|proxy| (proxy, proxy.toxic_evidence())).collect();
    let families: [Family; 4] = [
        ("chaos_toxic_connections_total", "Connections that the toxic acted on.", |of| of.connections),
        ("chaos_toxic_resets_total", "Connections that the toxic reset.", |of| of.reset),
        ("chaos_toxic_delayed_bytes_total", "Bytes that the toxic kept back for a while.", |of| {
            of.delayed_bytes
        }),
        ("chaos_toxic_dropped_bytes_total", "Bytes that the toxic dropped.", |of| of.swallowed_bytes),
    ];
    for (name, help, read) in families {
        page.family(name, "counter", help);
        for (proxy, toxics) in &touched {
            for (toxic, evidence) in toxics {
                let labels = [
                    ("proxy", proxy.name()),
                    ("stream", toxic.stream.as_str()),
                    ("toxic", toxic.name.as_str()),
                    ("type", toxic.kind.name()),
                ];
                page.sample(name, &labels, read(evidence));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.sample("name", &[("a", "x\"y\\z\n"), ("b", "é")], 7);
        page.sample("name", &[], 1.5);
        assert_eq!(page.0, "name{a=\"x\\\"y\\\\z\\n\",b=\"é\"} 7\nname 1.5\n");
    }
}
