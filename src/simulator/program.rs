//! Programs: lines in a prompt that tell the polite model which tools to call, one line a turn.
//!
//! ```text
//! call Write {"file_path": "a.txt", "content": "one"}
//! use tool Read with {"file_path": "a.txt"}
//! call Read {"file_path": "a.txt"} + Read {"file_path": "b.txt"}
//! say all done: {{result}}
//! ```
//!
//! A `say` goes out with the calls of the line after it; one without a call after it ends the program.
//! `{{result}}` stands for the results that the turn brought.

use serde_json::Value;

/// What the model does in one turn.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Step {
    pub say: Vec<String>,
    pub calls: Vec<Call>,
}

/// A call of a program.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub name: String,
    pub arguments: Value,
}

enum Line {
    Say(String),
    Calls(Vec<Call>),
}

/// Whether the text holds a line of a program.
pub(super) fn has_lines(text: &str) -> bool {
    text.lines().any(|line| read_line(line).is_some())
}

/// The steps in the text, in order; other lines are skipped.
pub(super) fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut open = Step::default();
    for line in text.lines().filter_map(read_line) {
        match line {
            Line::Say(words) => open.say.push(words),
            Line::Calls(calls) => {
                open.calls = calls;
                steps.push(std::mem::take(&mut open));
            }
        }
    }
    if !open.say.is_empty() {
        steps.push(open);
    }
    steps
}

fn read_line(line: &str) -> Option<Line> {
    let line = line.trim();
    if let Some(words) = line.strip_prefix("say ") {
        return Some(Line::Say(words.trim().to_owned()));
    }
    if let Some(call) = line.strip_prefix("use tool ") {
        let (name, arguments) = call.split_once(" with ")?;
        let arguments: Value = serde_json::from_str(arguments.trim()).ok()?;
        return arguments
            .is_object()
            .then(|| Line::Calls(vec![Call { name: name.trim().to_owned(), arguments }]));
    }
    read_calls(line.strip_prefix("call ")?).map(Line::Calls)
}

/// `NAME {json} + NAME {json} …`
fn read_calls(mut rest: &str) -> Option<Vec<Call>> {
    let mut calls = Vec::new();
    loop {
        let (name, after) = rest.trim().split_once(' ')?;
        let mut values = serde_json::Deserializer::from_str(after).into_iter::<Value>();
        let arguments = values.next()?.ok().filter(Value::is_object)?;
        let after = after.get(values.byte_offset()..)?.trim();
        calls.push(Call { name: name.to_owned(), arguments });
        if after.is_empty() {
            return Some(calls);
        }
        rest = after.strip_prefix('+')?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn each_line_with_calls_is_a_turn() {
        let text = "please do this:\ncall A {\"x\":1}\nuse tool B with {}\n say done";
        let steps = steps(text);
        assert_eq!(steps.len(), 3);
        assert_eq!(steps[0].calls, [Call { name: "A".into(), arguments: json!({"x": 1}) }]);
        assert_eq!(steps[1].calls[0].name, "B");
        assert_eq!(steps[2], Step { say: vec!["done".into()], calls: Vec::new() });
    }

    #[test]
    fn calls_joined_by_plus_are_parallel_and_a_plus_inside_arguments_is_text() {
        let steps = steps(r#"call A {"sum":"1 + 2"} + B {"y":{"z":"}"}}"#);
        assert_eq!(steps.len(), 1);
        assert_eq!(steps[0].calls.len(), 2);
        assert_eq!(steps[0].calls[0].arguments["sum"], "1 + 2");
        assert_eq!(steps[0].calls[1].arguments["y"]["z"], "}");
    }

    #[test]
    fn words_before_a_call_go_out_with_it() {
        let steps = steps("say first\ncall A {}\nsay last");
        assert_eq!(steps.len(), 2);
        assert_eq!((steps[0].say.len(), steps[0].calls.len()), (1, 1));
    }

    #[test]
    fn prose_about_calls_is_no_program() {
        assert!(!has_lines("call me tomorrow\nuse tool Hammer with care\ncall A {broken"));
    }
}
