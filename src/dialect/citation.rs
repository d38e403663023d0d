//! What backs a text: pages on the web, or places in the caller's documents.
//!
//! A citation is kept as Anthropic writes it, since that dialect has most kinds; OpenAI's dialects can only name
//! pages. Citations are worth nothing without their text and are never a fault: what can't be read is left out.
//!
//! Sources: Anthropic documentation, "Citations" and "Web search tool"; OpenAI API reference, `annotations` of Chat
//! and Responses; OpenRouter's guide "Web search"; Perplexity's and Google's references for their lists of sources.

use crate::dialect::json::Raw;
use std::borrow::Cow;

use serde::Deserialize;

use super::anthropic::types::text;
use super::openai_chat::types::Number;
use super::openai_chat::write::Json;

/// One source of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Citation {
    /// As Anthropic writes it: the JSON text of one object.
    pub json: String,
    /// Which characters of the text it backs, from and to; `None`: all of them.
    pub span: Option<(u64, u64)>,
}

/// A page that a citation names.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// Its address.
    pub url: String,
    /// Its title; the address where it has none.
    pub title: String,
    /// What it says there; may be empty.
    pub excerpt: String,
}

/// The citations of an answer that wait for the end of their text. Bounded: an answer with more sources than anyone
/// reads loses the last ones.
#[derive(Debug, Default)]
pub struct Citations {
    list: Vec<Citation>,
    bytes: usize,
}

/// One of OpenAI's annotations: a page, and the text that it backs. Chat has the page's fields one level deeper.
#[derive(Default, Deserialize)]
struct Annotation<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "text")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    url_citation: Option<Raw<'a>>,
    #[serde(borrow, default, deserialize_with = "text")]
    url: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    title: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    content: Option<Cow<'a, str>>,
    #[serde(default)]
    start_index: Number,
    #[serde(default)]
    end_index: Number,
}

/// The most citations of one answer.
const MOST: usize = 512;
/// The most bytes of all of them.
const MOST_BYTES: usize = 1 << 20;
/// The most characters of a page that are quoted, as Anthropic has it.
const EXCERPT: usize = 150;

// === impl Citation ===

impl Citation {
    /// A citation as an Anthropic upstream gave it; `None` if it is no object with a type, which clients go by.
    pub fn given(json: &str) -> Option<Citation> {
        #[derive(Deserialize)]
        struct Kind<'a> {
            #[serde(borrow, rename = "type", default, deserialize_with = "text")]
            kind: Option<Cow<'a, str>>,
        }
        let kind: Kind<'_> =
            serde_json::from_str(json).ok().filter(|_| json.trim_start().starts_with('{'))?;
        kind.kind.map(|_| Citation { json: json.to_owned(), span: None })
    }

    /// A citation of a page.
    pub fn page(url: &str, title: Option<&str>, excerpt: &str, span: Option<(u64, u64)>) -> Citation {
        let end = excerpt.char_indices().nth(EXCERPT).map_or(excerpt.len(), |(at, _)| at);
        let mut json = Json::default();
        json.object(|json| {
            json.key("type").string("web_search_result_location");
            json.key("url").string(url);
            json.key("title").string(title.filter(|title| !title.is_empty()).unwrap_or(url));
            json.key("cited_text").string(excerpt.get(..end).unwrap_or_default());
            json.key("encrypted_index").string("");
        });
        Citation { json: json.finish_string(), span }
    }

    /// The page that it names; `None` for a place in a document.
    pub fn of_page(&self) -> Option<Page> {
        #[derive(Deserialize)]
        struct Named<'a> {
            #[serde(borrow, default, deserialize_with = "text")]
            url: Option<Cow<'a, str>>,
            /// Of a search result that the caller gave: an address, or anything else.
            #[serde(borrow, default, deserialize_with = "text")]
            source: Option<Cow<'a, str>>,
            #[serde(borrow, default, deserialize_with = "text")]
            title: Option<Cow<'a, str>>,
            #[serde(borrow, default, deserialize_with = "text")]
            cited_text: Option<Cow<'a, str>>,
        }
        let named: Named<'_> = serde_json::from_str(&self.json).ok()?;
        let source = named.source.filter(|source| source.starts_with("http"));
        let url = named.url.or(source)?.into_owned();
        let title = named.title.filter(|title| !title.is_empty());
        Some(Page {
            title: title.map_or_else(|| url.clone(), Cow::into_owned),
            excerpt: named.cited_text.unwrap_or_default().into_owned(),
            url,
        })
    }

    /// The characters that it backs, in a text of `length` characters that begins at `start`.
    pub fn place(&self, start: u64, length: u64) -> (u64, u64) {
        let (from, to) = self.span.unwrap_or((0, length));
        let to = to.min(length);
        (start + from.min(to), start + to)
    }
}

// === impl Citations ===

impl Citations {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds one, unless it is there.
    pub fn add(&mut self, citation: Citation) {
        let bytes = self.bytes + citation.json.len();
        if self.list.len() < MOST && bytes <= MOST_BYTES && !self.list.contains(&citation) {
            self.bytes = bytes;
            self.list.push(citation);
        }
    }

    /// Adds what an `annotations` list of OpenAI's names, or one annotation. `shift`: where its text begins.
    pub fn add_annotations(&mut self, annotations: Raw<'_>, shift: u64) {
        for raw in items(annotations) {
            let Ok(annotation) = serde_json::from_str::<Annotation<'_>>(raw.get()) else { continue };
            if annotation.kind.as_ref().is_some_and(|kind| kind != "url_citation") {
                continue;
            }
            let nested = annotation.url_citation.and_then(|nested| serde_json::from_str(nested.get()).ok());
            let page: Annotation<'_> = nested.unwrap_or(annotation);
            let Some(url) = page.url.filter(|url| !url.is_empty()) else { continue };
            let span = page.start_index.0.zip(page.end_index.0).filter(|(from, to)| from < to);
            let span = span.map(|(from, to)| (from.saturating_add(shift), to.saturating_add(shift)));
            self.add(Citation::page(&url, page.title.as_deref(), &page.content.unwrap_or_default(), span));
        }
    }

    /// Adds the pages of a list of sources for the whole text: objects with an address, or addresses.
    pub fn add_sources(&mut self, sources: Raw<'_>) {
        #[derive(Deserialize)]
        struct Address<'a>(#[serde(borrow)] Cow<'a, str>);
        for raw in items(sources) {
            if let Ok(Address(url)) = serde_json::from_str(raw.get()) {
                self.add(Citation::page(&url, None, "", None));
            } else if let Ok(Annotation { url: Some(url), title, .. }) = serde_json::from_str(raw.get()) {
                self.add(Citation::page(&url, title.as_deref(), "", None));
            }
        }
    }

    /// Takes them all.
    pub fn take(&mut self) -> Vec<Citation> {
        self.bytes = 0;
        std::mem::take(&mut self.list)
    }
}

/// The items of a list; what is no list counts as a list of one.
fn items(raw: Raw<'_>) -> Vec<Raw<'_>> {
    match raw.get() {
        "null" => Vec::new(),
        list if list.starts_with('[') => serde_json::from_str(list).unwrap_or_default(),
        _ => vec![raw],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn raw(json: &str) -> Raw<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn annotations_are_read_nested_and_flat_and_the_rest_is_left_out() {
        let mut citations = Citations::default();
        citations.add_annotations(
            raw(
                r#"[{"type":"url_citation","url_citation":{"url":"https://a.example","title":"A","content":"says a","start_index":2,"end_index":5}},
                {"type":"url_citation","url":"https://b.example","start_index":0,"end_index":1},
                {"type":"file_citation","file_id":"file_1"}, 7, null, {"type":"url_citation"}]"#,
            ),
            10,
        );
        let list = citations.take();
        let pages: Vec<Page> = list.iter().filter_map(Citation::of_page).collect();
        assert_eq!(pages.len(), 2);
        assert_eq!((pages[0].title.as_str(), pages[0].excerpt.as_str()), ("A", "says a"));
        assert_eq!(
            (pages[1].url.as_str(), pages[1].title.as_str()),
            ("https://b.example", "https://b.example")
        );
        assert_eq!((list[0].span, list[1].span), (Some((12, 15)), Some((10, 11))));
        citations.add_annotations(raw(r#"{"type":"url_citation","url":"https://c.example"}"#), 0);
        citations.add_annotations(raw("null"), 0);
        assert_eq!(citations.take().len(), 1, "one alone, as an event has it");
    }

    #[test]
    fn lists_of_sources_are_read_and_said_once() {
        let mut citations = Citations::default();
        citations.add_sources(raw(r#"["https://a.example", "https://a.example", 5]"#));
        citations.add_sources(raw(r#"[{"title":"B","url":"https://b.example","date":null}]"#));
        let titles: Vec<String> =
            citations.take().iter().filter_map(|citation| Some(citation.of_page()?.title)).collect();
        assert_eq!(titles, ["https://a.example", "B"]);
    }

    #[test]
    fn a_place_in_a_document_names_no_page_and_a_search_result_only_with_an_address() {
        let page = |json: &str| Citation::given(json).unwrap().of_page();
        assert_eq!(page(r#"{"type":"char_location","cited_text":"x","document_index":0}"#), None);
        assert_eq!(page(r#"{"type":"search_result_location","source":"notes","title":"t"}"#), None);
        let found = page(r#"{"type":"search_result_location","source":"https://d.example","title":"t"}"#);
        assert_eq!(found.map(|page| page.url).as_deref(), Some("https://d.example"));
        for none in ["[1]", "[\"char_location\"]", "{}", r#"{"type":7}"#, r#"{"cited_text":"x"}"#, "null"] {
            assert_eq!(Citation::given(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut citations = Citations::default();
        for nth in 0..10_000 {
            citations.add(Citation::page(&format!("https://{nth}.example"), None, &"é".repeat(4000), None));
        }
        let all = citations.take();
        assert!(all.len() <= MOST);
        assert!(all.iter().all(|citation| citation.json.len() < 1000), "excerpts are cut");
    }

    #[test]
    fn a_place_never_leaves_its_text() {
        let citation = |span| Citation { json: "{}".to_owned(), span };
        assert_eq!(citation(None).place(5, 10), (5, 15));
        assert_eq!(citation(Some((2, 4))).place(5, 10), (7, 9));
        assert_eq!(citation(Some((20, 40))).place(5, 10), (15, 15));
        assert_eq!(citation(Some((u64::MAX - 1, u64::MAX))).place(0, 3), (3, 3));
    }
}
