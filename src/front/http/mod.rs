//! The HTTP front: `/v1/messages` and what belongs to it, OpenAI's endpoints, `/mcp`, `/health`, `/status`, and the
//! status page.
//!
//! Connections are served here, by hyper, with limits on headers, bodies and time; who may connect is decided
//! in `guard`. The listener itself belongs to the http front's actor and outlives it in a cell.

mod admin;
mod body;
mod faults;
mod guard;
mod messages;
mod metrics;
mod models;
mod openai;
mod page;
mod respond;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use axum::routing::{MethodRouter, any, get, post};
use bytes::Bytes;
use futures_util::future::{self, Either, FutureExt, Map, Ready};
use http::Request;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

pub use guard::Guard;

use crate::front::Daemon;

/// Most bytes of a request's body. Source: Anthropic API reference, "Errors" (request size limits).
pub const MAX_BODY: usize = 32 << 20;

/// How long a caller may take to send its headers, and then its body.
pub const READ_LIMIT: Duration = Duration::from_secs(30);

/// Most bytes of a request's headers.
const MAX_HEADERS: usize = 64 << 10;

/// What the handlers share.
pub type Shared = Arc<Daemon>;

/// A path, and what answers there.
type Route = (&'static str, fn() -> MethodRouter<Shared>);

/// The routes of the daemon, apart from those below `/mcp`. A test sends what must be refused to each.
const ROUTES: &[Route] = &[
    ("/v1/messages", || only(post(messages::create))),
    ("/v1/messages/count_tokens", || only(post(messages::count_tokens))),
    ("/v1/chat/completions", || only(post(openai::chat))),
    ("/v1/responses", || only(post(openai::responses))),
    ("/v1/models", || only(get(models::list))),
    ("/v1/models/{*id}", || only(get(models::one))),
    ("/health", || only(get(admin::health))),
    ("/status", || only(get(admin::status))),
    ("/requests", || only(get(admin::requests))),
    ("/usage", || only(get(admin::usage))),
    ("/metrics", || only(get(metrics::page))),
    ("/faults", || only(get(faults::list).post(faults::arm).delete(faults::clear))),
    ("/explain", || only(post(admin::explain))),
    ("/page/{file}", || only(get(page::file))),
    ("/api/hello", || any(admin::hello)),
    ("/", || any(admin::root)),
];

/// Another method gets an error in our own shape.
fn only(route: MethodRouter<Shared>) -> MethodRouter<Shared> {
    route.fallback(respond::method_not_allowed)
}

/// Where MCP over streamable HTTP is mounted.
const MCP: &str = "/mcp";

/// Every path that the daemon answers at, as axum writes them.
pub fn paths() -> impl Iterator<Item = &'static str> {
    ROUTES.iter().map(|(path, _)| *path).chain([MCP])
}

/// All routes of the daemon, behind the guard. A service of its own: as layers of the router both sides of each route
/// would be cloned and boxed for each request.
#[derive(Clone)]
pub struct Routes {
    guard: Guard,
    routes: Router,
}

/// All routes of the daemon. `mcp` is the service of the MCP front, for `/mcp`.
pub fn router(daemon: Shared, mcp: Option<Router>) -> Routes {
    let guard = Guard::new(daemon.token());
    let mut routes = Router::new();
    for (path, answer) in ROUTES {
        routes = routes.route(path, answer());
    }
    let mut routes = routes.fallback(respond::no_such_path).with_state(daemon);
    if let Some(mcp) = mcp {
        routes = routes.merge(mcp);
    }
    Routes { guard, routes }
}

type Answered = Result<Response, Infallible>;

impl<B> tower::Service<Request<B>> for Routes
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Map<Either<Ready<Answered>, RouteFuture<Infallible>>, fn(Answered) -> Answered>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = match self.guard.answer(&request) {
            Some(refused) => Either::Left(future::ready(Ok(refused))),
            None => Either::Right(self.routes.call(request)),
        };
        answer.map(|answer| answer.map(respond::signed))
    }
}

/// Serves one connection until it ends, or until `stop` asks it to finish what it has.
pub async fn serve_connection(stream: TcpStream, routes: Routes, stop: CancellationToken) {
    // Without this, a small write waits for the acknowledgement of the one before: 40 ms to the first token.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(routes);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_LIMIT)
        .max_buf_size(MAX_HEADERS.max(128 << 10))
        .max_headers(128)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
