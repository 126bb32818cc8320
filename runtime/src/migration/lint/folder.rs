//! Migration files of folders, in the order in which they are applied.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::Source;

/// A folder or a file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("could not read {}", path.display())]
pub struct ReadError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The `.sql` files of each folder by name, one folder after the other; a path that is a file stands for itself.
/// A folder without such a file is an error: it is most likely not the one that was meant.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Source>, ReadError> {
    let mut sources = vec![];
    for path in paths {
        for file in files(path).map_err(|source| ReadError { path: path.clone(), source })? {
            let text =
                fs::read_to_string(&file).map_err(|source| ReadError { path: file.clone(), source })?;
            sources.push(Source { name: file.display().to_string(), text });
        }
    }
    Ok(sources)
}

fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let entries = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files: Vec<PathBuf> = entries.collect::<io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    if files.is_empty() { Err(io::Error::other("no .sql file is in it")) } else { Ok(files) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_in_the_order_of_their_names_and_others_are_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["20260102_b.sql", "20260101_a.sql", "notes.md"] {
            fs::write(folder.path().join(name), name).expect("written");
        }
        let sources = read(&[folder.path().to_path_buf()]).expect("read");
        let texts: Vec<&str> = sources.iter().map(|source| source.text.as_str()).collect();
        assert_eq!(texts, ["20260101_a.sql", "20260102_b.sql"]);
    }

    #[test]
    fn an_empty_folder_and_a_missing_one_are_errors() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(read(&[folder.path().to_path_buf()]).is_err());
        let error = read(&[folder.path().join("none")]).expect_err("missing");
        assert!(error.to_string().ends_with("none"), "{error}");
    }
}
