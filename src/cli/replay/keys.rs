//! Keys pressed on the terminal, one at a time, without Enter and without showing them.
//!
//! The terminal is given back as it was found when this is dropped. Ctrl-C and Ctrl-Z keep their meaning. Where the
//! standard input or error is no terminal, or on a system without termios, there are no keys.

use crate::cli::failure::Outcome;

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// Pause, or go on.
    Pause,
    /// One message while paused.
    Step,
    /// Twice as fast.
    Faster,
    /// Half as fast.
    Slower,
    /// The end.
    Quit,
}

/// What a character asks for; most ask for nothing.
fn meaning(character: u8) -> Option<Key> {
    match character {
        b' ' => Some(Key::Pause),
        b'.' => Some(Key::Step),
        b'+' | b'=' => Some(Key::Faster),
        b'-' => Some(Key::Slower),
        b'q' => Some(Key::Quit),
        _ => None,
    }
}

#[cfg(unix)]
pub(super) use terminal::Keys;

#[cfg(unix)]
mod terminal {
    use std::io::{IsTerminal, Read};

    use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
    use tokio::sync::mpsc;

    use super::{Key, Outcome, meaning};
    use crate::cli::failure::Failure;
    use crate::sys;

    /// Listens to the terminal until dropped.
    pub(in super::super) struct Keys {
        before: Termios,
        keys: mpsc::Receiver<Key>,
    }

    impl Keys {
        /// Listens from now on; None when there is no terminal to listen to.
        pub(in super::super) fn listen() -> Outcome<Option<Self>> {
            /// Keys pressed and not yet obeyed.
            const AHEAD: usize = 16;
            let input = std::io::stdin();
            if !input.is_terminal() || !std::io::stderr().is_terminal() {
                return Ok(None);
            }
            let failed = |error: rustix::io::Errno| Failure::io("the terminal", &error.into());
            let before = tcgetattr(&input).map_err(failed)?;
            let mut silent = before.clone();
            silent.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            silent.special_codes[SpecialCodeIndex::VMIN] = 1;
            silent.special_codes[SpecialCodeIndex::VTIME] = 0;
            tcsetattr(&input, OptionalActions::Now, &silent).map_err(failed)?;
            let (sender, keys) = mpsc::channel(AHEAD);
            let this = Self { before, keys };
            // It waits for a key that may never come, and ends with the process.
            let listening = sys::task::thread("keys", move || {
                for byte in std::io::stdin().lock().bytes().map_while(Result::ok) {
                    if meaning(byte).is_some_and(|key| sender.blocking_send(key).is_err()) {
                        return;
                    }
                }
            });
            listening.map_err(|error| Failure::io("the keyboard", &error))?;
            Ok(Some(this))
        }

        /// The next key with a meaning.
        pub(in super::super) async fn next(&mut self) -> Key {
            match self.keys.recv().await {
                Some(key) => key,
                // The terminal was closed: nobody presses keys any more.
                None => std::future::pending().await,
            }
        }
    }

    impl Drop for Keys {
        fn drop(&mut self) {
            // A terminal that is gone needs no giving back.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
        }
    }
}

#[cfg(not(unix))]
pub(super) struct Keys;

#[cfg(not(unix))]
impl Keys {
    pub(super) fn listen() -> Outcome<Option<Self>> {
        Ok(None)
    }

    pub(super) async fn next(&mut self) -> Key {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_keys_have_a_meaning() {
        let found: String = (0..=255u8).filter(|byte| meaning(*byte).is_some()).map(char::from).collect();
        assert_eq!(found, " +-.=q");
    }
}
