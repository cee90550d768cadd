//! NATS servers side by side: the same load on each in turn, round after round, and the ratios with their spread.
//!
//! ```sh
//! cargo run --release -p weir-bench -- --a weir=target/release/weir --b nats-server=/usr/bin/nats-server
//! ```
//!
//! `rows.rs` lists what is measured. Targets take turns within a round, and the turn rotates from round to round, so that
//! what else the machine does meets all of them. Nothing is measured if another server answers than the one that was
//! named, and a run that lost a message has no figure. Everything stays on loopback.

#![expect(clippy::disallowed_methods, reason = "this program measures real time with real threads")]

mod cleanup;
mod consume;
mod fault;
mod flow;
mod footprint;
mod lab;
mod latency;
mod process;
mod relay;
mod rows;
mod sample;
mod shape;
mod stream;
mod table;
mod target;
mod wire;

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, value_parser};
use serde_json::json;
use tempfile::TempDir;

use crate::fault::Fault;
use crate::lab::Lab;
use crate::rows::Row;
use crate::shape::{SHAPES, Shape};
use crate::table::Results;
use crate::target::{Kind, Target};

/// Measures NATS servers side by side.
#[derive(Parser)]
#[command(name = "weir-bench", args_conflicts_with_subcommands = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    options: Options,
}

/// What the program may be besides.
#[derive(Subcommand)]
enum Role {
    /// Be the relay for the frames of one row (started by the program itself).
    #[command(hide = true)]
    Relay {
        #[arg(value_parser = shape)]
        shape: Shape,
        size: usize,
    },
}

#[derive(Args)]
struct Options {
    /// The server whose figures are the upper half of the ratios: weir=PATH, nats-server=PATH, or NAME=nats://HOST:PORT
    #[arg(long, value_parser = Target::parse, required_unless_present = "list")]
    a: Option<Target>,
    /// The server it is compared with
    #[arg(long, value_parser = Target::parse, required_unless_present = "list")]
    b: Option<Target>,
    /// A third server, compared with the first as well
    #[arg(long, value_parser = Target::parse)]
    c: Option<Target>,
    /// Only rows whose id begins with one of these
    #[arg(long, value_delimiter = ',', value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    rows: Vec<String>,
    /// How often each target is measured
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u8).range(1..), allow_negative_numbers = true)]
    rounds: u8,
    /// Length of a measurement, 0.1 to 60
    #[arg(long, default_value_t = 1.5, value_parser = seconds, allow_negative_numbers = true)]
    seconds: f64,
    /// Messages in the store of the row `start`, 1,000 to 1,000,000,000
    #[arg(long, default_value_t = rows::STORED, value_parser = value_parser!(u64).range(1000..=1_000_000_000))]
    #[arg(allow_negative_numbers = true)]
    stored: u64,
    /// Where stores are kept during a run; must not be a file system in memory [default: the temporary folder]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// One JSON object per row, with every round
    #[arg(long)]
    json: bool,
    /// List the rows and their ids
    #[arg(long)]
    list: bool,
}

fn shape(name: &str) -> Result<Shape, String> {
    SHAPES.into_iter().find(|shape| shape.name() == name).ok_or_else(|| format!("no shape '{name}'"))
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if (0.1..=60.0).contains(&seconds) { Ok(seconds) } else { Err("must be 0.1 to 60 seconds".to_owned()) }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.role {
        Some(Role::Relay { shape, size }) => relay::main(shape, size).map_err(|error| error.to_string()),
        None => compare(arguments.options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            remark(error);
            ExitCode::FAILURE
        }
    }
}

/// Says something besides the report.
pub(crate) fn remark(words: impl Display) {
    // Nobody may be there to hear it, which changes no figure.
    let _ = writeln!(std::io::stderr(), "weir-bench: {words}");
}

/// Writes lines of the report, which is whole or an error.
fn report(lines: impl Display) -> Result<(), String> {
    writeln!(std::io::stdout(), "{lines}").map_err(|error| format!("the report cannot be written: {error}"))
}

fn compare(options: Options) -> Result<(), String> {
    let mut rows = rows::choose(&options.rows, options.stored)?;
    if options.list {
        for row in rows {
            let titles: Vec<_> = row.lines.iter().map(|line| line.title.as_str()).collect();
            report(format_args!("{:<22} {}", row.id, titles.join("; ")))?;
        }
        return Ok(());
    }
    cleanup::on_signals().map_err(|error| format!("signals: {error}"))?;
    let lab = lab(&options)?;
    let targets: Vec<Target> = [options.a, options.b, options.c].into_iter().flatten().collect();
    check_room(&rows, &targets, &lab)?;
    let (titles, programs) = greet(&targets, &lab)?;
    if !have_goals(&programs) {
        rows.iter_mut().for_each(Row::forget_goals);
    }
    let (machine, load) = (process::machine(), process::load());
    let (rounds, seconds) = (options.rounds, options.seconds);
    if options.json {
        let about = json!({ "servers": titles, "machine": machine, "load": load, "rounds": rounds, "seconds": seconds });
        report(about)?;
    } else {
        report(format_args!("{machine}; load {load}; {rounds} rounds of {seconds} s\n"))?;
        report(table::head(&titles))?;
    }
    let mut faults = 0;
    for mut row in rows {
        let results = measure(&mut row, &targets, &lab, rounds)?;
        let runs = results.servers.iter().chain([&results.relay]).flatten();
        faults += runs.filter(|run| !matches!(run, Ok(_) | Err(Fault::Unfit(_)))).count();
        if options.json {
            report(table::json(&row, &results))?;
        } else {
            for line in table::lines(&row, &results) {
                report(line)?;
            }
        }
    }
    if !options.json {
        report(format_args!("\nload {} at the end", process::load()))?;
    }
    if faults > 0 { Err(format!("{faults} runs have no figure")) } else { Ok(()) }
}

/// The conditions, looked at before anything starts.
fn lab(options: &Options) -> Result<Lab, String> {
    let folder = options.folder.clone().unwrap_or_else(std::env::temp_dir);
    let about = |error: std::io::Error| format!("folder '{}': {error}", folder.display());
    let folder = folder.canonicalize().map_err(about)?;
    let place = folder.display();
    if !folder.is_dir() {
        return Err(format!("folder '{place}': not a folder"));
    }
    if process::in_memory(&folder).map_err(|error| format!("folder '{place}': {error}"))? {
        return Err(format!(
            "folder '{place}' is in memory, where a sync costs nothing: name one on a disk with --folder"
        ));
    }
    let own = TempDir::with_prefix_in("weir-bench-", &folder);
    let own = own.map_err(|error| format!("folder '{place}': {error}"))?;
    cleanup::hold_folder(own.path().to_owned());
    Ok(Lab {
        folder: own,
        length: Duration::from_secs_f64(options.seconds),
        open_files: process::raise_open_files(),
        stored: options.stored,
    })
}

/// Whether what the rows may store finds room: all of it lies in one folder, one row after the other.
fn check_room(rows: &[Row], targets: &[Target], lab: &Lab) -> Result<(), String> {
    let servers = targets.iter().filter(|target| target.binary().is_some()).count() as u64;
    let needs = rows.iter().map(|row| (row.measure.room(lab, servers), &row.id)).max();
    let Some((needed, row)) = needs.filter(|_| servers > 0) else { return Ok(()) };
    let place = lab.folder.path().display();
    let free =
        process::free_bytes(lab.folder.path()).map_err(|error| format!("folder '{place}': {error}"))?;
    if free >= needed {
        return Ok(());
    }
    Err(format!("folder '{place}' has {} MB free, row {row} may need {} MB", free >> 20, needed >> 20))
}

/// What answers, and its version.
type Program = (Kind, String);

/// Whether the goals are about these servers.
fn have_goals(servers: &[Program]) -> bool {
    matches!(servers, [(Kind::Weir, _), (Kind::NatsServer, version), ..] if version == rows::PEER)
}

/// Starts each target once: says which servers answer, in words and by version, or why nothing can be measured.
fn greet(targets: &[Target], lab: &Lab) -> Result<(Vec<String>, Vec<Program>), String> {
    let (mut titles, mut programs) = (Vec::new(), Vec::new());
    for (name, target) in ["a", "b", "c"].into_iter().zip(targets) {
        let started = target.ask_version().and_then(|()| target.start(lab.folder.path(), false));
        let server = started.map_err(|fault| format!("--{name}: {fault}"))?;
        programs.push((target.kind(), server.version()));
        let mut title = server.title();
        remark(format_args!("{name} is {title}"));
        if titles.contains(&title) {
            title = format!("{title} ({name})");
        }
        titles.push(title);
    }
    Ok((titles, programs))
}

/// All rounds of a row. The target that begins is another in each round.
fn measure(row: &mut Row, targets: &[Target], lab: &Lab, rounds: u8) -> Result<Results, String> {
    let servers = targets.iter().map(|_| Vec::new()).collect();
    let mut results = Results { cores: process::cores(), servers, relay: Vec::new() };
    for round in 0..usize::from(rounds) {
        // One place more than there are servers: the relay's.
        let places = targets.len() + 1;
        for turn in 0..places {
            let place = (round + turn) % places;
            let Some((target, rounds)) = targets.get(place).zip(results.servers.get_mut(place)) else {
                results.relay.extend(row.measure.relay(lab));
                continue;
            };
            let result = row.measure.run(place, target, lab);
            if let Err(fault) = &result {
                if let Fault::Wrong(_) = fault {
                    return Err(fault.to_string());
                }
                remark(format_args!("{}, round {}, server {}: {fault}", row.id, round + 1, place + 1));
            }
            rounds.push(result);
        }
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn wrong_words_are_named() {
        let refusal = |words: &[&str]| {
            let words = ["weir-bench"].iter().chain(words);
            Arguments::try_parse_from(words).err().unwrap().to_string()
        };
        assert!(refusal(&["--a", "weir=/bin/true"]).contains("--b"));
        assert!(refusal(&["--a", "x=/bin/true"]).contains("server 'x' is not known: weir or nats-server"));
        for seconds in ["0", "-1", "60.1", "NaN"] {
            assert!(refusal(&["--list", "--seconds", seconds]).contains("must be 0.1 to 60 seconds"));
        }
        assert!(refusal(&["--list", "--rounds", "0"]).contains("0 is not in 1..=255"));
        assert!(refusal(&["--list", "--rounds", "-1"]).contains("-1 is not in 1..=255"));
        for stored in ["999", "1000000001"] {
            let range = format!("{stored} is not in 1000..=1000000000");
            assert!(refusal(&["--list", "--stored", stored]).contains(&range));
        }
        for rows in ["", "core,"] {
            assert!(refusal(&["--list", "--rows", rows]).contains("value is required for '--rows <ID>'"));
        }
        assert!(refusal(&["relay", "2-2", "16"]).contains("no shape '2-2'"));
    }

    #[test]
    fn goals_are_those_of_weir_against_the_version_they_were_set_for() {
        let (weir, nats) = (Kind::Weir, Kind::NatsServer);
        for (servers, expected) in [
            (&[(weir, "0.1.0"), (nats, "2.14.5")][..], true),
            (&[(weir, "0.1.0"), (nats, "2.14.5"), (nats, "2.9.10")], true),
            (&[(weir, "0.1.0"), (nats, "2.9.10")], false),
            (&[(weir, "0.1.0"), (nats, "2.14.50")], false),
            (&[(weir, "0.1.0"), (nats, "2.9.10"), (nats, "2.14.5")], false),
            (&[(nats, "2.14.5"), (weir, "0.1.0")], false),
            (&[(weir, "0.1.0"), (weir, "2.14.5")], false),
        ] {
            let servers: Vec<_> =
                servers.iter().map(|(kind, version)| (*kind, (*version).to_owned())).collect();
            assert_eq!(have_goals(&servers), expected, "{servers:?}");
        }
    }

    #[test]
    fn a_folder_that_is_none_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let place = file.path().canonicalize().unwrap();
        let of = |folder: &str| {
            let words = ["weir-bench", "--list", "--folder", folder];
            lab(&Arguments::try_parse_from(words).unwrap().options)
        };
        let refusal = of(place.to_str().unwrap()).err().unwrap();
        assert_eq!(refusal, format!("folder '{}': not a folder", place.display()));
        let refusal = of("/no/such").err().unwrap();
        assert_eq!(refusal, "folder '/no/such': No such file or directory (os error 2)");
    }

    #[test]
    fn a_folder_in_memory_is_refused() {
        if !process::in_memory(std::path::Path::new("/dev/shm")).unwrap_or(false) {
            eprintln!("not tested: /dev/shm is not in memory here");
            return;
        }
        let words = ["weir-bench", "--list", "--folder", "/dev/shm"];
        let refusal = lab(&Arguments::try_parse_from(words).unwrap().options).err().unwrap();
        assert!(refusal.starts_with("folder '/dev/shm' is in memory"), "{refusal}");
    }
}
