//! The seam between the checks and the host: every read of `/proc` and `/sys`, and
//! every write to them, passes here, below a root directory. Tests give a tree of
//! their own.
//!
//! Nothing read is trusted: texts are bounded, links that leave the root are not followed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// More than any file that is read here has, `/proc/interrupts` of a large machine included.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// The root directory of a host: `/`, or a test's tree.
pub struct Root {
    at: PathBuf,
}

impl Root {
    /// This machine.
    pub fn host() -> Root {
        Root::below("/")
    }

    pub fn below(at: impl Into<PathBuf>) -> Root {
        Root { at: at.into() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.at.join(path.trim_start_matches('/'))
    }

    /// The text of a file without the white space around it; `None` where there is none, or it is empty or closed to us.
    pub fn read(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        File::open(self.path(path)).ok()?.take(TEXT_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// The names in a directory, in order; none where there is no such directory.
    pub fn list(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    pub fn is_dir(&self, path: &str) -> bool {
        self.path(path).is_dir()
    }

    /// Where a path with links in it leads, as a path below the root.
    pub fn real(&self, path: &str) -> Option<String> {
        let (root, real) = (fs::canonicalize(&self.at).ok()?, fs::canonicalize(self.path(path)).ok()?);
        Some(Path::new("/").join(real.strip_prefix(root).ok()?).to_str()?.to_owned())
    }

    /// Writes to a file that is there.
    pub fn write(&self, path: &str, text: &str) -> io::Result<()> {
        OpenOptions::new().write(true).truncate(true).open(self.path(path))?.write_all(text.as_bytes())
    }
}

/// The choice of a text such as `always [madvise] never`; the text itself where nothing is in brackets, with single
/// spaces between its words.
pub fn chosen(text: &str) -> String {
    let bracketed = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(choice, _)| choice);
    bracketed.unwrap_or(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The numbers of a list such as `0-3,8`; `None` for anything else, or for numbers that no CPU or node has.
pub fn numbers(text: &str) -> Option<Vec<usize>> {
    const NUMBER_MAX: usize = 1 << 14;
    let mut all = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last > NUMBER_MAX || all.len() > NUMBER_MAX {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// The CPUs that are running; empty when the host does not say.
pub fn cpus(root: &Root) -> Vec<usize> {
    root.read("/sys/devices/system/cpu/online").and_then(|text| numbers(&text)).unwrap_or_default()
}

/// A tree of files that plays a host.
#[cfg(test)]
pub mod fake {
    use super::*;

    pub struct Tree {
        dir: tempfile::TempDir,
    }

    impl Tree {
        /// With these files: (path, text).
        pub fn of(files: &[(&str, &str)]) -> Tree {
            let tree = Tree { dir: tempfile::tempdir().unwrap() };
            files.iter().for_each(|(path, text)| tree.set(path, text));
            tree
        }

        pub fn root(&self) -> Root {
            Root::below(self.dir.path())
        }

        pub fn path(&self, path: &str) -> PathBuf {
            self.root().path(path)
        }

        pub fn set(&self, path: &str, text: &str) {
            let path = self.root().path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        pub fn remove(&self, path: &str) {
            fs::remove_file(self.root().path(path)).unwrap();
        }

        /// A link at `path` to `target`, which is a path of the tree.
        pub fn link(&self, path: &str, target: &str) {
            let path = self.root().path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(self.root().path(target), path).unwrap();
        }

        /// Every file and its text, in order.
        pub fn content(&self) -> Vec<(String, String)> {
            let mut found = Vec::new();
            let mut left = vec![self.dir.path().to_owned()];
            while let Some(dir) = left.pop() {
                for entry in fs::read_dir(dir).unwrap().flatten() {
                    let (path, kind) = (entry.path(), entry.file_type().unwrap());
                    if kind.is_dir() {
                        left.push(path);
                    } else if kind.is_file() {
                        let name = Path::new("/").join(path.strip_prefix(self.dir.path()).unwrap());
                        found.push((name.to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap()));
                    }
                }
            }
            found.sort();
            found
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_and_lists() {
        assert_eq!(chosen("always [madvise] never"), "madvise");
        assert_eq!(chosen("4096\t131072\t16777216\n"), "4096 131072 16777216");
        assert_eq!(chosen("]x["), "]x[");
        assert_eq!(numbers("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        for garbage in ["", "x", "3-1", "0-99999999999999999999", "0-9999999", "-1", "1,,2"] {
            assert_eq!(numbers(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn reads_are_bounded_and_stay_below_the_root() {
        let tree = fake::Tree::of(&[("/sys/a", " text \n"), ("/sys/empty", "\n")]);
        let root = tree.root();
        assert_eq!(root.read("/sys/a").as_deref(), Some("text"));
        assert_eq!((root.read("/sys/empty"), root.read("/sys/none"), root.read("/sys")), (None, None, None));
        assert_eq!(root.list("/sys"), ["a", "empty"]);
        std::os::unix::fs::symlink("/proc", root.path("/sys/out")).unwrap();
        tree.link("/class/x", "/sys/a");
        assert_eq!((root.real("/class/x").as_deref(), root.real("/sys/out")), (Some("/sys/a"), None));
        assert!(root.write("/sys/none", "x").is_err(), "a file is never made");
    }
}
