//! What a request brings that its route does not look at is refused: whoever sent it meant something by it, and
//! `DELETE /recordings?device_id=x` must not delete all of them.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{Answer, Context, api, body};
use crate::service::fields::Fields;

/// The one route that takes parameters; it names wrong ones itself.
const WITH_QUERY: &str = "/api/v1/recordings";
/// A route that takes no body although it is a `POST`.
const STOP: &str = "/api/v1/recordings/{id}/stop";

pub(super) async fn check(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if let Some(query) = request.uri().query().filter(|query| !query.is_empty())
        && !(reads && path == WITH_QUERY)
    {
        let name = query.split(['=', '&']).next().unwrap_or_default();
        let reason = format!("there is no parameter {name:?}: this request takes none");
        return Answer::error(StatusCode::BAD_REQUEST, reason).into_response();
    }
    if !(reads || request.method() == Method::DELETE || path == STOP) {
        return next.run(request).await;
    }
    let (parts, sent) = request.into_parts();
    let request = Request::from_parts(parts.clone(), sent);
    let bytes = match body::read(&context.bodies, request, api::BODY_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(answer) => return answer.into_response(),
    };
    if !bytes.iter().all(u8::is_ascii_whitespace)
        && let Err(error) = Fields::parse(&bytes).and_then(Fields::finish)
    {
        let reason = format!("this request takes no body: {error}");
        return Answer::error(StatusCode::BAD_REQUEST, reason).into_response();
    }
    next.run(Request::from_parts(parts, Body::empty())).await
}
