//! The dashboard's files, which are part of the binary.

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

/// Scripts and styles of its own alone, no frames, no forms, nothing from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, media type, content.
const FILES: &[(&str, &str, &str)] = &[
    ("/performance", "text/html; charset=utf-8", include_str!("dashboard/index.html")),
    ("/performance/style.css", "text/css; charset=utf-8", include_str!("dashboard/style.css")),
    ("/performance/icon.svg", "image/svg+xml", include_str!("dashboard/icon.svg")),
    ("/performance/main.js", SCRIPT, include_str!("dashboard/main.js")),
    ("/performance/alerts.js", SCRIPT, include_str!("dashboard/alerts.js")),
    ("/performance/chart.js", SCRIPT, include_str!("dashboard/chart.js")),
    ("/performance/connection.js", SCRIPT, include_str!("dashboard/connection.js")),
    ("/performance/dom.js", SCRIPT, include_str!("dashboard/dom.js")),
    ("/performance/endpoints.js", SCRIPT, include_str!("dashboard/endpoints.js")),
    ("/performance/format.js", SCRIPT, include_str!("dashboard/format.js")),
    ("/performance/graph.js", SCRIPT, include_str!("dashboard/graph.js")),
    ("/performance/panels.js", SCRIPT, include_str!("dashboard/panels.js")),
    ("/performance/recovery.js", SCRIPT, include_str!("dashboard/recovery.js")),
    ("/performance/slots.js", SCRIPT, include_str!("dashboard/slots.js")),
];

/// A route for each file; `/` leads to the dashboard.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let mut router = Router::new().route("/", get(async || Redirect::temporary("/performance")));
    for &(path, kind, content) in FILES {
        router = router.route(path, get(async move || file(kind, content)));
    }
    router
}

fn file(kind: &'static str, content: &'static str) -> Response {
    let fixed = |name: HeaderName, value: &'static str| (name, HeaderValue::from_static(value));
    let headers = [
        fixed(header::CONTENT_TYPE, kind),
        fixed(header::CONTENT_SECURITY_POLICY, POLICY),
        fixed(header::REFERRER_POLICY, "no-referrer"),
        fixed(HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    (headers, content).into_response()
}
