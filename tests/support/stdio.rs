//! A plain MCP client over the stdin and stdout of a program: it sends what it is told, good or bad, and reads what
//! comes. No library stands between, so that a test sees each line.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long anything may take. Generous: CI has two cores, and debug builds.
const LIMIT: Duration = Duration::from_secs(60);

/// One session with the built binary.
pub struct Session {
    child: Child,
    input: ChildStdin,
    lines: Arc<Mutex<Vec<String>>>,
    changed: watch::Receiver<()>,
    said: JoinHandle<String>,
    ids: u64,
}

impl Session {
    /// Starts `cproxy` with these arguments, and only these variables.
    pub fn start(arguments: &[String], env: &[(&str, &str)]) -> Session {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cproxy"))
            .args(arguments)
            .env_clear()
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut errors = child.stderr.take().unwrap();
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let (change, changed) = watch::channel(());
        let into = lines.clone();
        tokio::spawn(async move {
            let mut output = BufReader::new(output).lines();
            while let Ok(Some(line)) = output.next_line().await {
                into.lock().unwrap().push(line);
                change.send_replace(());
            }
        });
        let said = tokio::spawn(async move {
            let mut said = String::new();
            let _ = errors.read_to_string(&mut said).await;
            said
        });
        Session { child, input, lines, changed, said, ids: 0 }
    }

    /// The process.
    pub fn pid(&self) -> u64 {
        self.child.id().expect("it runs").into()
    }

    /// Introduces itself.
    pub async fn handshake(&mut self) {
        let hello = json!({ "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": { "name": "plain", "version": "0" } });
        let answer = self.request("initialize", hello).await;
        assert_eq!(answer["result"]["protocolVersion"], "2025-11-25", "{answer:#}");
        self.notify("notifications/initialized", json!({})).await;
    }

    /// Writes bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) {
        tokio::time::timeout(LIMIT, self.input.write_all(bytes)).await.expect("it reads").unwrap();
    }

    /// Sends a notification.
    pub async fn notify(&mut self, method: &str, params: Value) {
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        self.write(format!("{message}\n").as_bytes()).await;
    }

    /// Sends a request; gives its id.
    pub async fn send(&mut self, method: &str, params: Value) -> Value {
        self.ids += 1;
        let id = json!(self.ids);
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.write(format!("{message}\n").as_bytes()).await;
        id
    }

    /// Sends a tool call; gives its id.
    pub async fn send_call(&mut self, tool: &str, arguments: Value) -> Value {
        self.send("tools/call", json!({ "name": tool, "arguments": arguments })).await
    }

    /// Sends a request and waits for its answer.
    pub async fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params).await;
        self.answer(&id).await
    }

    /// Calls a tool and waits for its answer.
    pub async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let id = self.send_call(tool, arguments).await;
        self.answer(&id).await
    }

    /// Waits for the answer to a request.
    pub async fn answer(&mut self, id: &Value) -> Value {
        let waiting = async {
            loop {
                if let Some(answer) = self.find(id) {
                    return answer;
                }
                self.changed.changed().await.expect("stdout is open");
            }
        };
        let found = tokio::time::timeout(LIMIT, waiting).await;
        found.unwrap_or_else(|_| panic!("no answer to {id} within {LIMIT:?}"))
    }

    /// Whether the answer to a request has come.
    pub fn has_answer(&self, id: &Value) -> bool {
        self.find(id).is_some()
    }

    fn find(&self, id: &Value) -> Option<Value> {
        self.messages().into_iter().find(|message| message["id"] == *id && message.get("method").is_none())
    }

    /// Every message so far.
    pub fn messages(&self) -> Vec<Value> {
        self.lines.lock().unwrap().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The lines of stdout that are no messages of the protocol.
    pub fn impure(&self) -> Vec<String> {
        let is_message = |line: &String| {
            serde_json::from_str::<Value>(line).is_ok_and(|message| message["jsonrpc"] == "2.0")
        };
        self.lines.lock().unwrap().iter().filter(|line| !is_message(line)).cloned().collect()
    }

    /// Closes stdin, upon which the program must end well.
    pub async fn leave(self) {
        let (status, said) = self.ended().await;
        assert!(status.success(), "{status}: {said}");
    }

    /// Closes stdin and waits for the end; gives the status and all of stderr.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        drop(self.input);
        let status = tokio::time::timeout(LIMIT, self.child.wait()).await.expect("it ends").unwrap();
        (status, self.said.await.unwrap())
    }
}
