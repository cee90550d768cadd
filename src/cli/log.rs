//! The log of `weir serve`, in the form of nats-server: `[PID] 2026/01/02 15:04:05.000000 [INF] text`. Programs that
//! start a nats-server and watch its log understand it. Times are UTC.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Mutex;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, SubscriberBuilder};
use tracing_subscriber::registry::LookupSpan;

use super::failure::{Failure, Outcome};
use crate::config::resolve::Log;
use crate::sys::clock::SharedClock;

/// One line per event.
struct Form {
    clock: SharedClock,
    process: u32,
}

impl<S, N> FormatEvent<S, N> for Form
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let nanos = i128::from(self.clock.wall());
        let time = jiff::Timestamp::from_nanosecond(nanos).map_err(|_| fmt::Error)?;
        let time = time.strftime("%Y/%m/%d %H:%M:%S.%6f");
        write!(out, "[{}] {time} [{}] ", self.process, word(*event.metadata().level()))?;
        context.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

/// nats-server's word for a level.
fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERR",
        Level::WARN => "WRN",
        Level::INFO => "INF",
        Level::DEBUG => "DBG",
        Level::TRACE => "TRC",
    }
}

/// Sends the log of this process where it was asked for: to a file, which is appended to, or to the standard error.
///
/// # Errors
/// When the file cannot be opened for writing.
pub(crate) fn start(log: &Log, clock: SharedClock) -> Outcome {
    let level = match (log.trace, log.debug) {
        (true, _) => Level::TRACE,
        (false, true) => Level::DEBUG,
        (false, false) => Level::INFO,
    };
    let form = Form { clock, process: std::process::id() };
    let builder = builder(form, level);
    let started = match &log.file {
        Some(path) => builder.with_writer(Mutex::new(open(path)?)).try_init(),
        None => builder.with_writer(io::stderr).try_init(),
    };
    started.map_err(|error| Failure::new(format!("the log cannot start: {error}")))
}

/// Sends warnings and errors alone to the standard error.
///
/// # Errors
/// When a log was started already.
pub(crate) fn start_quiet(clock: SharedClock) -> Outcome {
    let form = Form { clock, process: std::process::id() };
    let started = builder(form, Level::WARN).with_writer(io::stderr).try_init();
    started.map_err(|error| Failure::new(format!("the log cannot start: {error}")))
}

fn builder(form: Form, level: Level) -> SubscriberBuilder<DefaultFields, Form, LevelFilter> {
    // A line that cannot be written is lost. To say so on a standard error that nobody reads any more would panic, in whatever
    // thread had something to tell.
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .log_internal_errors(false)
        .event_format(form)
}

fn open(path: &Path) -> Outcome<File> {
    File::options()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|error| Failure::io(format!("log file {}", path.display()), &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::ManualClock;
    use std::sync::Arc;

    #[test]
    fn lines_have_the_form_of_nats_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let form = Form { clock: ManualClock::at(1_700_000_000_123_456_789), process: 7 };
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::DEBUG)
            .with_ansi(false)
            .event_format(form)
            .with_writer(Arc::new(open(&path).unwrap()))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("Server is ready");
            tracing::warn!(cid = 5, "slow");
            tracing::trace!("not shown");
        });
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            "[7] 2023/11/14 22:13:20.123456 [INF] Server is ready\n[7] 2023/11/14 22:13:20.123456 [WRN] slow cid=5\n"
        );
    }
}
