//! Keeps the tree as ARCHITECTURE.md describes it: tiers, file openings, top-level entries, links, words that do not
//! belong. What no lint of the compiler sees is checked here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above the harness").to_path_buf()
}

/// Files that git tracks or would track: what the repository consists of.
fn repository_files() -> Vec<PathBuf> {
    let output = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is needed to list the repository's files");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let files: Vec<PathBuf> = String::from_utf8(output.stdout)
        .expect("file names are UTF-8")
        .lines()
        .map(PathBuf::from)
        .filter(|file| root().join(file).is_file())
        .collect();
    assert!(!files.is_empty(), "git lists no file");
    files
}

fn rust_files() -> Vec<PathBuf> {
    repository_files().into_iter().filter(|file| file.extension().is_some_and(|e| e == "rs")).collect()
}

fn read(file: &Path) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("read {}: {e}", file.display()))
}

/// Module → tier (0 is the top), from the text block in a crate's documentation.
fn tiers(lib: &str) -> BTreeMap<String, usize> {
    let mut tiers = BTreeMap::new();
    let mut inside = false;
    let mut tier = 0;
    for line in lib.lines().map_while(|line| line.strip_prefix("//!")) {
        match line.trim() {
            "```text" => inside = true,
            "```" => inside = false,
            words if inside => {
                for module in words.split_whitespace() {
                    assert!(
                        tiers.insert(module.to_owned(), tier).is_none(),
                        "`{module}` stands on two tiers"
                    );
                }
                tier += 1;
            }
            _ => {}
        }
    }
    tiers
}

/// Violations of one file that belongs to module `own`: each is a module on the same or a higher line.
fn upward_uses(own: &str, text: &str, tiers: &BTreeMap<String, usize>) -> BTreeSet<String> {
    let path = Regex::new(r"\bcrate::(\{[^}]*\}|\w+)").expect("pattern");
    let word = Regex::new(r"\w+").expect("pattern");
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    path.captures_iter(&code)
        .flat_map(|found| {
            word.find_iter(found.get(1).expect("group").as_str()).map(|m| m.as_str()).collect::<Vec<_>>()
        })
        .filter(|used| *used != own && tiers.get(*used).is_some_and(|tier| *tier <= tiers[own]))
        .map(str::to_owned)
        .collect()
}

#[test]
fn modules_use_only_modules_on_lower_tiers() {
    let mut violations = vec![];
    let module = Regex::new(r"(?m)^(?:pub(?:\(crate\))? )?mod (\w+);").expect("pattern");
    for package in ["chaos", "harness", "runtime"] {
        let lib = read(Path::new(package).join("src/lib.rs").as_path());
        let tiers = tiers(&lib);
        assert!(!tiers.is_empty(), "{package}/src/lib.rs states no tiers");
        let declared: BTreeSet<String> = module.captures_iter(&lib).map(|c| c[1].to_owned()).collect();
        let listed: BTreeSet<String> = tiers.keys().cloned().collect();
        assert_eq!(declared, listed, "{package}/src/lib.rs: declared modules and tiers differ");
        let source = Path::new(package).join("src");
        for file in rust_files().iter().filter(|file| file.starts_with(&source)) {
            let below = file.strip_prefix(&source).expect("filtered");
            let own =
                below.iter().next().expect("a name").to_string_lossy().trim_end_matches(".rs").to_owned();
            if tiers.contains_key(&own) {
                for used in upward_uses(&own, &read(file), &tiers) {
                    violations.push(format!("{}: `{own}` uses `{used}`", file.display()));
                }
            }
        }
    }
    assert!(violations.is_empty(), "uses that point upwards:\n{}", violations.join("\n"));
}

#[test]
fn an_upward_use_is_seen() {
    let tiers = tiers("//! ```text\n//! api\n//! proxy toxic\n//! seed\n//! ```\n");
    assert_eq!(tiers["api"], 0);
    assert_eq!(tiers["toxic"], 1);
    assert!(upward_uses("proxy", "use crate::seed::stream;", &tiers).is_empty());
    assert_eq!(upward_uses("proxy", "use crate::{seed, api};", &tiers), BTreeSet::from(["api".to_owned()]));
    assert_eq!(
        upward_uses("proxy", "let x = crate::toxic::y();", &tiers),
        BTreeSet::from(["toxic".to_owned()])
    );
    assert!(upward_uses("proxy", "// crate::api is above", &tiers).is_empty());
}

#[test]
fn packages_depend_downwards_only() {
    let mentions = |package: &str, other: &str| {
        let manifest = read(Path::new(package).join("Cargo.toml").as_path());
        let manifest: toml::Table = toml::from_str(&manifest).expect("a manifest is TOML");
        // Tests may use what stands above: `dev-dependencies` are not looked at.
        ["dependencies", "build-dependencies"].iter().any(|table| {
            manifest
                .get(*table)
                .and_then(toml::Value::as_table)
                .is_some_and(|table| table.contains_key(other))
        })
    };
    assert!(mentions("harness", "chaos"), "a dependency that is there is not seen");
    assert!(!mentions("chaos", "harness") && !mentions("chaos", "fraiseql-runtime"), "chaos stands alone");
    assert!(!mentions("harness", "fraiseql-runtime"), "the harness drives the server as a process");
    assert!(
        !mentions("runtime", "harness") && !mentions("runtime", "chaos"),
        "the runtime ships without the harness"
    );
}

#[test]
fn every_source_file_says_what_it_promises() {
    let silent: Vec<String> = rust_files()
        .iter()
        .filter(|file| {
            let text = read(file);
            let first = text.lines().find(|line| !line.starts_with("#![") && !line.trim().is_empty());
            // The given acceptance tests are kept byte for byte and open with an ordinary comment.
            !first.is_some_and(|line| line.starts_with("//!") || line.starts_with("// tests/"))
        })
        .map(|file| file.display().to_string())
        .collect();
    assert!(silent.is_empty(), "files that do not open with `//!`:\n{}", silent.join("\n"));
}

#[test]
fn the_top_level_is_the_agreed_one() {
    let entries: BTreeSet<String> = repository_files()
        .iter()
        .map(|file| file.iter().next().expect("a name").to_string_lossy().into_owned())
        .collect();
    for required in [
        "Cargo.toml",
        "runtime",
        "harness",
        "scenarios",
        "fixtures",
        "chaos",
        "dashboards",
        "alerts",
        "runbooks",
        "ci",
    ] {
        assert!(entries.contains(required), "`{required}` is missing at the top level");
    }
    let known = BTreeSet::from([
        "Cargo.toml",
        "Cargo.lock",
        "runtime",
        "harness",
        "scenarios",
        "fixtures",
        "chaos",
        "dashboards",
        "alerts",
        "runbooks",
        "ci",
        "docs",
        "README.md",
        "ARCHITECTURE.md",
        "AGENTS.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "rust-toolchain.toml",
        "rustfmt.toml",
        "clippy.toml",
        "deny.toml",
        "harness.toml",
        ".gitignore",
        ".dockerignore",
        ".ci",
        ".github",
        ".config",
    ]);
    let unknown: Vec<&String> = entries.iter().filter(|e| !known.contains(e.as_str())).collect();
    assert!(unknown.is_empty(), "top-level entries without a reason in ARCHITECTURE.md: {unknown:?}");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)#\s]+)(?:#[^)]*)?\)").expect("pattern");
    let mut broken = vec![];
    for file in repository_files().iter().filter(|file| file.extension().is_some_and(|e| e == "md")) {
        let text = read(file);
        for target in link.captures_iter(&text).map(|c| c[1].to_owned()) {
            let folder = file.parent().unwrap_or(Path::new(""));
            if !target.contains("://") && !root().join(folder).join(&target).exists() {
                broken.push(format!("{}: {target}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn nothing_of_a_single_machine_is_in_the_repository() {
    // Built from parts, so that this file does not contain what it looks for.
    let patterns = [
        ["/wo", "rk/"].concat(),
        ["/ro", "ot/"].concat(),
        ["bash_", "jobs"].concat(),
        ["index.cra", "tes.io"].concat(),
        ["deb.deb", "ian.org"].concat(),
    ];
    let text_types = ["rs", "toml", "md", "sh", "yml", "yaml", "json", "sql", "lua", "html", "txt", ""];
    let mut found = vec![];
    for file in repository_files() {
        let extension = file.extension().map(|e| e.to_string_lossy().into_owned()).unwrap_or_default();
        if !text_types.contains(&extension.as_str()) || file.ends_with("Cargo.lock") {
            continue;
        }
        let Ok(text) = fs::read_to_string(root().join(&file)) else { continue };
        for pattern in &patterns {
            if text.contains(pattern.as_str()) {
                found.push(format!("{}: {pattern}", file.display()));
            }
        }
    }
    assert!(found.is_empty(), "paths or hosts of one machine:\n{}", found.join("\n"));
}
