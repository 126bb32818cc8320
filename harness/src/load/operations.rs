//! The mix: which operation an arrival is, its body, key and canonical answer, all from the seed.
//!
//! Keys and values are unique in the run. Reads, updates and invoices are about orders that this run created and got
//! acknowledged; each is updated at most once, from pending to paid, by a mutation or by a payment. Until there is one, such an arrival creates an
//! order instead.

use std::collections::{HashSet, VecDeque};

use chaos::history::ClassId;
use parking_lot::Mutex;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::clients::Clients;
use super::profile::{Mix, Plan, Request};
use super::{
    CREATE_ORDER, ORDER, PAYMENT_WEBHOOK, PRODUCTS, REQUEST, REQUEST_INVOICE, UPDATE_ORDER_STATUS, webhook,
};

/// Acknowledged orders that are kept to be read, updated and invoiced.
const POOL: usize = 10_000;

const PRODUCTS_QUERY: &str = "query($limit: Int!) { products(limit: $limit) { id name price stock } }";
const ORDER_QUERY: &str = "query($id: ID!) { order(id: $id) { id status total } }";
const CREATE_QUERY: &str = "mutation($input: OrderInput!) { createOrder(input: $input) { id status total } }";
const UPDATE_QUERY: &str = "mutation($id: ID!, $status: OrderStatus!, $key: String) \
    { updateOrderStatus(id: $id, status: $status, idempotencyKey: $key) { id status } }";
const INVOICE_QUERY: &str = "mutation($id: ID!, $key: String) { requestInvoice(orderId: $id, idempotencyKey: $key) { jobId orderId } }";

/// What one arrival sends.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    pub class: ClassId,
    pub key: String,
    pub value: String,
    pub send: Send,
    /// Send two of it at the same time.
    pub twin: bool,
    /// Send it again with the same key when its outcome is unknown.
    pub retry: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Send {
    /// The body of a `POST /graphql`.
    Graphql(String),
    /// The body of a delivery to the server's webhook.
    Webhook(String),
    /// Index of a plain request of the profile.
    Plain(usize),
}

/// Makes the operations of a run.
#[derive(Debug)]
pub struct Operations {
    run: String,
    seed: u64,
    mix: Mix,
    clients: Clients,
    /// Class or plain request, and the sum of the weights up to it.
    choices: Vec<(Choice, u32)>,
    requests: Vec<Request>,
    pool: Mutex<Pool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Class(ClassId),
    Plain(usize),
}

#[derive(Debug, Default)]
struct Pool {
    /// Acknowledged, the oldest are forgotten first.
    acknowledged: VecDeque<String>,
    /// The same ones, to be found.
    known: HashSet<String>,
    /// Of these, still pending and never given to an update.
    pending: VecDeque<String>,
}

impl Operations {
    /// `run` keeps keys apart from those of other runs with the same seed on the same database.
    pub fn new(run: &str, seed: u64, plan: &Plan) -> Self {
        let mut requests = plan.profile.request.clone();
        if plan.plain_only && requests.is_empty() {
            requests.push(Request::root());
        }
        let classes = [PRODUCTS, ORDER, CREATE_ORDER, UPDATE_ORDER_STATUS, REQUEST_INVOICE, PAYMENT_WEBHOOK];
        let weighted = classes.into_iter().map(Choice::Class).zip(plan.profile.mix.weights());
        let plain =
            requests.iter().enumerate().map(|(index, request)| (Choice::Plain(index), request.weight));
        let mut sum = 0;
        let choices = weighted
            .filter(|_| !plan.plain_only)
            .chain(plain)
            .map(|(choice, weight)| {
                sum += weight;
                (choice, sum)
            })
            .collect();
        let (mix, clients) = (plan.profile.mix.clone(), plan.profile.clients);
        Operations { run: run.into(), seed, mix, clients, choices, requests, pool: Mutex::default() }
    }

    /// The key of the client that sends arrival `index`.
    pub fn key(&self, index: u64) -> Option<String> {
        self.clients.key(self.seed, index)
    }

    pub fn request(&self, index: usize) -> &Request {
        &self.requests[index]
    }

    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// True when any operation speaks GraphQL.
    pub fn speaks_graphql(&self) -> bool {
        self.choices.iter().any(|(choice, _)| matches!(choice, Choice::Class(_)))
    }

    /// The class that arrival `index` belongs to by its draw, whether it is sent or dropped.
    pub fn class(&self, index: u64) -> ClassId {
        match self.draw(&mut self.rng(index)) {
            Choice::Class(class) => class,
            Choice::Plain(_) => REQUEST,
        }
    }

    /// The operation of arrival `index`; depends on the seed and on the orders acknowledged so far.
    pub fn operation(&self, index: u64) -> Operation {
        let mut rng = self.rng(index);
        let choice = self.draw(&mut rng);
        let key = format!("{}-{:x}-{index}", self.run, self.seed);
        match choice {
            Choice::Plain(plain) => operation(REQUEST, self.requests[plain].label(), "", Send::Plain(plain)),
            Choice::Class(PRODUCTS) => {
                let limit = [10, 20, 50][rng.random_range(0..3)];
                let body = body(PRODUCTS_QUERY, json!({ "limit": limit }));
                operation(PRODUCTS, format!("limit={limit}"), "", body)
            }
            Choice::Class(class) => {
                self.about_own_order(class, &key, &mut rng).unwrap_or_else(|| self.create(key, &mut rng))
            }
        }
    }

    /// Tells that an order was acknowledged by createOrder.
    pub fn acknowledged(&self, order: &str) {
        let mut pool = self.pool.lock();
        // Two identical requests acknowledge the same order, under load one long after the other.
        if !pool.known.insert(order.into()) {
            return;
        }
        pool.acknowledged.push_back(order.into());
        if pool.acknowledged.len() > POOL
            && let Some(oldest) = pool.acknowledged.pop_front()
        {
            pool.known.remove(&oldest);
        }
        pool.pending.push_back(order.into());
        if pool.pending.len() > POOL {
            pool.pending.pop_front();
        }
    }

    fn rng(&self, index: u64) -> ChaCha8Rng {
        chaos::seed::stream(self.seed, &["arrival", &index.to_string()])
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> Choice {
        let total = self.choices.last().map_or(1, |(_, sum)| *sum);
        let point = rng.random_range(0..total.max(1));
        let index = self.choices.partition_point(|(_, sum)| *sum <= point);
        self.choices.get(index).map_or(Choice::Class(PRODUCTS), |(choice, _)| *choice)
    }

    fn about_own_order(&self, class: ClassId, key: &str, rng: &mut ChaCha8Rng) -> Option<Operation> {
        if class == UPDATE_ORDER_STATUS {
            let id = self.pool.lock().pending.pop_front()?;
            let body = body(UPDATE_QUERY, json!({ "id": id, "status": "paid", "key": key }));
            return Some(operation(class, key.into(), &format!("{id}|paid"), body));
        }
        if class == PAYMENT_WEBHOOK {
            // An order is paid by one payment; a provider sends again what was not taken, and may send twice.
            let id = self.pool.lock().pending.pop_front()?;
            let event = format!("evt_{key}");
            let send = Send::Webhook(webhook::body(&event, &id));
            let (twin, retry) = (rng.random_bool(self.mix.twin_share), true);
            return Some(Operation { twin, retry, ..operation(class, id, &event, send) });
        }
        if class == CREATE_ORDER {
            return None;
        }
        let id = {
            let pool = self.pool.lock();
            let count = pool.acknowledged.len();
            (count > 0).then(|| pool.acknowledged[rng.random_range(0..count)].clone())?
        };
        if class == ORDER {
            let body = body(ORDER_QUERY, json!({ "id": id }));
            return Some(operation(class, id, "", body));
        }
        let body = body(INVOICE_QUERY, json!({ "id": id, "key": key }));
        Some(operation(class, key.into(), &id, body))
    }

    fn create(&self, key: String, rng: &mut ChaCha8Rng) -> Operation {
        let items: Vec<Value> = (0..rng.random_range(1..=3))
            .map(|_| {
                let product = rng.random_range(1..=self.mix.max_product_id).to_string();
                json!({ "productId": product, "quantity": rng.random_range(1..=3) })
            })
            .collect();
        let input = json!({
            "idempotencyKey": key,
            "userId": rng.random_range(1..=self.mix.max_user_id).to_string(),
            "items": items,
            "shippingAddress": { "street": format!("{key} street"), "city": "Lyon", "zip": "69001", "country": "FR" },
        });
        Operation {
            twin: rng.random_bool(self.mix.twin_share),
            retry: rng.random_bool(self.mix.retry_share),
            ..operation(CREATE_ORDER, key.clone(), &key, body(CREATE_QUERY, json!({ "input": input })))
        }
    }
}

/// The canonical answer of an operation that is ok: equal answers are equal strings.
pub fn canonical(class: ClassId, data: &Value) -> String {
    let text = |pointer: &str| match data.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let all = |field: &str, parts: &[&str]| {
        parts.iter().map(|part| text(&format!("/{field}/{part}"))).collect::<Vec<_>>().join("|")
    };
    match class {
        PRODUCTS => data["products"].as_array().map_or(0, Vec::len).to_string(),
        ORDER if data["order"].is_null() => "null".into(),
        ORDER => all("order", &["id", "status", "total"]),
        CREATE_ORDER => all("createOrder", &["id", "status", "total"]),
        UPDATE_ORDER_STATUS => all("updateOrderStatus", &["id", "status"]),
        REQUEST_INVOICE => text("/requestInvoice/jobId"),
        PAYMENT_WEBHOOK => text("/state"),
        _ => String::new(),
    }
}

/// True when `data` has what an answer of this class must have; an ok without it tells nothing.
pub fn is_complete(class: ClassId, data: &Value) -> bool {
    match class {
        PRODUCTS => data["products"].is_array(),
        ORDER => data.get("order").is_some(),
        CREATE_ORDER => data["createOrder"]["id"].is_string(),
        UPDATE_ORDER_STATUS => data["updateOrderStatus"]["id"].is_string(),
        REQUEST_INVOICE => data["requestInvoice"]["jobId"].is_string(),
        _ => true,
    }
}

fn operation(class: ClassId, key: String, value: &str, send: Send) -> Operation {
    Operation { class, key, value: value.into(), send, twin: false, retry: false }
}

fn body(query: &str, variables: Value) -> Send {
    Send::Graphql(json!({ "query": query, "variables": variables }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Overrides;
    use crate::load::profile::Profile;
    use std::collections::BTreeSet;

    fn operations(seed: u64) -> Operations {
        let profile = Profile::built_in("baseline").expect("shipped").expect("valid");
        Operations::new("run", seed, &Plan::new(profile, Overrides::default()))
    }

    #[test]
    fn without_own_orders_everything_but_products_creates_one() {
        let operations = operations(1);
        let classes: BTreeSet<ClassId> = (0..500).map(|k| operations.operation(k).class).collect();
        assert_eq!(classes, BTreeSet::from([PRODUCTS, CREATE_ORDER]));
    }

    #[test]
    fn the_same_seed_gives_the_same_operations() {
        let draw = |seed| (0..200).map(|k| operations(seed).operation(k)).collect::<Vec<_>>();
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }

    #[test]
    fn each_order_is_updated_at_most_once_and_keys_are_unique() {
        let operations = operations(2);
        // Under load the answer of a twin may come after those of many others.
        for n in (0..200).chain(0..200) {
            operations.acknowledged(&format!("order-{n}"));
        }
        let made: Vec<Operation> = (0..10_000).map(|k| operations.operation(k)).collect();
        let updated: Vec<&str> =
            made.iter().filter(|o| o.class == UPDATE_ORDER_STATUS).map(|o| o.value.as_str()).collect();
        assert_eq!(updated.len(), 200);
        assert_eq!(updated.iter().collect::<BTreeSet<_>>().len(), 200);
        let writes: Vec<&str> =
            made.iter().filter(|o| o.class.0 >= CREATE_ORDER.0).map(|o| o.key.as_str()).collect();
        assert_eq!(writes.iter().collect::<BTreeSet<_>>().len(), writes.len());
    }

    #[test]
    fn shares_follow_the_weights_and_twins_their_share() {
        let operations = operations(3);
        (0..20_000).for_each(|n| operations.acknowledged(&format!("order-{n}")));
        let made: Vec<Operation> = (0..20_000).map(|k| operations.operation(k)).collect();
        let share = |class| made.iter().filter(|o| o.class == class).count() as f64 / made.len() as f64;
        assert!((share(PRODUCTS) - 0.30).abs() < 0.02);
        assert!((share(CREATE_ORDER) - 0.25).abs() < 0.02);
        assert!((share(REQUEST_INVOICE) - 0.05).abs() < 0.01);
        let twins = made.iter().filter(|o| o.twin).count() as f64;
        let creates = made.iter().filter(|o| o.class == CREATE_ORDER).count() as f64;
        assert!((twins / creates - 0.05).abs() < 0.02);
        assert!(made.iter().all(|o| !o.twin || o.class == CREATE_ORDER));
    }

    #[test]
    fn answers_have_one_canonical_form() {
        let order = json!({ "id": "o1", "status": "pending", "total": "12.50" });
        assert_eq!(canonical(CREATE_ORDER, &json!({ "createOrder": order })), "o1|pending|12.50");
        assert_eq!(canonical(ORDER, &json!({ "order": null })), "null");
        assert_eq!(canonical(PRODUCTS, &json!({ "products": [1, 2] })), "2");
        assert_eq!(canonical(REQUEST_INVOICE, &json!({ "requestInvoice": { "jobId": "j" } })), "j");
        assert!(!is_complete(CREATE_ORDER, &json!({ "createOrder": null })));
    }

    #[test]
    fn plain_only_sends_the_root_when_the_profile_lists_nothing() {
        let profile = Profile::built_in("baseline").expect("shipped").expect("valid");
        let plan = Plan { plain_only: true, ..Plan::new(profile, Overrides::default()) };
        let operations = Operations::new("run", 1, &plan);
        assert!((0..50).all(|k| operations.operation(k).send == Send::Plain(0)));
        assert_eq!(operations.request(0).label(), "GET /");
        assert!(!operations.speaks_graphql());
    }
}
