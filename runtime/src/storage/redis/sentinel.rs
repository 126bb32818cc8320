//! Which Redis is the master now, as Redis' Sentinels know it.
//!
//! Promises: an address is used only when a Sentinel names it and the server there says itself that it is the master, so
//! that a server which was replaced is not written to; the Sentinel that answered is asked first the next time; none is
//! waited for longer than a new connection may take. As in Redis' "Guidelines for Redis clients with support for Redis
//! Sentinel".
//! Absent on purpose: listening to the Sentinels' announcements. A master that is gone, or is one no more, shows by its
//! connections, and those are what is asked anew after.

use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Client, ConnectionAddr, RedisError, Value};

use super::Error;
use crate::error::chain;

/// The Sentinels of one master.
pub struct Sentinels {
    master: String,
    /// The one that answered last is the first.
    clients: Mutex<Vec<(String, Client)>>,
}

impl Sentinels {
    /// Sentinels at these addresses (`host:port`), asked for the master of this name.
    ///
    /// # Errors
    /// When an address is none.
    pub fn new(addresses: &[String], master: &str) -> Result<Self, Error> {
        let client = |address: &String| {
            let client = Client::open(format!("redis://{address}/")).map_err(Error::Url)?;
            Ok((address.clone(), client))
        };
        let clients = addresses.iter().map(client).collect::<Result<_, Error>>()?;
        Ok(Self { master: master.to_owned(), clients: Mutex::new(clients) })
    }

    /// A client of the server that the first Sentinel to answer names, in everything else like `template`.
    ///
    /// # Errors
    /// When none of them answers within its time and names one.
    pub(super) async fn client(&self, template: &Client, within: Duration) -> Result<Client, Error> {
        let clients = self.clients.lock().clone();
        for (address, sentinel) in clients {
            match tokio::time::timeout(within, ask(&sentinel, &self.master)).await {
                Ok(Ok(Some((host, port)))) => {
                    self.prefer(&address);
                    return at(template, host, port);
                }
                Ok(Ok(None)) => {
                    tracing::debug!(address, master = self.master, "a sentinel knows no such master")
                }
                Ok(Err(error)) => tracing::debug!(address, error = %chain(&error), "a sentinel failed"),
                Err(_) => tracing::debug!(address, "a sentinel did not answer in time"),
            }
        }
        Err(Error::NoMaster(self.master.clone()))
    }

    fn prefer(&self, address: &str) {
        let mut clients = self.clients.lock();
        if let Some(place) = clients.iter().position(|(known, _)| known == address) {
            clients[..=place].rotate_right(1);
        }
    }
}

async fn ask(sentinel: &Client, master: &str) -> Result<Option<(String, u16)>, RedisError> {
    let mut connection = sentinel.get_multiplexed_async_connection().await?;
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    question.query_async(&mut connection).await
}

/// The same user, password, database and settings at another address.
fn at(template: &Client, host: String, port: u16) -> Result<Client, Error> {
    let known = template.get_connection_info();
    let address = match known.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    Client::open(known.clone().set_addr(address)).map_err(Error::Url)
}

/// Whether the server says that it is the master.
pub(super) async fn is_master(connection: &mut MultiplexedConnection) -> Result<bool, RedisError> {
    let role: Vec<Value> = redis::cmd("ROLE").query_async(connection).await?;
    Ok(match role.first() {
        Some(Value::BulkString(role)) => role == b"master",
        Some(Value::SimpleString(role)) => role == "master",
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(sentinels: &Sentinels) -> Vec<String> {
        sentinels.clients.lock().iter().map(|(address, _)| address.clone()).collect()
    }

    #[test]
    fn who_answered_is_asked_first_and_the_others_keep_their_order() {
        let addresses = ["a:1", "b:2", "c:3"].map(str::to_owned);
        let sentinels = Sentinels::new(&addresses, "mymaster").expect("addresses");
        sentinels.prefer("c:3");
        assert_eq!(order(&sentinels), ["c:3", "a:1", "b:2"]);
        sentinels.prefer("c:3");
        assert_eq!(order(&sentinels), ["c:3", "a:1", "b:2"]);
        sentinels.prefer("b:2");
        assert_eq!(order(&sentinels), ["b:2", "c:3", "a:1"]);
    }

    #[test]
    fn the_master_is_reached_as_the_url_says_but_for_its_address() {
        let template = Client::open("redis://ann:secret@elsewhere:1/7").expect("a URL");
        let client = at(&template, "10.0.0.9".into(), 6_380).expect("a client");
        let info = client.get_connection_info();
        assert_eq!(info.addr().to_string(), "10.0.0.9:6380");
        let redis = info.redis_settings();
        assert_eq!((redis.username(), redis.password(), redis.db()), (Some("ann"), Some("secret"), 7));
    }

    #[tokio::test]
    async fn sentinels_that_are_not_there_name_no_master() {
        let sentinels = Sentinels::new(&["127.0.0.1:1".to_owned()], "mymaster").expect("addresses");
        let template = Client::open("redis://127.0.0.1:1/").expect("a URL");
        let error = sentinels.client(&template, Duration::from_secs(5)).await.expect_err("nobody there");
        assert_eq!(error.to_string(), "no sentinel names a master \"mymaster\"");
    }
}
