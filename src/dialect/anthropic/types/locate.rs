//! The path of the field at which a body can't be read.

use super::ParseError;

/// The error with the path of the field at which the parser stopped. Walks the body once more; only errors pay.
pub(crate) fn locate(body: &[u8], error: &serde_json::Error) -> ParseError {
    let full = error.to_string();
    let message = full.rsplit_once(" at line ").map_or(full.as_str(), |(message, _)| message).to_owned();
    if error.is_data() {
        let offset = offset_of(body, error.line(), error.column());
        ParseError { path: path_at(body, offset), message }
    } else {
        ParseError { path: String::new(), message: format!("the request body is not valid JSON: {full}") }
    }
}

/// The byte offset of a line and column, both counted from one.
fn offset_of(body: &[u8], line: usize, column: usize) -> usize {
    let start = match line.checked_sub(2) {
        None => 0,
        Some(nth) => memchr::memchr_iter(b'\n', body).nth(nth).map_or(body.len(), |at| at + 1),
    };
    start.saturating_add(column).min(body.len())
}

/// The path of the innermost value that encloses an offset.
fn path_at(body: &[u8], offset: usize) -> String {
    enum Step {
        Key(String),
        Index(usize),
    }
    let mut steps: Vec<Step> = Vec::new();
    let mut at = 0;
    let mut expects_key = false;
    while let Some(&byte) = body.get(at) {
        // serde_json's column is one past the byte it looked at.
        if at + 1 >= offset {
            break;
        }
        match byte {
            b'{' => {
                steps.push(Step::Key(String::new()));
                expects_key = true;
            }
            b'[' => {
                steps.push(Step::Index(0));
                expects_key = false;
            }
            b'}' | b']' => {
                steps.pop();
                expects_key = false;
            }
            b',' => {
                expects_key = matches!(steps.last(), Some(Step::Key(_)));
                if let Some(Step::Index(index)) = steps.last_mut() {
                    *index += 1;
                }
            }
            b'"' => {
                let mut end = at + 1;
                while let Some(&byte) = body.get(end) {
                    match byte {
                        b'\\' => end += 1,
                        b'"' => break,
                        _ => {}
                    }
                    end += 1;
                }
                if expects_key {
                    if let Some(Step::Key(key)) = steps.last_mut() {
                        *key =
                            String::from_utf8_lossy(body.get(at + 1..end).unwrap_or_default()).into_owned();
                    }
                    expects_key = false;
                }
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    let mut path = String::new();
    for step in steps {
        let step = match step {
            Step::Key(key) if key.is_empty() => continue,
            Step::Key(key) => key,
            Step::Index(index) => index.to_string(),
        };
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(&step);
    }
    path
}
