//! Claim: an operation that was never seen costs less than a millisecond before its statement is sent: parsing, validation,
//! coercion and planning of every operation of the catalogue (`fixtures/schemas/*/operations`).

use std::path::Path;
use std::time::Duration;

use async_graphql::Variables;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fraiseql_runtime::engine::explain;
use fraiseql_runtime::engine::schema::catalogue::Catalogue;
use fraiseql_runtime::engine::schema::compile::compile;
use fraiseql_runtime::engine::schema::graphql::Graphql;

fn cold(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut group = criterion.benchmark_group("cold");
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1)).sample_size(20);
    for name in ["ecommerce", "blog"] {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/schemas")).join(name);
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).expect("readable");
        let catalogue: Catalogue = serde_json::from_str(&read("catalogue.json")).expect("a catalogue");
        let Ok(compiled) = compile(&read("schema.graphql"), &catalogue) else { panic!("{name} compiles") };
        let graphql = Graphql::new(&compiled.schema, true).expect("a valid schema");
        let entries = std::fs::read_dir(folder.join("operations")).expect("operations");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        for path in paths {
            let text = std::fs::read_to_string(&path).expect("readable");
            let variables = text.lines().find_map(|line| line.strip_prefix("# variables: ")).unwrap_or("{}");
            let variables: Variables = serde_json::from_str(variables).expect("variables");
            let operation = path.file_stem().expect("a name").to_string_lossy().into_owned();
            group.bench_function(BenchmarkId::new(name, operation), |bencher| {
                bencher.iter(|| {
                    let planned = explain::plan_of(&compiled.schema, &graphql, &text, &variables);
                    runtime.block_on(planned).unwrap_or_else(|error| panic!("{error}"))
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, cold);
criterion_main!(benches);
