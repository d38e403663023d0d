//! A whole daemon but for its sockets: its upstreams answer at once, from memory.

use std::sync::Arc;

use axum::body::Body as RequestBody;
use bytes::Bytes;
use cproxy::actors::providers::Connect;
use cproxy::cells::upstream::{Body, Upstream};
use cproxy::cli::Running;
use cproxy::config::secret::Key;
use cproxy::config::{Environment, Keys, Loaded, Overrides, Source, load};
use cproxy::dialect::{Fault, head};
use cproxy::front::http::Routes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tower::ServiceExt;

use super::{anthropic_stream, chat_stream, in_chunks, request};

/// Which work a request makes.
#[derive(Clone, Copy, Debug)]
pub enum Lane {
    /// The upstream speaks the caller's dialect; the model's name is changed on the way.
    PassThrough,
    /// The upstream speaks Chat Completions.
    Translated,
}

/// The daemon, and a caller's requests.
pub struct Daemon {
    _running: Running,
    routes: Routes,
}

/// Answers every request with the same stream.
struct Canned(Vec<Bytes>);

const CONFIG: &str = r#"
    [providers.anthropic]
    kind = "anthropic"
    models = ["claude-opus-4-5"]
    health = { interval = "0s" }
    [providers.openai]
    kind = "openai"
    api = "chat"
    models = ["gpt-5.2"]
    health = { interval = "0s" }
    [models]
    "same" = ["anthropic/claude-opus-4-5"]
    "other" = ["openai/gpt-5.2"]
    [ledger]
    enabled = false
"#;

// === impl Daemon ===

impl Daemon {
    /// Starts it. To be called within a runtime.
    pub async fn start() -> Daemon {
        let loaded = loaded();
        let again = loaded.clone();
        let connect: Connect = Arc::new(|id, _| {
            let stream = if id.as_str() == "anthropic" { anthropic_stream(200) } else { chat_stream(200) };
            Ok(Arc::new(Canned(in_chunks(&stream, 300))) as Arc<dyn Upstream>)
        });
        let running = Running::start_over(loaded, Arc::new(move || Ok(again.clone())), None, connect).await;
        let running = running.unwrap();
        let routes = running.routes().clone();
        Daemon { _running: running, routes }
    }

    /// One request, to the end of its answer; gives the answer's size.
    pub async fn ask(&self, body: Bytes) -> usize {
        let request = Request::post("/v1/messages")
            .header(header::HOST, "127.0.0.1:3000")
            .header(header::CONTENT_TYPE, "application/json")
            .header("anthropic-version", "2023-06-01")
            .header("x-claude-code-session-id", "6f0c")
            .body(RequestBody::from(body));
        let mut answer = self.routes.clone().oneshot(request.unwrap()).await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        let mut size = 0;
        while let Some(frame) = answer.body_mut().frame().await {
            size += frame.unwrap().into_data().map_or(0, |data| data.len());
        }
        size
    }
}

// === impl Lane ===

impl Lane {
    /// By the name of the command line.
    pub fn named(name: &str) -> Option<Lane> {
        match name {
            "pass-through" => Some(Lane::PassThrough),
            "translated" => Some(Lane::Translated),
            _ => None,
        }
    }

    /// The request of this lane.
    pub fn request(self) -> Bytes {
        let request = request();
        let span = head::scan(&request).unwrap().model_span;
        let model = match self {
            Lane::PassThrough => "same",
            Lane::Translated => "other",
        };
        head::splice_model(&request, &span, model)
    }
}

// === impl Canned ===

impl Upstream for Canned {
    fn send(&self, _: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>, Fault>> {
        let pieces: Vec<_> = self.0.iter().map(|piece| Ok(Frame::data(piece.clone()))).collect();
        let body = StreamBody::new(stream::iter(pieces)).boxed_unsync();
        let response = Response::builder().header(header::CONTENT_TYPE, "text/event-stream").body(body);
        Box::pin(async move { Ok(response.unwrap()) })
    }
}

fn loaded() -> Loaded {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), CONFIG).unwrap();
    let source = Source::File(file.path().to_owned());
    let mut loaded = load(&source, &Environment::of_process(), &Overrides::default()).unwrap();
    for keys in loaded.keys.values_mut() {
        *keys = Keys::Pool(vec![Key::new("bench", "bench")]);
    }
    loaded.files_to_watch.clear();
    loaded
}
