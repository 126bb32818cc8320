//! The analyzer's numbers are the engine's; without a schema they are what they are said to be.

use async_graphql::{Name, Value};
use proptest::prelude::*;

use super::*;
use crate::engine::coerce;
use crate::engine::plan::plan;
use crate::engine::schema::compile::compile;
use crate::engine::schema::model::{Argument, Field, TypeRef};

fn blog() -> Arc<Schema> {
    let schema = include_str!("../../../../fixtures/schemas/blog/schema.graphql");
    let catalogue = include_str!("../../../../fixtures/schemas/blog/catalogue.json");
    let catalogue = serde_json::from_str(catalogue).expect("a catalogue");
    Arc::new(compile(schema, &catalogue).unwrap_or_else(|problems| panic!("{problems:?}")).schema)
}

fn report(depth: u32, complexity: u32) -> Result<ComplexityReport, SecurityError> {
    Ok(ComplexityReport { depth, complexity })
}

/// What the engine checks its limits against.
fn by_engine(schema: &Schema, text: &str, given: &Variables) -> (u32, u64) {
    let document = parse_query(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let (_, operation) = document.operations.iter().next().expect("an operation");
    let variables =
        coerce::variables(schema, &operation.node, given).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    let document = Document { schema, fragments: &document.fragments, variables: &variables };
    let plan = plan(document, &operation.node).unwrap_or_else(|refusal| panic!("{refusal}\n{text}"));
    let sizes = plan.sizes(&variables).unwrap_or_else(|refusal| panic!("{refusal}\n{text}"));
    (plan.depth, plan.complexity(&sizes))
}

#[test]
fn without_a_schema_lists_are_known_by_their_arguments() {
    let analyzer = QueryComplexityAnalyzer::new(10, 1_000);
    for (text, depth, complexity) in [
        ("{ a }", 1, 1),
        ("{ a { b c } d }", 2, 4),
        ("{ a(limit: 10) { b c { d } } }", 3, 31),
        ("{ a { b(last: 3) { c } } x: a { b } }", 3, 7),
        ("{ a(first: 10) { edges { cursor node { b } } pageInfo { hasNextPage } totalCount } }", 4, 35),
        ("{ a(first: 10) { nodes { b } } }", 3, 12),
        ("query ($n: Int) { a(limit: $n) { b } }", 2, 51),
        ("query ($n: Int = 7) { a(limit: $n) { b } }", 2, 8),
        ("query ($x: Boolean!) { a @skip(if: $x) b @include(if: $x) c @skip(if: true) }", 1, 2),
        ("{ a { ...F } b { ...F } } fragment F on T { c { d } }", 3, 6),
        ("{ a { b } a { b c } ... { a { d } } }", 2, 4),
        ("query A { a } query B { a { b } c }", 2, 3),
    ] {
        assert_eq!(analyzer.analyze(text), report(depth, complexity), "{text}");
    }
    let mut given = Variables::default();
    given.insert(Name::new("n"), Value::from(3));
    assert_eq!(analyzer.analyze_with("query ($n: Int) { a(limit: $n) { b } }", &given), report(2, 4));
}

#[test]
fn what_exceeds_a_limit_is_told_with_its_number() {
    let analyzer = QueryComplexityAnalyzer::new(2, 20);
    let deep = analyzer.analyze("{ a { b { c } } }").expect_err("too deep");
    assert_eq!(deep, SecurityError::QueryTooDeep { depth: 3, max: 2 });
    assert_eq!(deep.to_string(), "Query depth 3 exceeds maximum 2");
    let complex = analyzer.analyze("{ a(first: 20) { b } }").expect_err("too complex");
    assert_eq!(complex, SecurityError::QueryTooComplex { complexity: 21, max: 20 });
    assert_eq!(complex.to_string(), "Query complexity 21 exceeds maximum 20");
    let huge = "{ a(first: 4000000000) { a(first: 4000000000) { a(first: 4000000000) { b } } } }";
    assert_eq!(
        QueryComplexityAnalyzer::new(9, 9).analyze(huge),
        Err(SecurityError::QueryTooComplex { complexity: u32::MAX, max: 9 })
    );
    for unreadable in ["", "{", "{ a { } }", "type A { b: C }", "{ ...A } fragment A on T { ...A }"] {
        assert!(matches!(analyzer.analyze(unreadable), Err(SecurityError::Unreadable(_))), "{unreadable}");
    }
}

#[test]
fn bombs_are_answered_in_the_time_of_their_text() {
    let analyzer = QueryComplexityAnalyzer::new(100, 1_000_000);
    let link = |at: u32| format!("fragment F{at} on T {{ a {{ ...F{0} }} b {{ ...F{0} }} }} ", at + 1);
    for (links, too_deep) in [(60, false), (5_000, true)] {
        let bomb: String = (0..links).map(link).collect();
        let error = analyzer.analyze(&format!("{{ ...F0 }} {bomb} fragment F{links} on T {{ a }}"));
        let refused_as = matches!(error, Err(SecurityError::QueryTooDeep { .. }));
        assert!(error.is_err() && refused_as == too_deep, "{error:?}");
    }
    assert!(analyzer.analyze(&"{a".repeat(100_000)).is_err());
}

#[test]
fn the_fields_of_a_page_count_once_and_those_of_its_rows_for_each() {
    let schema = blog();
    let analyzer = QueryComplexityAnalyzer::new(20, 100_000).with_schema(schema.clone());
    for (text, depth, complexity) in [
        ("{ posts { totalCount pageInfo { hasNextPage endCursor } } }", 3, 5),
        ("{ posts(first: 3) { edges { cursor node { id } } nodes { id } } }", 4, 1 + 2 + 3 * 4),
        ("{ posts { nodes { id } } }", 3, 2 + 20),
        ("{ authors { id posts(last: 2) { nodes { id __typename } } } }", 4, 1 + 20 * (2 + 1 + 2 * 2)),
        (
            "{ media(first: 2) { nodes { id ... on Photo { width height } ... on Video { duration } } } }",
            3,
            2 + 2 * 3,
        ),
        ("query ($n: Int) { tags(limit: $n) { id } }", 2, 1 + 1_000),
    ] {
        assert_eq!(analyzer.analyze(text), report(depth, complexity), "{text}");
        if !text.contains('$') {
            assert_eq!(by_engine(&schema, text, &Variables::default()), (depth, complexity.into()), "{text}");
        }
    }
    let left_out = "query ($n: Int) { tags(limit: $n) { id } }";
    assert_eq!(analyzer.analyze_with(left_out, &Variables::default()), report(2, 1 + 100));
}

/// Writes an operation from choices.
struct Writer<'a> {
    schema: &'a Schema,
    choices: std::slice::Iter<'a, u16>,
    fragments: Vec<String>,
    aliases: u32,
}

impl Writer<'_> {
    /// A number below `of`; the choices run out at 0.
    fn pick(&mut self, of: usize) -> usize {
        usize::from(*self.choices.next().unwrap_or(&0)) % of.max(1)
    }

    fn set(&mut self, fields: &[(String, Option<Field>)], on: Option<&str>, levels: u32) -> String {
        let mut text = "{ __typename ".to_owned();
        for _ in 0..=self.pick(5) {
            let at = self.pick(fields.len());
            let Some((name, field)) = fields.get(at) else { continue };
            let Some(item) = self.item(name, field.as_ref(), levels) else { continue };
            text += &match (self.pick(9), on) {
                (0, _) => format!("... {{ {item} }} "),
                (1, Some(on)) => format!("... on {on} @include(if: $yes) {{ {item} }} "),
                (2, Some(on)) => {
                    self.fragments.push(format!("fragment F{} on {on} {{ {item} }} ", self.fragments.len()));
                    // Spread twice: the second has no effect.
                    format!("...F{0} ...F{0} ", self.fragments.len() - 1)
                }
                (3, _) => format!("... @skip(if: $yes) {{ {item} }} "),
                _ => item + " ",
            };
        }
        text + "}"
    }

    fn item(&mut self, name: &str, field: Option<&Field>, levels: u32) -> Option<String> {
        let args = field.map_or_else(String::new, |field| self.args(field));
        let below = match field.map(|field| field.ty.named) {
            Some(Named::Object(id)) if levels > 0 => " ".to_owned() + &self.object(id, levels - 1),
            Some(Named::Object(_)) => return None,
            _ => String::new(),
        };
        // The same key with other arguments would be no valid operation.
        let alias = if args.is_empty() && self.pick(3) > 0 { String::new() } else { self.alias() };
        Some(format!("{alias}{name}{args}{below}"))
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("x{}: ", self.aliases)
    }

    fn object(&mut self, id: ObjectId, levels: u32) -> String {
        let object = self.schema.object(id);
        let mut fields: Vec<_> =
            object.fields.iter().map(|(name, field)| (name.clone(), Some(field.clone()))).collect();
        fields.push(("__typename".to_owned(), None));
        let own = self.set(&fields, Some(&object.name), levels);
        let ObjectKind::Abstract { members, .. } = &object.kind else { return own };
        let schema = self.schema;
        let members: Vec<String> = members
            .iter()
            .map(|(_, id)| format!("... on {} {} ", schema.object(*id).name, self.object(*id, levels)))
            .collect();
        format!("{} {}}}", own.trim_end_matches('}'), members.concat())
    }

    fn args(&mut self, field: &Field) -> String {
        let mut args = Vec::new();
        let mut sized = false;
        for (name, arg) in &field.args {
            match name.as_str() {
                "first" | "last" | "limit" if !sized && self.pick(2) == 0 => {
                    sized = true;
                    let value = match self.pick(4) {
                        0 => "$n".to_owned(),
                        1 => "$left_out".to_owned(),
                        2 => "$default".to_owned(),
                        _ => self.pick(12).to_string(),
                    };
                    args.push(format!("{name}: {value}"));
                }
                _ if !arg.ty.nullable => args.push(format!("{name}: {}", self.literal(arg))),
                _ => {}
            }
        }
        if args.is_empty() { String::new() } else { format!("({})", args.join(", ")) }
    }

    fn literal(&self, arg: &Argument) -> String {
        let TypeRef { named, .. } = arg.ty;
        match named {
            Named::Enum(id) => self.schema.enumeration(id).values.keys().next().expect("a value").clone(),
            Named::Scalar(scalar) if matches!(scalar.name(), "ID" | "Int" | "BigInt") => "1".to_owned(),
            Named::Scalar(_) => "\"x\"".to_owned(),
            Named::Input(_) | Named::Object(_) => "{}".to_owned(),
        }
    }
}

fn operation(schema: &Schema, choices: &[u16]) -> String {
    let mut writer = Writer { schema, choices: choices.iter(), fragments: Vec::new(), aliases: 0 };
    let (kind, root) = match writer.pick(4) {
        0 => ("mutation", &schema.mutation),
        _ => ("query", &schema.query),
    };
    let takes_input = |field: &Field| {
        field.args.values().any(|arg| !arg.ty.nullable && matches!(arg.ty.named, Named::Input(_)))
    };
    let fields: Vec<_> = root
        .iter()
        .filter(|(_, field)| !takes_input(field))
        .map(|(name, field)| (name.clone(), Some(field.clone())))
        .collect();
    let levels = 1 + writer.pick(5);
    let set = writer.set(&fields, None, u32::try_from(levels).expect("few"));
    let variables = "($n: Int, $left_out: Int, $default: Int = 3, $yes: Boolean! = true)";
    format!("{kind} {variables} {set} {}", writer.fragments.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn any_text_is_answered(
        words in proptest::collection::vec(
            prop::sample::select(vec![
                "{", "}", "(", ")", "a", "b: a", "...", "...F", "on T", "fragment F on T {", "query Q {", "@skip(if: true)",
                "@include(if: $x)", "first: 3", "limit: $x", "[", "\"", "\"\"\"", "#", "$x: Int", "=", "-1e9", "!", "|", "\u{feff}", "ü",
            ]),
            0..60,
        ),
    ) {
        let text = words.join(" ");
        let found = QueryComplexityAnalyzer::new(5, 50).analyze(&text);
        if let Ok(report) = found {
            prop_assert!(report.depth <= 5 && report.complexity <= 50 && report.complexity >= report.depth);
        }
    }

    #[test]
    fn the_analyzer_gives_the_numbers_of_the_engine(
        choices in proptest::collection::vec(any::<u16>(), 0..400), n in 0..9i32,
    ) {
        static BLOG: std::sync::LazyLock<Arc<Schema>> = std::sync::LazyLock::new(blog);
        let text = operation(&BLOG, &choices);
        let mut given = Variables::default();
        given.insert(Name::new("n"), Value::from(n));
        let (depth, complexity) = by_engine(&BLOG, &text, &given);
        let analyzer = QueryComplexityAnalyzer::new(u32::MAX, u32::MAX).with_schema(BLOG.clone());
        let found = analyzer.analyze_with(&text, &given);
        let complexity = u32::try_from(complexity).unwrap_or(u32::MAX);
        prop_assert_eq!(found, report(depth, complexity), "{}", text);
        // A limit is exceeded by the first number that is more.
        let exact = QueryComplexityAnalyzer::new(depth, complexity).with_schema(BLOG.clone());
        prop_assert!(exact.analyze_with(&text, &given).is_ok());
        let less = QueryComplexityAnalyzer::new(depth, complexity - 1).with_schema(BLOG.clone());
        prop_assert_eq!(
            less.analyze_with(&text, &given),
            Err(SecurityError::QueryTooComplex { complexity, max: complexity - 1 })
        );
    }
}
