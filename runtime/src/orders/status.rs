//! The life of an order: pending → paid → shipped → delivered, and cancelled from the first two.

use std::fmt;
use std::str::FromStr;

/// Where an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Placed, not paid.
    Pending,
    /// Paid, not sent.
    Paid,
    /// Sent, not arrived.
    Shipped,
    /// Arrived: the end.
    Delivered,
    /// Given up: the end.
    Cancelled,
}

impl Status {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Paid, Self::Shipped, Self::Delivered, Self::Cancelled];

    /// The word in the database and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Paid => "paid",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether an order may go from here to `next`. Staying is no step.
    pub const fn can_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Pending, Self::Paid | Self::Cancelled)
                | (Self::Paid, Self::Shipped | Self::Cancelled)
                | (Self::Shipped, Self::Delivered)
        )
    }

    /// Where an order may come from to get here.
    pub fn predecessors(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |from| from.can_become(self))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no status.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no status of an order")]
pub struct UnknownStatus(String);

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}

impl TryFrom<String> for Status {
    type Error = UnknownStatus;

    fn try_from(text: String) -> Result<Self, UnknownStatus> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_life_of_an_order_has_exactly_these_steps() {
        let mut steps = Vec::new();
        for from in Status::ALL {
            for to in Status::ALL {
                if from.can_become(to) {
                    steps.push(format!("{from} {to}"));
                }
            }
        }
        let expected =
            ["pending paid", "pending cancelled", "paid shipped", "paid cancelled", "shipped delivered"];
        assert_eq!(steps, expected);
    }

    #[test]
    fn every_status_reads_back_from_its_word() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse::<Status>().expect("a status"), status);
        }
        assert!("PAID".parse::<Status>().is_err());
    }

    #[test]
    fn nothing_becomes_pending_again() {
        assert_eq!(Status::Pending.predecessors().count(), 0);
        assert!(Status::Cancelled.predecessors().eq([Status::Pending, Status::Paid]));
    }
}
