//! The tools that go to the upstream, and whether one must be called.

use std::borrow::Cow;
use std::collections::HashSet;

use super::content::Notes;
use super::messages::Markers;
use super::turns::Conversation;
use super::{Param, Rectify, RequestError, Target};
use crate::dialect::anthropic::types::{MessagesRequest, Tool};
use crate::dialect::json::Raw;
use crate::dialect::names;
use crate::dialect::openai_chat::write::Json;
use crate::dialect::schema;
use crate::dialect::table::NamedChoice;

/// The tools of a request.
#[derive(Debug, Default)]
pub(in crate::dialect) struct Tools<'a> {
    pub(in crate::dialect) list: Vec<&'a Tool<'a>>,
    pub(in crate::dialect) choice: Option<Choice<'a>>,
    one_call: bool,
}

/// Whether a tool must be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Choice<'a> {
    Auto,
    Required,
    None,
    Named(&'a str),
}

/// Most characters of a description where an upstream limits them.
pub(in crate::dialect) const SHORT_DESCRIPTION: usize = 1024;

/// What a tool's type says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// The caller's own.
    Function,
    /// Anthropic's, run by the caller; with this schema.
    Client(&'static str),
    /// Anthropic's, run by the caller, that others can't drive.
    ClientOnly,
    /// Run by Anthropic.
    Server,
}

const BASH: &str = r#"{"type":"object","properties":{"command":{"type":"string","description":"The command to run."},"restart":{"type":"boolean","description":"Restart the shell."}}}"#;
const EDITOR: &str = r#"{"type":"object","properties":{"command":{"type":"string","enum":["view","create","str_replace","insert"]},"path":{"type":"string"},"file_text":{"type":"string"},"old_str":{"type":"string"},"new_str":{"type":"string"},"insert_line":{"type":"integer"},"insert_text":{"type":"string"},"view_range":{"type":"array","items":{"type":"integer"}}},"required":["command","path"]}"#;
const MEMORY: &str = r#"{"type":"object","properties":{"command":{"type":"string","enum":["view","create","str_replace","insert","delete","rename"]},"path":{"type":"string"},"old_path":{"type":"string"},"new_path":{"type":"string"},"file_text":{"type":"string"},"old_str":{"type":"string"},"new_str":{"type":"string"},"insert_line":{"type":"integer"},"insert_text":{"type":"string"},"view_range":{"type":"array","items":{"type":"integer"}}},"required":["command"]}"#;

/// Classes by the part of the type before its date, so that new dates still work.
const CLASSES: &[(&str, Class)] = &[
    ("bash_", Class::Client(BASH)),
    ("text_editor_", Class::Client(EDITOR)),
    ("memory_", Class::Client(MEMORY)),
    ("computer_", Class::ClientOnly),
    ("browser_toolset_", Class::ClientOnly),
];

fn class(tool: &Tool<'_>) -> Class {
    match tool.kind.as_deref() {
        None | Some("custom") => Class::Function,
        Some(kind) => CLASSES
            .iter()
            .find(|(begin, _)| kind.starts_with(begin))
            .map_or(Class::Server, |(_, class)| *class),
    }
}

/// Whether a tool is a web search by the server.
pub(in crate::dialect) fn is_web_search(tool: &Tool<'_>) -> bool {
    tool.kind.as_deref().is_some_and(|kind| kind.starts_with("web_search_"))
}

/// A field that says something.
pub(in crate::dialect) fn said(field: Option<Raw<'_>>) -> Option<Raw<'_>> {
    field.filter(|raw| !matches!(raw.get(), "null" | "[]" | "{}"))
}

/// Whether a tool is run by Anthropic.
pub(in crate::dialect) fn is_server_tool(tool: &Tool<'_>) -> bool {
    class(tool) == Class::Server
}

// === impl Tools ===

impl<'a> Tools<'a> {
    /// Chooses the tools to send: not those of the server, not those that nothing has loaded yet, and not more
    /// than the upstream takes.
    pub(in crate::dialect) fn choose(
        request: &'a MessagesRequest<'a>,
        conversation: &Conversation<'_>,
        target: &Target<'_>,
        reasons: bool,
        notes: &mut Notes,
    ) -> Result<Tools<'a>, RequestError> {
        let mut all: Vec<&Tool<'_>> = Vec::with_capacity(request.tools.len());
        let mut seen = HashSet::new();
        for (nth, tool) in request.tools.iter().enumerate() {
            let name = match (class(tool), tool.name.as_deref()) {
                (Class::Server, _) => {
                    if !is_web_search(tool) || !target.searches() {
                        notes.drop("server tool");
                    }
                    continue;
                }
                (Class::ClientOnly, _) => {
                    let path = format!("tools.{nth}.type");
                    return Err(RequestError::OnlyAnthropic { path, feature: "computer and browser use" });
                }
                (_, Some(name)) => name,
                (_, None) => {
                    let path = format!("tools.{nth}.name");
                    return Err(RequestError::Field { path, message: "Field required".to_owned() });
                }
            };
            if !seen.insert(name) {
                notes.heal("duplicate tool");
            } else if !conversation.removed.iter().any(|removed| removed == name) {
                all.push(tool);
            }
        }
        let is_hidden = |tool: &&Tool<'_>| tool.defer_loading;
        let name = |tool: &Tool<'a>| tool.name.as_deref().unwrap_or_default().to_owned();
        let mut list: Vec<&Tool<'a>> = all.iter().copied().filter(|tool| !is_hidden(tool)).collect();
        for loaded in &conversation.loaded {
            list.extend(all.iter().copied().filter(|tool| is_hidden(tool) && name(tool) == *loaded));
        }
        if list.is_empty() {
            list = all;
        } else if list.len() < all.len() {
            notes.drop("deferred tools");
        }
        if list.len() > target.variant.max_tools {
            notes.drop("tools beyond the upstream's limit");
            list.truncate(target.variant.max_tools);
        }

        let mut choice =
            request.tool_choice.as_ref().and_then(|choice| match (choice.kind.as_ref(), &choice.name) {
                ("auto", _) => Some(Choice::Auto),
                ("any", _) => Some(Choice::Required),
                ("none", _) => Some(Choice::None),
                ("tool", Some(name)) => Some(Choice::Named(name)),
                _ => None,
            });
        // A choice that the list doesn't have is a 400 upstream; so is any choice without a list.
        if let Some(Choice::Named(wanted)) = choice
            && !list.iter().any(|tool| tool.name.as_deref() == Some(wanted))
        {
            choice = None;
        }
        match (target.variant.named_choice, choice) {
            (NamedChoice::NotThinking, Some(Choice::Named(_) | Choice::Required)) if reasons => {
                notes.drop("tool_choice");
                choice = Some(Choice::Auto);
            }
            (NamedChoice::Never, Some(Choice::Named(_) | Choice::Required)) => {
                notes.drop("tool_choice");
                choice = Some(Choice::Auto);
            }
            // A model that must not call is shown no tools.
            (NamedChoice::Never, Some(Choice::None)) => list.clear(),
            (NamedChoice::OnlyTool, Some(Choice::Named(wanted))) => {
                list.retain(|tool| tool.name.as_deref() == Some(wanted));
                choice = Some(Choice::Required);
            }
            _ => {}
        }
        let one_call = request.tool_choice.as_ref().is_some_and(|choice| choice.disable_parallel_tool_use);
        Ok(Tools { list, choice, one_call })
    }

    /// The tools whose descriptions go into the system prompt, since the upstream takes only short ones.
    pub(in crate::dialect) fn long_descriptions(
        &self,
        target: &Target<'_>,
    ) -> impl Iterator<Item = (&str, &str)> {
        let cuts = target.is_rectified(Rectify::CutDescriptions);
        self.list.iter().filter(move |_| cuts).filter_map(|tool| {
            let description = tool.description.as_deref()?;
            (description.len() > SHORT_DESCRIPTION).then_some((tool.name.as_deref()?, description))
        })
    }

    /// Writes the tools and the choice as Responses has them: flat, and `strict` always said.
    pub(in crate::dialect) fn write_flat(
        &self,
        json: &mut Json,
        target: &Target<'_>,
        search: Option<&Tool<'_>>,
    ) {
        if self.list.is_empty() && search.is_none() {
            return;
        }
        json.key("tools").array(|json| {
            for tool in &self.list {
                json.object(|json| {
                    json.key("type").string("function");
                    function(json, tool, target);
                    if !is_strict(tool, target) {
                        json.key("strict").boolean(false);
                    }
                });
            }
            if let Some(search) = search {
                json.object(|json| {
                    json.key("type").string("web_search");
                    let filters = [
                        ("allowed_domains", said(search.allowed_domains)),
                        ("blocked_domains", said(search.blocked_domains)),
                    ];
                    if filters.iter().any(|(_, domains)| domains.is_some()) {
                        json.key("filters").object(|json| {
                            for (name, domains) in filters {
                                domains.into_iter().for_each(|domains| json.key(name).raw(domains));
                            }
                        });
                    }
                    said(search.user_location)
                        .into_iter()
                        .for_each(|place| json.key("user_location").raw(place));
                });
            }
        });
        if target.sends(Param::ToolChoice) {
            match self.choice {
                Some(Choice::Named(name)) => json.key("tool_choice").object(|json| {
                    json.key("type").string("function");
                    json.key("name").string(&names::wire_name(name));
                }),
                other => choice_word(json, other),
            }
        }
        if self.one_call && target.sends(Param::ParallelToolCalls) {
            json.key("parallel_tool_calls").boolean(false);
        }
    }

    /// Writes `tools`, `tool_choice` and `parallel_tool_calls`.
    pub(in crate::dialect) fn write(&self, json: &mut Json, target: &Target<'_>, markers: &mut Markers) {
        if self.list.is_empty() {
            return;
        }
        json.key("tools").array(|json| {
            for tool in &self.list {
                json.object(|json| {
                    json.key("type").string("function");
                    json.key("function").object(|json| function(json, tool, target));
                    if let Some(marker) = markers.take(tool.cache_control) {
                        json.key("cache_control").raw(marker);
                    }
                });
            }
        });
        if target.sends(Param::ToolChoice) {
            match self.choice {
                Some(Choice::Named(name)) => json.key("tool_choice").object(|json| {
                    json.key("type").string("function");
                    json.key("function").object(|json| json.key("name").string(&names::wire_name(name)));
                }),
                other => choice_word(json, other),
            }
        }
        if self.one_call && target.variant.parallel_tool_calls && target.sends(Param::ParallelToolCalls) {
            json.key("parallel_tool_calls").boolean(false);
        }
    }
}

fn function(json: &mut Json, tool: &Tool<'_>, target: &Target<'_>) {
    json.key("name").string(&names::wire_name(tool.name.as_deref().unwrap_or_default()));
    if let Some(description) = &tool.description {
        let json = json.key("description");
        if target.is_rectified(Rectify::CutDescriptions) && description.len() > SHORT_DESCRIPTION {
            let end = description.floor_char_boundary(SHORT_DESCRIPTION);
            json.string(description.get(..end).unwrap_or_default());
        } else {
            json.text(description);
        }
    }
    json.key("parameters").json(&parameters(tool, target.schema()));
    if is_strict(tool, target) {
        json.key("strict").boolean(true);
    }
}

/// The schema of a tool's arguments: the caller's, or that of a tool of Anthropic's.
pub(in crate::dialect) fn parameters<'t>(tool: &'t Tool<'_>, target: schema::Target) -> Cow<'t, str> {
    match class(tool) {
        Class::Client(schema) if tool.input_schema.is_none() => Cow::Borrowed(schema),
        _ => schema::clean(tool.input_schema, target),
    }
}

fn is_strict(tool: &Tool<'_>, target: &Target<'_>) -> bool {
    tool.strict
        && tool.input_schema.is_some_and(schema::is_strict)
        && !target.is_rectified(Rectify::NotStrict)
}

/// Writes a choice that is one word.
fn choice_word(json: &mut Json, choice: Option<Choice<'_>>) {
    match choice {
        None | Some(Choice::Named(_)) => {}
        Some(Choice::Auto) => json.key("tool_choice").string("auto"),
        Some(Choice::Required) => json.key("tool_choice").string("required"),
        Some(Choice::None) => json.key("tool_choice").string("none"),
    }
}
