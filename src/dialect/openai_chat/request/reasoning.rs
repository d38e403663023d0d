//! How much the model shall reason, in the words of each upstream.

use super::models;
use super::{Param, Rectify, Target, max_tokens};
use crate::dialect::anthropic::types::MessagesRequest;
use crate::dialect::openai_chat::rectify::Effort;
use crate::dialect::openai_chat::write::Json;
use crate::dialect::table::Reasoning;

/// What the caller wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Wish {
    /// Nothing was said.
    Unsaid,
    /// No reasoning.
    Off,
    /// Reasoning.
    On {
        /// How much, by level.
        effort: Option<Effort>,
        /// How much, in tokens.
        budget: Option<u64>,
    },
}

// === impl Wish ===

impl Wish {
    /// Reads the wish. The config's effort comes first, then the last one in the conversation, then the request's.
    pub(in crate::dialect) fn read(request: &MessagesRequest<'_>, target: &Target<'_>) -> Wish {
        let kind = request.thinking.as_ref().map(|thinking| thinking.kind.as_ref());
        if matches!(kind, Some("disabled" | "between_tools")) {
            return Wish::Off;
        }
        let in_conversation = request
            .messages
            .iter()
            .rev()
            .filter(|message| message.role == "system")
            .find_map(|message| message.output_config.as_ref()?.effort.as_deref());
        let in_request = request.output_config.as_ref().and_then(|config| config.effort.as_deref());
        let effort = target.effort.or(in_conversation).or(in_request).and_then(Effort::read);
        let budget = request.thinking.as_ref().and_then(|thinking| thinking.budget_tokens);
        match (kind, effort) {
            (None, None) => Wish::Unsaid,
            (Some("enabled"), None) => Wish::On { effort: None, budget },
            (_, effort) => Wish::On { effort, budget: None },
        }
    }

    /// Whether the model will reason.
    pub(in crate::dialect) fn is_on(&self) -> bool {
        matches!(self, Wish::On { .. })
    }

    /// Writes the wish.
    pub(in crate::dialect) fn write(
        &self,
        json: &mut Json,
        request: &MessagesRequest<'_>,
        target: &Target<'_>,
        has_tools: bool,
    ) {
        if !target.sends(Param::Reasoning) {
            return;
        }
        let ceiling = target.rectified.iter().filter_map(|rectify| match rectify {
            Rectify::EffortAtMost(effort) => Some(*effort),
            _ => None,
        });
        let ceiling = ceiling.min();
        let level = |highest: Effort| {
            let Wish::On { effort, budget } = *self else { return None };
            let wished = effort.or_else(|| budget.map(Effort::of_budget))?;
            Some(wished.min(highest).min(ceiling.unwrap_or(Effort::Max)).as_str())
        };
        match target.variant.reasoning {
            Reasoning::OpenAi => {
                let Some(model) = models::openai_reasoning(target.model) else { return };
                let level = if has_tools && model.reasons_without_tools_only() {
                    Some("none")
                } else if *self == Wish::Off {
                    model.least()
                } else {
                    level(Effort::read(model.highest()).unwrap_or(Effort::High))
                };
                if let Some(level) = level {
                    json.key("reasoning_effort").string(level);
                }
            }
            Reasoning::Effort | Reasoning::EffortOrNone => {
                let none = (*self == Wish::Off && target.variant.reasoning == Reasoning::EffortOrNone)
                    .then_some("none");
                if let Some(level) = none.or_else(|| level(Effort::High)) {
                    json.key("reasoning_effort").string(level);
                }
            }
            Reasoning::Switch => match level(Effort::High) {
                Some(level) => json.key("reasoning_effort").string(level),
                None if *self == Wish::Unsaid => {}
                None => json.key("reasoning").object(|json| json.key("enabled").boolean(self.is_on())),
            },
            Reasoning::OpenRouter => match *self {
                Wish::Unsaid => {}
                Wish::Off => json.key("reasoning").object(|json| json.key("enabled").boolean(false)),
                Wish::On { effort: Some(_), .. } => json.key("reasoning").object(|json| {
                    json.key("effort").string(level(Effort::XHigh).unwrap_or("high"));
                }),
                Wish::On { budget: Some(budget), .. } => json.key("reasoning").object(|json| {
                    let most = max_tokens(request, target).map_or(u64::MAX, |most| most.saturating_sub(1));
                    json.key("max_tokens").number(budget.min(most));
                }),
                Wish::On { .. } => json.key("reasoning").object(|json| json.key("enabled").boolean(true)),
            },
            Reasoning::Thinking => {
                let kind = match self {
                    Wish::Unsaid => return,
                    Wish::Off => "disabled",
                    Wish::On { .. } => "enabled",
                };
                json.key("thinking").object(|json| json.key("type").string(kind));
            }
            Reasoning::TemplateKwargs => {
                if *self != Wish::Unsaid {
                    json.key("chat_template_kwargs")
                        .object(|json| json.key("enable_thinking").boolean(self.is_on()));
                }
            }
            Reasoning::None => {}
        }
    }
}
