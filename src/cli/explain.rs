//! `cproxy explain`: who would be asked for a request, in which order and why. Asks the running daemon, which knows
//! what is open and well at this moment; without one, the config alone tells.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::client::DaemonArgs;
use super::embedded;
use super::terminal::{Cell, Table, Tint, colour, fail, paint, say, say_json};
use crate::config::{Keys, Loaded};
use crate::dialect::head;
use crate::routing::{Balance, Facts, Inputs, Usable, Vital, plan};
use crate::runtime::clock;

/// What `explain` takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ExplainArgs {
    /// A Messages request as JSON; - for stdin. Flags change what it says
    file: Option<PathBuf>,
    /// The model
    #[arg(long, short, value_name = "NAME", required_unless_present = "file")]
    model: Option<String>,
    /// As if the input had this many tokens
    #[arg(long, value_name = "N")]
    tokens: Option<u64>,
    /// The most tokens of output
    #[arg(long, value_name = "N")]
    max_tokens: Option<u64>,
    /// With tools
    #[arg(long)]
    tools: bool,
    /// With an image
    #[arg(long)]
    images: bool,
    /// With reasoning
    #[arg(long)]
    thinking: bool,
    /// With a web search by the server
    #[arg(long)]
    web_search: bool,
    /// With a streamed answer
    #[arg(long)]
    stream: bool,
    /// Of this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Of this subagent
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// Of this program, as its user-agent names it; mcp for calls of MCP tools
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// For this provider
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// With this header, for rules that match on one (x-…)
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// By the config alone, whatever a running daemon knows
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Most bytes of a request that are read.
const MAX_REQUEST: u64 = 32 << 20;

/// Explains. Exit status 1 if nobody would be asked.
pub async fn run(args: ExplainArgs) -> ExitCode {
    let plan = match explained(&args).await {
        Ok(plan) => plan,
        Err(reason) => return fail(&reason),
    };
    if args.json {
        say_json(&plan);
    } else {
        say(&text(&plan, colour()));
    }
    let served = plan["candidates"].as_array().is_some_and(|list| !list.is_empty());
    if served { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn explained(args: &ExplainArgs) -> Result<Value, String> {
    let body = body(args)?;
    let headers = headers(args)?;
    if !args.offline {
        match args.daemon.find().await {
            Ok(client) => {
                let path = match args.tokens {
                    Some(tokens) => format!("/explain?tokens={tokens}"),
                    None => "/explain".to_owned(),
                };
                let answer = client.send(Method::POST, &path, &headers, body).await?;
                let mut plan: Value = serde_json::from_slice(&answer)
                    .map_err(|error| format!("the daemon's answer can't be read: {error}"))?;
                plan["by"] = json!(format!("the daemon at {}", client.address()));
                return Ok(plan);
            }
            Err(reason) if args.daemon.connect.is_some() || args.daemon.port.is_some() => return Err(reason),
            Err(_) => {}
        }
    }
    let loaded = args.daemon.load().map_err(|error| error.to_string())?;
    let loaded = match embedded::needed(&loaded) {
        true => embedded::with_simulator(loaded, ([127, 0, 0, 1], 0).into()),
        false => loaded,
    };
    by_config(&loaded, &body, &headers, args.tokens)
}

/// The plan by the config alone: everybody with a key is taken to be well and idle.
fn by_config(
    loaded: &Loaded,
    body: &Bytes,
    headers: &[(String, String)],
    tokens: Option<u64>,
) -> Result<Value, String> {
    let mut head = head::scan(body).map_err(|error| error.to_string())?;
    head.estimated_tokens = tokens.unwrap_or(head.estimated_tokens);
    let header = |wanted: &str| {
        headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| Arc::<str>::from(value.as_str()))
    };
    let facts = Facts {
        provider: header("x-cproxy-provider").map(crate::config::ProviderId),
        session: header("x-claude-code-session-id").or_else(|| head.session.as_deref().map(Arc::from)),
        agent: header("x-claude-code-agent-id"),
        client: header("user-agent"),
        headers: headers
            .iter()
            .map(|(name, value)| (Arc::from(name.as_str()), Arc::from(value.as_str())))
            .collect(),
        head,
        over_budget: false,
    };
    let table = crate::routing::Table::new(1, &loaded.config, |id| match loaded.keys.get(id) {
        Some(Keys::Missing(why)) => Usable::NoKey(why.clone()),
        _ => Usable::Ready,
    });
    let now = clock::now();
    let vital = |_: usize, _: &str| Vital { alive: true, healthy: true, headroom: true, ..Vital::default() };
    let inputs = Inputs {
        facts: &facts,
        table: &table,
        vital: &vital,
        credential: true,
        affinity: None,
        now,
        draw: 0,
        explain: true,
    };
    let plan = plan(&inputs, &mut Balance::default());
    let mut words = crate::exchange::in_words(&plan, &facts, |_| 0);
    words["by"] = json!(format!("the config ({}); no daemon was asked", loaded.source));
    Ok(words)
}

/// The request: the file's, or a small one, with what the flags say.
fn body(args: &ExplainArgs) -> Result<Bytes, String> {
    let mut request = match &args.file {
        None => json!({ "max_tokens": 1024, "messages": [{ "role": "user", "content": "hello" }] }),
        Some(file) => {
            let text = read(file)?;
            serde_json::from_slice(&text)
                .map_err(|error| format!("{} is not JSON: {error}", file.display()))?
        }
    };
    let Some(fields) = request.as_object_mut() else {
        return Err("the request must be a JSON object, such as {\"model\": …, \"messages\": […]}".to_owned());
    };
    if let Some(model) = &args.model {
        fields.insert("model".to_owned(), json!(model));
    }
    if let Some(limit) = args.max_tokens {
        fields.insert("max_tokens".to_owned(), json!(limit));
    }
    if args.stream {
        fields.insert("stream".to_owned(), json!(true));
    }
    if args.thinking {
        fields.insert("thinking".to_owned(), json!({ "type": "enabled", "budget_tokens": 1024 }));
    }
    let mut tools = Vec::new();
    if args.tools {
        tools.push(json!({ "name": "example", "input_schema": { "type": "object" } }));
    }
    if args.web_search {
        tools.push(json!({ "type": "web_search_20250305", "name": "web_search" }));
    }
    if !tools.is_empty() {
        let list = fields.entry("tools").or_insert_with(|| json!([]));
        list.as_array_mut().ok_or("the request's \"tools\" is no list")?.append(&mut tools);
    }
    if args.images {
        let source = json!({ "type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo=" });
        let image = json!({ "role": "user", "content": [{ "type": "image", "source": source }] });
        let list = fields.entry("messages").or_insert_with(|| json!([]));
        list.as_array_mut().ok_or("the request's \"messages\" is no list")?.push(image);
    }
    serde_json::to_vec(&request).map(Bytes::from).map_err(|error| error.to_string())
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().take(MAX_REQUEST).read_to_end(&mut text),
        _ => std::fs::File::open(file).and_then(|file| file.take(MAX_REQUEST).read_to_end(&mut text)),
    };
    read.map(|_| text).map_err(|error| format!("{} can't be read: {error}", file.display()))
}

/// The headers of the request, names in lower case.
fn headers(args: &ExplainArgs) -> Result<Vec<(String, String)>, String> {
    let mut headers = Vec::new();
    let flags = [
        ("x-claude-code-session-id", &args.session),
        ("x-claude-code-agent-id", &args.agent),
        ("user-agent", &args.client),
        ("x-cproxy-provider", &args.provider),
    ];
    for (name, value) in flags {
        headers.extend(value.as_ref().map(|value| (name.to_owned(), value.clone())));
    }
    for header in &args.header {
        let Some((name, value)) = header.split_once(':') else {
            return Err(format!("--header \"{header}\": expected \"name: value\""));
        };
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(headers)
}

/// The plan for people.
fn text(plan: &Value, colour: bool) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut out = format!(
        "{} with about {} tokens of input, by {}\n",
        paint(&word(&plan["model"]), Tint::Bold, colour),
        plan["estimated_tokens"],
        paint(&word(&plan["by"]), Tint::Plain, colour)
    );
    for (name, label) in [("rule", "rule"), ("effort", "reasoning effort"), ("refused", "refused")] {
        if let Some(value) = plan[name].as_str() {
            out.push_str(&format!("{label}: {}\n", paint(value, Tint::Plain, colour)));
        }
    }
    out.push('\n');
    let list = |name: &str| plan[name].as_array().cloned().unwrap_or_default();
    let mut asked = Table::new(&["", "ASKED", "IN", "WHY"]);
    for (at, candidate) in list("candidates").iter().enumerate() {
        asked.row([
            Cell::from(format!("{}.", at + 1)),
            Cell::new(word(&candidate["target"]), Tint::Good),
            word(&candidate["dialect"]).into(),
            word(&candidate["why"]).into(),
        ]);
    }
    let mut not = Table::new(&["", "NOT ASKED", "WHY NOT"]);
    for skipped in list("skipped") {
        let target = Cell::new(word(&skipped["target"]), Tint::Dim);
        not.row(["- ".into(), target, Cell::new(word(&skipped["why_not"]), Tint::Dim)]);
    }
    let (asked, not) = (asked.render(0, colour), not.render(0, colour));
    if asked.is_empty() {
        out.push_str(&paint("nobody can be asked", Tint::Bad, colour));
        out.push('\n');
    }
    out.push_str(&asked);
    if !asked.is_empty() && !not.is_empty() {
        out.push('\n');
    }
    out.push_str(&not);
    out
}
