//! Holds `ARCHITECTURE.md` against the sources: its table of the house says what each place may import, and no file imports
//! anything else; and what the document names is where it says.
//!
//! The table is the only place where the arrows stand. A place is a folder with a row of its own, and a file belongs to the
//! innermost one that holds it. Imports are read as text (`use` and paths alike, comments and strings left out), so code that
//! is compiled for tests or other systems alone counts as well.

use std::collections::{BTreeMap, BTreeSet};

#[path = "support/sources.rs"]
mod sources;

use sources::{read, root, rust_files};

/// A folder of the house and what its files may name of the rest, as paths from the crate's root (`sys::random`).
#[derive(Debug)]
struct Place {
    folder: String,
    module: Vec<String>,
    imports: Vec<Vec<String>>,
    never: Vec<Vec<String>>,
}

fn segments(path: &str) -> Vec<String> {
    path.split("::").map(str::to_owned).collect()
}

/// The text between backticks.
fn spans(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The module path of a folder or file: `src/jetstream/driver/` is `jetstream::driver`, `protocol/src/time.rs` is
/// `protocol::time`.
fn module_of(path: &str) -> Vec<String> {
    let path = path.trim_end_matches('/').trim_end_matches(".rs").trim_end_matches("/mod");
    let path = path.strip_prefix("src/").map_or_else(|| path.replacen("/src", "", 1), str::to_owned);
    let path = path.strip_suffix("/lib").or_else(|| path.strip_suffix("/main")).unwrap_or(&path);
    path.split('/').map(str::to_owned).collect()
}

/// The rows of the table whose third column says what may be imported: `nothing`, or names.
fn places(document: &str) -> Vec<Place> {
    let mut places = Vec::new();
    for line in document.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [folder, _, imports, never] = cells.as_slice() else { continue };
        let [folder] = spans(folder)[..] else { continue };
        assert!(*imports == "nothing" || !spans(imports).is_empty(), "what may {folder} import? {line}");
        places.push(Place {
            folder: folder.to_owned(),
            module: module_of(folder),
            imports: spans(imports).into_iter().map(segments).collect(),
            never: spans(never).into_iter().map(segments).collect(),
        });
    }
    places
}

impl Place {
    fn holds(&self, path: &[String]) -> bool {
        path.starts_with(&self.module)
    }
}

/// The innermost place that holds a path.
fn place_of<'a>(places: &'a [Place], path: &[String]) -> Option<&'a Place> {
    places.iter().filter(|place| place.holds(path)).max_by_key(|place| place.module.len())
}

/// Why a file of `place` may not name `path`, if that is so.
fn complaint(places: &[Place], place: &Place, path: &[String]) -> Option<String> {
    if place.never.iter().any(|never| path.starts_with(never)) {
        return Some(format!("names {}, which {} never does", path.join("::"), place.folder));
    }
    let other = place_of(places, path).filter(|other| other.module != place.module)?;
    let is_allowed = |allowed: &Vec<String>| other.holds(allowed) && path.starts_with(allowed);
    let text = format!("imports {} of {}, which {} may not", path.join("::"), other.folder, place.folder);
    (!place.imports.iter().any(is_allowed)).then_some(text)
}

/// The source without comments and the insides of strings and characters; lines stay where they are.
fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let raw = ["br", "r"].into_iter().find_map(|prefix| {
            let hashes = rest.strip_prefix(prefix)?;
            let quote = hashes.trim_start_matches('#');
            quote.starts_with('"').then(|| (rest.len() - quote.len() + 1, hashes.len() - quote.len()))
        });
        let taken = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some((open, hashes)) = raw {
            let end = format!("\"{}", "#".repeat(hashes));
            rest[open..].find(&end).map_or(rest.len(), |at| open + at + end.len())
        } else if first == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            end.map_or(rest.len(), |at| at + 2)
        } else if let Some(character) = rest.strip_prefix("'\\") {
            character.find('\'').map_or(rest.len(), |at| (at + 3).max(4))
        } else if first == '\'' && rest.chars().nth(2) == Some('\'') {
            rest.char_indices().nth(3).map_or(rest.len(), |(at, _)| at)
        } else {
            // A whole word at once, so that the `r` at its end begins no raw string.
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let taken = word.max(first.len_utf8());
            code.push_str(&rest[..taken]);
            rest = &rest[taken..];
            continue;
        };
        code.extend(rest[..taken].chars().filter(|c| *c == '\n'));
        code.push(' ');
        rest = &rest[taken..];
    }
    code
}

/// The paths that follow a head such as `crate::`, braces spread out; returns what comes after.
fn spread<'a>(mut rest: &'a str, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    rest = rest.trim_start();
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            inside = spread(inside, path, found).trim_start();
            match inside.strip_prefix(',').map(str::trim_start) {
                Some(more) if !more.starts_with('}') => inside = more,
                Some(more) => return &more[1..],
                None => return inside.strip_prefix('}').unwrap_or(inside),
            }
        }
    }
    let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    if word == 0 {
        found.push(path.clone());
        return rest.strip_prefix('*').unwrap_or(rest);
    }
    path.push(rest[..word].to_owned());
    rest = &rest[word..];
    if let Some(more) = rest.strip_prefix("::") {
        rest = spread(more, path, found);
    } else {
        found.push(path.clone());
        let renamed = rest.trim_start().strip_prefix("as ").map(str::trim_start);
        if let Some(name) = renamed {
            rest = name.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
        }
    }
    path.pop();
    rest
}

/// Everything that a file of `module` names by a path from a crate's root or from its parents.
fn imports_of(source: &str, module: &[String]) -> Vec<Vec<String>> {
    let code = code_of(source);
    let mut found = Vec::new();
    // Modules written within the file: the depth of braces at which each ends.
    let (mut depth, mut inner): (usize, Vec<usize>) = (0, Vec::new());
    let mut rest = code.as_str();
    let mut before = "";
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (taken, after) = rest.split_at(word.max(first.len_utf8()));
        match taken {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                inner.pop_if(|at| *at == depth);
            }
            _ => {}
        }
        if before == "mod" && after.trim_start().starts_with('{') {
            inner.push(depth);
        }
        if let Some(path) = after.strip_prefix("::")
            && matches!(
                taken,
                "crate" | "super" | "weir" | "weir_protocol" | "weir_storage" | "std" | "tokio"
            )
        {
            let mut paths = Vec::new();
            rest = spread(path, &mut Vec::new(), &mut paths);
            found.extend(paths.into_iter().map(|path| resolve(taken, path, module, inner.len())));
        } else {
            rest = after;
        }
        if !taken.trim().is_empty() {
            before = taken;
        }
    }
    found
}

/// A path as seen from the root of the house.
fn resolve(head: &str, mut path: Vec<String>, module: &[String], inner: usize) -> Vec<String> {
    let is_member =
        module.first().is_some_and(|first| matches!(first.as_str(), "protocol" | "storage" | "bench"));
    match head {
        "super" => {
            let supers = 1 + path.iter().take_while(|segment| *segment == "super").count();
            path.drain(..supers - 1);
            let up = supers.saturating_sub(inner);
            [&module[..module.len().saturating_sub(up)], &path].concat()
        }
        "crate" if is_member => [&module[..1], &path].concat(),
        "crate" | "weir" => path,
        crate_name => {
            path.insert(0, crate_name.trim_start_matches("weir_").to_owned());
            path
        }
    }
}

#[test]
fn no_place_imports_what_it_may_not() {
    let places = places(&read("ARCHITECTURE.md"));
    let mut complaints = Vec::new();
    let mut imported: BTreeMap<&str, BTreeSet<Vec<String>>> = BTreeMap::new();
    for name in rust_files(&["protocol/src", "storage/src", "src", "bench/src"]) {
        if ["src/lib.rs", "src/main.rs"].contains(&name.as_str()) {
            continue;
        }
        let module = module_of(&name);
        let place =
            place_of(&places, &module).unwrap_or_else(|| panic!("ARCHITECTURE.md has no row for {name}"));
        let paths = imports_of(&read(&name), &module);
        let wrong = paths.iter().filter_map(|path| complaint(&places, place, path));
        complaints.extend(wrong.map(|why| format!("{name} {why}")));
        imported.entry(&place.folder).or_default().extend(paths);
    }
    complaints.sort();
    complaints.dedup();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    // What nobody uses is no arrow of the house.
    for place in &places {
        let paths =
            imported.get(place.folder.as_str()).unwrap_or_else(|| panic!("{} has no files", place.folder));
        for allowed in &place.imports {
            let is_used = paths.iter().any(|path| path.starts_with(allowed));
            assert!(is_used, "{} does not import {} any more", place.folder, allowed.join("::"));
        }
    }
}

#[test]
fn a_forbidden_arrow_is_seen_in_every_form() {
    let table = "| `src/a/` | | `b`, `sys::random` | `std::fs` |\n| `src/a/inner/` | | nothing | |\n\
                 | `src/b/` | | nothing | |\n| `src/sys/` | | nothing | |\n| `protocol/` | | nothing | |";
    let places = places(table);
    let module = segments("a::file");
    let place = place_of(&places, &module).expect("a row");
    let wrong = |source: &str| {
        let paths = imports_of(source, &module);
        let wrong = paths.iter().filter(|path| complaint(&places, place, path).is_some());
        wrong.map(|path| path.join("::")).collect::<Vec<_>>()
    };
    for (source, found) in [
        (
            "use crate::b::X; use crate::sys::random::{self, Y as Z}; use std::sync::Arc; let x = crate::a::f();",
            "",
        ),
        ("use crate::sys::{random::X, clock};", "sys::clock"),
        ("use crate::{b, sys::{task::{spawn}, random}};", "sys::task::spawn"),
        ("use super::super::sys::clock::now;", "sys::clock::now"),
        (
            "use super::other::X; mod tests { use super::*; use super::super::x; } use super::super::sys::clock;",
            "sys::clock",
        ),
        ("fn f() { crate::sys::clock::now() }", "sys::clock::now"),
        ("use weir_protocol::subject;", "protocol::subject"),
        ("use super::inner::X; use crate::a::{inner::Y, other};", "a::inner::X a::inner::Y"),
        ("fn f() { std::fs::read(\"x\") }", "std::fs::read"),
        (
            "// use crate::sys::clock;\n/* crate::sys::clock */ const X: &str = \"crate::sys::clock::\\\"x\";",
            "",
        ),
        (
            "const X: &[u8] = br#\"crate::sys::\"clock\"#; const Q: [char; 2] = ['\"', '\\'']; use crate::sys::clock;",
            "sys::clock",
        ),
    ] {
        assert_eq!(wrong(source).join(" "), found, "{source}");
    }
}

/// Whether `source` defines `name` or, within something it names, a variant of that name.
fn defines(source: &str, name: &str) -> bool {
    let code = code_of(source);
    let words: Vec<&str> =
        code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect();
    let path = segments(name);
    let Some((last, owners)) = path.split_last() else { return false };
    let keywords = ["fn", "struct", "enum", "trait", "const", "type", "mod", "macro_rules"];
    let is_defined = words.windows(2).any(|pair| pair[1] == last && keywords.contains(&pair[0]));
    let is_variant = owners.last().is_some_and(|owner| {
        words.windows(2).any(|pair| pair[0] == "enum" && pair[1] == owner) && words.contains(&last.as_str())
    });
    (is_defined || is_variant) && owners.iter().all(|owner| words.contains(&owner.as_str()))
}

/// A span that names a file or folder of the repository.
fn is_path(span: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    span.chars().all(is_plain) && (span.contains('/') || span.ends_with(".rs") || span.ends_with(".md"))
}

#[test]
fn what_the_document_names_is_where_it_says() {
    let document = read("ARCHITECTURE.md");
    let mut missing = Vec::new();
    let mut named = 0;
    for line in document.lines() {
        for cell in line.split('|') {
            let mut file: Option<&str> = None;
            for span in spans(cell) {
                if is_path(span) {
                    file = span.ends_with(".rs").then_some(span);
                    if !root().join(span).exists() {
                        missing.push(format!("there is no {span}"));
                        file = None;
                    }
                } else if let Some(file) = file
                    && span.chars().all(|c| c.is_ascii_alphanumeric() || "_:".contains(c))
                {
                    named += 1;
                    if !defines(&read(file), span) {
                        missing.push(format!("{file} does not define {span}"));
                    }
                }
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert!(named >= 20, "only {named} names were found: has the form of the document changed?");
}
