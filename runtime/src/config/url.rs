//! Connection URLs: they carry passwords, so they come from the environment, and neither `Debug`
//! nor any message shows more of them than scheme, host, port and path.

use std::fmt;

use url::Url;

use super::error::Problem;
use super::source::Environment;

/// Where a dependency is and how to sign in there.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionUrl(Url);

impl ConnectionUrl {
    /// # Errors
    /// When the text is not a URL.
    pub fn parse(text: &str) -> Result<Self, url::ParseError> {
        Url::parse(text).map(Self)
    }

    /// The whole URL with its password: for the driver, not for logs.
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(self.0.path())
    }
}

impl fmt::Debug for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionUrl({self})")
    }
}

/// Reads the URL from the first of `names` that is set. Two that are set must agree, since no
/// rule would tell which database is meant.
pub(super) fn read(
    names: &[&str],
    schemes: &[&str],
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> Option<ConnectionUrl> {
    let mut set = names.iter().filter_map(|name| environment.get(name).map(|value| (*name, value)));
    let Some((name, value)) = set.next() else {
        problems.push(Problem::variable(names[0], "is not set", &examples(schemes)));
        return None;
    };
    if let Some((other, _)) = set.find(|(_, text)| *text != value) {
        let what = format!("and {other} are both set and differ");
        problems.push(Problem::variable(name, &what, "one of them, or the same value in both"));
        return None;
    }
    match ConnectionUrl::parse(value) {
        Ok(url) if schemes.contains(&url.0.scheme()) => Some(url),
        Ok(url) => {
            let what = format!("has the scheme {:?}", url.0.scheme());
            problems.push(Problem::variable(name, &what, &examples(schemes)));
            None
        }
        Err(error) => {
            let what = format!("is not a URL ({error}; its value is not shown, it may hold a password)");
            problems.push(Problem::variable(name, &what, &examples(schemes)));
            None
        }
    }
}

fn examples(schemes: &[&str]) -> String {
    let schemes: Vec<_> = schemes.iter().map(|scheme| format!("{scheme}://…")).collect();
    format!("a URL {}", schemes.join(" or "))
}
