//! Progress notifications: an answer's text in pieces that read well, and notes for whoever waits.
//!
//! Source: Model Context Protocol specification, "Progress".

use std::time::Duration;

use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::{Peer, RoleServer};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A piece is sent at a sentence's end once it has this many characters,
const SENTENCE: usize = 60;
/// or when it has this many, sentence or not,
const MOST: usize = 600;
/// or when it has waited this long.
const PATIENCE: Duration = Duration::from_millis(700);
/// While nothing else happens, a sign of life. Clients reset their clocks on it.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// How long the last pieces may take to go out before the result does.
const FLUSH: Duration = Duration::from_secs(2);

/// Sends the progress of one call; silent when the client gave no token.
pub(crate) struct Progress {
    text: Option<mpsc::Sender<String>>,
    notes: Option<mpsc::Sender<String>>,
    task: Option<JoinHandle<()>>,
}

// === impl Progress ===

impl Progress {
    /// Starts it.
    pub fn new(peer: &Peer<RoleServer>, token: Option<ProgressToken>) -> Progress {
        let Some(token) = token else { return Progress { text: None, notes: None, task: None } };
        let (text, texts) = mpsc::channel(64);
        let (notes, noted) = mpsc::channel(64);
        let task = tokio::spawn(report(peer.clone(), token, texts, noted));
        Progress { text: Some(text), notes: Some(notes), task: Some(task) }
    }

    /// Where others put notes for people; they are dropped when nobody listens.
    pub fn notes(&self) -> Option<mpsc::Sender<String>> {
        self.notes.clone()
    }

    /// A note for people.
    pub fn note(&self, note: String) {
        if let Some(notes) = &self.notes {
            let _ = notes.try_send(note);
        }
    }

    /// Where the text of the answer goes; it fills up when the client is slow to read.
    pub fn texts(&self) -> Option<&mpsc::Sender<String>> {
        self.text.as_ref()
    }

    /// Sends what is left, so that nothing comes after the result.
    pub async fn finish(mut self) {
        self.text = None;
        self.notes = None;
        if let Some(task) = &mut self.task {
            let _ = tokio::time::timeout(FLUSH, task).await;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn report(
    peer: Peer<RoleServer>,
    token: ProgressToken,
    mut texts: mpsc::Receiver<String>,
    mut notes: mpsc::Receiver<String>,
) {
    let started = Instant::now();
    let mut sent = 0.0;
    let mut pending = String::new();
    let mut since = started;
    let mut last = started;
    let mut notes_open = true;
    loop {
        let wake = if pending.is_empty() { last + SIGN_OF_LIFE } else { since + PATIENCE };
        let message = tokio::select! {
            biased;
            note = notes.recv(), if notes_open => match note {
                Some(note) => note,
                None => {
                    notes_open = false;
                    continue;
                }
            },
            text = texts.recv() => match text {
                Some(text) => {
                    if pending.is_empty() {
                        since = Instant::now();
                    }
                    pending.push_str(&text);
                    match piece(&mut pending) {
                        Some(piece) => piece,
                        None => continue,
                    }
                }
                None => break,
            },
            () = tokio::time::sleep_until(wake) => if pending.is_empty() {
                format!("waiting for the answer ({} s)", started.elapsed().as_secs())
            } else {
                std::mem::take(&mut pending)
            },
        };
        since = Instant::now();
        last = since;
        sent += 1.0;
        let update = ProgressNotificationParam::new(token.clone(), sent).with_message(message);
        if peer.notify_progress(update).await.is_err() {
            return;
        }
    }
    if !pending.is_empty() {
        let update = ProgressNotificationParam::new(token, sent + 1.0).with_message(pending);
        let _ = peer.notify_progress(update).await;
    }
}

/// Takes off as much of the text as reads well by itself; leaves the rest.
fn piece(pending: &mut String) -> Option<String> {
    let mut cut = None;
    let mut previous = ' ';
    for (count, (at, c)) in pending.char_indices().enumerate() {
        if count >= SENTENCE
            && (previous == '\n' || (c.is_whitespace() && matches!(previous, '.' | '!' | '?' | ':')))
        {
            cut = Some(at);
        }
        if count >= MOST {
            let space = pending.get(..at).and_then(|text| text.rfind(char::is_whitespace));
            cut = cut.or(space.filter(|space| *space > 0)).or(Some(at));
            break;
        }
        previous = c;
    }
    let at = cut.filter(|at| *at > 0 && pending.is_char_boundary(*at))?;
    let rest = pending.split_off(at);
    Some(std::mem::replace(pending, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pieces_end_where_sentences_do() {
        let mut pending = format!("{} done. And mo", "word ".repeat(12));
        assert!(piece(&mut pending).unwrap().ends_with("done."));
        assert_eq!(pending, " And mo");
        assert_eq!(piece(&mut pending), None);
    }

    proptest! {
        #[test]
        fn pieces_lose_nothing_and_stay_short(text in "(\\PC|[ .\n\u{a0}\u{3000}ü]){0,2000}") {
            let mut pending = text.clone();
            let mut all = String::new();
            while let Some(piece) = piece(&mut pending) {
                prop_assert!(!piece.is_empty());
                all.push_str(&piece);
            }
            prop_assert!(pending.chars().count() <= MOST);
            all.push_str(&pending);
            prop_assert_eq!(all, text);
        }
    }
}
