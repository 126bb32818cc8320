//! Changing the database's schema while servers of two releases use it.
//!
//! [`lint`] says before anything runs what a migration would break or block; [`run`] applies migrations so that one
//! that cannot have its lock soon gives up instead of standing in everybody's way. Forward only: a mistake is mended
//! by the next migration. [`strategy`] says how a feature that needed one comes to its users, step by step; [`rollout`] does
//! it over all servers and their restarts.

pub mod lint;
pub mod plan;
pub mod rollout;
pub mod run;
pub mod strategy;

use sqlx::migrate::{Migration, Migrator};

/// The files in `fixtures/schemas/ecommerce/migrations`, as they were when this was built.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../fixtures/schemas/ecommerce/migrations");

/// The runtime's own tables, in the schema `fraiseql`: flags and rollouts, whatever else is served.
pub static OWN_MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The name of the file that a migration was read from.
pub fn file_name(migration: &Migration) -> String {
    format!("{}_{}.sql", migration.version, migration.description.replace(' ', "_"))
}

/// The migrations of this build, for [`lint::lint`].
pub fn built_in() -> Vec<lint::Source> {
    let source = |migration: &Migration| lint::Source {
        name: file_name(migration),
        text: migration.sql.as_str().to_owned(),
    };
    MIGRATIONS.iter().map(source).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_migrations_of_the_runtime_itself_break_no_rule() {
        let source = |migration: &Migration| lint::Source {
            name: file_name(migration),
            text: migration.sql.as_str().to_owned(),
        };
        let sources: Vec<_> = OWN_MIGRATIONS.iter().map(source).collect();
        assert!(sources.len() >= 2);
        let findings = lint::lint(&sources, lint::Release::own());
        let told: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(told.is_empty(), "{}", told.join("\n"));
    }

    #[test]
    fn every_migration_is_named_as_its_file_is() {
        let folder =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/schemas/ecommerce/migrations");
        assert!(MIGRATIONS.iter().count() > 0);
        for migration in MIGRATIONS.iter() {
            let file = folder.join(file_name(migration));
            assert!(file.is_file(), "{}", file.display());
        }
    }
}
