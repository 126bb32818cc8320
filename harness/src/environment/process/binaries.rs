//! Where the servers' programs are: PATH, the distributions' usual folders, then what was fetched earlier, then a
//! fetch. Fetched programs run with their own libraries.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{account, fetch};
use crate::environment::Error;

/// Programs of the three services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    pub initdb: PathBuf,
    pub postgres: PathBuf,
    pub redis: PathBuf,
    pub nats: PathBuf,
    /// Folder that fetched packages were unpacked into, if any program comes from there.
    pub fetched: Option<PathBuf>,
}

/// A program beside the services'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    pub path: PathBuf,
    /// Variables that it needs.
    pub environment: Vec<(String, OsString)>,
}

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// Folders in order of preference; a `*` stands for one path component.
    pub folders: Vec<PathBuf>,
    /// Where fetched packages are kept.
    pub cache: PathBuf,
}

/// Folders that distributions use and PATH often lacks.
const USUAL: [&str; 8] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
];

impl Search {
    /// PATH, then the usual folders. The cache is the user's (XDG), or /var/cache for root, whose home the services'
    /// unprivileged user cannot enter.
    pub fn of_this_machine() -> Search {
        let mut folders: Vec<PathBuf> =
            std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
        folders.extend(USUAL.iter().map(PathBuf::from));
        let absolute =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = if nix::unistd::geteuid().is_root() {
            PathBuf::from("/var/cache")
        } else {
            absolute("XDG_CACHE_HOME")
                .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
                .unwrap_or_else(std::env::temp_dir)
        };
        Search { folders, cache: cache.join("fraiseql-harness") }
    }

    /// The first folder's program of that name that the services' user can run.
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        let account = account::unprivileged().ok().flatten();
        self.folders
            .iter()
            .flat_map(|folder| expand(folder))
            .map(|folder| folder.join(program))
            // The path is kept as it was found: Debian's redis-server is a link to a program that looks at its name.
            .find(|path| {
                let real = path.canonicalize();
                is_program(path) && real.is_ok_and(|real| account::can_enter(account.as_ref(), &real))
            })
    }

    fn below(&self, root: &Path) -> Search {
        let folders = ["usr/lib/postgresql/*/bin", "usr/bin", "usr/sbin", "bin", "sbin"];
        Search {
            folders: folders.iter().map(|folder| root.join(folder)).collect(),
            cache: self.cache.clone(),
        }
    }
}

impl Binaries {
    /// Looks for every program; what is missing is looked for among what was fetched, then fetched.
    pub async fn find_or_fetch(search: &Search) -> Result<Binaries, Error> {
        if let Ok(binaries) = Binaries::find(search, None) {
            return Ok(binaries);
        }
        let root = fetch::unpacked(&search.cache);
        if let Ok(binaries) = Binaries::find(search, Some(&root)) {
            return Ok(binaries);
        }
        let missing = Binaries::find(search, None).err().unwrap_or_default();
        fetch::fetch(&search.cache, &fetch::packages_of(&missing)).await.map_err(|error| {
            Error::NotPossible {
                reason: format!("{} not found, and fetching failed: {error:#}", missing.join(", ")),
                hint: format!("install: {}", fetch::install_command()),
            }
        })?;
        Binaries::find(search, Some(&root)).map_err(|missing| Error::NotPossible {
            reason: format!("{} not found, not even in the fetched packages", missing.join(", ")),
            hint: format!("install: {}", fetch::install_command()),
        })
    }

    /// Every program, or the names of the missing ones. Postgres' two come from one folder.
    pub fn find(search: &Search, fetched: Option<&Path>) -> Result<Binaries, Vec<String>> {
        let mut from_fetched = false;
        let mut missing = Vec::new();
        let mut get = |name: &str| {
            let own = search.find(name);
            let path = own.or_else(|| {
                let path = search.below(fetched?).find(name);
                from_fetched |= path.is_some();
                path
            });
            path.unwrap_or_else(|| {
                missing.push(name.to_owned());
                PathBuf::new()
            })
        };
        let (initdb, redis, nats) = (get("initdb"), get("redis-server"), get("nats-server"));
        // Its link is followed: the server of the same version lies beside the real one.
        let initdb = initdb.canonicalize().unwrap_or(initdb);
        let postgres = initdb.with_file_name("postgres");
        if !initdb.as_os_str().is_empty() && !is_program(&postgres) {
            missing.push("postgres".into());
        }
        if !missing.is_empty() {
            return Err(missing);
        }
        let fetched = fetched.filter(|_| from_fetched).map(Path::to_owned);
        Ok(Binaries { initdb, postgres, redis, nats, fetched })
    }

    /// Variables that a program needs: fetched ones find their libraries through LD_LIBRARY_PATH.
    pub fn environment(&self, program: &Path) -> Vec<(String, OsString)> {
        environment(program, self.fetched.as_deref())
    }
}

impl Other {
    /// Looks for a program that is none of the services'; where it is missing, `package` is fetched into a folder of its
    /// own, since what runs from the services' folder must not lose it.
    pub async fn find_or_fetch(search: &Search, program: &str, package: &str) -> Result<Other, Error> {
        if let Some(path) = search.find(program) {
            let environment = environment(&path, None);
            return Ok(Other { path, environment });
        }
        let cache = search.cache.join(package);
        let root = fetch::unpacked(&cache);
        let fetched = || {
            let path = search.below(&root).find(program)?;
            let environment = environment(&path, Some(&root));
            Some(Other { path, environment })
        };
        if let Some(other) = fetched() {
            return Ok(other);
        }
        let failed = |reason: String| Error::NotPossible {
            reason: format!("{program} not found, {reason}"),
            hint: format!("install {package} with this system's package manager"),
        };
        fetch::fetch(&cache, &[package])
            .await
            .map_err(|error| failed(format!("and fetching failed: {error:#}")))?;
        fetched().ok_or_else(|| failed("not even in the fetched packages".into()))
    }
}

fn environment(program: &Path, fetched: Option<&Path>) -> Vec<(String, OsString)> {
    let mut variables = vec![("LC_ALL".to_owned(), OsString::from("C")), ("TZ".to_owned(), "UTC".into())];
    if let Some(root) = fetched.filter(|root| program.starts_with(root)) {
        let folders = ["usr/lib/*-linux-gnu*", "lib/*-linux-gnu*", "usr/lib", "lib"];
        let folders = folders.iter().flat_map(|folder| expand(&root.join(folder)));
        if let Ok(path) = std::env::join_paths(folders) {
            variables.push(("LD_LIBRARY_PATH".to_owned(), path));
        }
    }
    variables
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// A path with `*` in a component becomes the folders that fit, highest version first.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::new()];
    for component in pattern.components() {
        let text = component.as_os_str().to_string_lossy();
        let Some((before, after)) = text.split_once('*') else {
            paths.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        // A second star stands at the end and fits anything.
        let (after, open_end) = after.split_once('*').map_or((after, false), |(middle, _)| (middle, true));
        let fits = |name: &str| {
            name.strip_prefix(before)
                .is_some_and(|rest| if open_end { rest.contains(after) } else { rest.ends_with(after) })
        };
        paths = paths
            .iter()
            .flat_map(|path| {
                let mut names: Vec<String> = std::fs::read_dir(path)
                    .into_iter()
                    .flatten()
                    .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                    .filter(|name| fits(name))
                    .collect();
                names.sort_by_key(|name| std::cmp::Reverse(version_of(name)));
                names.into_iter().map(|name| path.join(name)).collect::<Vec<_>>()
            })
            .collect();
    }
    paths
}

fn version_of(name: &str) -> u64 {
    let digits: String =
        name.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn program(folder: &Path, name: &str) {
        std::fs::create_dir_all(folder).expect("folder");
        let path = folder.join(name);
        std::fs::write(&path, "").expect("program");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    fn open_folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("temporary folder");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        folder
    }

    #[test]
    fn the_highest_version_of_postgres_is_taken() {
        let folder = open_folder();
        for version in ["9", "15", "17"] {
            program(&folder.path().join("postgresql").join(version).join("bin"), "initdb");
        }
        let search = Search { folders: vec![folder.path().join("postgresql/*/bin")], cache: PathBuf::new() };
        let found = search.find("initdb").expect("found");
        assert!(found.ends_with("postgresql/17/bin/initdb"), "{}", found.display());
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = open_folder();
        program(folder.path(), "redis-server");
        let search = Search { folders: vec![folder.path().into()], cache: PathBuf::new() };
        assert_eq!(Binaries::find(&search, None), Err(vec!["initdb".to_owned(), "nats-server".to_owned()]));
    }

    #[test]
    fn only_fetched_programs_get_fetched_libraries() {
        let own = open_folder();
        let root = open_folder();
        program(own.path(), "redis-server");
        program(own.path(), "nats-server");
        let fetched_bin = root.path().join("usr/lib/postgresql/15/bin");
        program(&fetched_bin, "initdb");
        program(&fetched_bin, "postgres");
        std::fs::create_dir_all(root.path().join("usr/lib/x86_64-linux-gnu")).expect("libraries");
        let search = Search { folders: vec![own.path().into()], cache: PathBuf::new() };
        let binaries = Binaries::find(&search, Some(root.path())).expect("all found");
        let has_libraries = |program: &Path| {
            binaries.environment(program).iter().any(|(name, value)| {
                name == "LD_LIBRARY_PATH" && value.to_string_lossy().contains("usr/lib/x86_64-linux-gnu")
            })
        };
        assert!(has_libraries(&binaries.postgres));
        assert!(!has_libraries(&binaries.redis));
    }
}
