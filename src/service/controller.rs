//! The controller: answers requests on `streams.record.cmd`. Several service processes form one queue group, so each request
//! is carried out once.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::command::{Request, Response};
use super::names::Names;
use super::recorder::Recorder;
use crate::client::{Client, PublishError, Subscription};
use crate::sys::panic::contain;
use crate::sys::task;

/// Requests carried out at one time; more wait.
const AT_ONCE: usize = 64;

/// Joins the queue group.
///
/// # Errors
/// When the client is closed.
pub(super) fn subscribe(client: &Client, names: &Names) -> Result<Subscription, PublishError> {
    client.queue_subscribe(&names.command, &names.command_queue)
}

/// Answers until the task is ended.
pub(super) async fn serve(mut requests: Subscription, client: Client, recorder: Recorder) {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(request) = requests.next().await {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let (client, recorder) = (client.clone(), recorder.clone());
        task::spawn(async move {
            let response = match Request::parse(&request.payload) {
                Ok(command) => contain(recorder.handle(command))
                    .await
                    .unwrap_or_else(|panicked| Response::refused(panicked.to_string())),
                Err(error) => Response::refused(format!("the request: {error}")),
            };
            if let Some(reply) = request.reply {
                answer(&client, &reply, &response).await;
            }
            drop(permit);
        });
    }
}

async fn answer(client: &Client, reply: &str, response: &Response) {
    let send = async |response: &Response| {
        let json = serde_json::to_vec(response).unwrap_or_default();
        client.publish(reply, None, Bytes::from(json)).await
    };
    let sent = match send(response).await {
        Err(PublishError::TooLarge { size, limit }) => {
            let reason =
                format!("the answer of {size} bytes exceeds max_payload {limit}; ask for fewer at a time");
            send(&Response::refused(reason)).await
        }
        sent => sent,
    };
    if let Err(error) = sent {
        tracing::warn!(%error, "a controller's answer was not sent");
    }
}
