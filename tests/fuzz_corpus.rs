//! Replays the corpora of the fuzz targets (`tests/fuzz/`): inputs that once
//! found something, or reach far into a decoder, are kept from then on.

#[path = "fuzz/bodies.rs"]
mod bodies;

use std::fs;
use std::path::Path;

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("list {}: {error}", dir.display()));
    let files = entries.map(|entry| entry.unwrap().path());
    files.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect()
}

#[test]
fn every_input_of_the_corpora_passes() {
    for (target, body) in bodies::ALL {
        let inputs = corpus(target);
        assert!(!inputs.is_empty(), "{target} has no corpus");
        for (path, input) in inputs {
            if std::panic::catch_unwind(|| body(&input)).is_err() {
                panic!("fuzz target {target} fails on {path}");
            }
        }
    }
}

#[test]
fn every_input_cut_short_passes() {
    for (target, body) in bodies::ALL {
        for (_, input) in corpus(target).iter().filter(|(_, input)| input.len() < 600) {
            (0..input.len()).for_each(|len| body(&input[..len]));
        }
    }
}

/// The fuzz crate is built by hand only; a body that uses a module it lacks must not wait for that to be found.
#[test]
fn the_fuzz_crate_has_the_modules_that_the_bodies_use() {
    let bodies = include_str!("fuzz/bodies.rs");
    let crate_root = include_str!("fuzz/src/lib.rs");
    let used: Vec<&str> = bodies.lines().filter_map(|line| line.strip_prefix("use corelog::")).collect();
    assert!(used.len() > 5, "{used:?}");
    for path in used {
        let module = path.split([':', ';']).next().unwrap();
        // The metadata module is there in parts.
        let module = if module == "metadata" { path.split("::").nth(1).unwrap() } else { module };
        assert!(crate_root.contains(&format!("pub mod {module};")), "tests/fuzz/src/lib.rs lacks {path}");
    }
}
