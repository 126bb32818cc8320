//! `/metrics` in Prometheus' text format.
//!
//! Toxiproxy's two counters by their names and labels, moving while connections are open, and ours: connections,
//! failed dials, resets, datagrams, and what each toxic touched. The counters of a proxy live as long as it does.

use std::fmt::{Display, Write};

use super::reply::Reply;
use super::{Options, process};
use crate::fault::Evidence;
use crate::proxy::{Counters, Proxy, Registry, udp};
use crate::toxic::Toxic;
use crate::toxic::effect::Datagrams;

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
    datagrams(page, &counted);
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
type Family<T> = (&'static str, &'static str, fn(&T) -> u64);

fn toxics(page: &mut Page, proxies: &[Proxy]) {
    let touched: Vec<(&Proxy, Vec<(Toxic, Evidence)>)> =
        proxies.iter().map(|proxy| (proxy, proxy.toxic_evidence())).collect();
    let families: [Family<Evidence>; 8] = [
        ("chaos_toxic_connections_total", "Connections that the toxic acted on.", |of| of.connections),
        ("chaos_toxic_refused_total", "Attempts to connect that were seen to be refused.", |of| of.refused),
        ("chaos_toxic_unanswered_total", "Attempts to connect that got no answer.", |of| of.unanswered),
        ("chaos_toxic_resets_total", "Connections that the toxic reset.", |of| of.reset),
        ("chaos_toxic_delayed_bytes_total", "Bytes that the toxic kept back for a while.", |of| {
            of.delayed_bytes
        }),
        ("chaos_toxic_dropped_bytes_total", "Bytes that the toxic dropped.", |of| of.swallowed_bytes),
        ("chaos_toxic_corrupted_bytes_total", "Bytes in which the toxic flipped a bit.", |of| {
            of.corrupted_bytes
        }),
        ("chaos_toxic_duplicated_bytes_total", "Bytes that the toxic delivered twice.", |of| {
            of.duplicated_bytes
        }),
    ];
    of_toxics(page, &families, &touched);
}

/// Nothing where no proxy forwards datagrams.
fn datagrams(page: &mut Page, proxies: &[(&Proxy, Counters)]) {
    let of_udp: Vec<_> = proxies.iter().filter(|(proxy, _)| proxy.udp().is_some()).collect();
    if of_udp.is_empty() {
        return;
    }
    type Read = fn(&udp::Counters) -> u64;
    let directed: [(&str, &str, Read, Read); 2] = [
        (
            "chaos_proxy_received_datagrams_total",
            "Datagrams read from the sending side.",
            |of| of.received_upstream,
            |of| of.received_downstream,
        ),
        (
            "chaos_proxy_sent_datagrams_total",
            "Datagrams sent to the receiving side.",
            |of| of.sent_upstream,
            |of| of.sent_downstream,
        ),
    ];
    for (name, help, upstream, downstream) in directed {
        page.family(name, "counter", help);
        for (proxy, counters) in &of_udp {
            for (direction, read) in [("downstream", downstream), ("upstream", upstream)] {
                let labels = [("direction", direction), ("proxy", proxy.name())];
                page.sample(name, &labels, read(&counters.datagrams));
            }
        }
    }
    let name = "chaos_proxy_dropped_datagrams_total";
    page.family(name, "counter", "Datagrams that found a full queue, or that a socket refused.");
    for (proxy, counters) in &of_udp {
        page.sample(name, &[("proxy", proxy.name())], counters.datagrams.dropped);
    }
    let touched: Vec<(&Proxy, Vec<(Toxic, Datagrams)>)> =
        of_udp.iter().map(|(proxy, _)| (*proxy, proxy.toxic_datagrams())).collect();
    let families: [Family<Datagrams>; 4] = [
        ("chaos_toxic_lost_datagrams_total", "Datagrams that the toxic dropped.", |of| of.lost),
        ("chaos_toxic_delayed_datagrams_total", "Datagrams that the toxic kept back for a while.", |of| {
            of.delayed
        }),
        ("chaos_toxic_duplicated_datagrams_total", "Datagrams that the toxic passed once more.", |of| {
            of.duplicated
        }),
        ("chaos_toxic_reordered_datagrams_total", "Datagrams that the toxic let others pass.", |of| {
            of.reordered
        }),
    ];
    of_toxics(page, &families, &touched);
}

/// A sample of each family for each toxic of each proxy.
fn of_toxics<T>(page: &mut Page, families: &[Family<T>], touched: &[(&Proxy, Vec<(Toxic, T)>)]) {
    for (name, help, read) in families {
        page.family(name, "counter", help);
        for (proxy, toxics) in touched {
            for (toxic, counted) in toxics {
                page.sample(name, &labels_of(proxy, toxic), read(counted));
            }
        }
    }
}

fn labels_of<'a>(proxy: &'a Proxy, toxic: &'a Toxic) -> [(&'static str, &'a str); 4] {
    [
        ("proxy", proxy.name()),
        ("stream", toxic.stream.as_str()),
        ("toxic", toxic.name.as_str()),
        ("type", toxic.kind.name()),
    ]
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
