//! What every request passes before its route: rate, size, token or host, origin, and whether it can be answered as asked.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::shared::Api;

/// The longest path and query: every parameter there is fits many times.
const MAX_URI_BYTES: usize = 8 << 10;

/// No page of another site may show or load what is served here.
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// Whose page a browser's request comes from: `same-origin`, `same-site`, `cross-site`, or `none` if it is no page's.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The client's address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// Refuses what can't be answered, and bounds how long an answer may take.
pub(super) async fn guard(
    State(api): State<Arc<Api>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let refused = check(&api, peer, &request).err();
    let mut response = match refused {
        Some(problem) => problem.into_response(),
        None if is_stream(&path) => next.run(request).await,
        None => match tokio::time::timeout(api.options.request_timeout, next.run(request)).await {
            Ok(response) => response,
            Err(_) => late(&api).into_response(),
        },
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    response
}

fn late(api: &Api) -> Problem {
    let detail = format!("no answer within {:?}; ask for less", api.options.request_timeout);
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1)
}

fn check(api: &Api, peer: IpAddr, request: &Request) -> Result<(), Problem> {
    let taken = api.rate_limit.lock().unwrap_or_else(PoisonError::into_inner).take(api.now(), peer);
    taken.map_err(|seconds| {
        let detail = format!("more than {} requests a second", api.options.requests_per_second);
        Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(seconds)
    })?;
    if request.uri().path_and_query().is_some_and(|uri| uri.as_str().len() > MAX_URI_BYTES) {
        let detail = format!("path and query are longer than {MAX_URI_BYTES} bytes");
        return Err(Problem::new(StatusCode::URI_TOO_LONG, detail));
    }
    check_access(api, request)?;
    check_origin(request)?;
    check_length(api, request)?;
    let offered = offered(request.uri().path());
    if request.method() != Method::OPTIONS && !accepts(request.headers(), offered) {
        let detail = format!("the answer is {offered}, which `Accept` rules out");
        return Err(Problem::new(StatusCode::NOT_ACCEPTABLE, detail));
    }
    Ok(())
}

fn check_access(api: &Api, request: &Request) -> Result<(), Problem> {
    let Some(token) = &api.token else { return check_host(api, request) };
    let sent = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    if is_open(request.uri().path()) || sent.and_then(bearer).is_some_and(|sent| token.matches(sent)) {
        return Ok(());
    }
    let detail = "send the pipeline's token: `Authorization: Bearer …`";
    let challenge = HeaderValue::from_static("Bearer realm=\"sluice\"");
    Err(Problem::new(StatusCode::UNAUTHORIZED, detail).with(header::WWW_AUTHENTICATE, challenge))
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// What can be read without the token: the dashboard's files, which hold no data, and whether the process lives.
fn is_open(path: &str) -> bool {
    path == "/"
        || path == "/performance"
        || path.starts_with("/performance/")
        || path == "/api/v1/health/live"
        || path == "/openapi.json"
}

/// A web page can make its own name lead to this machine, but not make a browser call it by another.
fn check_host(api: &Api, request: &Request) -> Result<(), Problem> {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = authority.or(header).map(host_name).unwrap_or_default();
    if is_loopback(host) || api.options.allowed_hosts.iter().any(|name| name.eq_ignore_ascii_case(host)) {
        return Ok(());
    }
    let detail =
        "this server is not called so: use 127.0.0.1 or localhost, or add the name to `allowed_hosts`";
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail))
}

/// A page of another site may change nothing here, not even where no token is asked for: browsers say whose page asks.
fn check_origin(request: &Request) -> Result<(), Problem> {
    let header = |name: HeaderName| request.headers().get(name).map(HeaderValue::as_bytes);
    let is_own = match (header(SEC_FETCH_SITE), header(header::ORIGIN)) {
        _ if request.method().is_safe() => true,
        (Some(site), _) => matches!(site, b"same-origin" | b"none"),
        (None, Some(origin)) => {
            let host = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
            host.is_some_and(|host| header(header::HOST) == Some(host))
        }
        (None, None) => true,
    };
    let detail = "a page of another site asks for this; only pages of this server may";
    is_own.then_some(()).ok_or_else(|| Problem::new(StatusCode::FORBIDDEN, detail))
}

/// A body that is told to be too large need not come first. Of others the extractor takes no more than it may.
fn check_length(api: &Api, request: &Request) -> Result<(), Problem> {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let most = api.options.max_body_bytes;
    if length.and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > most as u64) {
        let detail = format!("the body has more than {most} bytes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    Ok(())
}

/// The host without its port.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether the answer goes on for as long as the client wants.
fn is_stream(path: &str) -> bool {
    path == "/api/v1/stream" || (path.starts_with("/api/v1/nodes/") && path.ends_with("/tap"))
}

/// The media type of a path's answers.
fn offered(path: &str) -> &'static str {
    match path {
        "/api/v1/stream" => "text/event-stream",
        "/metrics" => "text/plain",
        path if is_stream(path) => "application/x-ndjson",
        path if path.starts_with("/api/") || path == "/openapi.json" => "application/json",
        _ => "*/*",
    }
}

/// Whether `Accept` lets an answer of type `offered` through. A range that can't be read matches nothing.
fn accepts(headers: &HeaderMap, offered: &str) -> bool {
    let values: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let mut ranges = values.iter().flat_map(|value| value.split(',')).map(str::trim).peekable();
    if offered == "*/*" || ranges.peek().is_none() {
        return true;
    }
    let group = offered.split('/').next().unwrap_or_default();
    ranges.any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        let fits = name == "*/*"
            || name.eq_ignore_ascii_case(offered)
            || name.strip_suffix("/*").is_some_and(|range| range.eq_ignore_ascii_case(group));
        fits && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(value).expect("valid"));
        headers
    }

    #[test]
    fn an_answer_fits_its_type_its_group_or_anything() {
        for fits in ["application/json", "application/*;q=0.5", "text/html, */*;q=0.1", "APPLICATION/JSON"] {
            assert!(accepts(&accept(fits), "application/json"), "{fits}");
        }
        for refused in ["text/html", "application/json;q=0", "application/xml", "json"] {
            assert!(!accepts(&accept(refused), "application/json"), "{refused}");
        }
        assert!(accepts(&HeaderMap::new(), "application/json"));
    }

    #[test]
    fn a_bearer_token_is_told_from_other_schemes() {
        assert_eq!(bearer(b"bearer xyz"), Some(&b"xyz"[..]));
        assert_eq!(bearer(b"Basic xyz"), None);
    }

    #[test]
    fn hosts_are_told_from_their_ports() {
        let names = ["localhost:3002", "127.0.0.1", "[::1]:3002", "[::1]"].map(host_name);
        assert!(names.into_iter().all(is_loopback), "{names:?}");
        assert!(
            !is_loopback(host_name("evil.example:3002")) && !is_loopback(host_name("127.0.0.1.evil.example"))
        );
    }
}
