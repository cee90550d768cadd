//! The single-dash words of nats-server (`-js`, `-sd DIR`, `-DV`), rewritten into flags that clap knows.
//!
//! Go's flag package reads `-port 4222` and `--port=4222` alike and knows no bundles of letters; clap reads `-port` as
//! `-p ort`. Only what follows `serve` is touched, so that no other command's words change their meaning.

use std::ffi::OsString;
use std::path::Path;

/// A word of nats-server: the name after one or two dashes, what it becomes, whether a value follows.
struct Word {
    name: &'static str,
    becomes: &'static [&'static str],
    value: bool,
}

const fn word(name: &'static str, becomes: &'static [&'static str], value: bool) -> Word {
    Word { name, becomes, value }
}

const WORDS: &[Word] = &[
    word("js", &["--jetstream"], false),
    word("jetstream", &["--jetstream"], false),
    word("sd", &["--store"], true),
    word("store_dir", &["--store"], true),
    word("store", &["--store"], true),
    word("p", &["--port"], true),
    word("port", &["--port"], true),
    word("a", &["--host"], true),
    word("addr", &["--host"], true),
    word("net", &["--host"], true),
    word("host", &["--host"], true),
    word("n", &["--name"], true),
    word("name", &["--name"], true),
    word("server_name", &["--name"], true),
    word("m", &["--monitor-port"], true),
    word("http_port", &["--monitor-port"], true),
    word("P", &["--pid"], true),
    word("pid", &["--pid"], true),
    word("l", &["--log"], true),
    word("log", &["--log"], true),
    word("ports_file_dir", &["--ports-file-dir"], true),
    word("sl", &["--signal"], true),
    word("signal", &["--signal"], true),
    word("D", &["--debug"], false),
    word("debug", &["--debug"], false),
    word("V", &["--trace"], false),
    word("trace", &["--trace"], false),
    word("DV", &["--debug", "--trace"], false),
    word("DVV", &["--debug", "--trace"], false),
    word("help", &["--help"], false),
];

/// The arguments as clap is to see them.
///
/// `streams` before a command is dropped, a program called `nats-server` becomes `weir serve`, and the words after
/// `serve` are rewritten.
#[must_use]
pub fn rewrite(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments = arguments.into_iter();
    let program = arguments.next().unwrap_or_else(|| OsString::from("weir"));
    let mut rest: Vec<OsString> = arguments.collect();
    let mut result = vec![program.clone()];
    if called_nats_server(&program) {
        result.push("serve".into());
    } else {
        if rest.first().is_some_and(|first| first == "streams") {
            rest.remove(0);
        }
        if rest.first().is_none_or(|first| first != "serve" && first != "run") {
            result.extend(rest);
            return result;
        }
        result.push(rest.remove(0));
    }
    rewrite_serve(rest, &mut result);
    result
}

/// Whether the program stands in for nats-server, by a link of that name.
#[must_use]
pub fn called_nats_server(program: &OsString) -> bool {
    Path::new(program).file_stem().is_some_and(|stem| stem == "nats-server")
}

fn rewrite_serve(rest: Vec<OsString>, result: &mut Vec<OsString>) {
    let mut rest = rest.into_iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            result.push(argument);
            result.extend(rest);
            return;
        }
        let Some((word, value)) = argument.to_str().and_then(known) else {
            result.push(if is_unknown_word(&argument) { dashed(argument) } else { argument });
            continue;
        };
        for flag in word.becomes {
            match value {
                Some(value) => result.push(format!("{flag}={value}").into()),
                None => result.push((*flag).into()),
            }
        }
        if word.value && value.is_none() {
            // The next argument is the value, whatever it looks like: `-p -1`, `-n -js`.
            if let (Some(value), Some(flag)) = (rest.next(), result.last_mut()) {
                flag.push("=");
                flag.push(value);
            }
        }
    }
}

/// The word behind one or two dashes, and the value behind `=`.
fn known(argument: &str) -> Option<(&'static Word, Option<&str>)> {
    let bare = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'))?;
    let (name, value) = match bare.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (bare, None),
    };
    WORDS.iter().find(|word| word.name == name).map(|word| (word, value))
}

/// Whether clap would read a word behind one dash as a letter and its value: `-logtime` as `-l ogtime`.
fn is_unknown_word(argument: &OsString) -> bool {
    let bytes = argument.as_encoded_bytes();
    matches!(bytes, [b'-', first, second, ..] if first.is_ascii_alphabetic() && second.is_ascii_alphabetic())
}

/// With one dash more, so that clap refuses it by its name.
fn dashed(argument: OsString) -> OsString {
    let mut dashed = OsString::from("-");
    dashed.push(argument);
    dashed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(typed: &str, seen: &str) {
        let split = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(rewrite(split(typed)), split(seen), "{typed}");
    }

    #[test]
    fn nats_server_words_become_flags() {
        check("weir serve -js -sd /d -DV", "weir serve --jetstream --store=/d --debug --trace");
        check("weir serve -p 4222 -a 0.0.0.0 -n one", "weir serve --port=4222 --host=0.0.0.0 --name=one");
        check("weir serve -port -1 -m 8222 -P /p", "weir serve --port=-1 --monitor-port=8222 --pid=/p");
        check("weir serve -sd=/d --store_dir=/e", "weir serve --store=/d --store=/e");
        check("weir serve -js=false", "weir serve --jetstream=false");
        check("weir serve -n -js -js", "weir serve --name=-js --jetstream");
        check("weir serve --http :0 -D", "weir serve --http :0 --debug");
        check("weir serve -sl ldm=1", "weir serve --signal=ldm=1");
        check("weir serve -p", "weir serve --port");
        check("weir serve -logtime=false -lfile -p4222", "weir serve --logtime=false --lfile -p4222");
    }

    #[test]
    fn other_commands_keep_their_words() {
        check("weir replay -js -p 1", "weir replay -js -p 1");
        check("weir streams record list", "weir record list");
        check("weir streams serve -js", "weir serve --jetstream");
        check("weir --version", "weir --version");
        check("weir streams", "weir");
        check("weir serve -- -js", "weir serve -- -js");
    }

    #[test]
    fn a_link_called_nats_server_serves() {
        check("/usr/bin/nats-server -js -p -1", "/usr/bin/nats-server serve --jetstream --port=-1");
        check("nats-server", "nats-server serve");
    }
}
