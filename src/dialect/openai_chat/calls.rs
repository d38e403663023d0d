//! Tool calls, put together from pieces whose indexes, ids and names may be odd.
//!
//! What servers do: OpenAI sends the id and name once and the arguments in fragments, by index; Groq and Mistral
//! send whole calls; some versions of Ollama and Google's compatible endpoint give every call the index 0 or
//! none at all; some servers repeat id and name on every chunk; ids may be empty or come late.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::Deserialize;

use super::arguments::{self, Blanks, Healed};
use super::types::CallPiece;
use super::write::Json;
use crate::dialect::names::{self, NameMap};
use crate::dialect::{Fault, Part, Sink};

/// The calls of one answer, in their order.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    list: Vec<Call>,
    bytes: usize,
}

/// One call.
#[derive(Debug, Default)]
struct Call {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
    /// The arguments are free text.
    is_custom: bool,
    signature: Option<String>,
    blanks: Blanks,
}

/// A call as the caller will see it.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
    pub(crate) signature: Option<String>,
}

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was added.
    Added,
    /// It was added, and the model writes nothing but white space any more.
    Stuck,
}

/// More calls than this in one answer are nonsense.
const MAX_CALLS: usize = 1024;
/// Most bytes of all arguments together.
const MAX_BYTES: usize = 32 << 20;

// === impl Calls ===

impl Calls {
    /// How many bytes of arguments are held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a piece of a call.
    pub(crate) fn add(&mut self, piece: &CallPiece<'_>) -> Result<Taken, Fault> {
        let id = piece.id.as_deref().unwrap_or_default();
        let function = piece.function.as_ref();
        let name = function.and_then(|function| function.name.as_deref()).unwrap_or_default();
        let arguments = function.and_then(|function| function.arguments).map(|raw| raw.get());
        let arguments = arguments.map(argument_text).unwrap_or_default();
        let (name, arguments) = match &piece.custom {
            Some(custom) => (
                custom.name.as_deref().unwrap_or_default(),
                Cow::Borrowed(custom.input.as_deref().unwrap_or_default()),
            ),
            None => (name, arguments),
        };
        let (call, taken) = match self.put(piece.index.0, id, name, &arguments)? {
            Some(put) => put,
            None => return Ok(Taken::Added),
        };
        let google = piece.extra_content.as_ref().and_then(|extra| extra.google.as_ref());
        if let Some(signature) = google.and_then(|google| google.thought_signature.as_deref()) {
            call.signature = Some(signature.to_owned());
        }
        call.is_custom |= piece.custom.is_some();
        Ok(taken)
    }

    /// Takes a piece that holds nothing but a fragment of arguments.
    pub(crate) fn add_arguments(&mut self, index: u64, fragment: &str) -> Result<Taken, Fault> {
        Ok(self.put(Some(index), "", "", fragment)?.map_or(Taken::Added, |(_, taken)| taken))
    }

    /// Puts a piece where it belongs, and gives the call; `None` if it says again what is known.
    fn put(
        &mut self,
        index: Option<u64>,
        id: &str,
        name: &str,
        arguments: &str,
    ) -> Result<Option<(&mut Call, Taken)>, Fault> {
        let at = match self.slot(index, id, name, arguments) {
            Slot::At(at) => at,
            Slot::Repeat => return Ok(None),
            Slot::New if self.list.len() >= MAX_CALLS => {
                return Err(Fault::protocol(format!(
                    "the upstream's answer has more than {MAX_CALLS} tool calls"
                )));
            }
            Slot::New => {
                self.list.push(Call { index, ..Call::default() });
                self.list.len() - 1
            }
        };
        self.bytes += arguments.len() + name.len() + id.len();
        if self.bytes > MAX_BYTES {
            return Err(Fault::protocol(format!("the upstream's tool calls exceed {MAX_BYTES} bytes")));
        }
        let Some(call) = self.list.get_mut(at) else { return Ok(None) };
        if call.id.is_empty() {
            call.id.push_str(id);
        }
        if call.name != name && call.arguments.is_empty() {
            call.name.push_str(name);
        }
        call.arguments.push_str(arguments);
        let taken = if call.blanks.feed(arguments) { Taken::Stuck } else { Taken::Added };
        Ok(Some((call, taken)))
    }

    /// Gives the first call a thought signature that came with the message, if it has none.
    pub(crate) fn sign_first(&mut self, signature: &str) {
        if let Some(call) = self.list.first_mut() {
            call.signature.get_or_insert_with(|| signature.to_owned());
        }
    }

    /// Which call a piece belongs to.
    fn slot(&self, index: Option<u64>, id: &str, name: &str, arguments: &str) -> Slot {
        let known = match index {
            Some(_) => self.list.iter().rposition(|call| call.index == index),
            None if !id.is_empty() => self.list.iter().rposition(|call| call.id == id).or_else(|| {
                self.list.len().checked_sub(1).filter(|_| name.is_empty() && self.last_lacks_id())
            }),
            None => self.list.len().checked_sub(1),
        };
        let Some((at, call)) = known.and_then(|at| Some((at, self.list.get(at)?))) else { return Slot::New };
        if !id.is_empty() && !call.id.is_empty() && call.id != id {
            return Slot::New;
        }
        // Asked of few pieces only: a look at all arguments for every fragment would be quadratic.
        let collected = call.arguments.trim();
        let is_json = || collected == "null" || (collected.ends_with('}') && arguments::is_whole(collected));
        let is_whole = || !call.is_custom && is_json();
        if name.is_empty() || arguments.is_empty() {
            // Without an index, a new name begins a new call.
            let renamed = !name.is_empty() && !call.name.is_empty() && name != call.name;
            return if index.is_none() && (renamed || (!name.is_empty() && is_whole())) {
                Slot::New
            } else {
                Slot::At(at)
            };
        }
        if is_whole() {
            let same = call.id == id && !id.is_empty() && call.name == name && call.arguments == arguments;
            return if same { Slot::Repeat } else { Slot::New };
        }
        if index.is_none() && !call.name.is_empty() && call.name != name { Slot::New } else { Slot::At(at) }
    }

    fn last_lacks_id(&self) -> bool {
        self.list.last().is_some_and(|call| call.id.is_empty())
    }

    /// The calls as the caller will see them. With `cut` (the limit on output was reached) calls whose arguments
    /// are not whole are left out.
    pub(crate) fn ready(
        self,
        response_id: &str,
        used: &[u64],
        names: &NameMap,
        cut: bool,
    ) -> Result<Vec<Ready>, Fault> {
        let mut ready: Vec<Ready> = Vec::with_capacity(self.list.len());
        for (nth, call) in self.list.into_iter().enumerate() {
            if call.name.is_empty() && call.arguments.trim().is_empty() {
                continue;
            }
            if cut && call.is_custom {
                continue; // nobody can tell whether it is whole
            }
            if cut && (call.arguments.trim().is_empty() || !arguments::is_whole(&call.arguments)) {
                continue;
            }
            if call.name.is_empty() {
                return Err(Fault::protocol("the upstream's answer has a tool call without a name"));
            }
            let taken = |id: &str| used.contains(&id_hash(id)) || ready.iter().any(|call| call.id == id);
            let seed = [response_id, &nth.to_string(), &call.name, &call.arguments];
            let id = legal_id(call.id, &seed, used.len(), taken);
            let arguments = match arguments::heal(&call.arguments) {
                _ if call.is_custom => {
                    let mut json = Json::default();
                    json.object(|json| json.key("input").string(&call.arguments));
                    json.finish_string()
                }
                Healed::Object(Cow::Borrowed(text)) if text.len() == call.arguments.len() => call.arguments,
                Healed::Object(text) => text.into_owned(),
                Healed::Wrapped(text) => text,
            };
            let name = names.given(&call.name).to_owned();
            let arguments = arguments::without_empty_pages(&name, arguments);
            ready.push(Ready { id, name, arguments, signature: call.signature });
        }
        Ok(ready)
    }

    /// Whether the last call's arguments make a whole object.
    pub(crate) fn last_is_whole(&self) -> bool {
        self.list.last().is_some_and(|call| arguments::is_whole(&call.arguments))
    }
}

/// Where a piece belongs.
enum Slot {
    /// To this call.
    At(usize),
    /// To a new one.
    New,
    /// It says again what is known.
    Repeat,
}

// === impl Ready ===

impl Ready {
    /// Gives the call away.
    pub(crate) fn give(&self, sink: &mut dyn Sink) {
        sink.part(Part::Call {
            id: Cow::Borrowed(&self.id),
            name: Cow::Borrowed(&self.name),
            arguments: Cow::Borrowed(&self.arguments),
        });
    }
}

/// The text of arguments: the content of a string, or an object as it stands.
fn argument_text(raw: &str) -> Cow<'_, str> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    if !raw.starts_with('"') {
        return Cow::Borrowed(raw);
    }
    // A raw value that begins with a quote is a string; reading it can't fail.
    serde_json::from_str::<Text<'_>>(raw).map(|text| text.0).unwrap_or_default()
}

/// Anthropic's rule for ids, with the length that others keep to.
fn is_legal_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The id, or one made of `seed` if it is illegal or taken.
pub(in crate::dialect) fn legal_id(
    id: String,
    seed: &[&str],
    salt: usize,
    taken: impl Fn(&str) -> bool,
) -> String {
    let mut id = id;
    let mut salt = salt;
    while !is_legal_id(&id) || taken(&id) {
        let salted = salt.to_string();
        let pieces: Vec<&str> = seed.iter().copied().chain([salted.as_str()]).collect();
        id = format!("toolu_{}", names::hash(&pieces, 24));
        salt += 1;
    }
    id
}

/// What is remembered of an id that the conversation has used.
pub(crate) fn id_hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
