//! Bounds on queued bytes: a budget may lie within another, and what is taken comes back when its share is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a queued datagram costs beside its bytes.
const DATAGRAM_COST: usize = 256;

#[derive(Debug)]
pub struct Budget {
    left: AtomicUsize,
    around: Option<Arc<Budget>>,
}

impl Budget {
    pub fn new(bytes: usize) -> Arc<Budget> {
        Arc::new(Budget { left: AtomicUsize::new(bytes), around: None })
    }

    /// A budget of which no more may be taken than `around` has left.
    pub fn within(around: &Arc<Budget>, bytes: usize) -> Arc<Budget> {
        Arc::new(Budget { left: AtomicUsize::new(bytes), around: Some(around.clone()) })
    }

    /// Room for a datagram of `bytes`; `None` when there is none.
    pub fn take(self: &Arc<Budget>, bytes: usize) -> Option<Share> {
        let cost = bytes + DATAGRAM_COST;
        self.subtract(cost).then(|| Share { budget: self.clone(), cost })
    }

    fn subtract(&self, cost: usize) -> bool {
        let less = |left: usize| left.checked_sub(cost);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err() {
            return false;
        }
        if self.around.as_ref().is_some_and(|around| !around.subtract(cost)) {
            self.left.fetch_add(cost, Ordering::Relaxed);
            return false;
        }
        true
    }

    fn give_back(&self, cost: usize) {
        self.left.fetch_add(cost, Ordering::Relaxed);
        if let Some(around) = &self.around {
            around.give_back(cost);
        }
    }
}

/// Room that one datagram takes.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    cost: usize,
}

impl Share {
    /// As much once more, for a copy.
    pub fn again(&self) -> Option<Share> {
        self.budget.subtract(self.cost).then(|| Share { budget: self.budget.clone(), cost: self.cost })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give_back(self.cost);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn left(budget: &Budget) -> usize {
        budget.left.load(Ordering::Relaxed)
    }

    #[test]
    fn neither_a_budget_nor_the_one_around_it_is_exceeded() {
        let all = Budget::new(3 * (100 + DATAGRAM_COST));
        let (one, other) =
            (Budget::within(&all, 2 * (100 + DATAGRAM_COST)), Budget::within(&all, usize::MAX));
        let first = one.take(100).expect("room for one");
        let second = first.again().expect("room for its copy");
        assert!(one.take(0).is_none());
        let third = other.take(100).expect("room for one of the other");
        assert!(other.take(0).is_none());
        assert_eq!(left(&other), usize::MAX - 100 - DATAGRAM_COST, "what failed took nothing");
        drop((first, second, third));
        assert_eq!((left(&one), left(&other)), (2 * (100 + DATAGRAM_COST), usize::MAX));
        assert_eq!(left(&all), 3 * (100 + DATAGRAM_COST));
    }

    proptest! {
        #[test]
        fn all_that_was_taken_comes_back(sizes in prop::collection::vec(0..5_000_usize, 0..50)) {
            let all = Budget::new(50_000);
            let one = Budget::within(&all, 30_000);
            let shares: Vec<Share> = sizes.iter().filter_map(|size| one.take(*size)).collect();
            let taken: usize = shares.iter().map(|share| share.cost).sum();
            prop_assert_eq!((left(&one), left(&all)), (30_000 - taken, 50_000 - taken));
            drop(shares);
            prop_assert_eq!((left(&one), left(&all)), (30_000, 50_000));
        }
    }
}
