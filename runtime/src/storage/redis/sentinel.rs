//! Which Redis is the master now, as Redis' Sentinels know it.
//!
//! Promises: an address is used only when a Sentinel names it and the server there says itself that it is the master, so
//! that a server which was replaced is not written to; a Sentinel that names another, as one that was cut off from the
//! others may, keeps nobody from asking the next; the one that was right is asked first the next time; none is waited for
//! longer than a new connection may take. As in Redis' "Guidelines for Redis clients with support for Redis Sentinel".
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
    /// The one that was right last is the first.
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

    /// What `reach` makes of the server that the Sentinels name: the first that it can be reached at. The client that it is
    /// given is in everything but the address like `template`.
    ///
    /// # Errors
    /// When none of them answers within its time and names one, or none of those that are named is reached: why the last
    /// one was not.
    pub(super) async fn reach<T, F>(
        &self,
        template: &Client,
        within: Duration,
        reach: impl Fn(Client) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let clients = self.clients.lock().clone();
        let mut failed = Error::NoMaster(self.master.clone());
        let mut tried = Vec::new();
        for (address, sentinel) in clients {
            let named = match tokio::time::timeout(within, ask(&sentinel, &self.master)).await {
                Ok(Ok(Some(named))) => named,
                Ok(Ok(None)) => {
                    tracing::debug!(address, master = self.master, "a sentinel knows no such master");
                    continue;
                }
                Ok(Err(error)) => {
                    tracing::debug!(address, error = %chain(&error), "a sentinel failed");
                    continue;
                }
                Err(_) => {
                    tracing::debug!(address, "a sentinel did not answer in time");
                    continue;
                }
            };
            if tried.contains(&named) {
                continue;
            }
            match reach(at(template, &named)?).await {
                Ok(reached) => {
                    self.prefer(&address);
                    return Ok(reached);
                }
                Err(error) => {
                    tracing::debug!(address, error = %chain(&error), "a sentinel names a server that is no master");
                    failed = error;
                }
            }
            tried.push(named);
        }
        Err(failed)
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
fn at(template: &Client, (host, port): &(String, u16)) -> Result<Client, Error> {
    let known = template.get_connection_info();
    let (host, port) = (host.clone(), *port);
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
    use super::super::fake;
    use super::*;

    fn order(sentinels: &Sentinels) -> Vec<String> {
        sentinels.clients.lock().iter().map(|(address, _)| address.clone()).collect()
    }

    #[test]
    fn who_was_right_is_asked_first_and_the_others_keep_their_order() {
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
        let client = at(&template, &("10.0.0.9".to_owned(), 6_380)).expect("a client");
        let info = client.get_connection_info();
        assert_eq!(info.addr().to_string(), "10.0.0.9:6380");
        let redis = info.redis_settings();
        assert_eq!((redis.username(), redis.password(), redis.db()), (Some("ann"), Some("secret"), 7));
    }

    /// Where a Sentinel is that names this port.
    async fn naming(port: u16) -> String {
        let reply = move |command: &str, _| match command {
            "SENTINEL" => fake::address_of(port),
            _ => "+OK\r\n".to_owned(),
        };
        fake::serve(reply).await.to_string()
    }

    #[tokio::test]
    async fn a_sentinel_that_names_the_old_master_keeps_nobody_from_asking_the_next() {
        let addresses = [naming(1).await, naming(1).await, naming(2).await, naming(2).await];
        let sentinels = Sentinels::new(&addresses, "mymaster").expect("addresses");
        let template = Client::open("redis://127.0.0.1:9/").expect("a URL");
        let tried = Mutex::new(Vec::new());
        let reach = |client: Client| {
            let address = client.get_connection_info().addr().to_string();
            tried.lock().push(address.clone());
            async move { if address == "127.0.0.1:2" { Ok(address) } else { Err(Error::NotMaster) } }
        };
        let within = Duration::from_secs(30);
        sentinels.reach(&template, within, reach).await.expect("the third is right");
        assert_eq!(*tried.lock(), ["127.0.0.1:1", "127.0.0.1:2"], "what two of them name is tried once");
        assert_eq!(order(&sentinels)[0], addresses[2], "it is asked first from now on");
        tried.lock().clear();
        sentinels.reach(&template, within, reach).await.expect("it is still right");
        assert_eq!(*tried.lock(), ["127.0.0.1:2"]);

        let wrong = Sentinels::new(&addresses[..2], "mymaster").expect("addresses");
        let error = wrong.reach(&template, within, reach).await.expect_err("nobody names a master");
        assert!(matches!(error, Error::NotMaster), "{error}");
    }

    #[tokio::test]
    async fn sentinels_that_are_not_there_name_no_master() {
        let sentinels = Sentinels::new(&["127.0.0.1:1".to_owned()], "mymaster").expect("addresses");
        let template = Client::open("redis://127.0.0.1:1/").expect("a URL");
        let reached = sentinels.reach(&template, Duration::from_secs(5), |client| async { Ok(client) }).await;
        let error = reached.expect_err("nobody there");
        assert_eq!(error.to_string(), "no sentinel names a master \"mymaster\"");
    }
}
