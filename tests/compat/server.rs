//! Starting, listening, stopping: what comes before the first message.

use crate::support::Server;
use crate::support::http;

#[tokio::test(flavor = "multi_thread")]
async fn s1_001_healthz_answers_200_once_ready() {
    let server = Server::broker().args(["-m", "-1"]).start().await;
    let health = http::get(server.monitor(), "/healthz").await;
    assert_eq!(health.status, 200, "{}", health.text());
    assert_eq!(health.json()["status"], "ok");
}
