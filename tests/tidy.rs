//! The house rules that a compiler does not know, checked on the text of every
//! tracked file: which module may use which, what only one place may do, what a
//! file begins with and how it may be called. `docs/invariants.md` says why.
//!
//! Relies on git's list of files, or on the directory where there is no git (a
//! source archive). A rule that fires says what to do instead; the scanner is
//! itself tested at the end of the file, so that silence means something.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A module of `src/` and its level: it may use itself and lower levels.
const LEVELS: &[(&str, u8)] = &[
    ("base", 0),
    ("config", 1),
    ("metrics", 1),
    ("record", 1),
    ("runtime", 2),
    ("wire", 2),
    ("log", 3),
    ("partition", 4),
    ("metadata", 4),
    ("security", 5),
    ("coordinator", 5),
    ("replication", 5),
    ("shard", 6),
    ("api", 7),
    ("connection", 8),
    ("admin", 8),
    ("inspect", 8),
    ("tune", 8),
    ("cli", 9),
];

/// What `bench/`, an independent witness, may use of the library.
const OF_BENCH: &[&str] = &["base", "wire", "record", "metrics"];
/// And parts that were made for one of its files each, since raw calls may stand in the runtime only: (file, part).
const MADE_FOR_BENCH: &[(&str, &str)] = &[
    ("bench/fetch_paths.rs", "corelog::runtime::fetch_ways::"),
    ("bench/run.rs", "corelog::runtime::run_behind_others"),
];

/// Words of Rust code that belong to one place: (word, where it may stand, why).
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    ("glommio", &["src/runtime/"], "the runtime is the only place that knows glommio; give it a verb there"),
    ("libc", &["src/runtime/"], "the runtime is the only place that knows the operating system"),
    ("io_uring", &["src/runtime/"], "the runtime is the only place that knows the operating system"),
    ("socket2", &["src/runtime/"], "the runtime is the only place that knows the operating system"),
    ("core_affinity", &["src/runtime/"], "the runtime is the only place that knows the operating system"),
    ("unsafe", &["src/runtime/"], "wrap it in a safe type of the runtime"),
    ("ResponseError", &["src/api/", "bench/"], "errors are typed below the APIs and become Kafka's codes only there"),
    ("mimalloc", &["src/main.rs", "bench/main.rs"], "a program chooses its allocator, the library does not"),
    ("rdkafka", &["src/cli/", "tests/"], "the broker does not talk to itself through a client library"),
    ("clap", &["src/cli/", "src/main.rs", "bench/"], "only programs read command lines"),
];

/// Where a reactor runs: blocking calls stop every connection of the core.
const ON_A_REACTOR: &[&str] =
    &["src/wire/", "src/log/", "src/partition/", "src/coordinator/", "src/shard/", "src/api/", "src/connection/"];
const BLOCKING: &[(&str, &str)] = &[
    ("std::fs", "use runtime::disk, which does not stop the reactor"),
    ("std::net::TcpStream", "use runtime::net"),
    ("std::net::TcpListener", "use runtime::net"),
    ("std::thread", "a core is one thread; use runtime::task"),
    ("std::time::Instant::now", "use runtime::clock, which tests can replace"),
    ("SystemTime::now", "use runtime::clock, which tests can replace"),
];

/// Marks of unfinished work.
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!"];

/// Words that say nothing about what a file holds.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "manager", "impl", "helper", "helpers", "misc", "stuff"];

/// Paths and names of the machines that corelog is written on.
const MACHINE_PATHS: &[&str] =
    &["/tmp/wt", "/tmp/corelog/", "/work/main", "/work/shared", "../shared/", "/root/.", "/home/"];

/// Hosts that files which name dependencies may name.
const PUBLIC_HOSTS: &[&str] = &[
    "apache.org",
    "crates.io",
    "debian.org",
    "docs.rs",
    "go.dev",
    "github.com",
    "golang.org",
    "kernel.org",
    "maven.org",
    "npmjs.org",
    "nodejs.org",
    "pypi.org",
    "pythonhosted.org",
    "rust-lang.org",
    "rustup.rs",
    "w3.org",
];

/// A hand-written file of more lines wants to be split by noun. The ones that
/// are longer may not grow: lower the number as they shrink, add none.
const LINES_MAX: usize = 1200;
const LONGER: &[(&str, usize)] = &[
    // Thirty scripted conversations with the group coordinator: text more than code.
    ("src/coordinator/group/scenarios.rs", 1400),
];

#[test]
fn the_house_is_tidy() {
    let files = tracked_files();
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "the list of files is wrong");
    let mut complaints = String::new();
    for file in &files {
        for complaint in check(file) {
            let _ = writeln!(complaints, "{}: {complaint}", file.path);
        }
    }
    for orphan in orphans(&files) {
        let _ = writeln!(complaints, "{orphan}: no `mod` line leads to it, so it is never compiled");
    }
    for (page, target) in dead_links(&files) {
        let _ = writeln!(complaints, "{page}: the link to {target} leads nowhere");
    }
    assert!(complaints.is_empty(), "\n{complaints}");
}

/// One file of the repository.
struct File {
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn is_generated(&self) -> bool {
        self.text.lines().take(5).any(|line| {
            let line = line.to_lowercase();
            line.contains("@generated")
                || line.contains("generated by")
                || line.contains("written by `scripts/")
                || line.contains("written by scripts/")
        })
    }
}

/// Every rule on one file.
fn check(file: &File) -> Vec<String> {
    let mut complaints = check_text(file);
    if file.is_rust() {
        let code = blank_out(&file.text);
        complaints.extend(check_rust(file, &code));
        if file.path.starts_with("src/") {
            complaints.extend(check_levels(&file.path, &code));
            complaints.extend(check_blocking(&file.path, &without_tests(&code)));
        }
        if file.path.starts_with("bench/") {
            for (line, module) in references(&code, "corelog") {
                let its_line = code.lines().nth(line - 1).unwrap_or_default();
                let is_made_for_it =
                    MADE_FOR_BENCH.iter().any(|(of, part)| file.path == *of && its_line.contains(part));
                if is_module(&module) && !OF_BENCH.contains(&module.as_str()) && !is_made_for_it {
                    complaints
                        .push(format!("line {line}: bench may use only {OF_BENCH:?} of the library, not {module}"));
                }
            }
        }
    }
    complaints
}

fn check_text(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    let name = Path::new(&file.path).file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let words: BTreeSet<&str> = name.split(['_', '-', '.']).collect();
    if !file.path.starts_with("tests/") {
        for empty in EMPTY_NAMES.iter().filter(|empty| words.contains(*empty)) {
            complaints.push(format!("'{empty}' says nothing; name the file after what it holds"));
        }
    }
    if file.path != "tests/tidy.rs" {
        for (number, line) in (1..).zip(file.text.lines()) {
            for path in MACHINE_PATHS.iter().filter(|path| line.contains(*path)) {
                complaints
                    .push(format!("line {number}: '{path}' is a path of one machine; make it relative or an argument"));
            }
        }
        if names_dependencies(&file.path) {
            for (number, host) in strange_hosts(&file.text) {
                complaints.push(format!(
                    "line {number}: {host} is not a public host that PUBLIC_HOSTS lists; dependencies come from the usual \
                     registries, mirrors are the machine's own affair"
                ));
            }
        }
    }
    complaints
}

fn check_rust(file: &File, code: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    // A generated file may say so first.
    let opening =
        file.text.lines().find(|line| !line.is_empty() && (!line.starts_with("//") || line.starts_with("//!")));
    if !opening.is_some_and(|line| line.starts_with("//!")) {
        complaints
            .push("does not open with a `//!` header: what it holds, what it relies on, what it never does".into());
    }
    for mark in UNFINISHED {
        for line in lines_with(code, mark) {
            complaints.push(format!("line {line}: {mark} is unfinished work"));
        }
    }
    for line in lines_with(code, "#[ignore") {
        complaints.push(format!("line {line}: an ignored test tests nothing; mend it or take it out"));
    }
    if file.path.starts_with("src/") || file.path.starts_with("bench/") {
        for (word, places, reason) in ONLY_IN {
            if !places.iter().any(|place| file.path.starts_with(place)) {
                for line in lines_with(code, word) {
                    complaints.push(format!("line {line}: {word} only in {}: {reason}", places.join(", ")));
                }
            }
        }
    }
    let (lines, most) = (file.text.lines().count(), longest(&file.path));
    if !file.is_generated() && lines > most {
        complaints.push(format!("{lines} lines, {most} are allowed: split it by noun"));
    }
    complaints
}

fn longest(path: &str) -> usize {
    LONGER.iter().find(|(longer, _)| *longer == path).map_or(LINES_MAX, |(_, most)| *most)
}

fn is_module(name: &str) -> bool {
    LEVELS.iter().any(|(module, _)| *module == name)
}

fn check_levels(path: &str, code: &str) -> Vec<String> {
    let level = |name: &str| LEVELS.iter().find(|(module, _)| *module == name).map(|(_, level)| *level);
    let own = path.strip_prefix("src/").and_then(|rest| rest.split(['/', '.']).next()).unwrap_or_default();
    if matches!(own, "lib" | "main") {
        return Vec::new();
    }
    let Some(own_level) = level(own) else {
        return vec![format!("module {own} is not in the table of levels (tests/tidy.rs, docs/architecture.md)")];
    };
    let mut complaints = Vec::new();
    for (line, used) in [references(code, "crate"), references(code, "corelog"), references_by_super(code)].concat() {
        match level(&used) {
            Some(level) if used != own && level >= own_level => complaints.push(format!(
                "line {line}: {own} (level {own_level}) uses {used} (level {level}); a module uses only lower levels"
            )),
            _ => {}
        }
    }
    complaints
}

fn check_blocking(path: &str, code: &str) -> Vec<String> {
    if !ON_A_REACTOR.iter().any(|place| path.starts_with(place)) || path.ends_with("tests.rs") {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (call, instead) in BLOCKING {
        for line in lines_with(code, call) {
            complaints.push(format!("line {line}: {call} where a reactor runs; {instead}"));
        }
    }
    complaints
}

/// Files of the library that no `mod` line leads to.
fn orphans(files: &[File]) -> Vec<String> {
    let mut orphans = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with("src/") && file.is_rust()) {
        let path = Path::new(&file.path);
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (name, home) = match stem.as_str() {
            "lib" | "main" => continue,
            "mod" => (path.parent().and_then(Path::file_name), path.parent().and_then(Path::parent)),
            _ => (path.file_stem(), path.parent()),
        };
        let (Some(name), Some(home)) = (name, home) else { continue };
        let line = format!("mod {}", name.to_string_lossy());
        let homes = [home.join("mod.rs"), home.join("lib.rs"), home.join("main.rs"), home.with_extension("rs")];
        let leads = |other: &&File| {
            homes.iter().any(|home| Path::new(&other.path) == home)
                && !lines_with(&blank_out(&other.text), &line).is_empty()
        };
        if !files.iter().any(|other| leads(&other)) {
            orphans.push(file.path.clone());
        }
    }
    orphans
}

/// Links of Markdown pages to files or folders that are not there: (page, target).
fn dead_links(files: &[File]) -> Vec<(String, String)> {
    let mut dead = Vec::new();
    for page in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (at, mark) in page.text.match_indices("](") {
            let target = page.text[at + mark.len()..].split([')', '#', '\n']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.contains(' ') {
                continue;
            }
            let mut place: Vec<&str> = page.path.split('/').collect();
            place.pop();
            for step in target.trim_end_matches('/').split('/') {
                match step {
                    "." => {}
                    ".." => drop(place.pop()),
                    step => place.push(step),
                }
            }
            let place = place.join("/");
            let leads = |file: &File| file.path == place || file.path.starts_with(&format!("{place}/"));
            if !files.iter().any(leads) {
                dead.push((page.path.clone(), target.to_string()));
            }
        }
    }
    dead
}

fn names_dependencies(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let telling = ["lock", "toml", "xml", "mod", "sum", "npmrc", "conf", "sh", "cfg", "gradle"];
    path.starts_with("scripts/")
        || path.starts_with(".ci/")
        || name.starts_with("requirements")
        || name == "package.json"
        || name.ends_with("lock.json")
        || telling.contains(&name.rsplit('.').next().unwrap_or_default())
}

/// Hosts of URLs that are neither public nor this machine, with their lines.
fn strange_hosts(text: &str) -> Vec<(usize, String)> {
    let mut strange = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for (at, mark) in line.match_indices("://") {
            let scheme: String = line[..at].chars().rev().take_while(char::is_ascii_alphanumeric).collect();
            if !matches!(scheme.as_str(), "ptth" | "sptth" | "hss" | "tig" | "ptf") {
                continue;
            }
            let rest = &line[at + mark.len()..];
            let rest = rest.split(['/', '"', '\'', ' ', '<', '>', ')', '`', '?']).next().unwrap_or_default();
            let host = rest.rsplit('@').next().unwrap_or_default().split(':').next().unwrap_or_default();
            let is_local = matches!(host, "" | "localhost" | "127.0.0.1" | "0.0.0.0") || host.starts_with('$');
            let is_public = PUBLIC_HOSTS.iter().any(|public| host == *public || host.ends_with(&format!(".{public}")));
            if !is_local && !is_public {
                strange.push((number, host.to_string()));
            }
        }
    }
    strange
}

/// Numbers of the lines on which `wanted` stands as whole words.
fn lines_with(code: &str, wanted: &str) -> Vec<usize> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(code.lines()) {
        let stands = line.match_indices(wanted).any(|(at, found)| {
            let before = line[..at].chars().next_back();
            let after = line[at + found.len()..].chars().next();
            let starts = !wanted.starts_with(is_word) || !before.is_some_and(is_word);
            let ends = !wanted.ends_with(is_word) || !after.is_some_and(is_word);
            starts && ends
        });
        if stands {
            lines.push(number);
        }
    }
    lines
}

/// What is named directly below `root::`, groups included, with line numbers:
/// `use crate::{log::{A, B}, record}` names log and record.
fn references(code: &str, root: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for (at, _) in code.match_indices(root) {
        let after = code[at + root.len()..].trim_start();
        let Some(path) = after.strip_prefix("::") else { continue };
        // The path must begin here: not `other_crate::`, not `a::crate::`.
        if code[..at].chars().next_back().is_some_and(|c| is_word(c) || c == ':') {
            continue;
        }
        let line = 1 + code[..at].matches('\n').count();
        found.extend(first_names(path.trim_start()).into_iter().map(|name| (line, name)));
    }
    found
}

/// The first names of a path or of a group of paths.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut names, mut depth, mut expecting) = (Vec::new(), 0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expecting = true,
            c if expecting && !c.is_whitespace() => {
                names.push(name(&group[at..]));
                expecting = false;
            }
            _ => {}
        }
    }
    names
}

/// Modules reached by climbing: `super::super::log` from two levels down.
fn references_by_super(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, climb) in code.match_indices("super::super::") {
        let line = 1 + code[..at].matches('\n').count();
        let path = code[at + climb.len()..].trim_start_matches("super::");
        found.extend(first_names(path).into_iter().map(|name| (line, name)));
    }
    found
}

/// The code with the insides of comments, strings and characters made blank;
/// lines stay where they are.
fn blank_out(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let end = match chars[i] {
            '/' if chars.get(i + 1) == Some(&'/') => end_of_line(&chars, i),
            '/' if chars.get(i + 1) == Some(&'*') => end_of_block_comment(&chars, i),
            '"' => end_of_string(&chars, i),
            'r' | 'b' | 'c' if !follows_word(&chars, i) => end_of_prefixed(&chars, i).unwrap_or(i),
            '\'' => end_of_char(&chars, i).unwrap_or(i),
            _ => i,
        };
        if end == i {
            out.push(chars[i]);
            i += 1;
        } else {
            out.extend(chars[i..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            i = end;
        }
    }
    out
}

fn follows_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

fn end_of_line(chars: &[char], from: usize) -> usize {
    chars[from..].iter().position(|c| *c == '\n').map_or(chars.len(), |length| from + length)
}

fn end_of_block_comment(chars: &[char], from: usize) -> usize {
    let (mut depth, mut i) = (0, from);
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') if depth == 1 => return i + 2,
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
    }
    chars.len()
}

fn end_of_string(chars: &[char], quote: usize) -> usize {
    let mut i = quote + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// The end of `r"..."`, `r#"..."#`, `b"..."`, `br"..."`, `b'.'` that begins here.
fn end_of_prefixed(chars: &[char], from: usize) -> Option<usize> {
    let mut i = from;
    while i < chars.len() && matches!(chars[i], 'r' | 'b' | 'c') && i - from < 2 {
        i += 1;
    }
    let is_raw = chars[from..i].contains(&'r');
    let hashes = chars[i..].iter().take_while(|c| **c == '#').count();
    match chars.get(i + hashes) {
        Some('"') if is_raw => {
            let closes =
                |at: usize| chars[at] == '"' && chars[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
            let end = (i + hashes + 1..chars.len()).find(|at| closes(*at));
            Some(end.map_or(chars.len(), |end| end + 1 + hashes))
        }
        Some('"') if hashes == 0 => Some(end_of_string(chars, i)),
        Some('\'') if hashes == 0 && chars[from] == 'b' => end_of_char(chars, i),
        _ => None,
    }
}

/// The end of a character; `None` for a lifetime.
fn end_of_char(chars: &[char], quote: usize) -> Option<usize> {
    match chars.get(quote + 1)? {
        '\\' => (quote + 3..chars.len()).find(|at| chars[*at] == '\'').map(|at| at + 1),
        _ => (chars.get(quote + 2) == Some(&'\'')).then_some(quote + 3),
    }
}

/// The code without its `#[cfg(test)]` items, lines kept.
fn without_tests(code: &str) -> String {
    let mut out = code.to_string();
    while let Some(start) = out.find("#[cfg(test)]") {
        let rest = &out[start..];
        let end = match (rest.find('{'), rest.find(';')) {
            (Some(open), semicolon) if semicolon.is_none_or(|semicolon| open < semicolon) => {
                let mut depth = 0;
                let close = rest[open..].char_indices().find(|(_, c)| {
                    depth += i32::from(*c == '{') - i32::from(*c == '}');
                    depth == 0
                });
                close.map_or(rest.len(), |(at, _)| open + at + 1)
            }
            (_, Some(semicolon)) => semicolon + 1,
            _ => rest.len(),
        };
        let blank: String = rest[..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..start + end, &blank);
    }
    out
}

/// Every text file that belongs to the repository.
fn tracked_files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = std::process::Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
    let mut paths: Vec<PathBuf> = match listed {
        Ok(out) if out.status.success() && !out.stdout.is_empty() && root.join(".git").exists() => {
            let names = String::from_utf8_lossy(&out.stdout).into_owned();
            names.split('\0').filter(|name| !name.is_empty()).map(|name| root.join(name)).collect()
        }
        _ => walk(root),
    };
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).ok()?;
        let path = path.strip_prefix(root).ok()?.to_string_lossy().into_owned();
        Some(File { path, text })
    };
    // What is not text (a corpus, a fixture) and what was just deleted is left out.
    paths.into_iter().filter_map(read).collect()
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_foreign =
            ["target", "node_modules", "artifacts", ".git", "venv", ".venv", "__pycache__"].contains(&name.as_str());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !is_foreign => found.extend(walk(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

mod the_scanner {
    use super::*;

    /// Checks that a file with this text gives complaints that contain these words.
    fn fires(path: &str, text: &str, expected: &[&str]) {
        let text = format!("//! Header.\n{text}");
        let complaints = check(&File { path: path.to_string(), text: text.clone() });
        let all_there = expected.iter().all(|words| complaints.iter().any(|complaint| complaint.contains(words)));
        assert!(all_there && complaints.len() == expected.len(), "{path}: {text}\n{complaints:#?}");
    }

    #[test]
    fn levels() {
        fires("src/log/a.rs", "use crate::record::X;", &[]);
        fires("src/log/a.rs", "use crate::log::b::X;", &[]);
        fires("src/log/a.rs", "use crate::partition::X;", &["line 2: log (level 3) uses partition (level 4)"]);
        fires("src/config/a.rs", "use crate::record::X;", &["config (level 1) uses record (level 1)"]);
        fires("src/log/a.rs", "use crate::{base, record::{A, B}, shard::C};", &["uses shard"]);
        fires("src/log/a.rs", "use crate::{\n    record::{wire, A},\n    api,\n};", &["uses api"]);
        fires("src/log/a.rs", "fn f() { crate :: api :: g() }", &["uses api"]);
        fires("src/log/a/b.rs", "use super::super::super::api::X;", &["uses api"]);
        fires("src/base/a.rs", "pub use corelog::cli;", &["uses cli"]);
        fires("src/log/a.rs", "// crate::api\nconst A: &str = \"crate::api\"; /* crate::api */", &[]);
        fires("src/log/a.rs", "use other_crate::api; use glob::api;", &[]);
        fires("src/novel/a.rs", "", &["module novel is not in the table"]);
        fires("bench/a.rs", "use corelog::{wire, log::Log};", &["bench may use only"]);
        fires("bench/a.rs", "use corelog::runtime::fetch_ways::Way;", &["bench may use only"]);
        fires("bench/fetch_paths.rs", "use corelog::runtime::fetch_ways::Way;", &[]);
        fires("bench/fetch_paths.rs", "use corelog::runtime::net::Socket;", &["bench may use only"]);
    }

    #[test]
    fn what_only_one_place_may_do() {
        fires("src/runtime/a.rs", "fn f() { unsafe { libc::getpid() } } use glommio::X;", &[]);
        fires("src/log/a.rs", "fn f() { unsafe { g() } }", &["unsafe only in"]);
        fires("src/log/a.rs", "use glommio::Task;", &["glommio only in"]);
        fires("src/log/a.rs", "fn unsafe_looking() {} // unsafe", &[]);
        fires("src/shard/a.rs", "use kafka_protocol::ResponseError;", &["ResponseError only in"]);
        fires("src/api/a.rs", "use kafka_protocol::ResponseError;", &[]);
        fires("src/log/a.rs", "use std::fs::File;", &["std::fs where a reactor runs"]);
        fires("src/log/a.rs", "#[cfg(test)]\nmod tests { fn f() { if x { std::fs::g() } } }", &[]);
        fires("src/log/a.rs", "#[cfg(test)]\nuse std::fs;\nfn f() { std::fs::g() }", &["line 4: std::fs"]);
        fires("src/config/a.rs", "use std::fs::File;", &[]);
    }

    #[test]
    fn unfinished_work_and_empty_names() {
        fires("src/log/a.rs", "fn f() { todo!() }", &["todo! is unfinished work"]);
        fires("tests/a.rs", "#[test]\n#[ignore]\nfn f() {}", &["an ignored test"]);
        fires("src/log/log_util.rs", "", &["'util' says nothing"]);
        fires("src/log/utility.rs", "", &[]);
        fires("tests/common.rs", "", &[]);
        fires("src/log/long.rs", &"\n".repeat(LINES_MAX), &["split it by noun"]);
        fires("src/log/long.rs", &format!("// Generated by a program.{}", "\n".repeat(LINES_MAX)), &[]);
        let headless = check(&File { path: "src/log/a.rs".into(), text: "use std::rc::Rc;".into() });
        assert!(headless[0].contains("does not open with"));
    }

    #[test]
    fn machines_and_hosts() {
        fires("docs/a.md", "see /work/shared/x", &["is a path of one machine"]);
        fires("Cargo.lock", "source = \"registry+https://github.com/rust-lang/crates.io-index\"", &[]);
        fires("tests/a/package-lock.json", "\"resolved\": \"https://registry.npmjs.org/x\"", &[]);
        fires("tests/a/package-lock.json", "\"resolved\": \"http://mirror.example:8080/x\"", &["mirror.example"]);
        fires("tests/a/requirements.txt", "--index-url https://user:word@pypi.internal/simple", &["pypi.internal"]);
        fires("scripts/a", "curl http://localhost:9644/metrics; kcat PLAINTEXT://broker:9092", &[]);
    }

    #[test]
    fn orphans_are_found() {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        let files = [
            file("src/lib.rs", "mod log;"),
            file("src/log/mod.rs", "mod tail;\n// mod lost;\n"),
            file("src/log/tail.rs", ""),
            file("src/log/lost.rs", ""),
            file("src/lonely/mod.rs", ""),
        ];
        assert_eq!(orphans(&files), ["src/log/lost.rs", "src/lonely/mod.rs"]);
    }

    #[test]
    fn dead_links_are_found() {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        let page = "[a](b.md) [c](../top.md#part) [d](dir/) [e](https://docs.rs/x) [f](#here) [g](gone.md)";
        let files =
            [file("docs/a.md", page), file("docs/b.md", ""), file("top.md", "[up](../b.md)"), file("docs/dir/x", "")];
        let expected = [("docs/a.md", "gone.md"), ("top.md", "../b.md")];
        assert_eq!(dead_links(&files), expected.map(|(page, target)| (page.to_string(), target.to_string())));
    }

    #[test]
    fn blanking_keeps_code_and_lines() {
        let check = |text: &str, expected: &str| assert_eq!(blank_out(text).replace(' ', ""), expected, "{text}");
        check("a // b\nc", "a\nc");
        check("a /* b /* c */ d */ e", "ae");
        check("a(\"b\\\" c\", d)", "a(,d)");
        check("a(r#\"b\" c\"#, br\"d\", b\"e\", b'f', 'g', '\\'', '\\u{1}')", "a(,,,,,,)");
        check("fn f<'a>(x: &'a str) -> &'a str { x }", "fnf<'a>(x:&'astr)->&'astr{x}");
        check("for b in r { number\"x\" }", "forbinr{number}");
    }
}
