//! Content blocks as text, images and files.

use super::{RequestError, Target};
use crate::dialect::anthropic::types::{Block, Content, Source, SourceObject};
use crate::dialect::json::{Raw, Text};
use crate::dialect::openai_chat::write::Json;

/// What was left out and what was mended; each is named once.
#[derive(Debug, Default)]
pub(in crate::dialect) struct Notes {
    pub(in crate::dialect) dropped: Vec<&'static str>,
    pub(in crate::dialect) healed: Vec<&'static str>,
}

/// A piece of a user's message.
#[derive(Debug)]
pub(in crate::dialect) enum Piece<'a> {
    /// Text.
    Text { text: Text<'a>, cache: Option<Raw<'a>> },
    /// An image.
    Image { source: &'a SourceObject<'a>, cache: Option<Raw<'a>> },
    /// A PDF.
    File { name: &'a str, source: &'a SourceObject<'a>, cache: Option<Raw<'a>> },
    /// A system message in its place.
    System(Text<'a>),
}

/// What a tool gave back: its text, and what can't be text.
#[derive(Debug, Default)]
pub(in crate::dialect) struct ToolOutput<'a> {
    pub(in crate::dialect) text: Text<'a>,
    pub(in crate::dialect) attached: Vec<Piece<'a>>,
}

// === impl Notes ===

impl Notes {
    pub(in crate::dialect) fn drop(&mut self, what: &'static str) {
        if !self.dropped.contains(&what) {
            self.dropped.push(what);
        }
    }

    pub(in crate::dialect) fn heal(&mut self, what: &'static str) {
        if !self.healed.contains(&what) {
            self.healed.push(what);
        }
    }
}

// === impl Piece ===

impl<'a> Piece<'a> {
    pub(in crate::dialect) fn text(text: impl Into<Text<'a>>) -> Piece<'a> {
        Piece::Text { text: text.into(), cache: None }
    }

    pub(in crate::dialect) fn cache(&self) -> Option<Raw<'a>> {
        match self {
            Piece::Text { cache, .. } | Piece::Image { cache, .. } | Piece::File { cache, .. } => *cache,
            Piece::System(_) => None,
        }
    }

    /// Writes the piece as a content part.
    pub(in crate::dialect) fn write(&self, json: &mut Json, marker: Option<Raw<'_>>) {
        json.object(|json| {
            match self {
                Piece::Text { text, .. } | Piece::System(text) => {
                    json.key("type").string("text");
                    json.key("text").text(text);
                }
                Piece::Image { source, .. } => {
                    json.key("type").string("image_url");
                    json.key("image_url").object(|json| data_url(json.key("url"), source, "image/png"));
                }
                Piece::File { name, source, .. } => {
                    json.key("type").string("file");
                    json.key("file").object(|json| {
                        json.key("filename").string(name);
                        data_url(json.key("file_data"), source, "application/pdf");
                    });
                }
            }
            if let Some(marker) = marker {
                json.key("cache_control").raw(marker);
            }
        });
    }
}

pub(in crate::dialect) fn data_url(json: &mut Json, source: &SourceObject<'_>, media_type: &str) {
    match (&source.url, &source.data) {
        (Some(url), None) => json.string(url),
        (_, data) => json.pieces(&[
            "data:",
            source.media_type.as_deref().unwrap_or(media_type),
            ";base64,",
            data.as_deref().unwrap_or_default(),
        ]),
    }
}

/// An image block. `None` if there is nothing in it.
pub(in crate::dialect) fn image<'a>(
    block: &'a Block<'a>,
    path: &dyn Fn() -> String,
    target: &Target<'_>,
    notes: &mut Notes,
) -> Result<Option<Piece<'a>>, RequestError> {
    let Source::Object(source) = &block.source else {
        return Err(RequestError::Field {
            path: format!("{}.source", path()),
            message: "Field required".to_owned(),
        });
    };
    if !target.takes_images() {
        notes.drop("image");
        return Ok(Some(Piece::text("[image omitted: the selected model does not accept images]")));
    }
    if source.file_id.is_some() {
        return Err(RequestError::OnlyAnthropic {
            path: format!("{}.source", path()),
            feature: "a file by its id",
        });
    }
    if source.data.is_none() && source.url.is_none() {
        return Ok(None);
    }
    if let (Some(url), None, false) = (&source.url, &source.data, target.fetches_images()) {
        notes.drop("image url");
        let text = format!("[image omitted: the selected server does not fetch images from the web: {url}]");
        return Ok(Some(Piece::Text { text: text.into(), cache: block.cache_control }));
    }
    Ok(Some(Piece::Image { source, cache: block.cache_control }))
}

/// A document block: its text, or a file.
pub(in crate::dialect) fn document<'a>(
    block: &'a Block<'a>,
    path: &dyn Fn() -> String,
    target: &Target<'_>,
    notes: &mut Notes,
) -> Result<Option<Piece<'a>>, RequestError> {
    let Source::Object(source) = &block.source else { return Ok(None) };
    if source.file_id.is_some() {
        return Err(RequestError::OnlyAnthropic {
            path: format!("{}.source", path()),
            feature: "a file by its id",
        });
    }
    let title = block.title.as_deref();
    let body = match (source.kind.as_deref(), &source.data) {
        (Some("text"), Some(data)) => Text::from(data.as_ref()),
        (Some("content"), _) => texts(&source.content, "\n"),
        _ if target.takes_documents() => {
            let name = title.unwrap_or("document.pdf");
            return Ok(Some(Piece::File { name, source, cache: block.cache_control }));
        }
        _ => {
            notes.drop("document");
            return Ok(Some(Piece::text("[document omitted: the selected model does not accept PDF files]")));
        }
    };
    let text = match title {
        Some(title) => format!("<document title=\"{}\">\n{body}\n</document>", title.replace('"', "'")),
        None => format!("<document>\n{body}\n</document>"),
    };
    Ok(Some(Piece::Text { text: text.into(), cache: block.cache_control }))
}

/// The text of a content, its blocks joined.
pub(in crate::dialect) fn texts<'a>(content: &'a Content<'a>, separator: &str) -> Text<'a> {
    match content {
        Content::None => Text::default(),
        Content::Text(text) => text.borrowed(),
        Content::Blocks(blocks) => match blocks.as_slice() {
            [Block { text: Some(text), .. }] => text.borrowed(),
            blocks => {
                let all: Vec<&str> = blocks.iter().filter_map(|block| block.text.as_deref()).collect();
                Text::from(all.join(separator))
            }
        },
    }
}

/// What a `search_result` block says, as text.
fn search_result(block: &Block<'_>) -> String {
    let source = match &block.source {
        Source::Text(source) => source.as_ref(),
        Source::None | Source::Object(_) => "",
    };
    format!("{}\n{source}\n{}", block.title.as_deref().unwrap_or_default(), texts(&block.content, "\n"))
}

/// What a tool gave back.
pub(in crate::dialect) fn tool_output<'a>(
    result: &'a Block<'a>,
    path: &dyn Fn() -> String,
    target: &Target<'_>,
    notes: &mut Notes,
) -> Result<ToolOutput<'a>, RequestError> {
    let mut output = ToolOutput::default();
    match &result.content {
        Content::None => {}
        Content::Text(text) => output.text = text.borrowed(),
        Content::Blocks(blocks) => {
            let mut said: Vec<Text<'a>> = Vec::with_capacity(blocks.len());
            for (nth, block) in blocks.iter().enumerate() {
                let path = || format!("{}.content.{nth}", path());
                let piece = match block.kind() {
                    "image" => image(block, &path, target, notes)?,
                    "document" => document(block, &path, target, notes)?,
                    "tool_reference" => {
                        let name = block.tool_name.as_deref().unwrap_or_default();
                        Some(Piece::text(format!("Tool {name} is now available.")))
                    }
                    "search_result" => Some(Piece::text(search_result(block))),
                    _ => block.text.as_ref().map(|text| Piece::text(text.borrowed())),
                };
                match piece {
                    Some(Piece::Text { text, .. } | Piece::System(text)) if !text.is_empty() => {
                        said.push(text)
                    }
                    Some(attached @ (Piece::Image { .. } | Piece::File { .. })) => {
                        output.attached.push(attached)
                    }
                    Some(Piece::Text { .. } | Piece::System(_)) | None => {}
                }
            }
            output.text = match said.len() {
                0 | 1 => said.pop().unwrap_or_default(),
                _ => Text::from(said.iter().map(|text| &**text).collect::<Vec<_>>().join("\n")),
            };
        }
    }
    if result.is_error {
        let text = output.text.trim_start();
        let says_so =
            text.starts_with('<') || text.get(..5).is_some_and(|begin| begin.eq_ignore_ascii_case("error"));
        if !says_so {
            output.text = Text::from(format!("Error: {}", output.text));
        }
    }
    Ok(output)
}

/// A server tool's call or result in the history, as a line of text. Encrypted content stays out.
pub(in crate::dialect) fn server_tool(block: &Block<'_>) -> Option<String> {
    let kind = block.kind();
    let name = block.name.as_deref().unwrap_or("tool");
    if kind == "server_tool_use" || kind == "mcp_tool_use" {
        let input = block.input.map_or("{}", Raw::get);
        #[derive(serde::Deserialize)]
        struct Query {
            query: String,
        }
        return Some(match (serde_json::from_str::<Query>(input), &block.server_name) {
            (Ok(Query { query }), None) => format!("[{name}: {query}]"),
            (_, None) => format!("[{name} {input}]"),
            (_, Some(server)) => format!("[mcp {server}/{name} {input}]"),
        });
    }
    if kind == "mcp_tool_result" {
        return Some(format!("[result: {}]", texts(&block.content, "\n")));
    }
    if !kind.ends_with("_tool_result") {
        return None;
    }
    let mut lines = String::new();
    for result in block.content.blocks() {
        let title = result.title.as_deref().or(result.tool_name.as_deref());
        let line = match (title, result.url.as_deref(), result.text.as_deref(), result.error_code.as_deref())
        {
            (Some(title), Some(url), ..) => format!("- {title} ({url})"),
            (Some(title), None, ..) => format!("- {title}"),
            (None, _, Some(text), _) => text.to_owned(),
            (None, _, None, Some(code)) => format!("[error: {code}]"),
            (None, Some(url), None, None) => format!("- {url}"),
            (None, None, None, None) => continue,
        };
        if !lines.is_empty() {
            lines.push('\n');
        }
        lines.push_str(&line);
    }
    (!lines.is_empty()).then_some(lines)
}
