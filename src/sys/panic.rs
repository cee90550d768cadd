//! What a panic may take with it. It is a mistake in Weir, and the rule is that it takes as little as it can and is never
//! hidden.
//!
//! What serves one peer runs inside of [`contain`]: a NATS connection is closed, a request is answered with an error, and all
//! else goes on. Of anything else others would wait for what never comes, so a program that has called [`end_the_process`]
//! ends and is started again by whoever started it; what was answered is on disk. In a program that embeds Weir that is the
//! program's to decide.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

thread_local! {
    static IS_CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// What was contained has panicked. The panic hook has told where and why; this is for whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an internal error; the log of the server says more")]
pub struct Panicked;

pin_project! {
    /// See [`contain`].
    #[derive(Debug)]
    pub struct Contained<F> {
        #[pin]
        work: F,
    }
}

/// Has a panic in `work` end that alone. What it shares with others must be whole whenever it may panic, or be seen not to be.
pub fn contain<F: Future>(work: F) -> Contained<F> {
    Contained { work }
}

impl<F: Future> Future for Contained<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let work = self.project().work;
        let was_contained = IS_CONTAINED.replace(true);
        let polled = catch_unwind(AssertUnwindSafe(|| work.poll(context)));
        IS_CONTAINED.set(was_contained);
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}

/// From now on a panic is logged, and ends the process (`SIGABRT`) unless it is contained, or `is_caught` says that a part
/// which does the same for itself is on its way.
pub fn end_the_process(is_caught: fn() -> bool) {
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let (thread, what) = (thread.name().unwrap_or("without a name"), describe(panic));
        if IS_CONTAINED.get() || is_caught() {
            tracing::error!("thread {thread} panicked, which is caught: {what}");
            return;
        }
        tracing::error!("thread {thread} panicked, and others need it: the process ends: {what}");
        std::process::abort();
    }));
}

/// Where and why, and the way there when `RUST_BACKTRACE` asks for it.
fn describe(panic: &PanicHookInfo<'_>) -> String {
    use std::backtrace::{Backtrace, BacktraceStatus};
    let place = panic.location().map(|place| format!(" at {place}")).unwrap_or_default();
    let backtrace = Backtrace::capture();
    let way = if backtrace.status() == BacktraceStatus::Captured {
        format!("\n{backtrace}")
    } else {
        String::new()
    };
    format!("{}{place}{way}", panic.payload_as_str().unwrap_or("no message"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Output};

    /// Names what this program is to do when a test has started it once more.
    const PART: &str = "WEIR_TEST_PANIC";

    #[tokio::test]
    async fn a_panic_ends_what_is_contained_alone() {
        let half = async {
            tokio::task::yield_now().await;
            panic!("a mistake")
        };
        assert_eq!(contain(half).await, Err::<(), _>(Panicked));
        assert_eq!(contain(async { 7 }).await, Ok(7));
        assert!(!IS_CONTAINED.get());
    }

    /// The panic of a process of its own, whose hook is not this one's.
    #[test]
    fn what_a_panic_takes_with_it() {
        match std::env::var(PART).as_deref() {
            Ok("contained") => {
                end_the_process(|| false);
                let contained = contain(async { panic!("a mistake") });
                assert_eq!(futures_util::FutureExt::now_or_never(contained), Some(Err::<(), _>(Panicked)));
            }
            Ok("caught") => {
                end_the_process(|| true);
                std::panic::catch_unwind(|| panic!("a mistake")).unwrap_err();
            }
            Ok(_) => {
                end_the_process(|| false);
                drop(crate::sys::task::thread("worker", || panic!("a mistake")).unwrap().join());
            }
            Err(_) => {
                let again = |part: &str| -> Output {
                    let name = "sys::panic::tests::what_a_panic_takes_with_it";
                    let mut program = Command::new(std::env::current_exe().unwrap());
                    program.args([name, "--exact"]).env(PART, part).output().unwrap()
                };
                for part in ["contained", "caught"] {
                    let goes_on = again(part);
                    assert!(goes_on.status.success(), "{part}: {goes_on:?}");
                }
                let ended = again("not contained");
                assert!(!ended.status.success() && ended.status.code().is_none(), "a signal: {ended:?}");
            }
        }
    }
}
