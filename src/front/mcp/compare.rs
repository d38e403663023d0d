//! `proxy_compare`: the same question to several models at once.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rmcp::RoleServer;
use rmcp::model::{CallToolResult, ContentBlock, JsonObject};
use rmcp::service::RequestContext;
use serde_json::json;

use super::args::{Args, BadArgs};
use super::body::{self, Question};
use super::completion::{GRACE, ask};
use super::guard::guarded;
use super::outcome::{Outcome, SHOWN, cut, result};
use super::progress::Progress;
use super::{HANDLER_LIMIT, Shared};

/// Most models of one comparison.
const MOST: usize = 8;
/// Characters of an answer that are shown as soon as it is there.
const ARRIVED: usize = 1_000;

/// What the tool was called with.
#[derive(Debug)]
pub(crate) struct Comparison {
    question: Question,
    models: Vec<String>,
    timeout: Option<Duration>,
}

// === impl Comparison ===

impl Comparison {
    pub fn read(arguments: Option<JsonObject>) -> Result<Comparison, BadArgs> {
        let mut args = Args::new("proxy_compare", arguments);
        let comparison = Comparison {
            question: Question::take(&mut args)?,
            models: args.texts("models")?,
            timeout: args.span("timeout")?,
        };
        args.done()?;
        if comparison.question.messages.is_empty() {
            return Err(BadArgs("`messages` is missing: say what to ask".into()));
        }
        if !(1..=MOST).contains(&comparison.models.len()) {
            return Err(BadArgs(format!("`models` must name up to {MOST} models, see cproxy://models")));
        }
        Ok(comparison)
    }

    /// How long each answer may take.
    pub fn limit(&self) -> Duration {
        self.timeout.map_or(HANDLER_LIMIT, |timeout| timeout.saturating_add(GRACE).min(HANDLER_LIMIT))
    }
}

/// Asks all models at once. One that fails or is late is an entry like the others.
pub(crate) async fn run(
    shared: &Shared,
    comparison: Comparison,
    context: &RequestContext<RoleServer>,
) -> CallToolResult {
    let limit = comparison.limit();
    let Comparison { question, models, timeout } = comparison;
    let progress = Progress::new(&context.peer, context.meta.get_progress_token());
    let shown = SHOWN / models.len().max(1);
    let mut open: FuturesUnordered<_> = models
        .iter()
        .enumerate()
        .map(|(place, model)| {
            let mut request = body::request(shared.daemon.next_request_id(), &question, model, None, None);
            request.timeout = timeout;
            async move {
                // Each has its own guard, so that one panic or delay spoils no other answer.
                let asked = ask(shared, request, None);
                let mut outcome = match guarded(&context.ct, limit, asked).await {
                    Ok((outcome, _)) => outcome,
                    Err(ended) => Outcome::from(super::outcome::Trouble::from(ended)),
                };
                outcome.asked = Some(model.clone());
                outcome.shorten(shared, shown).await;
                (place, outcome)
            }
        })
        .collect();

    let mut answers: Vec<Option<Outcome>> = vec![None; models.len()];
    let mut came = 0;
    while let Some((place, outcome)) = open.next().await {
        came += 1;
        let model = models.get(place).map(String::as_str).unwrap_or_default();
        progress.note(arrival(model, came, models.len(), &outcome));
        if let Some(slot) = answers.get_mut(place) {
            *slot = Some(outcome);
        }
    }
    progress.finish().await;

    let content = models
        .iter()
        .zip(&answers)
        .filter_map(|(model, outcome)| Some((model, outcome.as_ref()?)))
        .map(|(model, outcome)| match &outcome.error {
            None => ContentBlock::text(format!("## {model}\n\n{}", outcome.text)),
            Some(trouble) => ContentBlock::text(format!("## {model}\n\n{trouble}\n\n{}", outcome.text)),
        })
        .collect();
    let failed = answers.iter().flatten().all(|outcome| outcome.error.is_some());
    result(&json!({ "answers": answers }), content, failed)
}

/// What is told of an answer as it arrives: so much of it as reads quickly; the result has all.
fn arrival(model: &str, came: usize, of: usize, outcome: &Outcome) -> String {
    match &outcome.error {
        Some(trouble) => format!("{model} failed ({came} of {of}): {}", trouble.message),
        None => {
            let (text, more) = match cut(&outcome.text, ARRIVED) {
                Some(at) => (outcome.text.get(..at).unwrap_or_default(), " […]"),
                None => (outcome.text.as_str(), ""),
            };
            let seconds = outcome.seconds.unwrap_or_default();
            format!("{model} answered in {seconds} s ({came} of {of}): {}{more}", text.trim_end())
        }
    }
}
