//! Tasks and threads start here and nowhere else, so that each has somebody who waits for it or owns its end.
//!
//! A [`TaskGroup`] is over when its last task is: whoever stops a server waits for that instead of guessing.

use std::future::Future;
use std::io;
use std::thread;

use futures_util::FutureExt;
use tokio::sync::mpsc;
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

/// Tasks that are started one by one and waited for together.
#[derive(Debug)]
pub struct TaskGroup {
    /// Each task holds a clone for as long as it runs.
    alive: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
}

/// Starts tasks in a [`TaskGroup`]. The group is not over while a starter exists.
#[derive(Clone, Debug)]
pub struct TaskStarter(mpsc::Sender<()>);

/// A starter that does not keep its group from being over.
#[derive(Clone, Debug)]
pub struct WeakTaskStarter(mpsc::WeakSender<()>);

impl WeakTaskStarter {
    /// The starter, unless the group is over.
    #[must_use]
    pub fn upgrade(&self) -> Option<TaskStarter> {
        self.0.upgrade().map(TaskStarter)
    }
}

impl Default for TaskGroup {
    fn default() -> Self {
        let (alive, ended) = mpsc::channel(1);
        Self { alive, ended }
    }
}

impl TaskGroup {
    /// Starts tasks in this group.
    #[must_use]
    pub fn starter(&self) -> TaskStarter {
        TaskStarter(self.alive.clone())
    }

    /// Waits until every starter is dropped and every task has ended, even by a panic.
    pub async fn ended(self) {
        let Self { alive, mut ended } = self;
        drop(alive);
        // Nothing is ever sent: the channel closes with the last task.
        ended.recv().await;
    }
}

impl TaskStarter {
    /// A starter that does not keep the group from being over.
    #[must_use]
    pub fn downgrade(&self) -> WeakTaskStarter {
        WeakTaskStarter(self.0.downgrade())
    }

    /// Starts a task.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let alive = self.0.clone();
        // Not an async block: that would hold the task twice.
        spawn(task.inspect(move |_| drop(alive)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_group_ends_with_its_last_task() {
        let group = TaskGroup::default();
        let done = Arc::new(AtomicUsize::new(0));
        for seconds in 1..4 {
            let done = Arc::clone(&done);
            group.starter().spawn(async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        let aborted = group.starter().spawn(std::future::pending::<()>());
        aborted.abort();
        group.ended().await;
        assert_eq!(done.load(Ordering::SeqCst), 3);
    }
}
