//! Whose request it is, as far as limits care: a name that cannot be chosen. Pure.
//!
//! Promises: who has shown a key is that key's owner; everybody else is the address that the connection comes from. What
//! `X-Forwarded-For` says is read only when that address is one of the listed proxies, and only as far as those wrote
//! it: from the right, to the first address that is none of theirs. A network of IPv6 that one caller gets (/64) is one
//! client.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use http::HeaderMap;
use ipnet::IpNet;

use crate::config::auth::Tier;
use crate::security::guard::Caller;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// A client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Among all clients.
    pub key: Arc<str>,
    /// By what its quota is found.
    pub tier: Tier,
}

impl Client {
    /// The owner of a key that was checked, else the address.
    pub fn new(caller: &Caller, tier: Tier, address: Option<IpAddr>) -> Self {
        match caller.identity() {
            Some(identity) => Self { key: format!("u:{}", identity.id).into(), tier },
            None => Self { key: of_address(address).into(), tier: Tier::Anonymous },
        }
    }
}

/// Where a request comes from, behind the proxies that are believed.
pub fn address(peer: Option<IpAddr>, headers: &HeaderMap, proxies: &[IpNet]) -> Option<IpAddr> {
    let believed = |address: IpAddr| proxies.iter().any(|network| network.contains(&address));
    let mut address = peer?.to_canonical();
    if proxies.is_empty() {
        return Some(address);
    }
    let lines: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    let mut hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
    while believed(address) {
        // What cannot be read was not written by our proxies: the last of them is as far as anybody knows.
        match hops.next().map(|hop| hop.trim().parse::<IpAddr>()) {
            Some(Ok(hop)) => address = hop.to_canonical(),
            _ => break,
        }
    }
    Some(address)
}

fn of_address(address: Option<IpAddr>) -> String {
    match address {
        None => "a:unknown".to_owned(),
        Some(IpAddr::V4(address)) => format!("a:{address}"),
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("a:{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn seen(peer: &str, forwarded: &[&'static str], proxies: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_static(line));
        }
        let proxies: Vec<IpNet> = proxies.iter().map(|network| network.parse().expect("a network")).collect();
        let peer = peer.parse().expect("an address");
        address(Some(peer), &headers, &proxies).expect("known").to_string()
    }

    #[test]
    fn a_header_of_who_is_no_proxy_says_nothing() {
        assert_eq!(seen("203.0.113.9", &["1.2.3.4"], &[]), "203.0.113.9");
        assert_eq!(seen("203.0.113.9", &["1.2.3.4"], &["10.0.0.0/8"]), "203.0.113.9");
    }

    #[test]
    fn only_what_the_proxies_wrote_counts() {
        let ours = ["10.0.0.0/8"];
        assert_eq!(seen("10.0.0.1", &["203.0.113.9"], &ours), "203.0.113.9");
        assert_eq!(seen("10.0.0.1", &["6.6.6.6, 203.0.113.9, 10.0.0.2"], &ours), "203.0.113.9");
        assert_eq!(seen("10.0.0.1", &["6.6.6.6", "203.0.113.9,10.0.0.2"], &ours), "203.0.113.9");
        assert_eq!(seen("::ffff:10.0.0.1", &["203.0.113.9"], &ours), "203.0.113.9");
        assert_eq!(seen("10.0.0.1", &["203.0.113.9, nonsense"], &ours), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &["203.0.113.9, nonsense, 10.0.0.7"], &ours), "10.0.0.7");
        assert_eq!(seen("10.0.0.1", &[], &ours), "10.0.0.1");
    }

    #[test]
    fn a_client_is_its_key_or_its_address() {
        let key = |caller: &Caller, address: &str| {
            Client::new(caller, Tier::Admin, Some(address.parse().expect("an address"))).key.to_string()
        };
        let ci = Caller::known("ci", ["EDITOR"]);
        assert_eq!(key(&ci, "10.0.0.1"), "u:ci");
        assert_eq!(key(&Caller::Anonymous, "10.0.0.1"), "a:10.0.0.1");
        let (one, other) = ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:ffff::1");
        assert_eq!(key(&Caller::Anonymous, one), key(&Caller::Anonymous, other));
        assert_ne!(key(&Caller::Anonymous, one), key(&Caller::Anonymous, "2001:db8:1:3::"));
        assert_ne!(key(&Caller::known("10.0.0.1", [""; 0]), one), key(&Caller::Anonymous, "10.0.0.1"));
        assert_eq!(Client::new(&ci, Tier::Admin, None).tier, Tier::Admin);
        assert_eq!(Client::new(&Caller::Anonymous, Tier::Admin, None).tier, Tier::Anonymous);
    }
}
