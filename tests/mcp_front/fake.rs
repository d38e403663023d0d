//! A daemon that answers from a script by the model's name.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cproxy::actors::status::{ActorStatus, ProviderStatus, Status};
use cproxy::exchange::{Answer, AnswerBody, Request, RequestId, Served};
use cproxy::front::mcp::{Command, Daemon, ModelInfo, Settings};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, Stream, StreamExt};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Sentences of the model `steps`; each comes in four tokens.
pub const STEPS: usize = 12;
const STEP: [&str; 4] = ["This is a sentence", " with several", " tokens in", " it. "];

pub struct Fake {
    bodies: Mutex<Vec<Bytes>>,
    status: Mutex<Status>,
    changes: watch::Sender<u64>,
    settings: Mutex<Settings>,
    ids: AtomicU64,
    pub commands: Mutex<Vec<Command>>,
    /// Answers that are open, and answers that were dropped before their end.
    pub open: Arc<AtomicUsize>,
    pub closed: Arc<AtomicUsize>,
}

/// Counts an answer as long as it lives.
struct Open(Arc<AtomicUsize>, Arc<AtomicUsize>);

impl Open {
    fn new(fake: &Fake) -> Open {
        fake.open.fetch_add(1, Ordering::SeqCst);
        Open(fake.open.clone(), fake.closed.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Fake {
    pub fn new() -> Arc<Fake> {
        let status = Status {
            version: "2.0.0".into(),
            state: "serving".into(),
            actors: vec![ActorStatus {
                path: "root".into(),
                state: "running".into(),
                ..ActorStatus::default()
            }],
            providers: vec![ProviderStatus {
                name: "fake".into(),
                kind: "local".into(),
                state: "ready".into(),
                health: "ok".into(),
                ..ProviderStatus::default()
            }],
            ..Status::default()
        };
        Arc::new(Fake {
            bodies: Mutex::default(),
            status: Mutex::new(status),
            changes: watch::channel(0).0,
            settings: Mutex::default(),
            ids: AtomicU64::new(0),
            commands: Mutex::default(),
            open: Arc::default(),
            closed: Arc::default(),
        })
    }

    pub fn last_body(&self) -> Value {
        serde_json::from_slice(self.bodies.lock().unwrap().last().expect("a request")).unwrap()
    }

    pub fn allow(&self, set: impl FnOnce(&mut Settings)) {
        set(&mut self.settings.lock().unwrap());
    }

    pub fn change(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().unwrap());
        self.changes.send_modify(|count| *count += 1);
    }

    pub async fn wait_open(&self, count: usize) {
        until(|| self.open.load(Ordering::SeqCst) == count).await;
    }
}

/// Waits until something is so, for at most 5 s.
pub async fn until(so: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_secs(5), async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("in time");
}

pub fn long() -> String {
    "A sentence of a long answer. ".repeat(10_000)
}

fn event(data: Value) -> Bytes {
    Bytes::from(format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap()))
}

fn start(model: &str) -> Bytes {
    let usage = json!({ "input_tokens": 3, "output_tokens": 1, "cache_read_input_tokens": 2 });
    event(
        json!({ "type": "message_start", "message": { "id": "msg_1", "model": model, "content": [], "usage": usage } }),
    )
}

fn text_start() -> Bytes {
    event(
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
    )
}

fn delta(text: &str) -> Bytes {
    event(
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } }),
    )
}

fn end(reason: &str) -> Vec<Bytes> {
    vec![
        event(json!({ "type": "content_block_stop", "index": 0 })),
        event(
            json!({ "type": "message_delta", "delta": { "stop_reason": reason }, "usage": { "output_tokens": 5 } }),
        ),
        event(json!({ "type": "message_stop" })),
    ]
}

fn streamed(model: &str, events: impl Stream<Item = Bytes> + Send + 'static) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert("x-cproxy-route", format!("fake/{model}").parse().unwrap());
    Answer {
        status: StatusCode::OK,
        headers,
        body: AnswerBody::Stream(Box::pin(events)),
        served: Some(Served { provider: "fake".into(), model: model.into(), attempts: 1 }),
    }
}

impl Daemon for Fake {
    fn run(&self, request: Request) -> BoxFuture<'static, Answer> {
        self.bodies.lock().unwrap().push(request.body.clone());
        let model = request.facts.head.model.clone();
        let said = serde_json::from_slice::<Value>(&request.body).unwrap();
        let last = &said["messages"].as_array().unwrap().last().unwrap()["content"];
        let said = last.as_str().unwrap_or("blocks").to_owned();
        if let Some(progress) = &request.progress {
            let _ = progress.try_send("trying fake".into());
        }
        let open = ["stalled", "never-answers"].contains(&model.as_str()).then(|| Open::new(self));
        Box::pin(async move {
            let mut events = vec![start(&format!("{model}-1")), text_start()];
            match model.as_str() {
                "panic" => panic!("scripted"),
                "never-answers" => {
                    let _open = open;
                    std::future::pending::<()>().await;
                }
                "stalled" => {
                    let silence = stream::once(async move {
                        let _open = open;
                        std::future::pending::<Bytes>().await
                    });
                    return streamed(&model, stream::iter(events).chain(silence));
                }
                "limited" => {
                    let mut headers = HeaderMap::new();
                    headers.insert("retry-after", "7".parse().unwrap());
                    let error = json!({ "type": "error", "error": { "type": "rate_limit_error", "message": "slow down" } });
                    let body = AnswerBody::Whole(error.to_string().into());
                    return Answer { status: StatusCode::TOO_MANY_REQUESTS, headers, body, served: None };
                }
                "cut" => events.push(delta("half an ans")),
                "long" => {
                    events.push(delta(&long()));
                    events.extend(end("end_turn"));
                }
                "calls" => {
                    events.pop();
                    events.push(event(json!({ "type": "content_block_start", "index": 0,
                        "content_block": { "type": "tool_use", "id": "t1", "name": "f", "input": {} } })));
                    events.push(event(json!({ "type": "content_block_delta", "index": 0,
                        "delta": { "type": "input_json_delta", "partial_json": "{\"a\":1}" } })));
                    events.extend(end("tool_use"));
                }
                "steps" => {
                    for token in std::iter::repeat_n(STEP, STEPS).flatten() {
                        events.push(delta(token));
                    }
                    events.extend(end("end_turn"));
                    let slowly = stream::iter(events).then(|event| async {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        event
                    });
                    return streamed(&model, slowly);
                }
                _ => {
                    events.push(delta(&said));
                    events.extend(end("end_turn"));
                }
            }
            streamed(&model, stream::iter(events))
        })
    }

    fn status(&self) -> Status {
        self.status.lock().unwrap().clone()
    }

    fn status_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn models(&self) -> Vec<ModelInfo> {
        ["echo", "stalled", "steps"]
            .map(|id| ModelInfo { id: id.into(), provider: "fake".into(), via: "listed".into() })
            .into()
    }

    fn explain(&self, request: &Request) -> Value {
        assert!(request.facts.head.model != "panic", "scripted");
        json!({ "candidates": [] })
    }

    fn next_request_id(&self) -> RequestId {
        RequestId(format!("req_{:024}", self.ids.fetch_add(1, Ordering::Relaxed)).into())
    }

    fn settings(&self) -> Settings {
        self.settings.lock().unwrap().clone()
    }

    fn config_redacted(&self) -> Value {
        json!({ "server": { "port": 3000 } })
    }

    fn command(&self, command: Command) -> BoxFuture<'static, Result<Value, String>> {
        self.commands.lock().unwrap().push(command);
        Box::pin(async { Ok(json!("done")) })
    }

    fn usage(&self) -> BoxFuture<'static, Value> {
        Box::pin(async { panic!("scripted") })
    }
}
