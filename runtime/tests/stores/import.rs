//! `fraiseql-server schema import`: what it proposes for a database is taken by `schema check` without a change, and is
//! served.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use fraiseql_runtime::engine::loader::Source;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::catalogue::migrations;
use crate::support::Stage;
use crate::support::blog::Blog;

/// Whatever a database may be called and have.
const HOSTILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stores/import/hostile.sql");

/// A database with a folder for its files.
struct Imported {
    folder: tempfile::TempDir,
    url: String,
    schemas: Vec<String>,
}

impl Imported {
    async fn of(stage: &Stage, statements: &str, schemas: &[&str]) -> Self {
        let url = stage.database(stage.number()).await.to_string();
        let mut connection = PgConnection::connect(&url).await.expect("the database answers");
        let statements = sqlx::AssertSqlSafe(statements.to_owned());
        sqlx::raw_sql(statements).execute(&mut connection).await.expect("statements of the test");
        connection.close().await.expect("closed");
        let (folder, schemas) =
            (tempfile::tempdir().expect("a folder"), schemas.iter().map(|name| (*name).to_owned()).collect());
        let imported = Self { folder, url, schemas };
        let config = format!(
            "[graphql]\nschema = {:?}\ndatabase_schemas = {:?}\n",
            imported.file().display().to_string(),
            imported.schemas
        );
        std::fs::write(imported.folder.path().join("fraiseql.toml"), config).expect("written");
        imported
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("schema.graphql")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_fraiseql-server"))
            .current_dir(self.folder.path())
            .env_clear()
            .envs([("DATABASE_URL", self.url.as_str()), ("REDIS_URL", "redis://x"), ("NATS_URL", "nats://x")])
            .args(arguments)
            .output()
            .expect("the server's binary runs")
    }

    /// Writes the file, has it checked, and serves it.
    async fn serve(&self) -> (String, Blog) {
        let written = self.run(&["schema", "import", "--output", "schema.graphql"]);
        assert!(written.status.success(), "{}", said(&written));
        let checked = self.run(&["schema", "check"]);
        let text = std::fs::read_to_string(self.file()).expect("a file");
        assert!(checked.status.success(), "{}\n{text}", said(&checked));
        let source =
            Source { path: self.file(), url: self.url.clone(), database_schemas: self.schemas.clone() };
        (text, Blog::over(source).await.expect("it is served"))
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Asks each list for everything that it has, two levels deep; answers the names of those lists.
async fn read_everything(served: &Blog) -> Vec<String> {
    let asked =
        "{ __schema { types { name kind fields { name args { name type { kind } } type { ...t } } } } }
        fragment t on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }";
    let schema = served.data(asked, json!({})).await;
    let types = schema["__schema"]["types"].as_array().expect("types");
    let mut asked = Vec::new();
    for field in fields_of(types, "Query") {
        let needs = |arg: &Value| arg["type"]["kind"] == "NON_NULL";
        if field["args"].as_array().expect("arguments").iter().any(needs) {
            continue;
        }
        let name = field["name"].as_str().expect("a name");
        // A page has its rows one level lower, and twice.
        let levels = if name.ends_with("Connection") { 3 } else { 2 };
        let text = format!("{{ {} }}", selection(types, field, levels).expect("a selection"));
        served.data(&text, json!({})).await;
        asked.push(name.to_owned());
    }
    asked
}

fn fields_of<'a>(types: &'a [Value], name: &str) -> &'a [Value] {
    let ty = types.iter().find(|ty| ty["name"] == name);
    ty.and_then(|ty| ty["fields"].as_array()).map_or(&[], Vec::as_slice)
}

/// The field with all that it has on so many levels; `None` for an object when there is no level left.
fn selection(types: &[Value], field: &Value, levels: u32) -> Option<String> {
    let name = field["name"].as_str().expect("a name");
    let mut ty = &field["type"];
    while !ty["ofType"].is_null() {
        ty = &ty["ofType"];
    }
    if ty["kind"] != "OBJECT" {
        return Some(name.to_owned());
    }
    let levels = levels.checked_sub(1)?;
    let fields = fields_of(types, ty["name"].as_str().expect("a name")).iter();
    let below: Vec<String> = fields.filter_map(|field| selection(types, field, levels)).collect();
    Some(format!("{name} {{ __typename {} }}", below.join(" ")))
}

pub async fn what_is_proposed_for_the_blog_and_the_shop_is_served(stage: Arc<Stage>) {
    let seed = |name: &str| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/schemas");
        std::fs::read_to_string(root.join(name).join("seed.sql")).expect("a seed")
    };
    let blog = Imported::of(&stage, &(migrations("blog") + &seed("blog")), &[]).await;
    let (_, served) = blog.serve().await;
    let read = read_everything(&served).await;
    assert!(
        ["posts", "postsConnection", "authors"].iter().all(|name| read.iter().any(|r| r == name)),
        "{read:?}"
    );
    let made = "mutation { createTag(input: {slug: \"new\", name: \"New\"}) { id slug } }";
    let tag = served.data(made, json!({})).await;
    assert_eq!(tag["createTag"]["slug"], "new");
    let found = "query ($id: ID!) { tag(id: $id) { name } }";
    assert_eq!(served.data(found, json!({"id": tag["createTag"]["id"]})).await["tag"]["name"], "New");

    let shop = Imported::of(&stage, &(migrations("ecommerce") + &seed("ecommerce")), &[]).await;
    let (_, served) = shop.serve().await;
    let read = read_everything(&served).await;
    assert!(["orders", "products"].iter().all(|name| read.iter().any(|r| r == name)), "{read:?}");
    let made = "mutation { createCategory(input: {name: \"New\"}) { id name } }";
    assert_eq!(served.data(made, json!({})).await["createCategory"]["name"], "New");
}

pub async fn a_hostile_database_gets_a_file_that_is_served(stage: Arc<Stage>) {
    let statements = std::fs::read_to_string(HOSTILE).expect("the file is there");
    let hostile = Imported::of(&stage, &statements, &["public", "Odd Schema"]).await;
    let (text, served) = hostile.serve().await;
    for (left_out, why) in [
        ("public.keyless", "neither a primary key nor a unique constraint"),
        ("public.select.point", "no scalar for its type, point"),
        ("public.select.span", "no scalar for its type, int4range"),
        ("public.only_shapes:", "none of its columns has a type that is known here"),
        ("public.takes_a_shape()", "point"),
        ("public.all_hostile", "has no key"),
    ] {
        let line = text.lines().find(|line| line.starts_with("#   ") && line.contains(left_out));
        assert!(line.is_some_and(|line| line.contains(why)), "{left_out}: {line:?}\n{text}");
    }
    let read = read_everything(&served).await;
    assert!(read.len() > 10, "{read:?}");

    let made = served
        .data(
            "mutation {
                createSelect(input: {where: \"'; DROP TABLE \\\"select\\\"; --\", type: _true, notColumn: 5}) {
                    from where type notColumn orderBy
                }
            }",
            json!({}),
        )
        .await;
    let row = &made["createSelect"];
    assert_eq!(row["type"], "_true");
    let asked = "query ($n: Int) {
        selects(where: {notColumn: {eq: $n}, type: {in: [_true, in_progress2]}, not: {where: {eq: \"x\"}}},
            orderBy: [{type: ASC}, {notColumn: DESC}]) { from where type }
    }";
    let found = served.data(asked, json!({"n": 5})).await;
    assert_eq!(found["selects"].as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(found["selects"][0]["where"], row["where"]);
    let changed = "mutation ($id: ID!) {
        updateSelect(from: $id, patch: {type: in_progress2}) { type }
        deleteSelect(from: $id) { from }
    }";
    let changed = served.data(changed, json!({"id": row["from"]})).await;
    assert_eq!(changed["updateSelect"]["type"], "in_progress2");
    assert_eq!(changed["deleteSelect"]["from"], row["from"]);
    assert_eq!(served.data(asked, json!({"n": 5})).await["selects"], json!([]));
}

pub async fn a_file_that_is_there_is_not_overwritten(stage: Arc<Stage>) {
    let tables = "CREATE TABLE a (id bigint PRIMARY KEY); CREATE TABLE b (id bigint PRIMARY KEY);";
    let database = Imported::of(&stage, tables, &[]).await;
    std::fs::write(database.file(), "mine").expect("written");
    let refused = database.run(&["schema", "import", "--output", "schema.graphql"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("schema.graphql is there already; --force"), "{}", said(&refused));
    assert_eq!(std::fs::read_to_string(database.file()).expect("a file"), "mine");

    let unknown = database.run(&["schema", "import", "--tables", "a,c"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(said(&unknown).contains("no table or view c"), "{}", said(&unknown));

    let forced = database.run(&[
        "schema",
        "import",
        "--tables",
        "a",
        "--read-only",
        "--output",
        "schema.graphql",
        "--force",
    ]);
    assert!(forced.status.success(), "{}", said(&forced));
    let text = std::fs::read_to_string(database.file()).expect("a file");
    assert!(
        text.contains("type A @table") && !text.contains("type B") && !text.contains("type Mutation"),
        "{text}"
    );
    let printed = database.run(&["schema", "import", "--tables", "public.a", "--read-only"]);
    assert_eq!(String::from_utf8_lossy(&printed.stdout), text);
}
