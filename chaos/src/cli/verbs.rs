//! What each verb asks of the server, and what it tells the user.

use std::io::IsTerminal;

use chaos::client::{Client, Extras, Proxy, ProxyChange, Toxic, ToxicChange};
use serde_json::Map;

use super::{Failure, Protocol, Shared, ToxicVerb, Verb, faults, table, tls, top, variable};

pub async fn run(shared: &Shared, verb: Verb) -> Result<(), Failure> {
    let host = shared.host.clone().or_else(|| variable("TOXIPROXY_URL"));
    let client = Client::new(host.as_deref().unwrap_or("http://localhost:8474"))?.with_token(shared.token());
    match verb {
        Verb::List => list(&client.proxies().await?),
        Verb::Inspect { name } => inspect(&client.proxy(&name).await?),
        Verb::Create { name, listen, upstream, protocol, idle_timeout, dial_failure, tls } => {
            let extras = Extras { protocol: protocol.spoken(), tls: tls.config(), dial_failure };
            let proxy = match protocol {
                Protocol::Udp if extras.tls.is_some() => {
                    return Err(Failure::Arguments("--tls-… does not go with --protocol udp"));
                }
                Protocol::Udp if dial_failure.is_some() => {
                    return Err(Failure::Arguments("--dial-failure does not go with --protocol udp"));
                }
                Protocol::Udp => client.create_udp(&name, &listen, &upstream, idle_timeout).await?,
                _ if idle_timeout.is_some() => {
                    return Err(Failure::Arguments("--idle-timeout goes with --protocol udp alone"));
                }
                _ => client.create_with(&name, &listen, &upstream, &extras).await?,
            };
            println!("Created new proxy {} on {}", proxy.name, listen_of(&proxy));
        }
        Verb::Toggle { name } => {
            let enabled = Some(!client.proxy(&name).await?.enabled);
            let proxy = client.update(&name, &ProxyChange { enabled, ..ProxyChange::default() }).await?;
            println!("Proxy {} is now {}", proxy.name, state(&proxy));
        }
        Verb::Delete { name } => {
            client.delete(&name).await?;
            println!("Deleted proxy {name}");
        }
        Verb::Top { interval, times } => {
            let endless = std::io::stdout().is_terminal();
            top::run(&client, interval, times.unwrap_or(if endless { 0 } else { 1 })).await?;
        }
        Verb::Fault(verb) => faults::run(&client, verb).await?,
        Verb::Toxic(verb) => change_toxic(&client, verb).await?,
    }
    Ok(())
}

async fn change_toxic(client: &Client, verb: ToxicVerb) -> Result<(), Failure> {
    match verb {
        ToxicVerb::Add { proxy, kind, name, toxicity, attributes, clients, upstream, .. } => {
            let stream = if upstream { "upstream" } else { "downstream" }.to_owned();
            let attributes = Map::from_iter(attributes);
            let name = name.unwrap_or_default();
            let toxic = Toxic { name, kind, stream, toxicity, attributes, clients };
            let added = client.add_toxic(&proxy, &toxic).await?;
            println!("Added {} {} toxic '{}' on proxy '{proxy}'", added.stream, added.kind, added.name);
        }
        ToxicVerb::Update { proxy, name, toxicity, attributes } => {
            let change = ToxicChange { attributes: Map::from_iter(attributes), toxicity };
            let updated = client.update_toxic(&proxy, &name, &change).await?;
            println!("Updated toxic '{}' on proxy '{proxy}'", updated.name);
        }
        ToxicVerb::Remove { proxy, name } => {
            client.remove_toxic(&proxy, &name).await?;
            println!("Removed toxic '{name}' on proxy '{proxy}'");
        }
    }
    Ok(())
}

fn state(proxy: &Proxy) -> &'static str {
    if proxy.enabled { "enabled" } else { "disabled" }
}

/// `127.0.0.1:53/udp`; of TCP the address alone.
pub(super) fn listen_of(proxy: &Proxy) -> String {
    match &proxy.protocol {
        Some(protocol) => format!("{}/{protocol}", proxy.listen),
        None => proxy.listen.clone(),
    }
}

fn list(proxies: &[Proxy]) {
    if proxies.is_empty() {
        println!("no proxies");
        return;
    }
    let rows = proxies.iter().map(|proxy| {
        let toxics = proxy.toxics.len().to_string();
        [proxy.name.clone(), listen_of(proxy), proxy.upstream.clone(), state(proxy).to_owned(), toxics]
    });
    if proxies.iter().all(|proxy| proxy.tls.is_none()) {
        print!("{}", table::aligned(["NAME", "LISTEN", "UPSTREAM", "STATE", "TOXICS"], rows));
        return;
    }
    let rows = rows.zip(proxies).map(|([name, listen, upstream, state, toxics], proxy)| {
        [name, listen, upstream, state, toxics, tls::word(proxy).to_owned()]
    });
    print!("{}", table::aligned(["NAME", "LISTEN", "UPSTREAM", "STATE", "TOXICS", "TLS"], rows));
}

fn inspect(proxy: &Proxy) {
    println!("{}: {} -> {}, {}", proxy.name, listen_of(proxy), proxy.upstream, state(proxy));
    tls::lines(proxy).iter().for_each(|line| println!("{line}"));
    if let Some(dial_failure) = &proxy.dial_failure {
        println!("a client whose upstream cannot be reached: {dial_failure}");
    }
    if proxy.toxics.is_empty() {
        println!("no toxics");
        return;
    }
    let rows = proxy.toxics.iter().map(|toxic| {
        let toxicity = toxic.toxicity.to_string();
        [toxic.name.clone(), toxic.kind.clone(), toxic.stream.clone(), toxicity, attributes(toxic)]
    });
    print!("{}", table::aligned(["TOXIC", "TYPE", "STREAM", "TOXICITY", "ATTRIBUTES"], rows));
}

fn attributes(toxic: &Toxic) -> String {
    let mut pairs: Vec<String> =
        toxic.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.extend(toxic.clients.iter().map(|client| format!("client={client}")));
    pairs.join(" ")
}
