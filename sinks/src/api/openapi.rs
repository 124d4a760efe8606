//! The description of the API (OpenAPI 3.1), made from the handlers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use utoipa::OpenApi;
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as Document, Ref, RefOr, Response};

use super::problem::{PROBLEM_JSON, Problem};
use super::query::{Nothing, Params};
use super::routes;
use super::shared::Api;

/// The errors that any request may get.
const COMMON: &[(&str, &str)] = &[
    ("400", "A parameter can't be used, or there is no such parameter"),
    ("404", "There is no such thing"),
    ("406", "`Accept` rules the answer out"),
    ("414", "Path and query are too long"),
    ("421", "The `Host` is not one of this server's"),
    ("429", "Too many requests; `Retry-After` says when to come again"),
    ("503", "Not now; `Retry-After` says when to come again"),
];

/// The errors that a request with a body may get.
const OF_BODIES: &[(&str, &str)] = &[
    ("408", "The body took too long to come"),
    ("409", "There is no room, or it would silence every alert"),
    ("413", "The body is too large"),
    ("415", "The body is not `application/json`"),
    ("422", "The body is JSON, but not what it has to be"),
];

/// The errors that a request that changes something may get.
const OF_CHANGES: &[(&str, &str)] = &[("403", "A page of another site asks for it")];

/// The errors of a server that asks for a token.
const OF_TOKENS: &[(&str, &str)] = &[("401", "The token is missing, or it is another one")];

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sluice",
        description = "A running pipeline: how it does, what it has, and what is wrong with it. Times are unix \
                       milliseconds; names end in their unit. Every error is a problem document (RFC 9457), save \
                       that of what is no request: bytes that are not HTTP, or more than 64 KiB or 100 lines of headers.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        routes::metrics::metrics,
        routes::metrics::exposition,
        routes::history::history,
        routes::alerts::alerts,
        routes::alerts::changes,
        routes::silences::list,
        routes::silences::add,
        routes::silences::one,
        routes::silences::expire,
        routes::health::health,
        routes::health::ready,
        routes::health::live,
        routes::endpoints::endpoints,
        routes::slots::slots,
        routes::slots::slot,
        routes::recovery::recovery,
        routes::commitment::commitment,
        routes::graph::graph,
        routes::datasets::datasets,
        routes::datasets::files,
        routes::transactions::transaction,
        routes::events::events,
        routes::config::config,
        routes::tap::tap,
        routes::stream::stream,
        serve,
    ),
    components(schemas(Problem)),
    tags(
        (name = "performance", description = "What is measured"),
        (name = "alerts", description = "What is wrong, and what is not to be told"),
        (name = "health", description = "For load balancers and schedulers"),
        (name = "slots", description = "The ledger"),
        (name = "pipeline", description = "Nodes, edges, endpoints"),
        (name = "datasets", description = "What is on disk"),
        (name = "stream", description = "Live"),
    )
)]
struct Described;

/// The description of an API that asks for a token, or not.
pub(super) fn document(has_token: bool) -> Document {
    let mut document = Described::openapi();
    for item in document.paths.paths.values_mut() {
        let operations = [
            (HttpMethod::Get, &mut item.get),
            (HttpMethod::Post, &mut item.post),
            (HttpMethod::Delete, &mut item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                complete(operation, &method, has_token);
            }
        }
    }
    if has_token {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
        document.security = Some(vec![SecurityRequirement::new("token", [""; 0])]);
    }
    document
}

/// Adds the errors that every such operation may answer with.
fn complete(operation: &mut Operation, method: &HttpMethod, has_token: bool) {
    let is_open = operation.security.is_some();
    if !has_token {
        operation.security = None;
    }
    let of_bodies = OF_BODIES.iter().filter(|_| *method == HttpMethod::Post);
    let of_changes = OF_CHANGES.iter().filter(|_| *method != HttpMethod::Get);
    let of_tokens = OF_TOKENS.iter().filter(|_| has_token && !is_open);
    for (status, meaning) in COMMON.iter().chain(of_bodies).chain(of_changes).chain(of_tokens) {
        let known = operation.responses.responses.get_mut(*status);
        match known {
            // Health answers 503 by itself, and can be late as well.
            Some(RefOr::T(response)) => {
                response.content.entry(PROBLEM_JSON.to_owned()).or_insert_with(problem);
            }
            _ => {
                let mut response = Response::new(*meaning);
                response.content.insert(PROBLEM_JSON.to_owned(), problem());
                operation.responses.responses.insert((*status).to_owned(), RefOr::T(response));
            }
        }
    }
}

fn problem() -> Content {
    Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))))
}

/// This description.
#[utoipa::path(
    get, path = "/openapi.json", tag = "stream", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = Object))
)]
pub(super) async fn serve(
    State(api): State<Arc<Api>>,
    Params(Nothing {}): Params<Nothing>,
) -> Json<Document> {
    Json(document(api.token.is_some()))
}
