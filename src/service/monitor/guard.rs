//! Who may send requests: the Host must be an address, `localhost` or a configured name, and a page that sends requests must
//! come from this very server or a configured origin. So no page on the web can reach a device monitor through the browser of
//! somebody on its network, not even with a name that points here.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{Answer, Context, HttpConfig};

pub(super) async fn check(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    match refusal(&context.config, authority.as_deref(), request.headers()) {
        Some(reason) => Answer::error(StatusCode::FORBIDDEN, reason).into_response(),
        None => next.run(request).await,
    }
}

/// Why a request is refused, if it is.
fn refusal(config: &HttpConfig, authority: Option<&str>, headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = authority.or_else(|| text(header::HOST))?;
    if !is_own_host(config, host) {
        return Some(format!("host {host:?} is not served here; `weir serve --http-host NAME` allows it"));
    }
    let origin = text(header::ORIGIN)?;
    let own = origin.split_once("://").is_some_and(|(scheme, place)| {
        matches!(scheme, "http" | "https") && place.eq_ignore_ascii_case(host)
    });
    if own || config.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
        return None;
    }
    Some(format!("origin {origin:?} may not send requests; `weir serve --http-origin ORIGIN` allows it"))
}

fn is_own_host(config: &HttpConfig, host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || config.hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(host: Option<&str>, origin: Option<&str>) -> bool {
        let config = HttpConfig {
            hosts: vec!["edge-7".to_owned()],
            origins: vec!["https://console.example".to_owned()],
            ..HttpConfig::default()
        };
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(header::HOST, host.parse().unwrap());
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        refusal(&config, None, &headers).is_some()
    }

    #[test]
    fn own_hosts_and_origins_pass_and_foreign_ones_do_not() {
        for host in ["127.0.0.1:5555", "localhost", "LOCALHOST:1", "[::1]:5555", "192.168.0.7", "edge-7:80"] {
            assert!(!refused(Some(host), None), "{host}");
        }
        for host in ["evil.example", "evil.example:5555", "localhost.evil.example", "127.0.0.1.evil", ""] {
            assert!(refused(Some(host), None), "{host}");
        }
        let here = Some("localhost:5555");
        for origin in ["http://localhost:5555", "https://console.example"] {
            assert!(!refused(here, Some(origin)), "{origin}");
        }
        for origin in ["http://localhost:3000", "https://evil.example", "null", "http://127.0.0.1:5555"] {
            assert!(refused(here, Some(origin)), "{origin}");
        }
        assert!(!refused(None, None));
    }
}
