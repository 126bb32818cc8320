//! What a caller may ask for, checked before any statement runs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Error;
use crate::ids::{ProductId, UserId};

/// Different products in one order at most.
pub const ITEMS_MAX: usize = 100;
/// Pieces of one product in one order at most.
pub const QUANTITY_MAX: i32 = 10_000;
/// Bytes of an idempotency key at most.
pub const KEY_BYTES_MAX: usize = 255;
/// Bytes of one line of an address at most.
pub const ADDRESS_BYTES_MAX: usize = 500;

/// An order as the caller wants it.
#[derive(Debug, Clone)]
pub struct NewOrder {
    /// Makes the call repeatable.
    pub idempotency_key: Option<String>,
    /// For whom.
    pub user_id: Option<UserId>,
    /// What, and how many; the same product twice is added up.
    pub items: Vec<(ProductId, i32)>,
    /// Where to.
    pub shipping_address: Address,
}

/// Where an order goes.
#[derive(Debug, Clone, Serialize)]
pub struct Address {
    /// Street and number.
    pub street: String,
    /// Town.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    /// Postal code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zip: Option<String>,
    /// Country.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
}

/// A [`NewOrder`] that keeps the rules; equal wishes are equal bytes.
#[derive(Debug, Serialize)]
pub struct CheckedOrder {
    #[serde(skip)]
    pub(super) idempotency_key: Option<String>,
    pub(super) user_id: Option<UserId>,
    pub(super) items: BTreeMap<ProductId, i32>,
    pub(super) shipping_address: Address,
}

impl NewOrder {
    /// Checks the rules that need no database.
    pub fn check(self) -> Result<CheckedOrder, Error> {
        check_key(self.idempotency_key.as_deref())?;
        check_address(&self.shipping_address)?;
        if self.items.is_empty() {
            return Err(Error::Input("an order needs at least one item".to_owned()));
        }
        let mut items = BTreeMap::<ProductId, i32>::new();
        for (product, quantity) in self.items {
            let sum = items.entry(product).or_default();
            *sum = sum.saturating_add(quantity);
            if quantity < 1 || *sum > QUANTITY_MAX {
                return Err(Error::Input(format!(
                    "quantity must be between 1 and {QUANTITY_MAX} for each product"
                )));
            }
        }
        if items.len() > ITEMS_MAX {
            return Err(Error::Input(format!("an order takes at most {ITEMS_MAX} products")));
        }
        let (idempotency_key, user_id) = (self.idempotency_key, self.user_id);
        Ok(CheckedOrder { idempotency_key, user_id, items, shipping_address: self.shipping_address })
    }
}

impl CheckedOrder {
    /// What the key stands for: the input without the key, in one form.
    pub(super) fn fingerprint(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an order is plain data")
    }
}

/// A key is 1 to [`KEY_BYTES_MAX`] bytes of printable text.
pub(super) fn check_key(key: Option<&str>) -> Result<(), Error> {
    match key {
        Some(key) if key.is_empty() || key.len() > KEY_BYTES_MAX || key.chars().any(char::is_control) => {
            Err(Error::Input(format!(
                "idempotencyKey must be 1 to {KEY_BYTES_MAX} bytes without control characters"
            )))
        }
        _ => Ok(()),
    }
}

fn check_address(address: &Address) -> Result<(), Error> {
    if address.street.trim().is_empty() {
        return Err(Error::Input("shippingAddress.street must not be empty".to_owned()));
    }
    let lines =
        [Some(&address.street), address.city.as_ref(), address.zip.as_ref(), address.country.as_ref()];
    for line in lines.into_iter().flatten() {
        // PostgreSQL's text cannot hold NUL.
        if line.len() > ADDRESS_BYTES_MAX || line.contains('\0') {
            return Err(Error::Input(format!(
                "a line of shippingAddress must be at most {ADDRESS_BYTES_MAX} bytes of text"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(items: Vec<(ProductId, i32)>) -> NewOrder {
        let shipping_address = Address { street: "Main 1".to_owned(), city: None, zip: None, country: None };
        NewOrder { idempotency_key: Some("k".to_owned()), user_id: Some(UserId(1)), items, shipping_address }
    }

    proptest! {
        #[test]
        fn the_order_of_items_does_not_change_what_a_key_stands_for(
            items in proptest::collection::vec((1i64..9, 1i32..50), 1..20).prop_shuffle(),
        ) {
            let items: Vec<_> = items.into_iter().map(|(id, quantity)| (ProductId(id), quantity)).collect();
            let mut turned = items.clone();
            turned.reverse();
            let (one, other) = (order(items).check(), order(turned).check());
            prop_assert_eq!(one.expect("valid").fingerprint(), other.expect("valid").fingerprint());
        }
    }

    #[test]
    fn wrong_orders_are_refused_before_the_database() {
        let wrong = [
            order(vec![]),
            order(vec![(ProductId(1), 0)]),
            order(vec![(ProductId(1), -1), (ProductId(1), 3)]),
            order(vec![(ProductId(1), QUANTITY_MAX), (ProductId(1), 1)]),
            order(vec![(ProductId(1), i32::MAX), (ProductId(1), i32::MAX)]),
            order((0..=ITEMS_MAX as i64).map(|id| (ProductId(id), 1)).collect()),
            NewOrder { idempotency_key: Some(String::new()), ..order(vec![(ProductId(1), 1)]) },
            NewOrder { idempotency_key: Some("k".repeat(256)), ..order(vec![(ProductId(1), 1)]) },
        ];
        for order in wrong {
            assert!(matches!(order.clone().check(), Err(Error::Input(_))), "{order:?}");
        }
    }

    #[test]
    fn the_key_is_no_part_of_what_it_stands_for() {
        let one = order(vec![(ProductId(1), 1)]).check().expect("valid");
        let other =
            NewOrder { idempotency_key: None, ..order(vec![(ProductId(1), 1)]) }.check().expect("valid");
        assert_eq!(one.fingerprint(), other.fingerprint());
    }
}
