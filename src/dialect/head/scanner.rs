//! The walk through a Messages body: which field means what, and what counts how much.

use std::ops::Range;

use super::{BodyError, Field};
use crate::dialect::Dialect;
use crate::dialect::json::lexer::{Kind, Lexer, MAX_DEPTH, Malformed, Result, Text};
use crate::dialect::tokens::{self, Tally};

/// What the walk finds.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The span of the model's string, quotes included, and its text.
    pub(super) model: Field<(Range<usize>, String)>,
    pub(super) messages: Field<()>,
    pub(super) stream: Field<bool>,
    pub(super) max_tokens: Field<u64>,
    pub(super) tools: Field<Tools>,
    pub(super) thinking: bool,
    pub(super) user_id: Option<String>,
    /// OpenAI's name for a conversation whose beginning is cached.
    pub(super) cache_key: Option<String>,
    /// A wish for a web search that is no tool.
    pub(super) searches: bool,
    /// What the messages hold.
    pub(super) content: Content,
    /// What the system prompt holds.
    system: Content,
    /// Remote MCP servers.
    mcp_servers: u64,
    tools_tally: Tally,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tools {
    pub(super) count: u32,
    pub(super) web_search: bool,
}

/// What a list of messages or blocks holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Content {
    pub(super) images: bool,
    pub(super) documents: bool,
    /// Whether a document is to be cited.
    cites: bool,
    tally: Tally,
}

/// What the `source` of an image or document says.
#[derive(Debug, Default)]
struct Media {
    /// Base64, or plain text.
    data: Option<Text>,
    media_type: Option<Text>,
}

struct Walker<'a> {
    lexer: Lexer<'a>,
    /// The tokens counted since [`Walker::take_tally`].
    tally: Tally,
    found: Found,
    dialect: Dialect,
}

/// Walks through a body in the dialect of its caller. (Gemini is no caller's: it counts as Messages.)
pub(super) fn scan(body: &[u8], dialect: Dialect) -> std::result::Result<Found, BodyError> {
    if let Err(error) = std::str::from_utf8(body) {
        return Err(BodyError::NotJson(format!("invalid UTF-8 at byte {}", error.valid_up_to())));
    }
    let mut walker =
        Walker { lexer: Lexer::new(body), tally: Tally::default(), found: Found::default(), dialect };
    if walker.lexer.kind()? != Kind::Object {
        walker.lexer.skip(0)?;
        walker.lexer.end()?;
        return Err(BodyError::NotAnObject);
    }
    match dialect {
        Dialect::OpenAiChat | Dialect::OpenAiResponses => walker.object(0, Walker::openai)?,
        Dialect::Anthropic | Dialect::Gemini => walker.object(0, Walker::top)?,
    }
    walker.lexer.end()?;
    Ok(walker.found)
}

// === impl Found ===

impl Found {
    /// What the request weighs.
    pub(super) fn weight(&self) -> tokens::Weight {
        let cites = if self.content.cites { tokens::CITATIONS } else { 0 };
        let vendor = cites + self.mcp_servers * tokens::MCP_SERVER;
        let vendor = tokens::Weight { vendor, ..Default::default() };
        let said = vendor.and(self.system.tally.weight()).and(self.content.tally.weight());
        said.and(self.tools_tally.weight().of_tools())
    }
}

// === impl Walker ===

impl<'a> Walker<'a> {
    /// Takes an object; `member` takes each value. `depth` containers are open around the object.
    fn object(
        &mut self,
        depth: usize,
        mut member: impl FnMut(&mut Self, &[u8], usize) -> Result<()>,
    ) -> Result<()> {
        if depth >= MAX_DEPTH {
            return Err(Malformed::TooDeep);
        }
        if !self.lexer.eat(b'{') {
            return self.lexer.error("expected an object");
        }
        if self.lexer.eat(b'}') {
            return Ok(());
        }
        loop {
            let key = self.lexer.key()?;
            let bytes = self.lexer.bytes;
            if key.escaped {
                let text = self.lexer.text(&key).unwrap_or_default().into_owned();
                member(self, text.as_bytes(), depth + 1)?;
            } else {
                member(self, bytes.get(key.inside).unwrap_or_default(), depth + 1)?;
            }
            if self.lexer.eat(b',') {
                continue;
            }
            if self.lexer.eat(b'}') {
                return Ok(());
            }
            return self.lexer.error("expected `,` or `}`");
        }
    }

    /// Takes an array; `element` takes each value.
    fn array(&mut self, depth: usize, mut element: impl FnMut(&mut Self, usize) -> Result<()>) -> Result<()> {
        if depth >= MAX_DEPTH {
            return Err(Malformed::TooDeep);
        }
        if !self.lexer.eat(b'[') {
            return self.lexer.error("expected an array");
        }
        if self.lexer.eat(b']') {
            return Ok(());
        }
        loop {
            element(self, depth + 1)?;
            if self.lexer.eat(b',') {
                continue;
            }
            if self.lexer.eat(b']') {
                return Ok(());
            }
            return self.lexer.error("expected `,` or `]`");
        }
    }

    /// Takes a value that should be a string; `None` if it is something else.
    fn string(&mut self, depth: usize) -> Result<Option<Text>> {
        if self.lexer.kind()? == Kind::String {
            return self.lexer.string().map(Some);
        }
        self.lexer.skip(depth)?;
        Ok(None)
    }

    /// Gives what was counted since the last time.
    fn take_tally(&mut self) -> Tally {
        self.tally.numbered(std::mem::take(&mut self.lexer.numbered));
        std::mem::take(&mut self.tally)
    }

    /// Takes a string, and counts its tokens.
    fn counted_string(&mut self) -> Result<()> {
        let text = self.lexer.string()?;
        self.tally.text(self.lexer.bytes.get(text.inside).unwrap_or_default());
        Ok(())
    }

    /// Takes any value, and counts the tokens of its JSON text.
    fn counted(&mut self, depth: usize) -> Result<()> {
        self.lexer.peek();
        let start = self.lexer.at;
        self.lexer.skip(depth)?;
        self.tally.text(self.lexer.bytes.get(start..self.lexer.at).unwrap_or_default());
        Ok(())
    }

    fn top(&mut self, key: &[u8], depth: usize) -> Result<()> {
        match key {
            b"model" => {
                self.lexer.peek();
                let start = self.lexer.at;
                self.found.model = match self.string(depth)? {
                    Some(text) => match self.lexer.text(&text) {
                        Some(model) => Field::Is((start..self.lexer.at, model.into_owned())),
                        None => Field::Wrong,
                    },
                    None => Field::Wrong,
                };
            }
            b"messages" => {
                self.found.content = Content::default();
                self.found.messages = if self.lexer.kind()? == Kind::Array {
                    self.take_tally();
                    let mut content = Content::default();
                    self.array(depth, |walker, depth| walker.message(depth, &mut content))?;
                    content.tally = self.take_tally();
                    self.found.content = content;
                    Field::Is(())
                } else {
                    self.lexer.skip(depth)?;
                    Field::Wrong
                };
            }
            b"system" => {
                self.take_tally();
                let mut content = Content::default();
                let is_there = self.lexer.kind()? != Kind::Null;
                self.content(depth, &mut content)?;
                if is_there {
                    self.tally.message();
                }
                content.tally = self.take_tally();
                self.found.system = content;
            }
            b"tools" => {
                self.take_tally();
                self.found.tools = match self.lexer.kind()? {
                    Kind::Array => {
                        let mut tools = Tools::default();
                        self.array(depth, |walker, depth| walker.tool(depth, &mut tools))?;
                        Field::Is(tools)
                    }
                    kind => {
                        self.lexer.skip(depth)?;
                        if kind == Kind::Null { Field::Absent } else { Field::Wrong }
                    }
                };
                self.found.tools_tally = self.take_tally();
            }
            b"stream" => {
                self.found.stream = match self.lexer.kind()? {
                    Kind::True => Field::Is(true),
                    Kind::False => Field::Is(false),
                    Kind::Null => Field::Absent,
                    _ => Field::Wrong,
                };
                self.lexer.skip(depth)?;
            }
            b"max_tokens" => {
                let kind = self.lexer.kind()?;
                let start = self.lexer.at;
                self.lexer.skip(depth)?;
                let text = self.lexer.bytes.get(start..self.lexer.at).unwrap_or_default();
                self.found.max_tokens = match kind {
                    Kind::Null => Field::Absent,
                    Kind::Number => whole_number(text).map_or(Field::Wrong, Field::Is),
                    _ => Field::Wrong,
                };
            }
            b"thinking" => {
                self.found.thinking = false;
                if self.lexer.kind()? != Kind::Object {
                    return self.lexer.skip(depth);
                }
                self.object(depth, |walker, key, depth| {
                    if key != b"type" {
                        return walker.lexer.skip(depth);
                    }
                    let kind = walker.string(depth)?;
                    walker.found.thinking =
                        walker.is_one_of(kind.as_ref(), |kind| matches!(kind, "enabled" | "adaptive"));
                    Ok(())
                })?;
            }
            b"mcp_servers" => {
                self.found.mcp_servers = 0;
                if self.lexer.kind()? != Kind::Array {
                    return self.lexer.skip(depth);
                }
                self.array(depth, |walker, depth| {
                    walker.found.mcp_servers += 1;
                    walker.lexer.skip(depth)
                })?;
            }
            b"metadata" => {
                self.found.user_id = None;
                if self.lexer.kind()? != Kind::Object {
                    return self.lexer.skip(depth);
                }
                self.object(depth, |walker, key, depth| {
                    if key != b"user_id" {
                        return walker.lexer.skip(depth);
                    }
                    let text = walker.string(depth)?;
                    walker.found.user_id =
                        text.and_then(|text| walker.lexer.text(&text)).map(|text| text.into_owned());
                    Ok(())
                })?;
            }
            _ => self.lexer.skip(depth)?,
        }
        Ok(())
    }

    /// A member of a Chat or Responses body, by the member of a Messages body that says the same.
    fn openai(&mut self, key: &[u8], depth: usize) -> Result<()> {
        let is_chat = self.dialect == Dialect::OpenAiChat;
        match key {
            b"model" | b"tools" | b"stream" => self.top(key, depth),
            b"messages" if is_chat => self.top(key, depth),
            b"input" if !is_chat && self.lexer.kind()? == Kind::String => {
                self.take_tally();
                let mut content = Content::default();
                self.content(depth, &mut content)?;
                self.tally.message();
                content.tally = self.take_tally();
                self.found.content = content;
                self.found.messages = Field::Is(());
                Ok(())
            }
            b"input" if !is_chat => self.top(b"messages", depth),
            b"instructions" if !is_chat => self.top(b"system", depth),
            b"max_tokens" | b"max_completion_tokens" if is_chat => self.top(b"max_tokens", depth),
            b"max_output_tokens" if !is_chat => self.top(b"max_tokens", depth),
            b"reasoning_effort" if is_chat => {
                let level = self.string(depth)?;
                self.found.thinking |=
                    level.is_some() && !self.is_one_of(level.as_ref(), |level| level == "none");
                Ok(())
            }
            b"reasoning" => {
                self.found.thinking |= self.lexer.kind()? == Kind::Object;
                self.lexer.skip(depth)
            }
            b"web_search_options" if is_chat => {
                self.found.searches |= self.lexer.kind()? == Kind::Object;
                self.lexer.skip(depth)
            }
            b"prompt_cache_key" => {
                let text = self.string(depth)?;
                self.found.cache_key =
                    text.and_then(|text| self.lexer.text(&text)).map(|text| text.into_owned());
                Ok(())
            }
            _ => self.lexer.skip(depth),
        }
    }

    fn is_one_of(&self, text: Option<&Text>, is: impl Fn(&str) -> bool) -> bool {
        text.and_then(|text| self.lexer.text(text)).is_some_and(|text| is(&text))
    }

    fn tool(&mut self, depth: usize, tools: &mut Tools) -> Result<()> {
        tools.count = tools.count.saturating_add(1);
        self.tally.tool();
        if self.lexer.kind()? != Kind::Object {
            return self.counted(depth);
        }
        let mut web_search = false;
        self.object(depth, |walker, key, depth| match key {
            b"type" => {
                let kind = walker.string(depth)?;
                web_search = walker.is_one_of(kind.as_ref(), |kind| kind.starts_with("web_search"));
                Ok(())
            }
            b"cache_control" => walker.lexer.skip(depth),
            _ => walker.counted(depth),
        })?;
        if web_search {
            self.tally.vendor(tokens::WEB_SEARCH);
        }
        tools.web_search |= web_search;
        Ok(())
    }

    fn message(&mut self, depth: usize, content: &mut Content) -> Result<()> {
        self.tally.message();
        if self.lexer.kind()? != Kind::Object {
            return self.counted(depth);
        }
        self.object(depth, |walker, key, depth| match key {
            b"content" => walker.content(depth, content),
            // Of OpenAI's dialects; nothing in Messages is called so.
            b"output" => walker.content(depth, content),
            b"tool_calls" | b"arguments" | b"name" | b"reasoning_content" | b"summary" => {
                walker.counted(depth)
            }
            _ => walker.lexer.skip(depth),
        })
    }

    /// Content: a string, a list of blocks, or (in results of server tools) one block.
    fn content(&mut self, depth: usize, content: &mut Content) -> Result<()> {
        match self.lexer.kind()? {
            Kind::String => self.counted_string(),
            Kind::Array => self.array(depth, |walker, depth| walker.block(depth, content)),
            Kind::Object => self.block(depth, content),
            kind => self.lexer.scalar(kind),
        }
    }

    fn block(&mut self, depth: usize, content: &mut Content) -> Result<()> {
        if self.lexer.kind()? != Kind::Object {
            return self.counted(depth);
        }
        let mut kind = None;
        let mut media = Media::default();
        self.object(depth, |walker, key, depth| match key {
            b"type" => {
                kind = walker.string(depth)?;
                Ok(())
            }
            b"content" => walker.content(depth, content),
            b"source" => walker.source(depth, content, &mut media),
            // Opaque, and mostly not part of the prompt.
            b"signature" | b"data" | b"cache_control" | b"id" | b"tool_use_id" => walker.lexer.skip(depth),
            b"citations" => {
                // Of a document a wish, of a text what backs it.
                content.cites |= walker.lexer.kind()? == Kind::Object;
                walker.lexer.skip(depth)
            }
            b"encrypted_content" => {
                if let Some(text) = walker.string(depth)? {
                    walker.tally.media(text.inside.len() as u64 / 6);
                }
                Ok(())
            }
            b"image_url" | b"file" | b"file_data" | b"file_id" | b"input_audio" => walker.lexer.skip(depth),
            _ => walker.counted(depth),
        })?;
        // Looked at last: `type` may stand anywhere in the block.
        match kind.as_ref().and_then(|kind| self.lexer.text(kind)).as_deref() {
            Some("image") => {
                content.images = true;
                let data = media.data.and_then(|data| self.lexer.bytes.get(data.inside));
                let tokens = data.and_then(image_tokens).unwrap_or(tokens::IMAGE);
                self.tally.media(tokens);
            }
            Some("document") => {
                content.documents = true;
                self.document(&media);
            }
            Some("image_url" | "input_image") => {
                content.images = true;
                self.tally.media(tokens::IMAGE);
            }
            Some("file" | "input_file") => {
                content.documents = true;
                self.tally.media(tokens::PDF_PAGE);
            }
            Some("tool_use" | "tool_result") => self.tally.call(),
            _ => {}
        }
        Ok(())
    }

    /// The `source` of an image, a document (an object), or a search result (a string).
    fn source(&mut self, depth: usize, content: &mut Content, media: &mut Media) -> Result<()> {
        if self.lexer.kind()? != Kind::Object {
            return self.counted(depth);
        }
        self.object(depth, |walker, key, depth| match key {
            b"data" => {
                media.data = walker.string(depth)?;
                Ok(())
            }
            b"media_type" => {
                media.media_type = walker.string(depth)?;
                Ok(())
            }
            b"content" => walker.content(depth, content),
            _ => walker.lexer.skip(depth),
        })
    }

    fn document(&mut self, media: &Media) {
        let Some(data) = &media.data else { return };
        if self.is_one_of(media.media_type.as_ref(), |kind| kind.starts_with("text/")) {
            self.tally.text(self.lexer.bytes.get(data.inside.clone()).unwrap_or_default());
        } else {
            self.tally.media(tokens::pdf(data.inside.len() as u64 / 4 * 3));
        }
    }
}

/// A whole number that isn't negative, also written as `1024.0` or `1e3`.
fn whole_number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(number) = text.parse::<u64>() {
        return Some(number);
    }
    let number = text.parse::<f64>().ok()?;
    (number >= 0.0 && number.fract() == 0.0 && number < u64::MAX as f64).then_some(number as u64)
}

/// What an image costs, if its first bytes tell its size (PNG, GIF).
fn image_tokens(base64: &[u8]) -> Option<u64> {
    use base64::Engine;

    let head = base64::engine::general_purpose::STANDARD.decode(base64.get(..32)?).ok()?;
    let (width, height) = if head.starts_with(b"\x89PNG\r\n\x1a\n") {
        let size = head.get(16..24)?;
        let (width, height) = size.split_at_checked(4)?;
        (u32::from_be_bytes(width.try_into().ok()?), u32::from_be_bytes(height.try_into().ok()?))
    } else if head.starts_with(b"GIF8") {
        let word = |at: usize| Some(u32::from(u16::from_le_bytes([*head.get(at)?, *head.get(at + 1)?])));
        (word(6)?, word(8)?)
    } else {
        return None;
    };
    Some(tokens::image(u64::from(width), u64::from(height)))
}
