//! Releases, which are compared: 1.10.0 is later than 1.9.2.

use std::fmt;
use std::str::FromStr;

/// `major.minor.patch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(u64, u64, u64);

/// The text is not three numbers with dots between them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a release: write it as 1.4.0")]
pub struct ReleaseError(String);

impl Release {
    /// The one that this was built for.
    pub fn own() -> Self {
        env!("CARGO_PKG_VERSION").parse().expect("the package's version is a release")
    }
}

impl FromStr for Release {
    type Err = ReleaseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let numbers: Option<Vec<u64>> =
            text.split('.').map(|part| if digits(part) { part.parse().ok() } else { None }).collect();
        match numbers.as_deref() {
            Some([major, minor, patch]) => Ok(Self(*major, *minor, *patch)),
            _ => Err(ReleaseError(text.to_owned())),
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered_by_their_numbers() {
        let release = |text: &str| text.parse::<Release>().expect("a release");
        assert!(release("1.10.0") > release("1.9.2"));
        assert!(release("0.9.9") < Release(1, 0, 0));
        assert_eq!(release("1.2.3").to_string(), "1.2.3");
        for wrong in ["", "1", "1.2", "1.2.3.4", "v1.2.3", "1.2.x", "1.2.-3", "1..2"] {
            assert!(wrong.parse::<Release>().is_err(), "{wrong}");
        }
    }
}
