//! A few small requests to one provider, through the whole of cproxy as Claude Code would send them: what comes back
//! is what Claude Code would get.
//!
//! Source of the requests' form: Anthropic API reference, "Messages".

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::super::serve::Running;
use super::{Finding, Verdict};
use crate::config::{Loaded, ProviderId};
use crate::dialect::{Dialect, head};
use crate::exchange::{AnswerBody, Credential, Front, Request, RequestId};
use crate::routing::Facts;

/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(90);

/// Most bytes of a streamed answer that are read.
const MAX_STREAM: usize = 4 << 20;

/// A red square of 16 by 16 pixels, as PNG.
const RED: &str = "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAFklEQVR42mP4z8BAEmIY1TCqYfhqAACQ+f8B8u7oVwAAAABJRU5ErkJggg==";

/// An answer: whole, or put together from its stream.
struct Got {
    status: u16,
    body: Value,
}

/// One provider, asked through the daemon in this process.
struct Bench {
    running: Running,
    provider: ProviderId,
    model: String,
}

/// Tries the fine points one after the other; the first that fails altogether ends it.
pub async fn examine(mut loaded: Loaded, provider: &ProviderId, model: &str) -> Vec<Finding> {
    let name = provider.as_str();
    loaded.config.routing.max_hops = 1;
    let again = loaded.clone();
    let load: crate::actors::config::Load = std::sync::Arc::new(move || Ok(again.clone()));
    let window = loaded.config.providers.get(provider).and_then(|own| own.capabilities.context_window);
    let running = match Running::start(loaded, load, None).await {
        Ok(running) => running,
        Err(reason) => return vec![Finding::new(name, "requests", Verdict::Fails, reason)],
    };
    let bench = Bench { running, provider: provider.clone(), model: model.to_owned() };
    let mut findings = vec![bench.plain().await];
    if findings.iter().all(|finding| finding.verdict != Verdict::Fails) {
        findings.push(bench.streaming().await);
        findings.push(bench.tools().await);
        findings.push(bench.parallel_tools().await);
        findings.push(bench.thinking().await);
        findings.push(bench.images().await);
        findings.push(bench.overflow(window).await);
        findings.push(bench.cache().await);
    }
    bench.running.stop(Duration::from_secs(2)).await;
    findings
}

// === impl Bench ===

impl Bench {
    async fn plain(&self) -> Finding {
        let got =
            self.ask(json!({ "max_tokens": 64, "messages": [user("Answer with one word: hello")] })).await;
        let finding = self.judged("plain answer", &got, |body| {
            let (input, output) = (&body["usage"]["input_tokens"], &body["usage"]["output_tokens"]);
            match (has(body, "text") || has(body, "thinking"), input.as_u64(), output.as_u64()) {
                (true, Some(input), Some(output)) if input + output > 0 => {
                    Ok(format!("text, {input} tokens in, {output} out"))
                }
                (true, _, _) => Err("text, but the provider tells no usage".to_owned()),
                (false, _, _) => Err("an answer without text".to_owned()),
            }
        });
        finding.remedied("tokens are estimated where the provider tells none")
    }

    async fn streaming(&self) -> Finding {
        let got = self
            .ask(json!({ "max_tokens": 64, "stream": true, "messages": [user("Count from one to five.")] }))
            .await;
        self.judged("streaming", &got, |body| match body["events"].as_u64() {
            Some(events) if body["stopped"] == true && has(body, "text") => {
                Ok(format!("{events} events, ended well"))
            }
            Some(events) if body["stopped"] == true => Ok(format!("{events} events, ended well, no text")),
            _ => Err("the stream did not end with message_stop".to_owned()),
        })
        .remedied("a stream that breaks off is told as an error, never as a whole answer")
    }

    async fn tools(&self) -> Finding {
        let question = user("call weather {\"city\": \"Oslo\"}");
        let first =
            self.ask(json!({ "max_tokens": 256, "tools": [weather()], "messages": [question] })).await;
        let Some(call) = blocks(&first.body, "tool_use").first().cloned() else {
            return self
                .judged("tools", &first, |_| {
                    Err("it did not call the tool that it was told to call".to_owned())
                })
                .remedied("a model without tools can't do Claude Code's work; choose another for it");
        };
        let second = self
            .ask(json!({ "max_tokens": 256, "tools": [weather()], "messages": [
                question,
                { "role": "assistant", "content": first.body["content"] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": call["id"], "content": "3 degrees, rain" },
                ] },
            ] }))
            .await;
        self.judged("tools", &second, |_| match call["input"]["city"].as_str() {
            Some(city) => Ok(format!("called with city {city}, and took the result")),
            None => Err("called, but not with the arguments that its schema asks for".to_owned()),
        })
        .remedied("arguments that are broken are mended where they can be")
    }

    async fn parallel_tools(&self) -> Finding {
        let question = user("call weather {\"city\": \"Oslo\"} + weather {\"city\": \"Rome\"}");
        let got = self.ask(json!({ "max_tokens": 256, "tools": [weather()], "messages": [question] })).await;
        self.judged("parallel tools", &got, |body| match blocks(body, "tool_use").len() {
            0 => Err("no call".to_owned()),
            1 => Err("one call at a time".to_owned()),
            calls => Ok(format!("{calls} calls in one answer")),
        })
        .remedied("Claude Code then makes its calls one after the other")
    }

    async fn thinking(&self) -> Finding {
        let ask = |messages: Value| {
            json!({
                "max_tokens": 2048, "tools": [weather()], "messages": messages,
                "thinking": { "type": "enabled", "budget_tokens": 1024 },
            })
        };
        let question = user("Think about which tool to use, then use it:\ncall weather {\"city\": \"Oslo\"}");
        let first = self.ask(ask(json!([question]))).await;
        let thought = has(&first.body, "thinking") || has(&first.body, "redacted_thinking");
        let Some(call) = blocks(&first.body, "tool_use").first().cloned() else {
            return self
                .judged("thinking", &first, |_| match thought {
                    true => Ok("shown; no tool was called, so its replay was not tried".to_owned()),
                    false => Err("none shown".to_owned()),
                })
                .remedied("the answer comes without it");
        };
        // The thoughts go back with the result of the tool: vendors check that they are their own.
        let second = self
            .ask(ask(json!([
                question,
                { "role": "assistant", "content": first.body["content"] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": call["id"], "content": "3 degrees, rain" },
                ] },
            ])))
            .await;
        self.judged("thinking", &second, |_| match thought {
            true => Ok("shown, and taken back with the tool's result".to_owned()),
            false => Err("none shown; the request that asks for it is taken".to_owned()),
        })
        .remedied("the answer comes without it")
    }

    async fn images(&self) -> Finding {
        let image = json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": RED } });
        let words = json!({ "type": "text", "text": "Which colour is this? Answer with one word." });
        let got = self
            .ask(json!({ "max_tokens": 256, "messages": [{ "role": "user", "content": [image, words] }] }))
            .await;
        if got.status == 400 || got.status == 404 {
            return Finding::new(self.provider.as_str(), "images", Verdict::Differs, got.reason())
                .with("set capabilities = { images = false }: requests with images then go to others");
        }
        self.judged("images", &got, |body| match all_text(body).to_lowercase().contains("red") {
            true => Ok("seen".to_owned()),
            false => Err("taken, but its answer does not name the colour".to_owned()),
        })
        .remedied(
            "set capabilities = { images = false } if the model is blind: others then get such requests",
        )
    }

    /// A prompt of more than the window. Providers refuse it unbilled; without a known window it might be taken.
    async fn overflow(&self, window: Option<u64>) -> Finding {
        let Some(window) = window.filter(|window| *window <= 400_000) else {
            return Finding::skipped(
                self.provider.as_str(),
                "overflow",
                "its window is not known, or very large (capabilities = { context_window = … })",
            );
        };
        let words = "word ".repeat(usize::try_from(window + window / 5).unwrap_or(usize::MAX).min(1_000_000));
        let got = self.ask(json!({ "max_tokens": 16, "messages": [user(&words)] })).await;
        let name = self.provider.as_str();
        let reason = got.reason();
        if got.status < 300 {
            return Finding::new(
                name,
                "overflow",
                Verdict::Differs,
                "taken: its window is larger than configured",
            )
            .with("set capabilities.context_window to its real window");
        }
        // These words make Claude Code compact the conversation and go on.
        if reason.contains("prompt is too long") || reason.contains("exceed context limit") {
            Finding::new(name, "overflow", Verdict::Works, "told in words by which Claude Code compacts")
        } else {
            Finding::new(name, "overflow", Verdict::Differs, reason).with(
                "its wording is not known to cproxy: Claude Code will not compact by itself; use /compact",
            )
        }
    }

    async fn cache(&self) -> Finding {
        // Vendors cache from about a thousand tokens on; the number makes the text new.
        let text = format!(
            "Case {}. {}",
            rand::random::<u64>(),
            "The quick brown fox jumps over the lazy dog. ".repeat(450)
        );
        let system = json!([{ "type": "text", "text": text, "cache_control": { "type": "ephemeral" } }]);
        let body =
            json!({ "max_tokens": 16, "system": system, "messages": [user("Answer with one word: hello")] });
        let first = self.ask(body.clone()).await;
        if first.status != 200 {
            return self.judged("prompt cache", &first, |_| Ok(String::new()));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let second = self.ask(body).await;
        self.judged("prompt cache", &second, |body| match body["usage"]["cache_read_input_tokens"].as_u64() {
            Some(read @ 1..) => Ok(format!("{read} tokens read from the cache at the second call")),
            _ => Err("no token read from a cache at the second call".to_owned()),
        })
        .remedied("sessions stay with one provider all the same, so that a cache that warms up late is used")
    }

    /// Runs a request as Claude Code would send it.
    async fn ask(&self, mut body: Value) -> Got {
        body["model"] = json!(self.model);
        let bytes = Bytes::from(body.to_string());
        let mut head = match head::scan(&bytes) {
            Ok(head) => head,
            Err(error) => {
                return Got { status: 0, body: json!({ "error": { "message": error.to_string() } }) };
            }
        };
        // What is too long is to be sent, not to be passed over.
        head.estimated_tokens = head.estimated_tokens.min(1_000);
        let request = Request {
            id: RequestId::new(),
            front: Front::Messages,
            dialect: Dialect::Anthropic,
            body: bytes,
            facts: Facts { head, provider: Some(self.provider.clone()), ..Facts::default() },
            headers: [("anthropic-version".parse(), "2023-06-01".parse())]
                .into_iter()
                .filter_map(|(name, value)| Some((name.ok()?, value.ok()?)))
                .collect(),
            credential: Credential::default(),
            timeout: Some(LIMIT),
            unseen: false,
            progress: None,
            cache: crate::exchange::CacheWish::Off,
        };
        let answer = self.running.daemon().exchange().run(request).await;
        let status = answer.status.as_u16();
        match answer.body {
            AnswerBody::Whole(bytes) => {
                Got { status, body: serde_json::from_slice(&bytes).unwrap_or_default() }
            }
            AnswerBody::Stream(mut stream) => {
                let mut all = Vec::new();
                while let Ok(Some(chunk)) = tokio::time::timeout(LIMIT, stream.next()).await {
                    all.extend_from_slice(&chunk);
                    if all.len() > MAX_STREAM {
                        break;
                    }
                }
                Got { status, body: put_together(&String::from_utf8_lossy(&all)) }
            }
        }
    }

    /// The finding for an answer: an error fails, else it is as `judge` says.
    fn judged(
        &self,
        check: &'static str,
        got: &Got,
        judge: impl FnOnce(&Value) -> Result<String, String>,
    ) -> Finding {
        let name = self.provider.as_str();
        if got.status != 200 || got.body["type"] == "error" {
            return Finding::new(name, check, Verdict::Fails, got.reason());
        }
        match judge(&got.body) {
            Ok(seen) => Finding::new(name, check, Verdict::Works, seen),
            Err(seen) => Finding::new(name, check, Verdict::Differs, seen),
        }
    }
}

impl Finding {
    /// What is done about it, if it is not as it should be.
    fn remedied(self, remedy: &'static str) -> Finding {
        if self.verdict == Verdict::Differs { self.with(remedy) } else { self }
    }
}

// === impl Got ===

impl Got {
    /// Why it is no answer.
    fn reason(&self) -> String {
        let message =
            self.body["error"]["message"].as_str().unwrap_or("an answer that is no Messages answer");
        let short: String = message.chars().take(300).collect();
        format!("{}: {short}", self.status)
    }
}

fn user(text: &str) -> Value {
    json!({ "role": "user", "content": text })
}

fn weather() -> Value {
    json!({
        "name": "weather",
        "description": "Tells the weather in a city.",
        "input_schema": {
            "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"],
        },
    })
}

/// The blocks of an answer that are of this type.
fn blocks(body: &Value, kind: &str) -> Vec<Value> {
    let all = body["content"].as_array().into_iter().flatten();
    all.filter(|block| block["type"] == kind).cloned().collect()
}

fn has(body: &Value, kind: &str) -> bool {
    !blocks(body, kind).is_empty()
}

fn all_text(body: &Value) -> String {
    blocks(body, "text").iter().filter_map(|block| block["text"].as_str()).collect()
}

/// The facts of a stream: how many events, whether it ended, which blocks it held.
fn put_together(stream: &str) -> Value {
    let mut content = Vec::new();
    let mut events = 0_u64;
    let mut stopped = false;
    for data in stream.lines().filter_map(|line| line.strip_prefix("data:")) {
        let Ok(event) = serde_json::from_str::<Value>(data.trim()) else { continue };
        events += 1;
        match event["type"].as_str() {
            Some("content_block_start") => content.push(event["content_block"].clone()),
            Some("message_stop") => stopped = true,
            Some("error") => return event,
            _ => {}
        }
    }
    json!({ "type": "message", "content": content, "events": events, "stopped": stopped })
}
