//! Each rule refuses one example and accepts its better form; what a person reads is a snapshot.

use proptest::prelude::*;

use super::*;

fn source(name: &str, text: &str) -> Source {
    Source { name: name.to_owned(), text: text.to_owned() }
}

fn release(text: &str) -> Release {
    text.parse().expect("a release")
}

fn findings(texts: &[&str]) -> Vec<Finding> {
    let name = |(number, text): (usize, &&str)| source(&format!("{number}.sql"), text);
    let sources: Vec<Source> = texts.iter().enumerate().map(name).collect();
    lint(&sources, release("1.4.0"))
}

/// The rules that the files break, each once.
fn rules(texts: &[&str]) -> Vec<Rule> {
    let mut rules: Vec<Rule> = findings(texts).into_iter().map(|finding| finding.rule).collect();
    rules.sort();
    rules.dedup();
    rules
}

/// Rule, what it refuses, what it accepts. Files are applied in their order.
const EXAMPLES: &[(Rule, &[&str], &[&str])] = &[
    (Rule::Syntax, &["ALTER TABEL t ADD COLUMN a int;"], &["ALTER TABLE t ADD COLUMN a int;"]),
    (
        Rule::RequiredColumn,
        &["ALTER TABLE t ADD COLUMN a int NOT NULL;"],
        &["ALTER TABLE t ADD COLUMN a int NOT NULL DEFAULT 0, ADD COLUMN b int;"],
    ),
    (Rule::RequiredColumn, &["ALTER TABLE t ADD COLUMN a int NOT NULL DEFAULT NULL;"], &[]),
    (
        Rule::RewritingDefault,
        &["ALTER TABLE t ADD COLUMN a uuid DEFAULT gen_random_uuid();"],
        &["ALTER TABLE t ADD COLUMN a timestamptz DEFAULT now(), ADD COLUMN b date DEFAULT current_date;"],
    ),
    (
        Rule::RewritingDefault,
        &["ALTER TABLE t ADD COLUMN a bigserial;"],
        &["CREATE TABLE t (); ALTER TABLE t ADD COLUMN a bigserial;"],
    ),
    (Rule::RewritingDefault, &["ALTER TABLE t ADD COLUMN a int GENERATED ALWAYS AS (b + 1) STORED;"], &[]),
    (Rule::RewritingDefault, &["ALTER TABLE t ADD COLUMN a bigint GENERATED ALWAYS AS IDENTITY;"], &[]),
    (
        Rule::ColumnType,
        &["ALTER TABLE t ALTER COLUMN a TYPE bigint;"],
        &["ALTER TABLE t ALTER COLUMN a SET DEFAULT 1, ALTER COLUMN a DROP NOT NULL;"],
    ),
    (
        Rule::SetNotNull,
        &["ALTER TABLE t ALTER COLUMN a SET NOT NULL;"],
        &[
            "ALTER TABLE t ADD CONSTRAINT c CHECK (a IS NOT NULL AND \"B\" IS NOT NULL) NOT VALID;",
            "ALTER TABLE t VALIDATE CONSTRAINT c;",
            "ALTER TABLE t ALTER COLUMN a SET NOT NULL, ALTER COLUMN \"B\" SET NOT NULL, DROP CONSTRAINT c;",
        ],
    ),
    (
        Rule::SetNotNull,
        &[
            "ALTER TABLE t ADD CONSTRAINT c CHECK (a IS NOT NULL OR b IS NOT NULL) NOT VALID;",
            "ALTER TABLE t VALIDATE CONSTRAINT c;",
            "ALTER TABLE t ALTER COLUMN a SET NOT NULL;",
        ],
        &[],
    ),
    (
        Rule::SetNotNull,
        &[
            "ALTER TABLE t ADD CONSTRAINT c CHECK (a IS NOT NULL) NOT VALID;",
            "ALTER TABLE t ALTER COLUMN a SET NOT NULL;",
        ],
        &[],
    ),
    (
        Rule::DropUnannounced,
        &["ALTER TABLE t DROP COLUMN a;"],
        &["-- fraiseql: unused-since 1.3.0\nALTER TABLE t DROP COLUMN a;"],
    ),
    (
        Rule::DropUnannounced,
        &["-- fraiseql: unused-since 1.4.0\nALTER TABLE t DROP COLUMN a;"],
        &["CREATE TABLE t (a int); ALTER TABLE public.t DROP COLUMN a;"],
    ),
    (Rule::DropUnannounced, &["DROP TABLE a, b;"], &["CREATE TEMP TABLE a (); DROP TABLE a;"]),
    (Rule::Rename, &["ALTER TABLE t RENAME COLUMN a TO b;"], &["ALTER TABLE t RENAME CONSTRAINT a TO b;"]),
    (Rule::Rename, &["ALTER TABLE t RENAME a TO b;"], &[]),
    (Rule::Rename, &["ALTER TABLE t RENAME TO u;"], &["CREATE TABLE t (); ALTER TABLE t RENAME TO u;"]),
    (Rule::Rename, &["ALTER TABLE t SET SCHEMA s;"], &[]),
    (
        Rule::ConstraintNotValid,
        &["ALTER TABLE t ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES u (id);"],
        &["ALTER TABLE t ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES u (id) NOT VALID;"],
    ),
    (
        Rule::ConstraintNotValid,
        &["ALTER TABLE t ADD CHECK (a > 0);"],
        &["ALTER TABLE t ADD CHECK (a > 0) NOT VALID;"],
    ),
    (
        Rule::ConstraintNotValid,
        &["ALTER TABLE t ADD COLUMN a int CHECK (a > 0);"],
        &["ALTER TABLE t ADD COLUMN a int REFERENCES u (id);"],
    ),
    (Rule::ConstraintNotValid, &["ALTER TABLE t ADD COLUMN a int DEFAULT 1 REFERENCES u (id);"], &[]),
    (
        Rule::ValidateApart,
        &["ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID; ALTER TABLE t VALIDATE CONSTRAINT c;"],
        &["ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID;", "ALTER TABLE t VALIDATE CONSTRAINT c;"],
    ),
    (
        Rule::UniqueUsingIndex,
        &["ALTER TABLE t ADD CONSTRAINT c UNIQUE (a);"],
        &["ALTER TABLE t ADD CONSTRAINT c UNIQUE USING INDEX i;"],
    ),
    (
        Rule::UniqueUsingIndex,
        &["ALTER TABLE t ADD PRIMARY KEY (a);"],
        &["ALTER TABLE t ADD PRIMARY KEY USING INDEX i;"],
    ),
    (
        Rule::UniqueUsingIndex,
        &["ALTER TABLE t ADD COLUMN a int UNIQUE;"],
        &["CREATE TABLE t (a int UNIQUE);"],
    ),
    (
        Rule::IndexConcurrently,
        &["CREATE INDEX i ON t (a);"],
        &["-- no-transaction\nCREATE INDEX CONCURRENTLY i ON t (a);"],
    ),
    (
        Rule::IndexConcurrently,
        &["DROP INDEX i;"],
        &["CREATE TABLE t (a int); CREATE INDEX i ON t (a); DROP INDEX i;"],
    ),
    (
        Rule::IndexConcurrently,
        &["-- no-transaction\nREINDEX TABLE t;"],
        &["-- no-transaction\nREINDEX TABLE CONCURRENTLY t;"],
    ),
    (
        Rule::ConcurrentlyIfNotExists,
        &["-- no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS i ON t (a);"],
        &["-- no-transaction\nDROP INDEX CONCURRENTLY IF EXISTS i;"],
    ),
    (
        Rule::NoTransaction,
        &["CREATE INDEX CONCURRENTLY i ON t (a);"],
        &["-- no-transaction\n-- Why.\nCREATE INDEX CONCURRENTLY i ON t (a);"],
    ),
    (
        Rule::NoTransaction,
        &["-- no-transaction\nCREATE INDEX CONCURRENTLY i ON t (a); CREATE INDEX CONCURRENTLY j ON t (b);"],
        &[],
    ),
    (Rule::NoTransaction, &["-- Why.\n-- no-transaction\nCREATE INDEX CONCURRENTLY i ON t (a);"], &[]),
    (Rule::TransactionControl, &["BEGIN; ALTER TABLE t ADD COLUMN a int; COMMIT;"], &[]),
    (
        Rule::Timeouts,
        &["SET lock_timeout = 0;"],
        &["SET lock_timeout = '500ms'; SET LOCAL statement_timeout TO 1000; SET search_path = x;"],
    ),
    (
        Rule::Timeouts,
        &["SET LOCAL statement_timeout TO '0s';"],
        &["SELECT set_config('search_path', 'x', true);"],
    ),
    (Rule::Timeouts, &["SET statement_timeout TO DEFAULT;"], &["RESET search_path;"]),
    (Rule::Timeouts, &["RESET ALL;"], &[]),
    (Rule::Timeouts, &["SELECT set_config('lock_timeout', '0', false);"], &[]),
    (
        Rule::UnboundedChange,
        &["UPDATE t SET a = 1;"],
        &["UPDATE t SET a = 1 WHERE id = 7; CREATE TABLE u (); DELETE FROM u;"],
    ),
    (
        Rule::UnboundedChange,
        &["WITH gone AS (DELETE FROM t RETURNING id) SELECT count(*) FROM gone;"],
        &["CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ DELETE FROM t $$;"],
    ),
    (Rule::UnboundedChange, &["TRUNCATE t;"], &["CREATE TABLE t (); TRUNCATE t;"]),
    (
        Rule::UnboundedChange,
        &["DO $$ BEGIN UPDATE t SET a = 1; END $$;"],
        &[
            "-- no-transaction\nDO $$ BEGIN LOOP UPDATE t SET a = 1 WHERE id IN (SELECT id FROM t WHERE a IS NULL LIMIT 9);\
           EXIT WHEN NOT FOUND; COMMIT; END LOOP; END $$;",
        ],
    ),
    (Rule::TableRewrite, &["ALTER TABLE t SET UNLOGGED;"], &["ALTER TABLE t SET (fillfactor = 70);"]),
    (Rule::TableRewrite, &["-- no-transaction\nVACUUM FULL t;"], &["-- no-transaction\nVACUUM t;"]),
    (Rule::TableRewrite, &["LOCK TABLE t;"], &[]),
    (Rule::OpaqueCode, &["DO $$ BEGIN EXECUTE 'DROP TABLE t'; END $$;"], &["DO $$ BEGIN PERFORM 1; END $$;"]),
    (Rule::OpaqueCode, &["DO LANGUAGE plpython3u $$ pass $$;"], &[]),
    (
        Rule::OpaqueCode,
        &["DO $$ BEGIN IF; END $$;"],
        &["-- fraiseql: allow(opaque-code) read by two people\nDO $$ BEGIN IF; END $$;"],
    ),
    (
        Rule::Exception,
        &["-- fraiseql: allow(rename) nothing is renamed\nALTER TABLE t ADD COLUMN a int;"],
        &["-- fraiseql: allow(rename) no server uses it yet\nALTER TABLE t RENAME COLUMN a TO b;"],
    ),
];

#[test]
fn each_rule_refuses_and_accepts_as_its_examples_say() {
    for (rule, refused, accepted) in EXAMPLES {
        assert_eq!(rules(refused), [*rule], "{refused:?}: {:#?}", findings(refused));
        assert_eq!(rules(accepted), [], "{accepted:?}: {:#?}", findings(accepted));
    }
}

#[test]
fn every_rule_has_an_example_of_both_kinds() {
    for rule in Rule::ALL {
        let of =
            |(example, _, accepted): &&(Rule, &[&str], &[&str])| *example == rule && !accepted.is_empty();
        // A file has no form of a transaction's begin that is right.
        let without =
            rule == Rule::TransactionControl && EXAMPLES.iter().any(|(example, ..)| *example == rule);
        assert!(without || EXAMPLES.iter().any(|example| of(&example)), "{}", rule.id());
    }
}

#[test]
fn an_exception_is_for_its_statement_and_its_rule_alone() {
    let rename = "ALTER TABLE t RENAME COLUMN a TO b;";
    let allow = "-- fraiseql: allow(rename) no server uses it yet";
    assert_eq!(rules(&[&format!("{rename} {allow}")]), [], "behind it");
    assert_eq!(rules(&[&format!("ALTER TABLE t\n{allow}\nRENAME COLUMN a TO b;")]), [], "inside it");
    let other = format!("{allow}\nSELECT 1;\n{rename}");
    assert_eq!(rules(&[&other]), [Rule::Rename, Rule::Exception], "above another");
    let other = format!("{allow}\nALTER TABLE t ADD COLUMN a int NOT NULL;");
    assert_eq!(rules(&[&other]), [Rule::RequiredColumn, Rule::Exception], "another rule");
    let without = "-- fraiseql: allow(rename)\nALTER TABLE t RENAME COLUMN a TO b;";
    assert_eq!(rules(&[without]), [Rule::Rename, Rule::Exception], "without a reason");
}

#[test]
fn what_is_inside_a_block_is_found_at_its_place() {
    let text = "DO $$\nBEGIN\n    ALTER TABLE t DROP COLUMN a;\nEND\n$$;";
    let findings = findings(&[text]);
    let places: Vec<(usize, usize)> = findings.iter().map(|finding| (finding.line, finding.column)).collect();
    assert_eq!(places, [(3, 19)], "{findings:#?}");
    let allowed = format!("-- fraiseql: unused-since 1.2.0\n{text}");
    assert_eq!(rules(&[&allowed]), []);
}

#[test]
fn findings_read_as_they_should() {
    let files = [
        source(
            "20270101090000_sum_up.sql",
            "-- Größe und Summe.\nALTER TABLE orders\n    ADD COLUMN größe int NOT NULL, ADD CHECK (größe > 0);\nALTER TABLE orders RENAME COLUMN total TO sum;\n",
        ),
        source(
            "20270101090100_index.sql",
            "CREATE INDEX orders_sum ON orders (sum);\nUPDATE orders SET sum = 0;\n",
        ),
        source("20270101090200_typo.sql", "DROP TABEL orders;\n"),
    ];
    let shown: Vec<String> = lint(&files, release("1.4.0")).iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn the_migrations_of_this_build_have_no_findings() {
    let sources = crate::migration::built_in();
    assert!(!sources.is_empty());
    let findings = lint(&sources, Release::own());
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn the_worked_examples_have_no_findings_from_the_release_on_that_they_name() {
    let examples =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/schemas/migration-examples");
    let of = |folder: &str, release: Release| {
        let sources = folder::read(&[examples.join(folder)]).expect("the example's files");
        lint(&sources, release).into_iter().map(|finding| finding.rule).collect::<Vec<Rule>>()
    };
    assert_eq!(of("email_verified", Release::own()), []);
    assert_eq!(of("total_amount", release("1.3.0")), [Rule::DropUnannounced]);
    assert_eq!(of("total_amount", release("1.4.0")), []);
}

proptest! {
    #[test]
    fn any_text_is_judged_and_every_place_is_in_it(text in "[-a-z0-9 ;()$'\"\n*/.]{0,200}") {
        for finding in findings(&[&text]) {
            prop_assert!(finding.line <= text.matches('\n').count() + 1, "{finding}");
        }
    }

    #[test]
    fn statements_in_any_order_and_cut_anywhere_are_judged(
        picks in proptest::collection::vec(0..EXAMPLES.len(), 1..5), cut in 0_usize..400,
    ) {
        let text: String = picks.iter().flat_map(|pick| EXAMPLES[*pick].1.iter().copied()).collect();
        let end = (0..=cut.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        findings(&[&text[..end]]);
    }
}
