//! Reading a request's body: counted while it comes, so that neither one body nor all together take more memory than allowed
//! ([`BodyBudget`]). A body that makes no progress is refused: soon while another waits for memory, later otherwise.
//!
//! What is too long is read to its end and thrown away, as far as that goes in some seconds: a client that is still sending
//! would otherwise see a broken connection instead of the answer.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep_until, timeout};

use super::Answer;
use super::budget::{BodyBudget, Taken};

/// Longest a body may take to come.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that count as progress.
const PROGRESS: usize = 1 << 10;
/// Longest a body may go without progress.
const SILENCE: Duration = Duration::from_secs(5);
/// The same while another body waits for memory.
const SILENCE_IN_NEED: Duration = Duration::from_secs(1);
/// Longest that is spent on throwing a body away, and longest silence meanwhile.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(10);
const DISCARD_SILENCE: Duration = Duration::from_millis(500);

/// A body in memory; gives its bytes back to the budget when dropped.
pub(super) struct Held {
    bytes: Bytes,
    taken: Taken,
}

impl std::ops::Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        debug_assert_eq!(self.taken.bytes(), self.bytes.len());
        &self.bytes
    }
}

/// Reads a body of at most `max` bytes.
pub(super) async fn read(budget: &BodyBudget, request: Request, max: usize) -> Result<Held, Answer> {
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let waits = request.headers().contains_key(header::EXPECT);
    let mut chunks = Body::into_data_stream(request.into_body());
    if length.is_some_and(|length: usize| length > max) {
        if !waits {
            discard(chunks).await;
        }
        return Err(too_long(max));
    }
    let mut taken = budget.begin();
    match timeout(READ_TIMEOUT, collect(&mut chunks, &mut taken, max)).await {
        Ok(Ok(bytes)) => Ok(Held { bytes, taken }),
        Ok(Err(Refused::Sending(answer))) => {
            drop(taken);
            discard(chunks).await;
            Err(answer)
        }
        Ok(Err(Refused::Silent(answer))) => Err(answer),
        Err(_) => Err(late(format_args!("the body did not come within {}s", READ_TIMEOUT.as_secs()))),
    }
}

/// Why a body is not read to its end.
enum Refused {
    /// More of it is on the way.
    Sending(Answer),
    /// Nothing comes.
    Silent(Answer),
}

/// The whole body, counted in `taken`.
async fn collect(chunks: &mut BodyDataStream, taken: &mut Taken, max: usize) -> Result<Bytes, Refused> {
    let mut bytes = BytesMut::new();
    let (mut since, mut progress) = (Instant::now(), 0);
    while let Some(chunk) = next(chunks, taken, since).await? {
        if bytes.len() + chunk.len() > max {
            return Err(Refused::Sending(too_long(max)));
        }
        progress += chunk.len();
        if !taken.take(chunk.len()) {
            if !taken.wait_for(chunk.len()).await {
                let reason = "too many bodies are being read at this moment; try again";
                return Err(Refused::Sending(Answer::error(StatusCode::SERVICE_UNAVAILABLE, reason)));
            }
            // Nothing was read while it waited.
            progress = PROGRESS;
        }
        bytes.extend_from_slice(&chunk);
        if progress >= PROGRESS {
            (since, progress) = (Instant::now(), 0);
        }
    }
    Ok(bytes.freeze())
}

/// What comes next of a body that made no progress since `since`.
async fn next(chunks: &mut BodyDataStream, taken: &Taken, since: Instant) -> Result<Option<Bytes>, Refused> {
    let needed = async {
        sleep_until(since + SILENCE_IN_NEED).await;
        taken.needed().await;
    };
    let silent = |span: Duration, why: &str| {
        let span = span.as_secs();
        Refused::Silent(late(format_args!("less than {PROGRESS} bytes of the body came within {span}s{why}")))
    };
    tokio::select! {
        biased;
        chunk = chunks.next() => chunk.transpose().map_err(|error| {
            let reason = format_args!("the body broke off: {error}");
            Refused::Silent(Answer::error(StatusCode::BAD_REQUEST, reason))
        }),
        () = sleep_until(since + SILENCE) => Err(silent(SILENCE, "")),
        () = needed => Err(silent(SILENCE_IN_NEED, ", and other bodies need the memory")),
    }
}

fn too_long(max: usize) -> Answer {
    Answer::error(StatusCode::PAYLOAD_TOO_LARGE, format_args!("the body is longer than {max} bytes"))
}

fn late(reason: impl std::fmt::Display) -> Answer {
    Answer::error(StatusCode::REQUEST_TIMEOUT, reason)
}

async fn discard(mut chunks: BodyDataStream) {
    let rest = async { while let Ok(Some(Ok(_))) = timeout(DISCARD_SILENCE, chunks.next()).await {} };
    // After that the connection is closed with the answer unread, perhaps.
    drop(timeout(DISCARD_TIMEOUT, rest).await);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    use axum::response::IntoResponse;
    use futures_util::stream::unfold;
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
    use tokio::task::JoinHandle;

    use super::super::budget::ROOM_PATIENCE;
    use crate::sys::task;

    /// A body that is sent piece by piece.
    struct Sender {
        pieces: UnboundedSender<Bytes>,
        reading: JoinHandle<Result<usize, (StatusCode, String)>>,
        begin: Instant,
    }

    impl Sender {
        /// Begins a body of at most 1 MiB.
        fn begin(budget: &BodyBudget) -> Self {
            let (pieces, body) = unbounded_channel();
            let body = unfold(body, |mut body| async {
                body.recv().await.map(|piece| (Ok::<Bytes, Infallible>(piece), body))
            });
            let (budget, request) = (budget.clone(), Request::new(Body::from_stream(body)));
            let reading = task::spawn(async move {
                match read(&budget, request, 1 << 20).await {
                    Ok(held) => Ok(held.len()),
                    Err(answer) => {
                        let response = answer.into_response();
                        let status = response.status();
                        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
                        Err((status, String::from_utf8(body.to_vec()).unwrap()))
                    }
                }
            });
            Self { pieces, reading, begin: Instant::now() }
        }

        fn send(&self, bytes: usize) -> bool {
            self.pieces.send(Bytes::from(vec![b' '; bytes])).is_ok()
        }

        /// The length, or status and reason; and how long it took.
        async fn end(self) -> (Result<usize, (u16, String)>, Duration) {
            drop(self.pieces);
            let read = self.reading.await.unwrap();
            (read.map_err(|(status, reason)| (status.as_u16(), reason)), self.begin.elapsed())
        }

        /// The same of a body that does not end.
        async fn refused(self) -> (u16, String, Duration) {
            let read = self.reading.await.unwrap();
            let (status, reason) = read.expect_err("the body has no end");
            (status.as_u16(), reason, self.begin.elapsed())
        }
    }

    fn about(span: Duration, expected: Duration) -> bool {
        span >= expected && span < expected + Duration::from_millis(200)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_body_is_refused_early_and_a_slow_one_late() {
        let budget = BodyBudget::new(1 << 20);
        let silent = Sender::begin(&budget);
        assert!(silent.send(100_000));
        // Fewer bytes than count.
        let dripping = Sender::begin(&budget);
        assert!(dripping.send(PROGRESS));
        let drip = async {
            while dripping.send(100) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let (silent, ()) = tokio::join!(silent.refused(), drip);
        assert_eq!(silent.0, 408, "{}", silent.1);
        assert!(silent.1.contains("less than 1024 bytes of the body came within 5s\""), "{}", silent.1);
        assert!(about(silent.2, SILENCE), "{:?}", silent.2);
        let dripping = dripping.refused().await;
        assert_eq!(dripping.0, 408, "{}", dripping.1);
        assert!(dripping.2 < SILENCE * 2, "{:?}", dripping.2);

        let slow = Sender::begin(&budget);
        while slow.send(PROGRESS) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let slow = slow.refused().await;
        assert_eq!((slow.0, slow.1.contains("did not come within 30s")), (408, true), "{}", slow.1);
        assert!(slow.2 >= READ_TIMEOUT, "{:?}", slow.2);
        assert_eq!(budget.taken(), 0, "everything is given back");
    }

    #[tokio::test(start_paused = true)]
    async fn silent_bodies_give_their_memory_to_one_that_needs_it() {
        let budget = BodyBudget::new(1 << 20);
        let silent: Vec<_> = (0..4).map(|_| Sender::begin(&budget)).collect();
        assert!(silent.iter().all(|sender| sender.send((1 << 20) / 4)));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(budget.taken(), 1 << 20);
        let whole = Sender::begin(&budget);
        assert!(whole.send(1000));
        let (read, span) = whole.end().await;
        assert_eq!(read, Ok(1000));
        assert!(span <= SILENCE_IN_NEED, "{span:?}");
        for sender in silent {
            let (status, reason, _) = sender.refused().await;
            assert_eq!(status, 408, "{reason}");
            assert!(reason.contains("within 1s, and other bodies need the memory"), "{reason}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_goes_on_keeps_its_memory() {
        let budget = BodyBudget::new(1 << 20);
        let busy = Sender::begin(&budget);
        assert!(busy.send((1 << 20) - 10 * PROGRESS));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let whole = Sender::begin(&budget);
        assert!(whole.send(10 * PROGRESS) && whole.send(1));
        tokio::time::sleep(SILENCE_IN_NEED / 2).await;
        for _ in 0..5 {
            assert!(busy.send(PROGRESS));
            tokio::time::sleep(SILENCE_IN_NEED / 2).await;
        }
        // Too little for both: whoever came second is told to try again, and the first has room.
        let (status, reason, span) = whole.refused().await;
        assert_eq!((status, reason.contains("too many bodies")), (503, true), "{reason}");
        assert!(span >= ROOM_PATIENCE, "{span:?}");
        assert_eq!(busy.end().await.0, Ok((1 << 20) - 5 * PROGRESS));
    }
}
