//! The types of PostgreSQL whose binary format is understood.
//!
//! Any other type can be read as text: the planner casts it in the statement.

/// A type of PostgreSQL by its binary format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PgType {
    /// `boolean`.
    Bool,
    /// `smallint`.
    Int2,
    /// `integer`.
    Int4,
    /// `bigint`.
    Int8,
    /// `real`.
    Float4,
    /// `double precision`.
    Float8,
    /// `numeric`.
    Numeric,
    /// `text` and what is sent like it: `varchar`, `bpchar`, `name`, `citext`, labels of enums.
    Text,
    /// `uuid`.
    Uuid,
    /// `timestamp with time zone`.
    TimestampTz,
    /// `timestamp without time zone`.
    Timestamp,
    /// `date`.
    Date,
    /// `time without time zone`.
    Time,
    /// `time with time zone`.
    TimeTz,
    /// `interval`.
    Interval,
    /// `bytea`.
    Bytea,
    /// `json`.
    Json,
    /// `jsonb`.
    Jsonb,
}

impl PgType {
    /// All there are.
    pub const ALL: [Self; 18] = [
        Self::Bool,
        Self::Int2,
        Self::Int4,
        Self::Int8,
        Self::Float4,
        Self::Float8,
        Self::Numeric,
        Self::Text,
        Self::Uuid,
        Self::TimestampTz,
        Self::Timestamp,
        Self::Date,
        Self::Time,
        Self::TimeTz,
        Self::Interval,
        Self::Bytea,
        Self::Json,
        Self::Jsonb,
    ];

    /// The type with this oid, if it is a built-in one. Enums, domains and types of extensions have an oid of their own
    /// in each database: the catalogue tells what they are like.
    pub const fn from_oid(oid: u32) -> Option<Self> {
        Some(match oid {
            16 => Self::Bool,
            17 => Self::Bytea,
            20 => Self::Int8,
            21 => Self::Int2,
            23 => Self::Int4,
            // name, text, bpchar, varchar
            19 | 25 | 1042 | 1043 => Self::Text,
            114 => Self::Json,
            700 => Self::Float4,
            701 => Self::Float8,
            1082 => Self::Date,
            1083 => Self::Time,
            1114 => Self::Timestamp,
            1184 => Self::TimestampTz,
            1186 => Self::Interval,
            1266 => Self::TimeTz,
            1700 => Self::Numeric,
            2950 => Self::Uuid,
            3802 => Self::Jsonb,
            _ => return None,
        })
    }

    /// The type of the elements of the array type with this oid, if it is a built-in one.
    pub const fn from_array_oid(oid: u32) -> Option<Self> {
        Some(match oid {
            199 => Self::Json,
            1000 => Self::Bool,
            1001 => Self::Bytea,
            1005 => Self::Int2,
            1007 => Self::Int4,
            1016 => Self::Int8,
            // name, text, bpchar, varchar
            1003 | 1009 | 1014 | 1015 => Self::Text,
            1021 => Self::Float4,
            1022 => Self::Float8,
            1115 => Self::Timestamp,
            1182 => Self::Date,
            1183 => Self::Time,
            1185 => Self::TimestampTz,
            1187 => Self::Interval,
            1231 => Self::Numeric,
            1270 => Self::TimeTz,
            2951 => Self::Uuid,
            3807 => Self::Jsonb,
            _ => return None,
        })
    }

    /// The name to cast to in a statement; for an array with `[]` after it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int2 => "int2",
            Self::Int4 => "int4",
            Self::Int8 => "int8",
            Self::Float4 => "float4",
            Self::Float8 => "float8",
            Self::Numeric => "numeric",
            Self::Text => "text",
            Self::Uuid => "uuid",
            Self::TimestampTz => "timestamptz",
            Self::Timestamp => "timestamp",
            Self::Date => "date",
            Self::Time => "time",
            Self::TimeTz => "timetz",
            Self::Interval => "interval",
            Self::Bytea => "bytea",
            Self::Json => "json",
            Self::Jsonb => "jsonb",
        }
    }
}
