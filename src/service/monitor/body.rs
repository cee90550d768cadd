//! Reading a request's body: counted while it comes, so that neither one body nor all together take more memory than allowed.
//!
//! What is too long is read to its end and thrown away, as far as that goes in some seconds: a client that is still sending
//! would otherwise see a broken connection instead of the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use super::{Answer, Context};

/// Longest a body may take to come.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest that is spent on throwing a body away, and longest silence meanwhile.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(10);
const DISCARD_SILENCE: Duration = Duration::from_millis(500);

/// Bytes of all bodies that are in memory at one time.
#[derive(Clone, Debug, Default)]
pub(in crate::service) struct BodyBudget(Arc<AtomicUsize>);

/// A body in memory; gives its bytes back to the budget when dropped.
pub(super) struct Held {
    bytes: Bytes,
    taken: Taken,
}

struct Taken {
    budget: BodyBudget,
    bytes: usize,
}

impl Taken {
    /// Takes more; false when the budget is used up.
    fn take(&mut self, bytes: usize, max: usize) -> bool {
        self.bytes += bytes;
        self.budget.0.fetch_add(bytes, Ordering::Relaxed) + bytes <= max
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl std::ops::Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        debug_assert_eq!(self.taken.bytes, self.bytes.len());
        &self.bytes
    }
}

/// Reads a body of at most `max` bytes.
pub(super) async fn read(context: &Context, request: Request, max: usize) -> Result<Held, Answer> {
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let waits = request.headers().contains_key(header::EXPECT);
    let too_long =
        || Answer::error(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {max} bytes"));
    let mut chunks = Body::into_data_stream(request.into_body());
    if length.is_some_and(|length: usize| length > max) {
        if !waits {
            discard(chunks).await;
        }
        return Err(too_long());
    }
    let mut taken = Taken { budget: context.bodies.clone(), bytes: 0 };
    let mut bytes = BytesMut::new();
    let all = async {
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| {
                Answer::error(StatusCode::BAD_REQUEST, format!("the body broke off: {error}"))
            })?;
            if bytes.len() + chunk.len() > max {
                return Err(too_long());
            }
            if !taken.take(chunk.len(), context.config.bodies_bytes_max) {
                let reason = "too many bodies are being read at this moment; try again";
                return Err(Answer::error(StatusCode::SERVICE_UNAVAILABLE, reason));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(())
    };
    match tokio::time::timeout(READ_TIMEOUT, all).await {
        Ok(Ok(())) => Ok(Held { bytes: bytes.freeze(), taken }),
        Ok(Err(answer)) => {
            drop((bytes, taken));
            discard(chunks).await;
            Err(answer)
        }
        Err(_) => Err(Answer::error(StatusCode::REQUEST_TIMEOUT, "the body did not come within 30s")),
    }
}

async fn discard(mut chunks: BodyDataStream) {
    let rest =
        async { while let Ok(Some(Ok(_))) = tokio::time::timeout(DISCARD_SILENCE, chunks.next()).await {} };
    // After that the connection is closed with the answer unread, perhaps.
    drop(tokio::time::timeout(DISCARD_TIMEOUT, rest).await);
}
