//! Answers that wait for the journal, counted in bytes: beyond a limit the driver takes no more input, so a slow disk slows
//! publishers down and does not fill the memory.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes of answers that may wait for the journal: beyond them no input is taken until some have left.
const BYTES_MAX: usize = 64 << 20;

/// How much waits for the journal, in bytes of answers.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    bytes: Mutex<usize>,
    freed: Condvar,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts answers of `bytes` until what is returned is dropped.
    pub(super) fn place(self: &Arc<Self>, bytes: usize) -> Place {
        *self.lock() += bytes;
        Place { waiting: Arc::clone(self), bytes }
    }

    /// Returns once there is room for more. The journal needs nothing of this thread to get there.
    pub(super) fn wait_for_room(&self) {
        let mut waiting = self.lock();
        while *waiting > BYTES_MAX {
            waiting = self.freed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The place of answers among those that wait.
pub(super) struct Place {
    waiting: Arc<Waiting>,
    bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock();
        *waiting = waiting.saturating_sub(self.bytes);
        drop(waiting);
        self.waiting.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sys::task;

    #[test]
    fn inputs_wait_while_too_many_answers_wait_for_the_journal() {
        let waiting = Arc::new(Waiting::default());
        let (small, large) = (waiting.place(10), waiting.place(BYTES_MAX));
        let waiter = Arc::clone(&waiting);
        let (done, is_done) = std::sync::mpsc::channel();
        let thread = task::thread("waiter", move || {
            waiter.wait_for_room();
            done.send(()).expect("the test waits");
        })
        .expect("a thread");
        assert!(is_done.recv_timeout(Duration::from_millis(50)).is_err(), "no room yet");
        drop(small);
        is_done.recv().expect("there is room: the limit itself may wait");
        thread.join().expect("it ends");
        drop(large);
        assert_eq!(*waiting.lock(), 0);
    }
}
