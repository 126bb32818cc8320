//! Operations that callers name by a hash or an id instead of sending their text.
//!
//! Promises: with the list alone allowed, no other text is executed, however it is sent; what callers register is bounded
//! by number and by bytes, and a text is only kept under its own hash.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_graphql::parser::parse_query;
use sha2::{Digest, Sha256};

use super::plan_cache::{Bounds, TextCache};

/// Why the list of operations cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("could not read the operations {path}")]
    Read {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It is no JSON object of texts.
    #[error("the operations {path} are no JSON object of ids and texts")]
    Form {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

/// Why a request has no operation that may be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Neither a text nor a name.
    #[error("the request has no query")]
    Missing,
    /// Nobody knows the hash or id. The words are those that clients of automatic registration look for.
    #[error("PersistedQueryNotFound")]
    NotFound,
    /// Text and hash do not belong together.
    #[error("the hash is not that of the query")]
    OtherHash,
    /// The text is not in the list.
    #[error("only operations that are listed are executed here")]
    NotListed,
}

impl Refused {
    /// `extensions.code`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing | Self::OtherHash => "BAD_USER_INPUT",
            Self::NotFound => "PERSISTED_QUERY_NOT_FOUND",
            Self::NotListed => "PERSISTED_QUERY_ONLY",
        }
    }
}

/// How operations may be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Whether only those of the list are executed.
    pub only: bool,
    /// Whether callers may register others, and how many.
    pub automatic: Option<Bounds>,
}

/// The operations that are known.
#[derive(Default)]
pub struct Persisted {
    /// By id, and by hash in hexadecimal.
    listed: HashMap<String, Arc<str>>,
    only: bool,
    registered: Option<TextCache<str>>,
}

impl Persisted {
    /// With these operations by id; each is known by its hash too.
    pub fn new(operations: impl IntoIterator<Item = (String, String)>, rules: Rules) -> Self {
        let mut listed = HashMap::new();
        for (id, text) in operations {
            let text: Arc<str> = text.into();
            listed.insert(hash(&text), text.clone());
            listed.insert(id.to_ascii_lowercase(), text.clone());
            listed.insert(id, text);
        }
        Self { listed, only: rules.only, registered: rules.automatic.map(TextCache::new) }
    }

    /// The text to execute.
    ///
    /// # Errors
    /// When there is none, or it may not be executed.
    pub fn resolve(&self, text: Option<String>, name: Option<&str>) -> Result<String, Refused> {
        let text = text.filter(|text| !text.trim().is_empty());
        let Some(text) = text else {
            let name = name.ok_or(Refused::Missing)?;
            return self.find(name).map(|text| text.to_string()).ok_or(Refused::NotFound);
        };
        if self.only {
            return if self.listed.contains_key(&hash(&text)) { Ok(text) } else { Err(Refused::NotListed) };
        }
        if let Some(name) = name {
            let own = hash(&text);
            if !plain(name).eq_ignore_ascii_case(&own) {
                return Err(Refused::OtherHash);
            }
            if let Some(registered) = &self.registered {
                registered.insert_weighing(&own, Arc::from(text.as_str()), text.len());
            }
        }
        Ok(text)
    }

    fn find(&self, name: &str) -> Option<Arc<str>> {
        let name = plain(name);
        if let Some(text) = self.listed.get(name) {
            return Some(text.clone());
        }
        let name = name.to_ascii_lowercase();
        self.listed.get(&name).cloned().or_else(|| self.registered.as_ref()?.get(&name))
    }

    /// The names that the operations of the list have in their texts: a set that callers cannot extend.
    pub fn operation_names(&self) -> Vec<String> {
        let parsed = self.listed.values().filter_map(|text| parse_query(text).ok());
        let mut names: Vec<String> = parsed
            .flat_map(|document| {
                let named = document.operations.iter().filter_map(|(name, _)| name.map(ToString::to_string));
                named.collect::<Vec<_>>()
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// How many names the list has.
    pub fn listed(&self) -> usize {
        self.listed.len()
    }
}

/// Document ids say how they were made.
fn plain(name: &str) -> &str {
    name.strip_prefix("sha256:").unwrap_or(name)
}

/// SHA-256 in hexadecimal.
pub fn hash(text: &str) -> String {
    use std::fmt::Write as _;
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// Reads operations: a JSON object of ids and texts, or a folder whose `.graphql` files are operations named by their file.
///
/// # Errors
/// When something cannot be read.
pub fn read(path: &Path) -> Result<Vec<(String, String)>, Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Read { path, source }
    };
    if !path.is_dir() {
        let text = std::fs::read_to_string(path).map_err(failed(path))?;
        let operations: HashMap<String, String> =
            serde_json::from_str(&text).map_err(|source| Error::Form { path: path.to_owned(), source })?;
        return Ok(operations.into_iter().collect());
    }
    let mut operations = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed(path))? {
        let file = entry.map_err(failed(path))?.path();
        if file.extension().is_some_and(|end| end == "graphql")
            && let Some(id) = file.file_stem().and_then(|stem| stem.to_str())
        {
            let text = std::fs::read_to_string(&file).map_err(failed(&file))?;
            operations.push((id.to_owned(), text));
        }
    }
    Ok(operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "{ products(limit: 1) { id } }";

    fn known(only: bool, automatic: Option<Bounds>) -> Persisted {
        Persisted::new([("first".to_owned(), TEXT.to_owned())], Rules { only, automatic })
    }

    fn sent(persisted: &Persisted, text: Option<&str>, name: Option<&str>) -> Result<String, Refused> {
        persisted.resolve(text.map(str::to_owned), name)
    }

    #[test]
    fn a_listed_operation_is_found_by_id_hash_and_document_id() {
        let persisted = known(true, None);
        let hash = hash(TEXT);
        for name in ["first", hash.as_str(), &hash.to_ascii_uppercase(), &format!("sha256:{hash}")] {
            assert_eq!(sent(&persisted, None, Some(name)), Ok(TEXT.to_owned()), "{name}");
        }
        assert_eq!(sent(&persisted, None, Some("second")), Err(Refused::NotFound));
        assert_eq!(sent(&persisted, None, None), Err(Refused::Missing));
        assert_eq!(sent(&persisted, Some(" "), None), Err(Refused::Missing));
    }

    #[test]
    fn the_list_alone_refuses_every_other_text() {
        let persisted = known(true, None);
        assert_eq!(sent(&persisted, Some(TEXT), None), Ok(TEXT.to_owned()), "its own text is the operation");
        let other = "{ users { id } }";
        for name in [None, Some("first"), Some(hash(other).as_str()), Some(hash(TEXT).as_str())] {
            assert_eq!(sent(&persisted, Some(other), name), Err(Refused::NotListed), "{name:?}");
        }
        assert_eq!(
            sent(&persisted, None, Some(&hash(other))),
            Err(Refused::NotFound),
            "nor was it registered"
        );
    }

    #[test]
    fn a_text_is_registered_under_its_own_hash_within_bounds() {
        let bounds = Bounds { entries_max: 2, bytes_max: 100 };
        let persisted = known(false, Some(bounds));
        let text = |n: usize| format!("{{ a{n} }}");
        assert_eq!(sent(&persisted, Some(&text(0)), Some(&hash(&text(1)))), Err(Refused::OtherHash));
        for n in 0..3 {
            assert_eq!(sent(&persisted, None, Some(&hash(&text(n)))), Err(Refused::NotFound));
            assert_eq!(sent(&persisted, Some(&text(n)), Some(&hash(&text(n)))), Ok(text(n)));
            assert_eq!(sent(&persisted, None, Some(&hash(&text(n)))), Ok(text(n)));
        }
        assert_eq!(sent(&persisted, None, Some(&hash(&text(0)))), Err(Refused::NotFound), "the oldest went");
        let long = format!("{{ {} }}", "b".repeat(100));
        assert_eq!(
            sent(&persisted, Some(&long), Some(&hash(&long))),
            Ok(long.clone()),
            "executed all the same"
        );
        assert_eq!(
            sent(&persisted, None, Some(&hash(&long))),
            Err(Refused::NotFound),
            "but too long to keep"
        );
    }

    #[test]
    fn nothing_is_registered_where_that_is_off() {
        let persisted = known(false, None);
        let text = "{ a }";
        assert_eq!(sent(&persisted, Some(text), Some(&hash(text))), Ok(text.to_owned()));
        assert_eq!(sent(&persisted, None, Some(&hash(text))), Err(Refused::NotFound));
    }

    #[test]
    fn operations_are_read_from_a_file_and_from_a_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("one.graphql"), TEXT).expect("written");
        std::fs::write(folder.path().join("notes.txt"), "no operation").expect("written");
        assert_eq!(read(folder.path()).expect("a folder"), [("one".to_owned(), TEXT.to_owned())]);
        let file = folder.path().join("all.json");
        std::fs::write(&file, serde_json::json!({"two": TEXT}).to_string()).expect("written");
        assert_eq!(read(&file).expect("a file"), [("two".to_owned(), TEXT.to_owned())]);
        std::fs::write(&file, "[]").expect("written");
        assert!(matches!(read(&file), Err(Error::Form { .. })));
        assert!(matches!(read(&folder.path().join("none")), Err(Error::Read { .. })));
    }
}
