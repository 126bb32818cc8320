//! What an operation costs: a field is one, and what is below a list counts as often as the list is long.
//!
//! The list's length is what the caller asks for, or the default; so the number does not depend on the data.

/// A cost that depends on the sizes of lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cost {
    /// Fields that count once.
    pub fields: u64,
    /// What counts once for each row of a list: the statement, its size, the cost of a row.
    pub lists: Vec<(usize, usize, Cost)>,
}

impl Cost {
    /// Adds the cost of the root's statement with this number.
    pub fn add(&mut self, other: Cost, root: usize) {
        self.fields += other.fields;
        self.lists.extend(other.lists.into_iter().map(|(_, size, cost)| (root, size, cost.at(root))));
    }

    fn at(self, root: usize) -> Self {
        let lists = self.lists.into_iter().map(|(_, size, cost)| (root, size, cost.at(root))).collect();
        Self { fields: self.fields, lists }
    }

    /// The cost, given the length of each list by statement and size. Saturates.
    pub fn total(&self, length: &impl Fn(usize, usize) -> u64) -> u64 {
        self.lists.iter().fold(self.fields, |sum, (root, size, cost)| {
            sum.saturating_add(length(*root, *size).saturating_mul(cost.total(length)))
        })
    }
}
