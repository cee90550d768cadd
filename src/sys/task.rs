//! Tasks and threads start here and nowhere else, so that each has a name and somebody who waits for it.

use std::future::Future;
use std::io;
use std::thread;

use tokio::task::JoinHandle;

/// Starts a task on the current runtime. Whoever starts it keeps the handle, or owns the signal that ends it.
#[expect(clippy::disallowed_methods, reason = "this is the one place that starts tasks")]
pub fn spawn<F>(task: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(task)
}

/// Starts a named thread.
///
/// # Errors
/// When the operating system refuses another thread.
pub fn thread<F, T>(name: &str, body: F) -> io::Result<thread::JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    thread::Builder::new().name(name.to_owned()).spawn(body)
}
