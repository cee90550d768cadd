//! `weir data publish`: each line of a file as one message on a device's subject.

use std::io::{BufReader, Read};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use weir_protocol::header;

use super::json_line;
use super::lines::{LineError, Lines};
use crate::cli::connection::ServerArgs;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::task::{self, Stop};
use crate::cli::{identity, output};
use crate::client::Client;
use crate::service::fields::syntax;
use crate::sys;
use weir_protocol::duration;

/// Flags of `weir data publish`.
#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// File with one message per line; - is the standard input
    #[arg(long, short, value_name = "FILE")]
    file: PathBuf,

    /// Device to publish for
    #[arg(long, value_name = "ID", alias = "device")]
    device_id: String,

    /// First token(s) of the devices' subjects
    #[arg(long, value_name = "PREFIX", default_value = "monitor")]
    subject: String,

    /// Time between two messages; without it they go out as fast as they can
    #[arg(long, alias = "intervall", value_name = "SPAN", default_value = "0s", hide_default_value = true, value_parser = duration::parse, allow_hyphen_values = true)]
    interval: Duration,

    /// Header to add to each message; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_header)]
    header: Vec<(String, String)>,

    /// Longest line in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    max_line_bytes: u32,

    /// Stop at a line that is no JSON
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    validate: bool,

    /// Print each message once it is published
    #[arg(long)]
    echo: bool,

    #[command(flatten)]
    server: ServerArgs,
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("give NAME=VALUE, for example --header X-Run=7")?;
    if !header::is_valid_name(name.as_bytes()) {
        return Err(format!(
            "\"{name}\" is no header name: it is empty or has a colon, space or control character"
        ));
    }
    if value.contains(['\r', '\n']) {
        return Err("a header's value has no line break".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// A line with its number.
type Line = (u64, Vec<u8>);

/// Runs the command.
pub(crate) fn run(args: PublishArgs) -> Outcome {
    task::block_on(publish(args))
}

async fn publish(args: PublishArgs) -> Outcome {
    let subject = identity::device_subject(&args.subject, &identity::device(&args.device_id)?)?;
    let mut lines = open(&args)?;
    let mut stop = Stop::listen()?;
    let client = args.server.connect("data publish").await?;
    let headers = headers(&args)?;
    let mut pace = pace(args.interval);
    let mut published: u64 = 0;
    let end = loop {
        let next = tokio::select! {
            next = lines.recv() => next,
            signal = stop.wait() => break Err(Failure::new(format!("{signal} after {}", output::count(published, "message")))),
        };
        let Some(next) = next else { break Ok(()) };
        let (number, line) = match next {
            Ok(line) => line,
            Err(error) => break Err(unreadable(&args, &error)),
        };
        if args.validate
            && let Err(error) = json_line::check(&line)
        {
            let (file, column, reason) = (args.file.display(), error.column(), syntax(&error));
            break Err(Failure::new(format!("{file}, line {number}, column {column}: no JSON: {reason}"))
                .hint("--validate=false publishes lines as they are"));
        }
        if let Some(pace) = &mut pace {
            tokio::select! {
                _ = pace.tick() => {}
                signal = stop.wait() => break Err(Failure::new(format!("{signal} after {}", output::count(published, "message")))),
            }
        }
        let payload = Bytes::from(line);
        if let Err(error) = client.publish(&subject, Some(&headers), payload.clone()).await {
            break Err(Failure::new(format!("{}, line {number}: {error}", args.file.display())));
        }
        published += 1;
        if args.echo {
            output::bytes(&payload)?;
        }
    };
    flush(&client).await?;
    output::remark(format!("{} published on {subject}", output::count(published, "message")));
    end
}

async fn flush(client: &Client) -> Outcome {
    client
        .drain()
        .await
        .map_err(|error| Failure::new(format!("{error}: whether the last messages arrived is not known")))
}

/// Reads the file on a thread of its own: the standard input may wait for ever, the connection must not.
fn open(args: &PublishArgs) -> Outcome<mpsc::Receiver<Result<Line, LineError>>> {
    /// Lines read ahead.
    const AHEAD: usize = 64;
    let failed = |error: &std::io::Error| Failure::io(format!("file {}", args.file.display()), error);
    let source: Box<dyn Read + Send> = if args.file.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        let file = std::fs::File::open(&args.file).map_err(|error| failed(&error))?;
        if file.metadata().is_ok_and(|meta| meta.is_dir()) {
            return Err(Failure::new(format!("file {}: it is a directory", args.file.display())));
        }
        Box::new(file)
    };
    let (sender, receiver) = mpsc::channel(AHEAD);
    let mut lines = Lines::new(BufReader::new(source), args.max_line_bytes as usize);
    sys::task::thread("file", move || {
        while let Some(next) = lines.next().transpose() {
            let last = next.is_err();
            if sender.blocking_send(next).is_err() || last {
                return;
            }
        }
    })
    .map_err(|error| failed(&error))?;
    Ok(receiver)
}

fn unreadable(args: &PublishArgs, error: &LineError) -> Failure {
    let failure = Failure::new(format!("{}: {error}", args.file.display()));
    match error {
        LineError::TooLong { .. } => failure.hint("--max-line-bytes sets the limit"),
        LineError::Io(_) => failure,
    }
}

fn headers(args: &PublishArgs) -> Outcome<Bytes> {
    let file = args.file.file_name().map_or_else(|| "-".into(), |name| name.to_string_lossy());
    let mut block = header::Headers::new();
    let mut set = |name: &str, value: &str| {
        block
            .insert(name, value)
            .map(|_| ())
            .map_err(|error| Failure::new(format!("header {name}={value}: {error}")))
    };
    set("Content-Type", "application/json")?;
    set("X-Streams-Device", args.device_id.trim())?;
    set("X-Streams-File", &file)?;
    for (name, value) in &args.header {
        set(name, value)?;
    }
    Ok(block.to_block())
}

fn pace(interval: Duration) -> Option<Interval> {
    (!interval.is_zero()).then(|| {
        let mut pace = tokio::time::interval(interval);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pace
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_name_and_value() {
        assert_eq!(parse_header("X-Run=a=b"), Ok(("X-Run".to_owned(), "a=b".to_owned())));
        assert_eq!(parse_header("X="), Ok(("X".to_owned(), String::new())));
        for bad in ["X", "=a", "A B=c", "A:B=c", "A=b\r\nC: d"] {
            assert!(parse_header(bad).is_err(), "{bad}");
        }
    }
}
