//! Whose connections an effect concerns: everybody's, or those from some addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// A set of client addresses. Empty: everybody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Clients(Vec<IpNet>);

/// A text that names no addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address such as 10.0.0.7 and no network such as 10.0.0.0/8")]
pub struct NoNetwork(String);

impl Clients {
    /// Reads addresses and networks, one from each text.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Clients, NoNetwork> {
        texts.into_iter().map(network).collect::<Result<_, _>>().map(Clients)
    }

    /// True for everybody's connections.
    pub fn is_everybody(&self) -> bool {
        self.0.is_empty()
    }

    /// IPv4 addresses in IPv6 clothes count as what they are.
    pub fn contain(&self, client: IpAddr) -> bool {
        self.is_everybody() || self.0.iter().any(|network| network.contains(&client.to_canonical()))
    }

    /// Each network as text; an address alone without its prefix length.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|network| match network.prefix_len() == network.max_prefix_len() {
            true => network.addr().to_string(),
            false => network.to_string(),
        })
    }
}

impl fmt::Display for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_everybody() {
            true => f.write_str("everybody"),
            false => f.write_str(&self.texts().collect::<Vec<_>>().join(", ")),
        }
    }
}

fn network(text: &str) -> Result<IpNet, NoNetwork> {
    let address = || IpAddr::from_str(text).map(IpNet::from);
    IpNet::from_str(text).or_else(|_| address()).map_err(|_| NoNetwork(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contain(texts: &[&str], client: &str) -> bool {
        Clients::parse(texts.iter().copied()).expect("networks").contain(client.parse().expect("an address"))
    }

    #[test]
    fn nobody_named_means_everybody() {
        assert!(contain(&[], "192.0.2.1"));
        assert!(Clients::default().contain("::1".parse().expect("an address")));
    }

    #[test]
    fn an_address_is_in_its_network_whatever_it_is_dressed_in() {
        assert!(contain(&["10.0.0.0/8"], "10.200.3.4"));
        assert!(!contain(&["10.0.0.0/8"], "11.0.0.1"));
        assert!(contain(&["127.0.0.1"], "127.0.0.1"));
        assert!(!contain(&["127.0.0.1"], "127.0.0.2"));
        assert!(contain(&["127.0.0.1"], "::ffff:127.0.0.1"));
        assert!(contain(&["192.0.2.0/24", "2001:db8::/32"], "2001:db8:1::2"));
        assert!(!contain(&["0.0.0.0/0"], "::1"));
    }

    #[test]
    fn texts_read_back_and_what_is_none_is_named() {
        let clients = Clients::parse(["10.1.0.0/16", "::1"]).expect("networks");
        assert_eq!(clients.texts().collect::<Vec<_>>(), ["10.1.0.0/16", "::1"]);
        let again: Vec<String> = clients.texts().collect();
        assert_eq!(Clients::parse(again.iter().map(String::as_str)), Ok(clients));
        for wrong in ["", "10.0.0.0/33", "db.example", "10.0.0.1:80"] {
            assert_eq!(Clients::parse([wrong]), Err(NoNetwork(wrong.to_owned())));
        }
    }
}
