//! The SQL that reads what a database has.
//!
//! Promises: one snapshot, a fixed number of statements however many tables there are, and no lock that a migration
//! waits for; no statement stays prepared, so that any pooler may stand in between. Partitions, members of extensions, triggers, aggregates and procedures are left out.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::types::Oid;
use sqlx::{Connection, PgConnection, Postgres, Transaction};

use super::catalogue::{Catalogue, Column, Function, Parameter, Reference, Relation, Returned};
use crate::error::{Classify, ErrorKind};
use crate::storage::postgres;

/// Errors of [`read`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error("could not read what the database has")]
    Read(#[source] postgres::Error),
    /// A schema that was named is not there, or this role may not see into it.
    #[error("the database has no schema {0}")]
    NoSchema(String),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Read(postgres::Error::Statement(error))
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read(error) => error.kind(),
            Self::NoSchema(_) => ErrorKind::NotFound,
        }
    }
}

const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

const SEARCH_PATH: &str = "SELECT current_schemas(false)::text[]";

const SCHEMAS: &str = "
    SELECT nspname::text FROM pg_namespace WHERE nspname = ANY ($1) AND has_schema_privilege(oid, 'USAGE')";

/// Tables, partitioned and foreign ones, views and materialized views.
const RELATIONS: &str = "
    SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind IN ('v', 'm') AS view,
           obj_description(c.oid, 'pg_class') AS comment
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p', 'f', 'v', 'm') AND NOT c.relispartition
        AND NOT EXISTS (
            SELECT FROM pg_depend d
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";

const COLUMNS: &str = "
    SELECT a.attrelid AS relation, a.attname::text AS name, a.atttypid AS type, a.attnotnull AS not_null,
           a.atthasdef OR a.attidentity <> '' AS has_default, a.attgenerated <> '' OR a.attidentity = 'a' AS generated,
           col_description(a.attrelid, a.attnum) AS comment
    FROM pg_attribute a
    WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attrelid, a.attnum";

/// What each type comes down to: domains to their base, arrays to their elements, in any nesting.
const TYPES: &str = "
    WITH RECURSIVE step (start, type, is_array, not_null, has_default) AS (
        SELECT start, start, false, false, false FROM unnest($1::oid[]) AS start
        UNION ALL
        SELECT step.start, CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END,
               step.is_array OR t.typtype <> 'd',
               -- What a domain says of elements says nothing of the array.
               step.not_null OR t.typnotnull AND NOT step.is_array,
               step.has_default OR t.typdefault IS NOT NULL AND NOT step.is_array
        FROM step JOIN pg_type t ON t.oid = step.type
        WHERE t.typtype = 'd' OR t.typcategory = 'A' AND t.typelem <> 0
    )
    SELECT step.start, t.oid, format_type(t.oid, -1) AS name, step.is_array, step.not_null, step.has_default,
           t.typtype::text AS kind, n.nspname::text AS schema, c.relname::text AS relation
    FROM step JOIN pg_type t ON t.oid = step.type
    LEFT JOIN pg_class c ON c.oid = t.typrelid AND c.relkind <> 'c'
    LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE t.typtype <> 'd' AND (t.typcategory <> 'A' OR t.typelem = 0)";

/// Of indexes whatever can be a key or find equal values. Columns end before the first expression.
const INDEXES: &str = "
    SELECT i.indrelid AS relation, c.relname::text AS name, i.indisprimary AS is_primary, i.indisunique AS is_unique,
           -- A deferred one may be broken for a while, and is no target of ON CONFLICT.
           i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AS is_key,
           i.indisvalid AND am.amname IN ('btree', 'hash') AND (i.indpred IS NULL OR EXISTS (
               SELECT FROM pg_attribute a
               WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
                   AND pg_get_expr(i.indpred, i.indrelid) = format('(%I IS NOT NULL)', a.attname)
           )) AS finds,
           ARRAY(
               SELECT a.attname::text FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, place)
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
               WHERE k.place <= i.indnkeyatts AND 0 <> ALL ((i.indkey::smallint[])[:k.place::integer - 1])
               ORDER BY k.place
           ) AS columns
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am am ON am.oid = c.relam
    WHERE i.indrelid = ANY ($1)
    ORDER BY i.indrelid, i.indisprimary DESC,
        NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u')), c.relname";

/// Constraints of tables and of the domains that their columns have. NOT NULL is known by its column.
const CONSTRAINTS: &str = "
    WITH RECURSIVE used (relation, type) AS (
        SELECT attrelid, atttypid FROM pg_attribute WHERE attrelid = ANY ($1) AND attnum > 0 AND NOT attisdropped
        UNION
        SELECT used.relation, CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END
        FROM used JOIN pg_type t ON t.oid = used.type
        WHERE t.typtype = 'd' OR t.typcategory = 'A' AND t.typelem <> 0
    )
    SELECT conrelid AS relation, conname::text AS name
    FROM pg_constraint WHERE conrelid = ANY ($1) AND contype <> 'n'
    UNION
    SELECT used.relation, k.conname::text
    FROM pg_constraint k JOIN used ON used.type = k.contypid
    WHERE k.contypid <> 0 AND k.contype <> 'n'";

const REFERENCES: &str = "
    SELECT k.conrelid AS relation, k.conname::text AS name, n.nspname::text AS schema, c.relname::text AS target,
           ARRAY(
               SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS key (attnum, place)
               JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = key.attnum ORDER BY key.place
           ) AS columns,
           ARRAY(
               SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS key (attnum, place)
               JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = key.attnum ORDER BY key.place
           ) AS target_columns
    FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.confrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    -- Those with a parent belong to partitions.
    WHERE k.conrelid = ANY ($1) AND k.contype = 'f' AND k.conparentid = 0
    ORDER BY k.conrelid, k.conname";

/// Enums that stand in the schemas or are used by what does.
const ENUMS: &str = "
    SELECT format_type(t.oid, -1) AS name, ARRAY(
        SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder
    ) AS labels
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typtype = 'e' AND (n.nspname = ANY ($1) OR t.oid = ANY ($2))";

/// Modes and names are those of all parameters where some give values back, else there are no modes.
const FUNCTIONS: &str = "
    SELECT n.nspname::text AS schema, p.proname::text AS name, p.prorettype AS returns,
           pg_get_function_result(p.oid) AS result, p.proretset AS is_set, p.provolatile = 'v' AS volatile,
           coalesce(p.proallargtypes, ARRAY(SELECT unnest(p.proargtypes))) AS types, p.proargmodes::text[] AS modes,
           coalesce(p.proargnames, '{}') AS names, p.pronargdefaults::integer AS defaults,
           obj_description(p.oid, 'pg_proc') AS comment
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = ANY ($1) AND p.prokind = 'f'
        AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
        AND NOT EXISTS (
            SELECT FROM pg_depend d
            WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
    ORDER BY n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)";

#[derive(sqlx::FromRow)]
struct RelationRow {
    oid: Oid,
    schema: String,
    name: String,
    view: bool,
    comment: Option<String>,
}

#[derive(sqlx::FromRow)]
struct ColumnRow {
    relation: Oid,
    name: String,
    r#type: Oid,
    not_null: bool,
    has_default: bool,
    generated: bool,
    comment: Option<String>,
}

#[derive(sqlx::FromRow)]
struct TypeRow {
    start: Oid,
    oid: Oid,
    name: String,
    is_array: bool,
    not_null: bool,
    has_default: bool,
    /// `b` base, `e` enum, `c` composite, `p` pseudo, `r` and `m` ranges.
    kind: String,
    schema: Option<String>,
    relation: Option<String>,
}

#[derive(sqlx::FromRow)]
struct IndexRow {
    relation: Oid,
    name: String,
    is_primary: bool,
    is_unique: bool,
    is_key: bool,
    finds: bool,
    columns: Vec<String>,
}

#[derive(sqlx::FromRow)]
struct ReferenceRow {
    relation: Oid,
    name: String,
    schema: String,
    target: String,
    columns: Vec<String>,
    target_columns: Vec<String>,
}

#[derive(sqlx::FromRow)]
struct FunctionRow {
    schema: String,
    name: String,
    returns: Oid,
    result: Option<String>,
    is_set: bool,
    volatile: bool,
    types: Vec<Oid>,
    modes: Option<Vec<String>>,
    names: Vec<String>,
    defaults: i32,
    comment: Option<String>,
}

type Types = BTreeMap<u32, TypeRow>;

/// Reads the catalogue of `schemas`, or of the search path when none is named.
///
/// # Errors
///
/// [`Error::NoSchema`] for a name that is not there, [`Error::Read`] when the database fails. The connection must not
/// be in a transaction.
pub async fn read(connection: &mut PgConnection, schemas: &[String]) -> Result<Catalogue, Error> {
    let mut snapshot = connection.begin_with(SNAPSHOT).await?;
    let search_path: Vec<String> =
        sqlx::query_scalar(SEARCH_PATH).persistent(false).fetch_one(&mut *snapshot).await?;
    let schemas = if schemas.is_empty() { search_path.clone() } else { schemas.to_vec() };
    let found: Vec<String> =
        sqlx::query_scalar(SCHEMAS).persistent(false).bind(&schemas).fetch_all(&mut *snapshot).await?;
    if let Some(missing) = schemas.iter().find(|schema| !found.contains(schema)) {
        return Err(Error::NoSchema(missing.clone()));
    }
    let relations: Vec<RelationRow> =
        sqlx::query_as(RELATIONS).persistent(false).bind(&schemas).fetch_all(&mut *snapshot).await?;
    let oids: Vec<Oid> = relations.iter().map(|relation| relation.oid).collect();
    let columns: Vec<ColumnRow> =
        sqlx::query_as(COLUMNS).persistent(false).bind(&oids).fetch_all(&mut *snapshot).await?;
    let functions: Vec<FunctionRow> =
        sqlx::query_as(FUNCTIONS).persistent(false).bind(&schemas).fetch_all(&mut *snapshot).await?;
    let types = types(&mut snapshot, &columns, &functions).await?;
    let enums = enums(&mut snapshot, &schemas, &types).await?;
    let mut tables: BTreeMap<u32, Relation> =
        relations.iter().map(|row| (row.oid.0, relation(row))).collect();
    columns.into_iter().for_each(|row| add_column(&mut tables, row, &types));
    add_keys(&mut snapshot, &oids, &mut tables).await?;
    add_constraints(&mut snapshot, &oids, &mut tables).await?;
    snapshot.rollback().await?;

    let mut catalogue = Catalogue { enums, search_path, ..Catalogue::default() };
    for row in relations {
        let table = tables.remove(&row.oid.0).unwrap_or_default();
        catalogue.tables.insert((row.schema, row.name), table);
    }
    for row in functions {
        let name = (row.schema.clone(), row.name.clone());
        catalogue.functions.entry(name).or_default().push(function(row, &types));
    }
    Ok(catalogue)
}

async fn types(
    snapshot: &mut Transaction<'_, Postgres>,
    columns: &[ColumnRow],
    functions: &[FunctionRow],
) -> Result<Types, Error> {
    let of_functions = functions.iter().flat_map(|row| row.types.iter().chain([&row.returns]));
    let used: BTreeSet<u32> =
        columns.iter().map(|row| &row.r#type).chain(of_functions).map(|oid| oid.0).collect();
    let used: Vec<Oid> = used.into_iter().map(Oid).collect();
    let rows: Vec<TypeRow> =
        sqlx::query_as(TYPES).persistent(false).bind(used).fetch_all(&mut **snapshot).await?;
    Ok(rows.into_iter().map(|row| (row.start.0, row)).collect())
}

async fn enums(
    snapshot: &mut Transaction<'_, Postgres>,
    schemas: &[String],
    types: &Types,
) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let used: Vec<Oid> = types.values().filter(|row| row.kind == "e").map(|row| row.oid).collect();
    let rows: Vec<(String, Vec<String>)> =
        sqlx::query_as(ENUMS).persistent(false).bind(schemas).bind(used).fetch_all(&mut **snapshot).await?;
    Ok(rows.into_iter().collect())
}

async fn add_keys(
    snapshot: &mut Transaction<'_, Postgres>,
    oids: &[Oid],
    tables: &mut BTreeMap<u32, Relation>,
) -> Result<(), Error> {
    let rows: Vec<IndexRow> =
        sqlx::query_as(INDEXES).persistent(false).bind(oids).fetch_all(&mut **snapshot).await?;
    for row in rows {
        let Some(table) = tables.get_mut(&row.relation.0) else { continue };
        table.primary |= row.is_primary;
        if row.is_key && !table.keys.contains(&row.columns) {
            table.keys.push(row.columns.clone());
        }
        if row.finds && !row.columns.is_empty() {
            table.indexes.push(row.columns);
        }
        if row.is_unique {
            table.constraints.push(row.name);
        }
    }
    Ok(())
}

async fn add_constraints(
    snapshot: &mut Transaction<'_, Postgres>,
    oids: &[Oid],
    tables: &mut BTreeMap<u32, Relation>,
) -> Result<(), Error> {
    let names: Vec<(Oid, String)> =
        sqlx::query_as(CONSTRAINTS).persistent(false).bind(oids).fetch_all(&mut **snapshot).await?;
    for (relation, name) in names {
        if let Some(table) = tables.get_mut(&relation.0) {
            table.constraints.push(name);
        }
    }
    for table in tables.values_mut() {
        table.constraints.sort_unstable();
        table.constraints.dedup();
    }
    let rows: Vec<ReferenceRow> =
        sqlx::query_as(REFERENCES).persistent(false).bind(oids).fetch_all(&mut **snapshot).await?;
    for row in rows {
        if let Some(table) = tables.get_mut(&row.relation.0) {
            let (name, columns, target) = (row.name, row.columns, row.target_columns);
            table.references.push(Reference { name, columns, table: (row.schema, row.target), target });
        }
    }
    Ok(())
}

fn relation(row: &RelationRow) -> Relation {
    Relation { view: row.view, comment: row.comment.clone(), ..Relation::default() }
}

fn add_column(tables: &mut BTreeMap<u32, Relation>, row: ColumnRow, types: &Types) {
    let Some(table) = tables.get_mut(&row.relation.0) else { return };
    let ty = column_of(row.r#type, types);
    table.columns.push(Column {
        name: row.name,
        not_null: !table.view && (row.not_null || ty.not_null),
        has_default: row.has_default || ty.has_default,
        generated: row.generated,
        comment: row.comment,
        ..ty
    });
}

/// A column of the type, without a name.
fn column_of(ty: Oid, types: &Types) -> Column {
    let Some(row) = types.get(&ty.0) else { return Column::default() };
    Column {
        sql_type: row.name.clone(),
        oid: row.oid.0,
        array: row.is_array,
        is_enum: row.kind == "e",
        not_null: row.not_null,
        has_default: row.has_default,
        ..Column::default()
    }
}

fn function(row: FunctionRow, types: &Types) -> Function {
    let returns = returned(&row, types);
    let mode = |at: usize| row.modes.as_ref().and_then(|modes| modes.get(at)).map_or("i", String::as_str);
    // `o` and `t` are what comes back.
    let taken: Vec<usize> = (0..row.types.len()).filter(|at| matches!(mode(*at), "i" | "b" | "v")).collect();
    let required = taken.len().saturating_sub(usize::try_from(row.defaults).unwrap_or_default());
    let parameter = |(place, at): (usize, &usize)| Parameter {
        name: row.names.get(*at).cloned().unwrap_or_default(),
        column: column_of(row.types[*at], types),
        has_default: place >= required,
    };
    let parameters = taken.iter().enumerate().map(parameter).collect();
    Function { parameters, returns, set: row.is_set, volatile: row.volatile, comment: row.comment }
}

fn returned(row: &FunctionRow, types: &Types) -> Returned {
    match types.get(&row.returns.0) {
        Some(TypeRow { schema: Some(schema), relation: Some(relation), is_array: false, .. }) => {
            Returned::Table((schema.clone(), relation.clone()))
        }
        Some(ty) if matches!(ty.kind.as_str(), "b" | "e" | "r" | "m") => {
            Returned::Value(column_of(row.returns, types))
        }
        _ => Returned::Other(row.result.clone().unwrap_or_else(|| "void".to_owned())),
    }
}
