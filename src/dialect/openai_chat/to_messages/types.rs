//! A Chat Completions request, borrowed from the bytes it came in. Fields that mean nothing to other dialects
//! (`seed`, `logprobs`, penalties …) are not read.
//!
//! Source: OpenAI API reference, "Create chat completion"; OpenRouter's for `reasoning`.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::dialect::anthropic::types::{flag, nullable, text};
use crate::dialect::json::Raw;
use crate::dialect::openai_chat::types::Number;

#[derive(Debug, Deserialize)]
pub(super) struct ChatRequest<'a> {
    #[serde(borrow)]
    pub(super) messages: Vec<Message<'a>>,
    #[serde(default, deserialize_with = "flag")]
    pub(super) stream: bool,
    #[serde(default)]
    pub(super) max_tokens: Number,
    #[serde(default)]
    pub(super) max_completion_tokens: Number,
    #[serde(default)]
    pub(super) n: Number,
    #[serde(borrow, default)]
    pub(super) temperature: Option<Raw<'a>>,
    #[serde(borrow, default)]
    pub(super) top_p: Option<Raw<'a>>,
    #[serde(borrow, default)]
    pub(super) top_k: Option<Raw<'a>>,
    #[serde(borrow, default)]
    pub(super) stop: Stops<'a>,
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub(super) tools: Vec<ToolJson<'a>>,
    /// The form before `tools`.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub(super) functions: Vec<FunctionJson<'a>>,
    #[serde(borrow, default)]
    pub(super) tool_choice: Option<Raw<'a>>,
    #[serde(default)]
    pub(super) parallel_tool_calls: Option<bool>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) reasoning_effort: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) reasoning: Option<Reasoning<'a>>,
    #[serde(borrow, default)]
    pub(super) response_format: Option<Format<'a>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) user: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) safety_identifier: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) web_search_options: Option<Raw<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    pub(super) role: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) content: Content<'a>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) name: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) refusal: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) tool_call_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub(super) tool_calls: Vec<CallJson<'a>>,
    #[serde(borrow, default)]
    pub(super) function_call: Option<CalledFunction<'a>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) reasoning: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) reasoning_content: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub(super) reasoning_details: Vec<Detail<'a>>,
}

/// A message's content.
#[derive(Debug, Default)]
pub(crate) enum Content<'a> {
    #[default]
    None,
    Text(Cow<'a, str>),
    Parts(Vec<Part<'a>>),
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Part<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "text")]
    pub(crate) kind: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(crate) text: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(crate) refusal: Option<Cow<'a, str>>,
    /// An object with a `url`, or (Responses) the address itself.
    #[serde(borrow, default)]
    pub(crate) image_url: Option<Address<'a>>,
    #[serde(borrow, default)]
    pub(crate) file: Option<File<'a>>,
    /// Responses: the file's fields stand in the part.
    #[serde(borrow, default, deserialize_with = "text")]
    pub(crate) file_data: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(crate) file_url: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(crate) file_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(crate) filename: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(crate) cache_control: Option<Raw<'a>>,
}

#[derive(Debug, Default)]
pub(crate) struct Address<'a>(pub(crate) Option<Cow<'a, str>>);

#[derive(Debug, Default, Deserialize)]
pub(crate) struct File<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub(crate) file_data: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(crate) file_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(crate) filename: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct CallJson<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) function: Option<CalledFunction<'a>>,
    #[serde(borrow, default)]
    pub(super) custom: Option<CalledCustom<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct CalledFunction<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) name: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) arguments: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct CalledCustom<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) name: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) input: Option<Cow<'a, str>>,
}

/// One of `reasoning_details`.
#[derive(Debug, Deserialize)]
pub(super) struct Detail<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "text")]
    pub(super) kind: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) text: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) signature: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) data: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) format: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ToolJson<'a> {
    #[serde(borrow, default)]
    pub(super) function: Option<FunctionJson<'a>>,
    #[serde(borrow, default)]
    pub(super) custom: Option<FunctionJson<'a>>,
    #[serde(borrow, default)]
    pub(super) cache_control: Option<Raw<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct FunctionJson<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) name: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) description: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) parameters: Option<Raw<'a>>,
    #[serde(default, deserialize_with = "flag")]
    pub(super) strict: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum ToolChoice<'a> {
    Mode(Cow<'a, str>),
    Object(Box<ToolChoiceObject>),
}

/// Owned, since untagged enums read from a buffer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ToolChoiceObject {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    name: Option<String>,
    function: Option<Named>,
    custom: Option<Named>,
    /// Chat has the list in an object of its own, Responses beside the type.
    pub(super) allowed_tools: Option<Box<ToolChoiceObject>>,
    pub(super) mode: Option<String>,
    pub(super) tools: Vec<ToolChoiceObject>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

/// OpenRouter's form of the wish for reasoning, and that of Responses.
#[derive(Debug, Deserialize)]
pub(crate) struct Reasoning<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    pub(crate) effort: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(crate) max_tokens: Number,
    #[serde(default)]
    pub(crate) enabled: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Format<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "text")]
    pub(super) kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) json_schema: Option<Wanted<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Wanted<'a> {
    #[serde(borrow, default)]
    pub(super) schema: Option<Raw<'a>>,
}

/// One string or a list of them.
#[derive(Debug, Default)]
pub(super) struct Stops<'a>(pub(super) Vec<Cow<'a, str>>);

// === impl ToolChoiceObject ===

impl ToolChoiceObject {
    /// The tool that is named.
    pub(super) fn named(&self) -> Option<&str> {
        let inner = self.function.as_ref().or(self.custom.as_ref());
        inner.map(|named| named.name.as_str()).or(self.name.as_deref())
    }
}

// === impl Part ===

impl Part<'_> {
    /// Whether it is an image or a file.
    pub(crate) fn is_media(&self) -> bool {
        matches!(self.kind.as_deref(), Some("image_url" | "input_image" | "file" | "input_file"))
    }
}

// === impl Content ===

impl<'a> Content<'a> {
    /// The parts; none for a string.
    pub(crate) fn parts(&self) -> &[Part<'a>] {
        match self {
            Content::Parts(parts) => parts,
            Content::None | Content::Text(_) => &[],
        }
    }

    /// All texts, refusals included, each with its cache marker.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, Option<Raw<'a>>)> {
        let whole = match self {
            Content::Text(text) => Some((text.as_ref(), None)),
            Content::None | Content::Parts(_) => None,
        };
        let parts = self
            .parts()
            .iter()
            .filter_map(|part| Some((part.text.as_deref().or(part.refusal.as_deref())?, part.cache_control)));
        whole.into_iter().chain(parts)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Content<'a>, D::Error> {
        struct ContentVisitor<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for ContentVisitor<'a> {
            type Value = Content<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of content parts")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Content<'a>, E> {
                Ok(Content::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Content<'a>, E> {
                Ok(Content::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_unit<E: Error>(self) -> Result<Content<'a>, E> {
                Ok(Content::None)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Content<'a>, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = list.next_element()? {
                    parts.push(part);
                }
                Ok(Content::Parts(parts))
            }
        }

        deserializer.deserialize_any(ContentVisitor(PhantomData))
    }
}

// === impl Address ===

impl<'de: 'a, 'a> Deserialize<'de> for Address<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Address<'a>, D::Error> {
        struct AddressVisitor<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for AddressVisitor<'a> {
            type Value = Address<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address or an object with a url")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Address<'a>, E> {
                Ok(Address(Some(Cow::Borrowed(text))))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Address<'a>, E> {
                Ok(Address(Some(Cow::Owned(text.to_owned()))))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Address<'a>, A::Error> {
                #[derive(Deserialize)]
                struct Url<'a> {
                    #[serde(borrow, default, deserialize_with = "text")]
                    url: Option<Cow<'a, str>>,
                }
                Ok(Address(Url::deserialize(serde::de::value::MapAccessDeserializer::new(map))?.url))
            }
        }

        deserializer.deserialize_any(AddressVisitor(PhantomData))
    }
}

// === impl Stops ===

impl<'de: 'a, 'a> Deserialize<'de> for Stops<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Stops<'a>, D::Error> {
        struct StopsVisitor<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for StopsVisitor<'a> {
            type Value = Stops<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Stops<'a>, E> {
                Ok(Stops(vec![Cow::Owned(text.to_owned())]))
            }
            fn visit_unit<E: Error>(self) -> Result<Stops<'a>, E> {
                Ok(Stops::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Stops<'a>, A::Error> {
                let mut stops = Vec::new();
                while let Some(stop) = list.next_element::<String>()? {
                    stops.push(Cow::Owned(stop));
                }
                Ok(Stops(stops))
            }
        }

        deserializer.deserialize_any(StopsVisitor(PhantomData))
    }
}
