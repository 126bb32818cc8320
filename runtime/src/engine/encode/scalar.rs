//! The scalars that a field can be declared as.

/// A GraphQL scalar, named by what its JSON looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// `true` or `false`.
    Boolean,
    /// A number of 32 bits; more is an error.
    Int,
    /// A finite number.
    Float,
    /// A string.
    String,
    /// A string, also of an integer column.
    Id,
    /// A string of decimal digits, because clients lose integers beyond 2^53.
    BigInt,
    /// A string of the number with its scale, no digit lost.
    Decimal,
    /// A string of 36 characters.
    Uuid,
    /// An instant with its offset, which is always UTC: `2026-11-21T09:00:00.5+00:00`.
    DateTime,
    /// A date and a time without an offset: `2026-11-21T09:00:00.5`.
    LocalDateTime,
    /// `2026-11-21`.
    Date,
    /// `09:00:00.5`, with an offset for `timetz`.
    Time,
    /// A JSON value as it is stored.
    Json,
    /// A string of `\x` and hexadecimal digits.
    Bytes,
    /// A string of 26 characters of Crockford's base 32.
    Ulid,
    /// PostgreSQL's own words: `1 year 2 mons -3 days +04:05:06`.
    Interval,
}

impl Scalar {
    /// All there are.
    pub const ALL: [Self; 16] = [
        Self::Boolean,
        Self::Int,
        Self::Float,
        Self::String,
        Self::Id,
        Self::BigInt,
        Self::Decimal,
        Self::Uuid,
        Self::DateTime,
        Self::LocalDateTime,
        Self::Date,
        Self::Time,
        Self::Json,
        Self::Bytes,
        Self::Ulid,
        Self::Interval,
    ];

    /// The name in a schema.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "Boolean",
            Self::Int => "Int",
            Self::Float => "Float",
            Self::String => "String",
            Self::Id => "ID",
            Self::BigInt => "BigInt",
            Self::Decimal => "Decimal",
            Self::Uuid => "UUID",
            Self::DateTime => "DateTime",
            Self::LocalDateTime => "LocalDateTime",
            Self::Date => "Date",
            Self::Time => "Time",
            Self::Json => "JSON",
            Self::Bytes => "Bytes",
            Self::Ulid => "ULID",
            Self::Interval => "Interval",
        }
    }

    /// The scalar of that name, if it is one of ours.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scalar| scalar.name() == name)
    }
}
