//! Values of wire faults that are written as text: codes, error messages, names of commands. Checked when they are read.

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::rule::Names;

/// Longest error text, in bytes.
const ERROR_BYTES_MAX: usize = 1024;

/// Five characters, of a class that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SqlState(String);

impl SqlState {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The server's words for the code.
    pub fn message(&self) -> &'static str {
        match self.0.as_str() {
            "08006" => "connection failure",
            "23505" => "duplicate key value violates unique constraint",
            "25006" => "cannot execute statement in a read-only transaction",
            "25P03" => "terminating connection due to idle-in-transaction timeout",
            "40001" => "could not serialize access due to concurrent update",
            "40P01" => "deadlock detected",
            "53100" => "could not extend file: No space left on device",
            "53200" => "out of memory",
            "53300" => "sorry, too many clients already",
            "55P03" => "could not obtain lock on row",
            "57014" => "canceling statement due to statement timeout",
            "57P01" => "terminating connection due to administrator command",
            "57P02" => "terminating connection because of crash of another server process",
            "57P03" => "the database system is starting up",
            "XX000" => "internal error",
            _ => "statement failed",
        }
    }
}

impl TryFrom<String> for SqlState {
    type Error = String;

    fn try_from(text: String) -> Result<SqlState, String> {
        let shape =
            text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
        if !shape {
            return Err(format!(
                "`{text}` is not an SQLSTATE: five digits or capital letters, such as 40001"
            ));
        }
        if ["00", "01", "02"].iter().any(|class| text.starts_with(class)) {
            return Err(format!("`{text}` is not an error: classes 00, 01 and 02 are success and warnings"));
        }
        Ok(SqlState(text))
    }
}

impl From<SqlState> for String {
    fn from(state: SqlState) -> String {
        state.0
    }
}

/// An error of Redis: a word that it has, such as `READONLY`, or a whole message that begins with one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RedisError(String);

const REDIS_ERRORS: [&str; 11] = [
    "READONLY You can't write against a read only replica.",
    "NOSCRIPT No matching script. Please use EVAL.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "LOADING Redis is loading the dataset in memory",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "CLUSTERDOWN The cluster is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "NOAUTH Authentication required.",
    "NOREPLICAS Not enough good replicas to write.",
];

impl RedisError {
    /// Without the dash and the line end.
    pub fn message(&self) -> &str {
        let known = REDIS_ERRORS.iter().find(|message| message.split(' ').next() == Some(&self.0));
        known.copied().unwrap_or(&self.0)
    }

    /// The commands that the error is about.
    pub fn strikes(&self) -> Names {
        match self.message().split(' ').next() {
            Some("READONLY" | "OOM" | "MISCONF" | "NOREPLICAS") => Names::Writes,
            Some("NOSCRIPT") => Names::These(vec!["EVALSHA".into(), "EVALSHA_RO".into()]),
            _ => Names::Any,
        }
    }
}

impl TryFrom<String> for RedisError {
    type Error = String;

    fn try_from(text: String) -> Result<RedisError, String> {
        let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
        let known: Vec<&str> = REDIS_ERRORS.iter().filter_map(|message| message.split(' ').next()).collect();
        if rest.is_empty() && !known.contains(&word) {
            return Err(format!(
                "`{text}` is not an error of Redis: write one of {} or a whole message",
                known.join(", ")
            ));
        }
        if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(format!("`{text}` does not begin with a word in capitals, such as ERR"));
        }
        one_line(&text)?;
        Ok(RedisError(text))
    }
}

impl From<RedisError> for String {
    fn from(error: RedisError) -> String {
        error.0
    }
}

/// An error of NATS, as it stands between the quotes of `-ERR '…'`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NatsError(String);

impl NatsError {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NatsError {
    type Error = String;

    fn try_from(text: String) -> Result<NatsError, String> {
        if text.is_empty() || text.contains('\'') {
            return Err(format!("`{text}` is not an error of NATS: write what stands between its quotes"));
        }
        one_line(&text)?;
        Ok(NatsError(text))
    }
}

impl From<NatsError> for String {
    fn from(error: NatsError) -> String {
        error.0
    }
}

fn one_line(text: &str) -> Result<(), String> {
    if text.len() > ERROR_BYTES_MAX {
        return Err(format!("an error has at most {ERROR_BYTES_MAX} bytes, this one has {}", text.len()));
    }
    match text.chars().any(char::is_control) {
        true => Err("an error is one line without control characters".into()),
        false => Ok(()),
    }
}

/// One command of Redis or a list of them; a subcommand stands behind a space. Empty: not given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CommandNames(Vec<String>);

impl CommandNames {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn names_or(&self, otherwise: Names) -> Names {
        if self.0.is_empty() { otherwise } else { Names::These(self.0.clone()) }
    }
}

impl TryFrom<String> for CommandNames {
    type Error = String;

    fn try_from(text: String) -> Result<CommandNames, String> {
        Ok(CommandNames(vec![name(&text)?]))
    }
}

fn name(text: &str) -> Result<String, String> {
    let words: Vec<&str> = text.split(' ').collect();
    let wrong = |word: &&str| {
        word.is_empty()
            || word.len() > 64
            || !word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._|-".contains(&byte))
    };
    match words.len() > 2 || words.iter().any(wrong) {
        true => Err(format!("`{text}` is not a command: write a name such as SET or SCRIPT LOAD")),
        false => Ok(text.to_ascii_uppercase()),
    }
}

impl<'de> Deserialize<'de> for CommandNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CommandNames, D::Error> {
        struct Written;

        impl<'de> Visitor<'de> for Written {
            type Value = CommandNames;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<CommandNames, E> {
                CommandNames::try_from(text.to_owned()).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<CommandNames, A::Error> {
                let mut names = Vec::new();
                while let Some(text) = list.next_element::<String>()? {
                    names.push(name(&text).map_err(A::Error::custom)?);
                    if names.len() > 256 {
                        return Err(A::Error::custom("at most 256 commands"));
                    }
                }
                match names.is_empty() {
                    true => Err(A::Error::invalid_length(0, &"at least one command")),
                    false => Ok(CommandNames(names)),
                }
            }
        }

        deserializer.deserialize_any(Written)
    }
}
