//! Open-loop load through goose: the schedule decides when, latency counts from the intended start.
//!
//! goose supplies users, client and its own report; arrivals come from [`pacing::Pacer`], and every operation goes into
//! the run's recorder. A slow answer never lowers the rate, and a dropped arrival is a failed one. Whether the generator
//! or its neighbours were the limit is part of the result ([`validity`]).

mod capacity;
mod checked;
pub mod classify;
pub mod clients;
pub mod diagnostic;
pub mod drive;
pub mod gates;
pub mod leaks;
pub mod operations;
pub mod pacing;
pub mod profile;
pub mod schedule;
pub mod target;
pub mod users;
pub mod validity;
pub mod webhook;

use chaos::history::ClassId;

pub use drive::{LoadOutcome, drive};
pub use profile::{Overrides, Plan, Profile};

/// Names of the operation classes; a [`ClassId`] is an index into it.
pub const CLASSES: [&str; 7] =
    ["products", "order", "createOrder", "updateOrderStatus", "requestInvoice", "paymentWebhook", "request"];

pub const PRODUCTS: ClassId = ClassId(0);
pub const ORDER: ClassId = ClassId(1);
pub const CREATE_ORDER: ClassId = ClassId(2);
pub const UPDATE_ORDER_STATUS: ClassId = ClassId(3);
pub const REQUEST_INVOICE: ClassId = ClassId(4);
/// A delivery of a payment provider, which pays an order.
pub const PAYMENT_WEBHOOK: ClassId = ClassId(5);
/// A plain request of the profile.
pub const REQUEST: ClassId = ClassId(6);
