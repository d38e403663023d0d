//! Images and files in a caller's content, as blocks of Messages.
//!
//! Sources: OpenAI API reference, "Images and vision" and "File inputs" (data URLs); Anthropic documentation,
//! "Vision" (formats) and "PDF support".

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::types::Part;
use crate::dialect::anthropic::compose::{Destination, Invalid};
use crate::dialect::openai_chat::write::Json;

/// The formats that Anthropic takes.
const IMAGES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

/// A data URL: media type and base64. `None` if it is none.
fn data_uri(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("data:")?;
    let (kind, data) = rest.split_once(',')?;
    let kind = kind.strip_suffix(";base64")?;
    Some((kind.split(';').next().unwrap_or(kind), data))
}

/// The block of an image or a file, as JSON.
pub(crate) fn block(part: &Part<'_>, path: &str, to: &Destination<'_>) -> Result<String, Invalid> {
    if let Some(url) = part.image_url.as_ref().and_then(|address| address.0.as_deref()) {
        return image(url, path, to);
    }
    let file = part.file.as_ref();
    let data = part.file_data.as_deref().or_else(|| file?.file_data.as_deref());
    let name = part.filename.as_deref().or_else(|| file?.filename.as_deref());
    if let Some(data) = data {
        return document(data, name, path);
    }
    if let Some(url) = part.file_url.as_deref() {
        return Ok(block_of("document", |json| {
            json.key("type").string("url");
            json.key("url").string(url);
        }));
    }
    if part.file_id.is_some() || file.is_some_and(|file| file.file_id.is_some()) {
        return Err(Invalid::new(
            path,
            "files that are stored at OpenAI can't be read from elsewhere; send the data",
        ));
    }
    Err(Invalid::new(path, "an image needs image_url, a file needs file_data"))
}

/// An image block.
fn image(url: &str, path: &str, to: &Destination<'_>) -> Result<String, Invalid> {
    let Some((kind, data)) = data_uri(url) else {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(Invalid::new(path, "image_url must be an http(s) address or a base64 data URL"));
        }
        return Ok(block_of("image", |json| {
            json.key("type").string("url");
            json.key("url").string(url);
        }));
    };
    let kind = if kind == "image/jpg" { "image/jpeg" } else { kind };
    if to.is_anthropic && !IMAGES.contains(&kind) {
        return Err(Invalid::new(
            path,
            format!("images must be one of {}; this is {kind}", IMAGES.join(", ")),
        ));
    }
    Ok(block_of("image", |json| {
        json.key("type").string("base64");
        json.key("media_type").string(kind);
        json.key("data").string(data);
    }))
}

/// A document block: a PDF, or text.
fn document(data: &str, name: Option<&str>, path: &str) -> Result<String, Invalid> {
    let (kind, data) = data_uri(data).unwrap_or(("application/pdf", data));
    let source: (&str, &str, Cow<'_, str>) = if kind == "application/pdf" {
        ("base64", kind, data.into())
    } else if kind.starts_with("text/") || kind == "application/json" {
        let bytes = STANDARD.decode(data).map_err(|_| Invalid::new(path, "file_data is no base64"))?;
        ("text", "text/plain", String::from_utf8_lossy(&bytes).into_owned().into())
    } else {
        return Err(Invalid::new(path, format!("files must be PDF or text; this is {kind}")));
    };
    let mut json = Json::default();
    json.object(|json| {
        json.key("type").string("document");
        json.key("source").object(|json| {
            json.key("type").string(source.0);
            json.key("media_type").string(source.1);
            json.key("data").string(&source.2);
        });
        if let Some(name) = name {
            json.key("title").string(name);
        }
    });
    Ok(json.finish_string())
}

fn block_of(kind: &str, source: impl FnOnce(&mut Json)) -> String {
    let mut json = Json::default();
    json.object(|json| {
        json.key("type").string(kind);
        json.key("source").object(source);
    });
    json.finish_string()
}
