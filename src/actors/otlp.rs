//! The exporter's actor.
//!
//! Owns: the rhythm in which metrics and traces go to a collector, if `[otlp]` asks for that; else it sleeps. What waits
//! to be sent is in the ledger's cell and survives it. It sends in a task of its own, one at a time and within a
//! deadline, by the same client that reaches providers: it verifies certificates and follows no redirects. While the
//! collector can't be reached it waits longer each time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;

use super::{Directory, measures};
use crate::cells::upstream::{HttpUpstream, Upstream};
use crate::config::secret::Key;
use crate::config::{Otlp, Timeouts};
use crate::runtime::{Me, Reply, Worker, clock};
use crate::telemetry::otlp;

/// Where collectors listen. Source: OpenTelemetry, "OTLP Specification", default ports.
const USUAL: &str = "http://127.0.0.1:4318";

/// How long one request to the collector may take.
const LIMIT: Duration = Duration::from_secs(10);

/// The longest wait while the collector can't be reached.
const LONGEST: Duration = Duration::from_secs(300);

/// Requests whose traces go in one message.
const BATCH: usize = 256;

/// What the exporter is told.
#[derive(Debug)]
pub enum OtlpMessage {
    /// Another config is in force.
    Configured,
    /// From its timer, with the number of the config for which it was set: time to send.
    Send(u64),
    /// From its sending task: how it went.
    Sent(Result<(), String>),
    /// Send what there is now, then answer; also if it can't be sent.
    Flush(Reply<()>),
}

/// One incarnation.
pub struct Exporter {
    directory: Arc<Directory>,
    /// Counts the configs: timers of former ones are of no interest.
    generation: u64,
    sending: bool,
    failures: u32,
    /// Those who are answered when what is being sent is there.
    flushing: Vec<Reply<()>>,
    /// Those who came while something was being sent: what they want to have sent may be newer.
    waiting: Vec<Reply<()>>,
}

impl Worker for Exporter {
    type Message = OtlpMessage;
    type Seat = Arc<Directory>;

    fn start(directory: &Arc<Directory>, me: &mut Me<OtlpMessage>) -> Result<Exporter, String> {
        let mut exporter = Exporter {
            directory: directory.clone(),
            generation: 0,
            sending: false,
            failures: 0,
            flushing: Vec::new(),
            waiting: Vec::new(),
        };
        exporter.configured(me);
        Ok(exporter)
    }

    fn handle(&mut self, message: OtlpMessage, me: &mut Me<OtlpMessage>) {
        match message {
            OtlpMessage::Configured => self.configured(me),
            OtlpMessage::Send(generation) if generation != self.generation => {}
            OtlpMessage::Send(_) => self.send(me),
            OtlpMessage::Sent(result) => {
                self.sending = false;
                self.failures = if result.is_ok() { 0 } else { self.failures.saturating_add(1) };
                self.directory.ledger_cell.outbox().report(result);
                for reply in self.flushing.drain(..) {
                    let _ = reply.send(()); // the asker may have gone
                }
                match self.waiting.is_empty() {
                    true => self.schedule(me),
                    false => self.send(me),
                }
            }
            OtlpMessage::Flush(reply) => {
                if self.config().enabled {
                    self.waiting.push(reply);
                    self.send(me);
                } else {
                    let _ = reply.send(());
                }
            }
        }
    }

    fn name(message: &OtlpMessage) -> &'static str {
        match message {
            OtlpMessage::Configured => "Configured",
            OtlpMessage::Send(_) => "Send",
            OtlpMessage::Sent(_) => "Sent",
            OtlpMessage::Flush(_) => "Flush",
        }
    }
}

// === impl Exporter ===

impl Exporter {
    fn config(&self) -> Otlp {
        self.directory.config_cell.get().config.otlp.clone()
    }

    fn configured(&mut self, me: &mut Me<OtlpMessage>) {
        let config = self.config();
        self.generation += 1;
        self.failures = 0;
        self.directory.ledger_cell.outbox().want(config.enabled && config.traces);
        if !self.sending {
            self.schedule(me);
        }
    }

    fn schedule(&mut self, me: &mut Me<OtlpMessage>) {
        let config = self.config();
        if config.enabled {
            let wait = config.interval * 2u32.saturating_pow(self.failures.min(8));
            me.after(wait.min(LONGEST.max(config.interval)), OtlpMessage::Send(self.generation));
        }
    }

    fn send(&mut self, me: &mut Me<OtlpMessage>) {
        if self.sending {
            return; // its end sets the timer
        }
        self.sending = true;
        self.flushing = std::mem::take(&mut self.waiting);
        let (directory, address) = (self.directory.clone(), me.address().clone());
        me.spawn(async move {
            let _ = address.cast(OtlpMessage::Sent(export(&directory).await)); // gone: the next one sends again
        });
    }
}

/// Sends what is measured now, and the requests that wait.
async fn export(directory: &Directory) -> Result<(), String> {
    let loaded = directory.config_cell.get();
    let config = &loaded.config.otlp;
    let to = Collector::new(config, loaded.otlp_headers.clone())?;
    if config.metrics {
        let now = clock::wall();
        let up = clock::now().saturating_duration_since(directory.started);
        let body = otlp::metrics(
            &measures::page(directory),
            now.checked_sub(up).unwrap_or(SystemTime::UNIX_EPOCH),
            now,
        );
        to.take("metrics", body).await?;
    }
    let outbox = directory.ledger_cell.outbox();
    loop {
        let batch = outbox.oldest(BATCH);
        let Some(last) = batch.last() else { return Ok(()) };
        to.take("traces", otlp::traces(batch.iter().map(|one| &**one))).await?;
        outbox.done(last);
    }
}

/// A collector.
struct Collector {
    endpoint: String,
    headers: Vec<(String, Key)>,
    client: HttpUpstream,
}

// === impl Collector ===

impl Collector {
    fn new(config: &Otlp, headers: Vec<(String, Key)>) -> Result<Collector, String> {
        let endpoint = config.endpoint.clone().unwrap_or_else(|| USUAL.to_owned());
        let timeouts = Timeouts { connect: LIMIT, ..Timeouts::default() };
        let client = HttpUpstream::new(&endpoint, &timeouts).map_err(|fault| fault.message)?;
        Ok(Collector { endpoint, headers, client })
    }

    /// Hands a message to the collector. One that it will never take is given up, so that it does not block others.
    async fn take(&self, what: &str, body: Vec<u8>) -> Result<(), String> {
        let uri = format!("{}/v1/{what}", self.endpoint);
        let mut message = http::Request::new(Bytes::from(body));
        *message.method_mut() = Method::POST;
        *message.uri_mut() = uri.parse().map_err(|error| format!("\"{uri}\" is no address: {error}"))?;
        let headers = message.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("cproxy/", env!("CARGO_PKG_VERSION"))));
        for (name, value) in &self.headers {
            let name: Option<HeaderName> = name.parse().ok();
            let value = HeaderValue::from_str(value.expose()).ok();
            let (Some(name), Some(mut value)) = (name, value) else {
                return Err("OTEL_EXPORTER_OTLP_HEADERS holds what can't be sent as a header".to_owned());
            };
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let answered = async {
            let (parts, body) = self.client.send(message).await.map_err(|fault| fault.message)?.into_parts();
            // Read to its end within bounds, so that the connection can be closed in order.
            let _ = http_body_util::Limited::new(body, 64 << 10).collect().await;
            Ok::<StatusCode, String>(parts.status)
        };
        let status = match tokio::time::timeout(LIMIT, answered).await {
            Ok(answered) => answered.map_err(|reason| format!("the collector at {uri}: {reason}"))?,
            Err(_) => return Err(format!("the collector at {uri} did not answer within 10 s")),
        };
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE if what == "traces" => {
                tracing::warn!(%status, "the collector refused some traces; they are given up");
                Ok(())
            }
            status if status.is_redirection() => Err(format!(
                "the collector at {uri} redirects ({status}), which is not followed; name its own address"
            )),
            status => Err(format!("the collector at {uri} answered {status}")),
        }
    }
}
