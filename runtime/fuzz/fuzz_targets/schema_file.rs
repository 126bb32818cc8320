//! The schema file: every text compiles to a schema that GraphQL takes, or to problems that are in the text.
#![no_main]

use fraiseql_runtime::engine::schema::catalogue::Catalogue;
use fraiseql_runtime::engine::schema::compile::compile;
use fraiseql_runtime::engine::schema::graphql::Graphql;
use fraiseql_runtime_fuzz::catalogue;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static CATALOGUE: Catalogue = catalogue();
}

fuzz_target!(|text: &str| {
    CATALOGUE.with(|catalogue| match compile(text, catalogue) {
        Ok(compiled) => {
            let graphql = Graphql::new(&compiled.schema, true);
            // What one of them may call valid and the other not would stop a server at its start.
            let graphql = graphql.unwrap_or_else(|error| panic!("it compiled, yet: {error}"));
            assert!(!graphql.sdl().is_empty());
        }
        Err(problems) => {
            assert!(problems.iter().any(|problem| !problem.warning), "nothing but warnings stopped it");
            for problem in problems {
                assert!(!problem.message.is_empty());
                assert!(problem.line <= text.split(['\n', '\r']).count(), "{problem}");
            }
        }
    });
});
