//! `chaos-proxy top`: proxies, connections, rates, toxics and faults, again and again. What is shown is a function of two
//! readings of the API; only [`run`] waits and prints.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Context;
use chaos::client::{Client, Error, NamedFault, Proxy, Toxic};

use super::verbs::listen_of;
use super::{Failure, table};

/// What the API said at one moment.
#[derive(Debug)]
struct Reading {
    at: Instant,
    proxies: Vec<Proxy>,
    /// By proxy; `None`: the server has no counters to show.
    counters: Option<BTreeMap<String, Counters>>,
    /// By proxy; empty where the server knows none.
    faults: BTreeMap<String, Vec<NamedFault>>,
}

/// Counters of one proxy since its start.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Counters {
    open: f64,
    taken: f64,
    to_server: f64,
    to_client: f64,
}

/// Shows a reading every `interval`, `times` of them; 0: until the program is ended.
pub async fn run(client: &Client, interval: Duration, times: u64) -> Result<(), Failure> {
    let on_terminal = std::io::stdout().is_terminal();
    let has_faults = client.has_faults().await?;
    let mut before = read(client, has_faults).await?;
    let mut shown = 0;
    loop {
        tokio::time::sleep(interval).await;
        let now = read(client, has_faults).await?;
        let text = page(&before, &now);
        // On a terminal each page takes the place of the one before.
        let text = if on_terminal { format!("\x1b[H\x1b[2J{}", cut(&text, columns())) } else { text };
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write to stdout")?;
        drop(out);
        before = now;
        shown += 1;
        if shown == times {
            return Ok(());
        }
    }
}

/// Width of the terminal, which may change between two pages.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    size.map(|size| usize::from(size.ws_col)).ok().filter(|columns| *columns > 0).unwrap_or(usize::MAX)
}

/// Lines that do not fit end in a mark: a broken line would shift the page.
fn cut(text: &str, columns: usize) -> String {
    let fitting = |line: &str| match line.chars().count() > columns {
        true => line.chars().take(columns.saturating_sub(1)).chain(['…']).collect(),
        false => line.to_owned(),
    };
    text.lines().map(|line| fitting(line) + "\n").collect()
}

async fn read(client: &Client, has_faults: bool) -> Result<Reading, Failure> {
    let proxies = client.proxies().await?;
    let counters = client.metrics().await?.map(|page| counters(&page));
    let mut faults = BTreeMap::new();
    for proxy in proxies.iter().filter(|_| has_faults) {
        match client.faults(&proxy.name).await {
            Ok(of_it) => drop(faults.insert(proxy.name.clone(), of_it)),
            // Deleted since the list was read.
            Err(Error::Refused { status: 404, .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Reading { at: Instant::now(), proxies, counters, faults })
}

/// The counters of a page in Prometheus' text format, as Toxiproxy and `chaos-proxy` name them.
fn counters(page: &str) -> BTreeMap<String, Counters> {
    let mut all: BTreeMap<String, Counters> = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let (Some((name, labels)), Ok(value)) = (series.split_once('{'), value.parse::<f64>()) else {
            continue;
        };
        let Some(proxy) = label(labels, "proxy") else { continue };
        let of = all.entry(proxy).or_default();
        match (name, label(labels, "direction").as_deref()) {
            ("chaos_proxy_connections", _) => of.open = value,
            ("chaos_proxy_connections_total", _) => of.taken = value,
            ("toxiproxy_proxy_sent_bytes_total", Some("upstream")) => of.to_server = value,
            ("toxiproxy_proxy_sent_bytes_total", Some("downstream")) => of.to_client = value,
            _ => {}
        }
    }
    all
}

/// The value of a label in `a="b",c="d"}`, its escapes undone.
fn label(labels: &str, wanted: &str) -> Option<String> {
    let mut rest = labels;
    loop {
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        if name.trim_start_matches(',') == wanted {
            return Some(value);
        }
        rest = &after[end + 1..];
    }
}

fn page(before: &Reading, now: &Reading) -> String {
    let seconds = now.at.duration_since(before.at).as_secs_f64().max(1e-3);
    let rows = now.proxies.iter().map(|proxy| {
        let of = |reading: &Reading| reading.counters.as_ref().and_then(|all| all.get(&proxy.name).copied());
        let (was, is) = (of(before).unwrap_or_default(), of(now));
        let per_second = |read: fn(&Counters) -> f64| {
            // A proxy that was replaced begins again at zero.
            is.map(|is| (read(&is) - read(&was)).max(0.0) / seconds)
        };
        [
            proxy.name.clone(),
            listen_of(proxy),
            proxy.upstream.clone(),
            if proxy.enabled { "on" } else { "off" }.to_owned(),
            is.map_or("-".to_owned(), |is| format!("{:.0}", is.open)),
            per_second(|of| of.taken).map_or("-".to_owned(), |rate| format!("{rate:.0}")),
            per_second(|of| of.to_server).map_or("-".to_owned(), bytes),
            per_second(|of| of.to_client).map_or("-".to_owned(), bytes),
            acting(proxy, now.faults.get(&proxy.name).map_or(&[], Vec::as_slice)),
        ]
    });
    let headings =
        ["PROXY", "LISTEN", "UPSTREAM", "STATE", "OPEN", "NEW/S", "TO SERVER/S", "TO CLIENT/S", "ACTING"];
    let mut text = table::aligned(headings, rows);
    if now.counters.is_none() {
        text.push_str("The server shows no counters: start it with --proxy-metrics.\n");
    }
    text
}

/// Toxics, then faults: `latency(latency=100) up, fault lost`.
fn acting(proxy: &Proxy, faults: &[NamedFault]) -> String {
    let toxics = proxy.toxics.iter().map(toxic);
    let faults = faults.iter().map(|fault| format!("fault {}", fault.name));
    toxics.chain(faults).collect::<Vec<_>>().join(", ")
}

/// `latency(latency=100) 20% up`
fn toxic(toxic: &Toxic) -> String {
    let attributes: Vec<String> =
        toxic.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let share = if toxic.toxicity < 1.0 { format!(" {:.0}%", toxic.toxicity * 100.0) } else { String::new() };
    let way = if toxic.stream.eq_ignore_ascii_case("upstream") { "up" } else { "down" };
    format!("{}({}){share} {way}", toxic.kind, attributes.join(" "))
}

/// In powers of ten, as rates are given: `12.3 MB`.
fn bytes(value: f64) -> String {
    let (divisor, unit) = match value {
        v if v >= 1e9 => (1e9, "GB"),
        v if v >= 1e6 => (1e6, "MB"),
        v if v >= 1e3 => (1e3, "kB"),
        _ => return format!("{value:.0} B"),
    };
    format!("{:.1} {unit}", value / divisor)
}

#[cfg(test)]
mod tests {
    use chaos::fault::Evidence;
    use serde_json::json;

    use super::*;

    fn proxy(name: &str, toxics: serde_json::Value) -> Proxy {
        let all = json!({"name": name, "listen": "127.0.0.1:1", "upstream": "u:2", "enabled": true, "toxics": toxics});
        serde_json::from_value(all).expect("a proxy")
    }

    #[test]
    fn a_line_that_does_not_fit_is_cut_and_says_so() {
        assert_eq!(cut("NAME  LISTEN\nédb  1\n", 7), "NAME  …\nédb  1\n");
        assert_eq!(cut("abc\n", usize::MAX), "abc\n");
    }

    #[test]
    fn counters_are_read_by_proxy_and_direction_and_escapes_are_undone() {
        let page = "# TYPE chaos_proxy_connections gauge\nchaos_proxy_connections{proxy=\"a \\\"b\\\"\"} 3\n\
            chaos_proxy_connections_total{proxy=\"c\"} 9\n\
            toxiproxy_proxy_sent_bytes_total{direction=\"upstream\",listener=\"l,proxy=x\",proxy=\"c\",upstream=\"u\"} 20\n\
            toxiproxy_proxy_sent_bytes_total{direction=\"downstream\",listener=\"l\",proxy=\"c\",upstream=\"u\"} 4e3\nrubbish\n";
        let all = counters(page);
        assert_eq!(all["a \"b\""], Counters { open: 3.0, ..Counters::default() });
        assert_eq!(all["c"], Counters { open: 0.0, taken: 9.0, to_server: 20.0, to_client: 4e3 });
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn a_page_shows_rates_between_two_readings_and_what_acts() {
        let toxics = json!([{"name": "t", "type": "latency", "stream": "upstream", "toxicity": 0.2,
            "attributes": {"latency": 100}}]);
        let at = Instant::now();
        let lost = NamedFault {
            name: "lost".into(),
            fault: json!({"pg": {"drop-ack": {}}}),
            evidence: Evidence::default(),
        };
        let reading = |at, taken, to_client| Reading {
            at,
            proxies: vec![proxy("pg", toxics.clone())],
            counters: Some(BTreeMap::from([(
                "pg".to_owned(),
                Counters { open: 5.0, taken, to_server: 0.0, to_client },
            )])),
            faults: BTreeMap::from([("pg".to_owned(), vec![lost.clone()])]),
        };
        let text = page(&reading(at, 10.0, 0.0), &reading(at + Duration::from_secs(2), 30.0, 2_500_000.0));
        assert_eq!(
            text,
            "PROXY  LISTEN       UPSTREAM  STATE  OPEN  NEW/S  TO SERVER/S  TO CLIENT/S  ACTING\n\
             pg     127.0.0.1:1  u:2       on     5     10     0 B          1.2 MB       latency(latency=100) 20% up, fault lost\n"
        );
        let without = Reading { counters: None, ..reading(at, 0.0, 0.0) };
        let text = page(&without, &Reading { counters: None, ..reading(at, 0.0, 0.0) });
        assert!(text.ends_with("start it with --proxy-metrics.\n"), "{text}");
        assert!(text.contains("on     -     -      -            -            latency"), "{text}");
    }
}
