//! The answer of Chat Completions, whole or as a chunk, borrowed from its bytes. Servers differ in which fields
//! they send and in their types, so that whatever isn't needed may be anything.
//!
//! Sources: OpenAI API reference, "Chat", objects `chat.completion` and `chat.completion.chunk`; OpenRouter's,
//! DeepSeek's, Mistral's and Groq's references for what they add.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::dialect::Usage;
use crate::dialect::anthropic::types::text;
use crate::dialect::json::Raw;

/// A chunk of a stream, or a whole answer.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Chunk<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub model: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub object: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "list")]
    pub choices: Vec<Choice<'a>>,
    #[serde(default)]
    pub usage: Option<ChatUsage>,
    #[serde(borrow, default)]
    pub error: Option<Raw<'a>>,
    /// Perplexity, xAI: the pages that were read, as addresses; with each chunk again.
    #[serde(borrow, default)]
    pub citations: Option<Raw<'a>>,
    /// Perplexity: the same, with titles.
    #[serde(borrow, default)]
    pub search_results: Option<Raw<'a>>,
}

/// One of the answers. We never ask for more than one.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Choice<'a> {
    #[serde(default)]
    pub index: Number,
    #[serde(borrow, default)]
    pub delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    pub message: Option<Delta<'a>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub finish_reason: Option<Cow<'a, str>>,
    /// vLLM: the stop string that was met.
    #[serde(borrow, default, deserialize_with = "text")]
    pub stop_reason: Option<Cow<'a, str>>,
    /// OpenRouter: this answer failed.
    #[serde(borrow, default)]
    pub error: Option<Raw<'a>>,
    /// Moonshot: what the answer cost, with its last chunk.
    #[serde(default)]
    pub usage: Option<ChatUsage>,
}

/// What a chunk adds; or a whole message.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Delta<'a> {
    #[serde(borrow, default)]
    pub content: Pieces<'a>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub reasoning: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub reasoning_content: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "list")]
    pub reasoning_details: Vec<Detail<'a>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub refusal: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "list")]
    pub tool_calls: Vec<CallPiece<'a>>,
    /// The form before `tool_calls`.
    #[serde(borrow, default)]
    pub function_call: Option<Function<'a>>,
    #[serde(borrow, default)]
    pub extra_content: Option<Extra<'a>>,
    /// What was spoken in place of text.
    #[serde(borrow, default)]
    pub audio: Option<Audio<'a>>,
    /// What backs the text.
    #[serde(borrow, default)]
    pub annotations: Option<Raw<'a>>,
}

/// Text, or a list of parts (Mistral), in their order.
#[derive(Debug, Default)]
pub(crate) struct Pieces<'a>(pub Vec<Piece<'a>>);

/// One piece of content.
#[derive(Debug)]
pub(crate) enum Piece<'a> {
    Text(Cow<'a, str>),
    Thinking(Cow<'a, str>),
}

/// One of OpenRouter's `reasoning_details`, or a piece of one.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Detail<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "text")]
    pub kind: Option<Cow<'a, str>>,
    #[serde(default)]
    pub index: Number,
    #[serde(borrow, default, deserialize_with = "text")]
    pub id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub format: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub text: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub summary: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub data: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub signature: Option<Cow<'a, str>>,
}

/// A piece of a tool call.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct CallPiece<'a> {
    #[serde(default)]
    pub index: Number,
    #[serde(borrow, default, deserialize_with = "text")]
    pub id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub function: Option<Function<'a>>,
    /// A call of a tool that takes free text.
    #[serde(borrow, default)]
    pub custom: Option<Custom<'a>>,
    #[serde(borrow, default)]
    pub extra_content: Option<Extra<'a>>,
}

/// A tool that takes free text, and the text.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Custom<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub name: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub input: Option<Cow<'a, str>>,
}

/// Spoken output.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Audio<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub transcript: Option<Cow<'a, str>>,
}

/// The function of a call.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Function<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub name: Option<Cow<'a, str>>,
    /// A string, or (Ollama) an object.
    #[serde(borrow, default)]
    pub arguments: Option<Raw<'a>>,
}

/// What Google adds.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Extra<'a> {
    #[serde(borrow, default)]
    pub google: Option<Google<'a>>,
}

/// What Google adds.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Google<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub thought_signature: Option<Cow<'a, str>>,
}

/// What the answer cost. Each figure may be null, absent, or a fraction.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ChatUsage {
    prompt_tokens: Number,
    completion_tokens: Number,
    total_tokens: Number,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
    prompt_cache_hit_tokens: Number,
    cached_tokens: Number,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PromptDetails {
    cached_tokens: Number,
    cache_write_tokens: Number,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct CompletionDetails {
    reasoning_tokens: Number,
}

/// A whole number; anything else counts as absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Number(pub Option<u64>);

// === impl Chunk ===

impl Chunk<'_> {
    /// What the answer cost, if the chunk says it: beside the answers, or with the one that we asked for.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let of_answer = || self.choices.first().and_then(|choice| choice.usage.as_ref());
        let beside = self.usage.as_ref().and_then(ChatUsage::usage);
        beside.or_else(|| of_answer().and_then(ChatUsage::usage))
    }
}

// === impl ChatUsage ===

impl ChatUsage {
    /// The figures in Anthropic's buckets; `None` if there are none.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let prompt = self.prompt_tokens.0;
        let completion = self.completion_tokens.0;
        if prompt.unwrap_or(0) == 0 && completion.unwrap_or(0) == 0 {
            return None;
        }
        let (prompt, completion) = (prompt.unwrap_or(0), completion.unwrap_or(0));
        let details = self.prompt_tokens_details.clone().unwrap_or_default();
        let read =
            details.cached_tokens.0.or(self.prompt_cache_hit_tokens.0).or(self.cached_tokens.0).unwrap_or(0);
        let written = details.cache_write_tokens.0.unwrap_or(0);
        // Some servers leave reasoning out of the completion, and show it in the total alone.
        let hidden = self.total_tokens.0.unwrap_or(0).saturating_sub(prompt);
        Some(Usage {
            input: prompt.saturating_sub(read).saturating_sub(written),
            cache_read: read,
            cache_creation: written,
            output: completion.max(hidden),
            thinking: self.completion_tokens_details.as_ref().and_then(|details| details.reasoning_tokens.0),
            estimated: false,
        })
    }
}

// === impl Number ===

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
        let raw: Raw<'_> = Deserialize::deserialize(deserializer)?;
        let number = raw.get().parse::<u64>().ok().or_else(|| {
            let float = raw.get().parse::<f64>().ok()?;
            // The cast saturates.
            (float.is_finite() && float >= 0.0).then_some(float as u64)
        });
        Ok(Number(number))
    }
}

// === impl Pieces ===

impl<'de: 'a, 'a> Deserialize<'de> for Pieces<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pieces<'a>, D::Error> {
        /// A part of a content list.
        #[derive(Deserialize)]
        struct ContentPart<'a> {
            #[serde(borrow, rename = "type", default, deserialize_with = "text")]
            kind: Option<Cow<'a, str>>,
            #[serde(borrow, default, deserialize_with = "text")]
            text: Option<Cow<'a, str>>,
            #[serde(borrow, default)]
            thinking: Pieces<'a>,
        }

        struct PiecesVisitor<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for PiecesVisitor<'a> {
            type Value = Pieces<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of parts")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Pieces<'a>, E> {
                Ok(Pieces(if text.is_empty() { Vec::new() } else { vec![Piece::Text(Cow::Borrowed(text))] }))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Pieces<'a>, E> {
                Ok(Pieces(if text.is_empty() {
                    Vec::new()
                } else {
                    vec![Piece::Text(text.to_owned().into())]
                }))
            }
            fn visit_unit<E: Error>(self) -> Result<Pieces<'a>, E> {
                Ok(Pieces::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Pieces<'a>, A::Error> {
                let mut pieces = Vec::new();
                while let Some(part) = list.next_element::<ContentPart<'a>>()? {
                    if part.kind.as_deref() == Some("thinking") {
                        let texts = part.thinking.0.into_iter().map(|piece| match piece {
                            Piece::Text(text) | Piece::Thinking(text) => Piece::Thinking(text),
                        });
                        pieces.extend(texts);
                    } else if let Some(text) = part.text.filter(|text| !text.is_empty()) {
                        pieces.push(Piece::Text(text));
                    }
                }
                Ok(Pieces(pieces))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pieces<'a>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Pieces::default())
            }
        }

        deserializer.deserialize_any(PiecesVisitor(PhantomData))
    }
}

/// A list; null counts as an empty one.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
