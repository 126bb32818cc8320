//! Orders: placing, moving on, reading, asking for invoices.
//!
//! Promises: an order is answered only after its COMMIT, with its event in the outbox of the same transaction; one
//! idempotency key is one order and one answer, however often and however simultaneously it is used; the same key
//! with another input is refused; a refused call has changed nothing. Stock is never oversold.
//! Absent on purpose: payment, and putting the stock of a cancelled order back.

pub mod error;
pub mod input;
pub mod invoices;
pub mod status;
mod store;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

pub use self::error::Error;
use self::input::{NewOrder, check_key};
use self::status::Status;
use crate::catalog::Product;
use crate::ids::{JobId, OrderId, OrderItemId, UserId};
use crate::queue::{Job, Queue, Task};
use crate::storage::postgres::Postgres;

/// An order; buyer and items are there when they were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// UUIDv7.
    pub id: OrderId,
    /// Where it is.
    pub status: Status,
    /// Sum of its items, two decimals; never changes.
    pub total: Decimal,
    /// When it was placed.
    pub created_at: DateTime<Utc>,
    /// Who placed it.
    pub buyer: Option<Buyer>,
    /// What is in it.
    pub items: Vec<Item>,
}

/// Who placed an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buyer {
    /// Row key.
    pub id: UserId,
    /// For people.
    pub name: String,
}

/// One product of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Row key.
    pub id: OrderItemId,
    /// Pieces.
    pub quantity: i32,
    /// Price of one piece when the order was placed.
    pub price: Decimal,
    /// The product as it is now.
    pub product: Product,
}

/// How much of an order is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The order's own columns.
    Head,
    /// With buyer, items, products and categories.
    Whole,
}

/// A step in the life of an order.
#[derive(Debug, Clone)]
pub struct StatusChange {
    /// Which order.
    pub order_id: OrderId,
    /// Where it shall go.
    pub to: Status,
    /// Makes the call repeatable.
    pub idempotency_key: Option<String>,
}

/// A job that will write an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvoiceRequest {
    /// Key of the invoice.
    pub job_id: JobId,
    /// Of which order.
    pub order_id: OrderId,
}

/// The order service. Clones share its stores.
#[derive(Clone)]
pub struct OrderService {
    postgres: Postgres,
    queue: Queue,
    subject_created: String,
    subject_status_changed: String,
}

impl OrderService {
    /// A service whose events go to `<subject_prefix>.created` and `<subject_prefix>.status_changed`.
    pub fn new(postgres: Postgres, queue: Queue, subject_prefix: &str) -> Self {
        let subject_created = format!("{subject_prefix}.created");
        let subject_status_changed = format!("{subject_prefix}.status_changed");
        Self { postgres, queue, subject_created, subject_status_changed }
    }

    /// Places an order. A key that was used before with the same input gets the first answer again.
    pub async fn create(&self, order: NewOrder, extent: Extent) -> Result<Order, Error> {
        let order = order.check()?;
        let placed = match store::create(&self.postgres, &order, &self.subject_created).await? {
            Some(placed) => placed,
            None => {
                let key = order.idempotency_key.as_deref().ok_or(Error::Contended)?;
                store::created(&self.postgres, key, &order).await?
            }
        };
        self.complete(placed, extent).await
    }

    /// Moves an order on. A key that was used before with the same input gets the first answer again.
    pub async fn change_status(&self, change: StatusChange, extent: Extent) -> Result<Order, Error> {
        check_key(change.idempotency_key.as_deref())?;
        let changed =
            match store::change_status(&self.postgres, &change, &self.subject_status_changed).await? {
                Some(changed) => changed,
                None => store::unchanged(&self.postgres, &change).await?,
            };
        self.complete(changed, extent).await
    }

    /// Queues the invoice of an order. `Ok` means that the job survives; it is done later, once for its id.
    pub async fn request_invoice(
        &self,
        order_id: OrderId,
        idempotency_key: Option<String>,
    ) -> Result<InvoiceRequest, Error> {
        check_key(idempotency_key.as_deref())?;
        store::bind_invoice(&self.postgres, order_id, idempotency_key.as_deref()).await?;
        let id = invoices::job_id(idempotency_key.as_deref());
        self.queue.enqueue(&Job { id, task: Task::Invoice { order_id, idempotency_key } }).await?;
        Ok(InvoiceRequest { job_id: id, order_id })
    }

    /// The order, if there is one.
    pub async fn order(&self, id: OrderId, extent: Extent) -> Result<Option<Order>, Error> {
        match extent {
            Extent::Head => store::read(&self.postgres, id).await,
            Extent::Whole => store::read_whole(&self.postgres, id).await,
        }
    }

    /// Adds buyer and items to an answer whose other fields stay as they were given.
    async fn complete(&self, answer: Order, extent: Extent) -> Result<Order, Error> {
        if extent == Extent::Head {
            return Ok(answer);
        }
        let whole = store::read_whole(&self.postgres, answer.id).await?.ok_or(Error::Contended)?;
        Ok(Order { buyer: whole.buyer, items: whole.items, ..answer })
    }
}

impl StatusChange {
    /// What the key stands for.
    fn fingerprint(&self) -> Vec<u8> {
        format!("{}|{}", self.order_id, self.to).into_bytes()
    }
}
