//! The request of Anthropic Messages, borrowed from the bytes it came in: read once, copied nowhere.
//!
//! Lists are open. A block is one struct with every field that any known block has; a field of the wrong type
//! counts as absent, and a block or field that we don't know is no error. Whoever translates a block asks for
//! the fields that its type needs. (Tagged enums would read each block into a buffer first, and would lose
//! the borrow.)
//!
//! Source: Anthropic API reference, "Create a Message".

mod lenient;
mod locate;
mod source;

pub(crate) use lenient::{flag, nullable, passed_on, text};
pub(crate) use locate::locate;
pub use source::{Source, SourceObject};

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::dialect::json::{self, Raw, Text};

/// A Messages request.
#[derive(Debug, serde::Deserialize)]
pub struct MessagesRequest<'a> {
    /// The model that the caller named.
    #[serde(borrow)]
    pub model: Cow<'a, str>,
    /// The limit on output. Zero is legal: fill the prompt cache, generate nothing.
    #[serde(default)]
    pub max_tokens: Option<u64>,
    /// The conversation.
    #[serde(borrow)]
    pub messages: Vec<Message<'a>>,
    /// The system prompt.
    #[serde(borrow, default)]
    pub system: Content<'a>,
    /// Tools, of the client's and of the server's.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub tools: Vec<Tool<'a>>,
    /// Whether and which tool the model must call.
    #[serde(borrow, default)]
    pub tool_choice: Option<ToolChoice<'a>>,
    /// Whether the caller wants a stream.
    #[serde(default, deserialize_with = "nullable")]
    pub stream: bool,
    /// Strings that end the answer.
    #[serde(borrow, default, deserialize_with = "nullable")]
    pub stop_sequences: Vec<Cow<'a, str>>,
    /// Sampling temperature, as written.
    #[serde(borrow, default)]
    pub temperature: Option<Raw<'a>>,
    /// Nucleus sampling, as written.
    #[serde(borrow, default)]
    pub top_p: Option<Raw<'a>>,
    /// Top-k sampling, as written.
    #[serde(borrow, default)]
    pub top_k: Option<Raw<'a>>,
    /// Reasoning.
    #[serde(borrow, default)]
    pub thinking: Option<Thinking<'a>>,
    /// Effort and output format.
    #[serde(borrow, default)]
    pub output_config: Option<OutputConfig<'a>>,
    /// The older spelling of `output_config.format`.
    #[serde(borrow, default)]
    pub output_format: Option<OutputFormat<'a>>,
    /// Who asks.
    #[serde(borrow, default)]
    pub metadata: Option<Metadata<'a>>,
    /// Capacity tier.
    #[serde(borrow, default, deserialize_with = "text")]
    pub service_tier: Option<Cow<'a, str>>,
    /// An automatic cache marker on the last block.
    #[serde(borrow, default)]
    pub cache_control: Option<Raw<'a>>,
    /// A conversation held by the server.
    #[serde(borrow, default)]
    pub thread: Option<Kind<'a>>,
    /// A request to summarise the conversation.
    #[serde(borrow, default)]
    pub compaction: Option<Raw<'a>>,
    /// Editing of the context by the server.
    #[serde(borrow, default)]
    pub context_management: Option<Raw<'a>>,
    /// Remote MCP servers.
    #[serde(borrow, default)]
    pub mcp_servers: Option<Raw<'a>>,
    /// A code execution container.
    #[serde(borrow, default)]
    pub container: Option<Raw<'a>>,
    /// Fast mode.
    #[serde(borrow, default)]
    pub speed: Option<Raw<'a>>,
    /// Where inference may run.
    #[serde(borrow, default)]
    pub inference_geo: Option<Raw<'a>>,
    /// Models to fall back to.
    #[serde(borrow, default)]
    pub fallbacks: Option<Raw<'a>>,
}

/// One message.
#[derive(Debug, serde::Deserialize)]
pub struct Message<'a> {
    /// `user`, `assistant` or `system`.
    #[serde(borrow)]
    pub role: Cow<'a, str>,
    /// Its content.
    #[serde(borrow, default)]
    pub content: Content<'a>,
    /// Of a system message: when it loses its force.
    #[serde(borrow, default, deserialize_with = "text")]
    pub clear_at: Option<Cow<'a, str>>,
    /// Of a system message: a change of effort from here on.
    #[serde(borrow, default)]
    pub output_config: Option<OutputConfig<'a>>,
}

/// The content of a message, a system prompt or a tool result.
#[derive(Debug, Default)]
pub enum Content<'a> {
    /// None, or null.
    #[default]
    None,
    /// A string.
    Text(Text<'a>),
    /// Blocks. (An object in place of a list counts as a list of one.)
    Blocks(Vec<Block<'a>>),
}

/// One content block: the fields of all known types together.
#[derive(Debug, Default, serde::Deserialize)]
pub struct Block<'a> {
    /// The block's type.
    #[serde(borrow, rename = "type", default, deserialize_with = "text")]
    pub kind: Option<Cow<'a, str>>,
    /// Of `text`: the text.
    #[serde(borrow, default, deserialize_with = "passed_on")]
    pub text: Option<Text<'a>>,
    /// Of `thinking`: the visible reasoning.
    #[serde(borrow, default, deserialize_with = "text")]
    pub thinking: Option<Cow<'a, str>>,
    /// Of `thinking`: the signature.
    #[serde(borrow, default, deserialize_with = "text")]
    pub signature: Option<Cow<'a, str>>,
    /// Of `redacted_thinking`: the encrypted reasoning.
    #[serde(borrow, default, deserialize_with = "text")]
    pub data: Option<Cow<'a, str>>,
    /// Of `tool_use` and its kin: the call's id.
    #[serde(borrow, default, deserialize_with = "text")]
    pub id: Option<Cow<'a, str>>,
    /// Of `tool_use` and its kin: the tool's name.
    #[serde(borrow, default, deserialize_with = "text")]
    pub name: Option<Cow<'a, str>>,
    /// Of `tool_use` and its kin: the arguments, as written.
    #[serde(borrow, default)]
    pub input: Option<Raw<'a>>,
    /// Of `mcp_tool_use`: the server's name.
    #[serde(borrow, default, deserialize_with = "text")]
    pub server_name: Option<Cow<'a, str>>,
    /// Of `tool_result` and its kin: the id of the call.
    #[serde(borrow, default, deserialize_with = "text")]
    pub tool_use_id: Option<Cow<'a, str>>,
    /// Of `tool_result`: whether the tool failed.
    #[serde(default, deserialize_with = "flag")]
    pub is_error: bool,
    /// Of `tool_result` and its kin, `search_result`, `compaction`: what is in it.
    #[serde(borrow, default)]
    pub content: Content<'a>,
    /// Of `image` and `document` an object, of `search_result` a string.
    #[serde(borrow, default)]
    pub source: Source<'a>,
    /// Of `document`, `search_result`, `web_search_result`: the title.
    #[serde(borrow, default, deserialize_with = "text")]
    pub title: Option<Cow<'a, str>>,
    /// Of `web_search_result`: the address.
    #[serde(borrow, default, deserialize_with = "text")]
    pub url: Option<Cow<'a, str>>,
    /// Of results that are errors: which.
    #[serde(borrow, default, deserialize_with = "text")]
    pub error_code: Option<Cow<'a, str>>,
    /// Of `tool_reference`: the tool.
    #[serde(borrow, default, deserialize_with = "text")]
    pub tool_name: Option<Cow<'a, str>>,
    /// Of `tool_addition` and `tool_removal`: the tool, as written.
    #[serde(borrow, default)]
    pub tool: Option<Raw<'a>>,
    /// A cache marker, as written.
    #[serde(borrow, default)]
    pub cache_control: Option<Raw<'a>>,
}

/// A tool.
#[derive(Debug, serde::Deserialize)]
pub struct Tool<'a> {
    /// The type; absent or `custom` for the caller's own tools.
    #[serde(borrow, rename = "type", default, deserialize_with = "text")]
    pub kind: Option<Cow<'a, str>>,
    /// The name; absent on toolsets.
    #[serde(borrow, default, deserialize_with = "text")]
    pub name: Option<Cow<'a, str>>,
    /// What the tool does.
    #[serde(borrow, default, deserialize_with = "passed_on")]
    pub description: Option<Text<'a>>,
    /// The arguments' JSON Schema, as written.
    #[serde(borrow, default)]
    pub input_schema: Option<Raw<'a>>,
    /// Whether arguments must match the schema exactly.
    #[serde(default, deserialize_with = "flag")]
    pub strict: bool,
    /// Whether the tool is hidden until something refers to it.
    #[serde(default, deserialize_with = "flag")]
    pub defer_loading: bool,
    /// A cache marker, as written.
    #[serde(borrow, default)]
    pub cache_control: Option<Raw<'a>>,
    /// Of a web search: the only domains to look at.
    #[serde(borrow, default)]
    pub allowed_domains: Option<Raw<'a>>,
    /// Of a web search: domains to leave out.
    #[serde(borrow, default)]
    pub blocked_domains: Option<Raw<'a>>,
    /// Of a web search: where the user is.
    #[serde(borrow, default)]
    pub user_location: Option<Raw<'a>>,
}

/// Whether and which tool the model must call.
#[derive(Debug, serde::Deserialize)]
pub struct ToolChoice<'a> {
    /// `auto`, `any`, `tool` or `none`.
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'a, str>,
    /// The tool that `tool` means.
    #[serde(borrow, default, deserialize_with = "text")]
    pub name: Option<Cow<'a, str>>,
    /// One call at most.
    #[serde(default, deserialize_with = "flag")]
    pub disable_parallel_tool_use: bool,
}

/// Reasoning.
#[derive(Debug, serde::Deserialize)]
pub struct Thinking<'a> {
    /// `enabled`, `adaptive`, `disabled` or `between_tools`.
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'a, str>,
    /// Most tokens of reasoning.
    #[serde(default)]
    pub budget_tokens: Option<u64>,
    /// How much of it is shown.
    #[serde(borrow, default, deserialize_with = "text")]
    pub display: Option<Cow<'a, str>>,
}

/// Effort and output format.
#[derive(Debug, serde::Deserialize)]
pub struct OutputConfig<'a> {
    /// `low`, `medium`, `high`, `xhigh` or `max`.
    #[serde(borrow, default, deserialize_with = "text")]
    pub effort: Option<Cow<'a, str>>,
    /// The format of the answer.
    #[serde(borrow, default)]
    pub format: Option<OutputFormat<'a>>,
}

/// The format of the answer.
#[derive(Debug, serde::Deserialize)]
pub struct OutputFormat<'a> {
    /// `json_schema`.
    #[serde(borrow, rename = "type", default, deserialize_with = "text")]
    pub kind: Option<Cow<'a, str>>,
    /// The schema, as written.
    #[serde(borrow, default)]
    pub schema: Option<Raw<'a>>,
}

/// Who asks.
#[derive(Debug, serde::Deserialize)]
pub struct Metadata<'a> {
    /// The end user, as the caller names them.
    #[serde(borrow, default, deserialize_with = "text")]
    pub user_id: Option<Cow<'a, str>>,
}

/// An object of which only the type counts.
#[derive(Debug, serde::Deserialize)]
pub struct Kind<'a> {
    /// The type.
    #[serde(borrow, rename = "type", default, deserialize_with = "text")]
    pub kind: Option<Cow<'a, str>>,
}

/// A body that is no Messages request: which field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct ParseError {
    /// The field's path, as `messages.3.content.0.type`; empty for the whole body.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

// === impl MessagesRequest ===

impl<'a> MessagesRequest<'a> {
    /// Reads a body. An error names the field.
    pub fn parse(body: &'a [u8]) -> Result<MessagesRequest<'a>, ParseError> {
        // Derived structs take lists, too, as their fields in order.
        if body.trim_ascii_start().first() == Some(&b'[') {
            let message = "the request body must be a JSON object".to_owned();
            return Err(ParseError { path: String::new(), message });
        }
        serde_json::from_slice(body).map_err(|error| locate(body, &error))
    }

    /// Reads a body of which it is known that it is JSON, since [`head::scan`](crate::dialect::head::scan) took it or
    /// we wrote it: that costs a fraction. From other text nonsense may be read.
    pub fn parse_known(body: &'a [u8]) -> Result<MessagesRequest<'a>, ParseError> {
        let is_object = body.trim_ascii_start().first() == Some(&b'{');
        let text = std::str::from_utf8(body).ok().filter(|_| is_object);
        match text.and_then(|text| json::from_known(text).ok()) {
            Some(request) => Ok(request),
            None => MessagesRequest::parse(body), // says what is wrong
        }
    }
}

// === impl Content ===

impl<'a> Content<'a> {
    /// The blocks; none for a string.
    pub fn blocks(&self) -> &[Block<'a>] {
        match self {
            Content::Blocks(blocks) => blocks,
            Content::None | Content::Text(_) => &[],
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Content<'a>, D::Error> {
        struct ContentVisitor<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for ContentVisitor<'a> {
            type Value = Content<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of content blocks")
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Content<'a>, D::Error> {
                inner.deserialize_any(self)
            }
            fn visit_borrowed_bytes<E: Error>(self, written: &'de [u8]) -> Result<Content<'a>, E> {
                Text::of_bytes(written).map(Content::Text)
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Content<'a>, E> {
                Ok(Content::Text(Text::from(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Content<'a>, E> {
                Ok(Content::Text(Text::from(text.to_owned())))
            }
            fn visit_string<E: Error>(self, text: String) -> Result<Content<'a>, E> {
                Ok(Content::Text(Text::from(text)))
            }
            fn visit_unit<E: Error>(self) -> Result<Content<'a>, E> {
                Ok(Content::None)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Content<'a>, A::Error> {
                let mut blocks = Vec::new();
                while let Some(block) = list.next_element()? {
                    blocks.push(block);
                }
                Ok(Content::Blocks(blocks))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Content<'a>, A::Error> {
                let block = Block::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Content::Blocks(vec![block]))
            }
        }

        json::deserialize_written(deserializer, ContentVisitor(PhantomData))
    }
}

// === impl Block ===

impl Block<'_> {
    /// The block's type; empty if it has none.
    pub fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn unknown_fields_and_blocks_are_no_errors() {
        let body = br#"{"model":"m","new_field":{"a":[1]},"messages":[{"role":"user","content":[
            {"type":"hologram","text":{"x":1},"source":"s","content":{"type":"y"},"id":7,"depth":[[]]},
            {"type":"text","text":"hi","cache_control":{"type":"ephemeral"}}]}]}"#;
        let request = MessagesRequest::parse(body).unwrap();
        let blocks = request.messages[0].content.blocks();
        assert_eq!(blocks[0].kind(), "hologram");
        assert!(blocks[0].text.is_none());
        assert!(
            matches!(blocks[1].text.clone().map(Text::into_cow), Some(Cow::Borrowed("hi"))),
            "plain text is borrowed"
        );
        assert_eq!(blocks[1].cache_control.unwrap().get(), r#"{"type":"ephemeral"}"#);
    }

    #[test]
    fn inputs_and_schemas_keep_their_bytes() {
        let body = br#"{"model":"m","tools":[{"name":"t","input_schema":{"b":1, "a":2}}],"messages":[
            {"role":"assistant","content":[{"type":"tool_use","id":"i","name":"t","input":{"z": 1,"a":[ ]}}]}]}"#;
        let request = MessagesRequest::parse(body).unwrap();
        assert_eq!(request.tools[0].input_schema.unwrap().get(), r#"{"b":1, "a":2}"#);
        assert_eq!(request.messages[0].content.blocks()[0].input.unwrap().get(), r#"{"z": 1,"a":[ ]}"#);
    }

    #[test]
    fn an_error_names_its_field() {
        let error = |body: &str| MessagesRequest::parse(body.as_bytes()).unwrap_err();
        let wrong =
            error(r#"{"model":"m","messages":[{"role":"user","content":"a"},{"role":"user","content":5}]}"#);
        assert_eq!(wrong.path, "messages.1.content");
        assert!(wrong.to_string().starts_with("messages.1.content: invalid type"), "{wrong}");
        let wrong = error(
            "{\"model\":\"m\",\n \"messages\":[{\"role\":\"user\",\n\"content\":[{\"type\":\"text\"},7]}]}",
        );
        assert_eq!(wrong.path, "messages.0.content.1");
        let wrong = error(r#"{"model":7,"messages":[]}"#);
        assert_eq!(wrong.path, "model");
        let wrong = error(r#"{"model":"m"}"#);
        assert!(wrong.to_string().contains("missing field `messages`"), "{wrong}");
        assert!(error(r#"["m"]"#).to_string().contains("must be a JSON object"));
        let wrong = error(r#"{"model":"m","messages":["#);
        assert!(wrong.to_string().contains("not valid JSON"), "{wrong}");
    }
}
