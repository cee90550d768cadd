//! `weir data generate`: renders a template N times, each time into one line of JSON.
//!
//! A file appears whole or not at all: it is written beside its place and moved there at the end.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::functions::Generator;
use super::json_line;
use super::template::Template;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output;
use crate::sys::clock::SharedClock;
use crate::sys::random::Random;

/// Flags of `weir data generate`.
#[derive(Debug, Args)]
#[command(
    after_help = "A template is one JSON value with calls between {{ and }}, in the syntax of Go's text/template:
  {{seq}} {{uuid}} {{timestamp}} {{timestamp \"2006-01-02\"}} {{randInt 1 10}} {{randFloat 0 1}}
  {{pick \"new\" \"paid\"}} {{faker \"person.name\"}} {{printf \"%.2f\" (randFloat 1 100)}}
docs/cli.md lists them all; examples/orders.tmpl is one."
)]
pub(crate) struct GenerateArgs {
    /// Template of one record
    #[arg(long, short, value_name = "FILE")]
    template: PathBuf,

    /// Number of records
    #[arg(long, short, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..), allow_negative_numbers = true)]
    count: u64,

    /// File to write; - is the standard output
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    output: PathBuf,

    /// Number that decides every random value; the same seed gives the same records (timestamps aside)
    #[arg(long, allow_negative_numbers = true)]
    seed: Option<i64>,
}

/// Runs the command.
pub(crate) fn run(args: &GenerateArgs, clock: SharedClock) -> Outcome {
    let shown = args.template.display();
    let text = std::fs::read_to_string(&args.template).map_err(|error| {
        Failure::io(format!("template {shown}"), &error).hint("--template FILE names the template")
    })?;
    let seed = args.seed.map_or_else(|| Random::from_system().next(), i64::unsigned_abs);
    let mut generator = Generator::new(seed, clock);
    let template = Template::parse(&text, &generator).map_err(|error| {
        Failure::new(format!("template {shown}, {error}"))
            .hint("`weir data generate --help` shows the syntax, docs/cli.md all functions")
    })?;
    if args.output.as_os_str() == "-" {
        let mut out = BufWriter::new(io::stdout().lock());
        render(args.count, &template, &mut generator, &mut out, Failure::output)?;
        return out.flush().map_err(|error| Failure::output(&error));
    }
    write_file(&args.output, |out| {
        let target = args.output.display();
        render(args.count, &template, &mut generator, out, |error| {
            Failure::io(format!("file {target}"), error)
        })
    })?;
    output::remark(format!("{} written to {}", output::count(args.count, "record"), args.output.display()));
    Ok(())
}

fn render(
    count: u64,
    template: &Template,
    generator: &mut Generator,
    out: &mut dyn Write,
    failed: impl Fn(&io::Error) -> Failure,
) -> Outcome {
    for record in 1..=count {
        let text = template
            .render(generator)
            .map_err(|error| Failure::new(format!("record {record}: template {error}")))?;
        let line = json_line::compact(&text).map_err(|error| {
            let shown: String = text.trim().chars().take(120).collect();
            Failure::new(format!("record {record}: the template rendered no JSON: {error}"))
                .hint(format!("it begins with: {shown}"))
        })?;
        writeln!(out, "{line}").map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// Writes a file as a whole: a failure leaves what was there before.
fn write_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Outcome) -> Outcome {
    let failed = |error: &io::Error| Failure::io(format!("file {}", path.display()), error);
    if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        // A pipe or a device is written to, not replaced.
        let mut out = BufWriter::new(std::fs::File::create(path).map_err(|error| failed(&error))?);
        write(&mut out)?;
        return out.flush().map_err(|error| failed(&error));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.prefix(".weir-").tempfile_in(folder).map_err(|error| failed(&error))?;
    {
        let mut out = BufWriter::new(file.as_file_mut());
        write(&mut out)?;
        out.flush().map_err(|error| failed(&error))?;
    }
    file.persist(path).map_err(|error| failed(&error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::ManualClock;

    fn generate(template: &str, count: u64, seed: i64) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.tmpl");
        std::fs::write(&file, template).unwrap();
        let output = folder.path().join("deep/out.jsonl");
        let args = GenerateArgs { template: file, count, output: output.clone(), seed: Some(seed) };
        let result = run(&args, ManualClock::at(0)).map_err(|failure| failure.to_string());
        let left: Vec<_> = std::fs::read_dir(folder.path().join("deep"))
            .map(|entries| entries.map(|entry| entry.unwrap().file_name()).collect())
            .unwrap_or_default();
        match result {
            Ok(()) => {
                assert_eq!(left, ["out.jsonl"]);
                Ok(std::fs::read_to_string(output).unwrap())
            }
            Err(error) => {
                assert!(left.is_empty(), "{left:?}");
                Err(error)
            }
        }
    }

    #[test]
    fn each_record_is_one_line() {
        let text =
            generate("{\n \"n\": {{seq}},\n \"who\": \"{{faker \"person.name\"}}\" }\n", 3, 1).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.iter().map(|line| line["n"].as_i64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(!text.contains(": "));
    }

    #[test]
    fn the_seed_decides() {
        let template = "{\"a\":\"{{faker \"person.name\"}}\",\"b\":{{randInt 0 1000000}},\"c\":\"{{uuid}}\"}";
        assert_eq!(generate(template, 20, 7), generate(template, 20, 7));
        assert_eq!(generate(template, 20, 7), generate(template, 20, -7));
        assert_ne!(generate(template, 20, 7), generate(template, 20, 8));
    }

    #[test]
    fn failures_name_the_record_and_leave_nothing() {
        for (template, parts) in [
            ("{\"a\": {{seq}}, }", ["record 1", "no JSON"]),
            ("{\"a\": {{randInt 5 1}} }", ["record 1: template line 1: randInt", "greater"]),
            ("{\"a\": \"{{faker \"no.such\"}}\"}", ["record 1", "unknown faker path \"no.such\""]),
            ("{\"a\":\n {{nope}} }", ["t.tmpl, line 2", "unknown function `nope`"]),
            ("   ", ["record 1", "no JSON"]),
        ] {
            let error = generate(template, 3, 1).expect_err(template);
            for part in parts {
                assert!(error.contains(part), "{template}: {error}");
            }
        }
    }

    #[test]
    fn the_examples_render() {
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "tmpl") {
                let text = generate(&std::fs::read_to_string(&path).unwrap(), 50, 1);
                assert_eq!(
                    text.unwrap_or_else(|error| panic!("{}: {error}", path.display())).lines().count(),
                    50
                );
            }
        }
    }
}
