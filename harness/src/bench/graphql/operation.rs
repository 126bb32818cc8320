//! What is asked for: four operations, each with its name, so that a server without a GraphQL parser can answer too.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use uuid::Uuid;

/// Products of the shop; each order takes three that differ.
const PRODUCTS: u64 = 10_000;
const USERS: u64 = 5_000;
/// No divisor of the number of orders, so that every order has its turn before one comes again.
const STRIDE: u64 = 7_919;

/// One of the four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    Products,
    Orders,
    Order,
    CreateOrder,
}

impl Operation {
    pub const ALL: [Operation; 4] =
        [Operation::Products, Operation::Orders, Operation::Order, Operation::CreateOrder];

    /// The short word for it in tables.
    pub fn short(self) -> &'static str {
        match self {
            Operation::Products => "Q1",
            Operation::Orders => "Q2",
            Operation::Order => "Q3",
            Operation::CreateOrder => "M1",
        }
    }

    /// The operation's name in the request.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Products => "Products",
            Operation::Orders => "Orders",
            Operation::Order => "Order",
            Operation::CreateOrder => "CreateOrder",
        }
    }

    /// The document.
    pub fn text(self) -> &'static str {
        match self {
            Operation::Products => "query Products { products(limit: 20) { id name price stock } }",
            Operation::Orders => {
                "query Orders { orders(limit: 10) { id status total user { id name } items { quantity price product { id name } } } }"
            }
            Operation::Order => {
                "query Order($id: ID!) { order(id: $id) { id status total user { id name } items { quantity price product { id name } } } }"
            }
            Operation::CreateOrder => {
                "mutation CreateOrder($input: OrderInput!) { createOrder(input: $input) { id status total user { id name } items { quantity price product { id name } } } }"
            }
        }
    }

    /// What of an answer differs between subjects because each made it up: it is not compared.
    pub fn own_to_each(self) -> &'static [&'static str] {
        match self {
            Operation::CreateOrder => &["data.createOrder.id"],
            _ => &[],
        }
    }

    fn variables(self, number: u64, order_ids: &[Uuid]) -> Option<Value> {
        let turn = number.wrapping_mul(STRIDE);
        match self {
            Operation::Products | Operation::Orders => None,
            Operation::Order => {
                let place = turn % order_ids.len() as u64;
                Some(json!({"id": order_ids[place as usize]}))
            }
            Operation::CreateOrder => {
                let product = |n: u64| (turn.wrapping_add(n * 3_331) % PRODUCTS + 1).to_string();
                let items: Vec<Value> =
                    (0..3).map(|n| json!({"productId": product(n), "quantity": n + 1})).collect();
                Some(json!({"input": {
                    "idempotencyKey": Uuid::new_v4(),
                    "userId": (turn % USERS + 1).to_string(),
                    "items": items,
                    "shippingAddress": {
                        "street": "Main Street 1", "city": "Springfield", "zip": "12345", "country": "US"
                    },
                }}))
            }
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

impl Serialize for Operation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.short())
    }
}

/// Requests of one operation, another one each time. Clones share the count.
#[derive(Debug, Clone)]
pub struct Feed {
    pub operation: Operation,
    order_ids: Arc<[Uuid]>,
    next: Arc<AtomicU64>,
}

impl Feed {
    /// Begins with the first request of the operation; `order_ids` is not empty.
    pub fn new(operation: Operation, order_ids: Arc<[Uuid]>) -> Feed {
        Feed { operation, order_ids, next: Arc::default() }
    }

    /// The body of the next request.
    pub fn body(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let operation = self.operation;
        let mut body = json!({"query": operation.text(), "operationName": operation.name()});
        if let Some(variables) = operation.variables(number, &self.order_ids) {
            body["variables"] = variables;
        }
        body.to_string()
    }

    /// Whether all its requests are the same.
    pub fn is_constant(&self) -> bool {
        matches!(self.operation, Operation::Products | Operation::Orders)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn feed(operation: Operation) -> Feed {
        let ids: Vec<Uuid> = (0..20_000).map(Uuid::from_u128).collect();
        Feed::new(operation, ids.into())
    }

    fn next(feed: &Feed) -> Value {
        serde_json::from_str(&feed.body()).expect("JSON")
    }

    #[test]
    fn every_order_is_asked_for_before_one_is_asked_for_again() {
        let feed = feed(Operation::Order);
        let ids: BTreeSet<String> = (0..20_000).map(|_| next(&feed)["variables"]["id"].to_string()).collect();
        assert_eq!(ids.len(), 20_000);
    }

    #[test]
    fn an_order_has_a_fresh_key_and_three_products_that_differ() {
        let feed = feed(Operation::CreateOrder);
        let mut keys = BTreeSet::new();
        for _ in 0..1_000 {
            let request = next(&feed);
            let input = &request["variables"]["input"];
            let items = input["items"].as_array().expect("items");
            let products: BTreeSet<u64> = items
                .iter()
                .map(|item| item["productId"].as_str().and_then(|id| id.parse().ok()).expect("a number"))
                .collect();
            assert_eq!(products.len(), 3, "{request}");
            assert!(products.iter().all(|id| (1..=PRODUCTS).contains(id)), "{request}");
            keys.insert(input["idempotencyKey"].to_string());
        }
        assert_eq!(keys.len(), 1_000);
    }

    #[test]
    fn the_name_of_an_operation_stands_in_its_document() {
        for operation in Operation::ALL {
            assert!(operation.text().contains(&format!(" {}", operation.name())), "{operation:?}");
            let feed = feed(operation);
            assert_eq!(feed.is_constant(), feed.body() == feed.body(), "{operation:?}");
        }
    }
}
