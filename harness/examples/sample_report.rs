//! Writes the made-up report of the tests into a folder, to look at its forms: `cargo run -p harness --example
//! sample_report -- FOLDER`. The folders `valid` and `violated` are made in it.

#[path = "../tests/support/sample_report.rs"]
mod sample_report;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).ok_or_else(|| anyhow::anyhow!("name a folder to write into"))?;
    for (name, report) in [("valid", sample_report::valid()), ("violated", sample_report::violated())] {
        let folder = std::path::Path::new(&folder).join(name);
        std::fs::create_dir_all(&folder)?;
        println!("{}", harness::report::write_all(&report, &folder)?.html.display());
    }
    Ok(())
}
