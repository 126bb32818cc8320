//! What each verb asks of the server, and what it tells the user.

use std::io::IsTerminal;

use chaos::client::{Client, Proxy, ProxyChange, Toxic, ToxicChange};
use serde_json::Map;

use super::{Failure, Shared, ToxicVerb, Verb, table, tls, top, variable};

pub async fn run(shared: &Shared, verb: Verb) -> Result<(), Failure> {
    let host = shared.host.clone().or_else(|| variable("TOXIPROXY_URL"));
    let client = Client::new(host.as_deref().unwrap_or("http://localhost:8474"))?.with_token(shared.token());
    match verb {
        Verb::List => list(&client.proxies().await?),
        Verb::Inspect { name } => inspect(&client.proxy(&name).await?),
        Verb::Create { name, listen, upstream, tls } => {
            let proxy = match tls.config() {
                Some(tls) => client.create_with_tls(&name, &listen, &upstream, &tls).await?,
                None => client.create(&name, &listen, &upstream).await?,
            };
            println!("Created new proxy {} on {}", proxy.name, proxy.listen);
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

fn list(proxies: &[Proxy]) {
    if proxies.is_empty() {
        println!("no proxies");
        return;
    }
    let rows = proxies.iter().map(|proxy| {
        let toxics = proxy.toxics.len().to_string();
        [proxy.name.clone(), proxy.listen.clone(), proxy.upstream.clone(), state(proxy).to_owned(), toxics]
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
    println!("{}: {} -> {}, {}", proxy.name, proxy.listen, proxy.upstream, state(proxy));
    tls::lines(proxy).iter().for_each(|line| println!("{line}"));
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
