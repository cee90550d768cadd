//! Request and reply, one outstanding: how long an answer takes.
//!
//! The requester asks under a new inbox each time, as clients do; the responder answers with the payload it got. Each
//! has a connection and a thread of its own, so a round is four trips through the kernel and two through the server.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::fault::Fault;
use crate::lab::{Lab, Measure};
use crate::sample::{Metric, Sample, percentile, to_f64, window};
use crate::target::{Server, Target};

/// The row, with its payload size.
pub(crate) struct RequestReply {
    pub(crate) size: usize,
}

impl Measure for RequestReply {
    fn run(&mut self, _place: usize, target: &Target, lab: &Lab) -> Result<Sample, Fault> {
        let server = target.start(lab.folder.path(), false)?;
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let responder = respond(&server)?;
        let requester = {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let (mut connection, size) = (server.connect()?, self.size);
            connection.send(b"SUB _INBOX.bench.* 1\r\n")?;
            std::thread::spawn(move || {
                let payload = "x".repeat(size);
                let mut times = Vec::with_capacity(1 << 20);
                while !stop.load(Ordering::Relaxed) {
                    let number = times.len();
                    let request = format!("PUB bench.service _INBOX.bench.{number} {size}\r\n{payload}\r\n");
                    let begun = Instant::now();
                    connection.send(request.as_bytes())?;
                    let answer = connection.message()?;
                    times.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
                    if connection.payload(&answer) != payload.as_bytes() {
                        return Err(Fault::failed(format!("the answer to request {number} is another")));
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok(times)
            })
        };
        let window = window(lab.length, || answered.load(Ordering::Relaxed), || server.cpu_time());
        stop.store(true, Ordering::Relaxed);
        let times = finish(requester)?;
        // Its socket closes with the server: nothing is left to be said.
        drop(server);
        let _ = responder.join();
        let (mut sample, counted) = window?;
        let times = sorted(&times, &counted);
        sample.insert(Metric::Median, to_f64(percentile(&times, 0.5)) / 1e3);
        sample.insert(Metric::P99, to_f64(percentile(&times, 0.99)) / 1e3);
        Ok(sample)
    }
}

/// The times of the answers that were counted while the window was open.
fn sorted(times: &[u64], counted: &Range<u64>) -> Vec<u64> {
    let place = |count| usize::try_from(count).unwrap_or(usize::MAX);
    let mut times = times.get(place(counted.start)..place(counted.end)).unwrap_or_default().to_vec();
    times.sort_unstable();
    times
}

/// Answers every request until the connection ends.
fn respond(server: &Server) -> Result<JoinHandle<std::io::Result<()>>, Fault> {
    let mut connection = server.connect()?;
    connection.send(b"SUB bench.service 1\r\n")?;
    connection.ping()?;
    Ok(std::thread::spawn(move || {
        let mut answer = Vec::new();
        loop {
            let request = connection.message()?;
            let payload = connection.payload(&request);
            answer.clear();
            answer.extend_from_slice(b"PUB ");
            answer.extend_from_slice(connection.reply(&request));
            answer.extend_from_slice(format!(" {}\r\n", payload.len()).as_bytes());
            answer.extend_from_slice(payload);
            answer.extend_from_slice(b"\r\n");
            connection.send(&answer)?;
        }
    }))
}

/// The result of a thread.
pub(crate) fn finish<T>(thread: JoinHandle<Result<T, Fault>>) -> Result<T, Fault> {
    thread.join().unwrap_or_else(|_| Err(Fault::failed("a thread panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_outside_the_window_are_not_in_the_percentiles() {
        // Slow while it warms up and after the window, which counted from the 3rd to the 6th answer.
        let times = [9000, 8000, 4, 3, 1, 2, 7000];
        assert_eq!(sorted(&times, &(2..6)), [1, 2, 3, 4]);
        assert_eq!(percentile(&sorted(&times, &(2..6)), 0.99), 4);
        assert_eq!(sorted(&times, &(0..7)).len(), 7);
    }
}
