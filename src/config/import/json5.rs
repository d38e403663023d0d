//! claude-code-router reads JSON with comments and trailing commas; this takes both out.

/// The text as plain JSON. Comments become spaces and lines stay where they are, so that errors keep their line.
pub fn to_json(text: &str) -> String {
    without_trailing_commas(&without_comments(text.trim_start_matches('\u{feff}')))
}

fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut in_string = false;
    while let Some(c) = chars.next() {
        match (in_string, c, chars.peek()) {
            (true, '\\', _) => {
                out.push(c);
                out.extend(chars.next());
            }
            (_, '"', _) => {
                in_string = !in_string;
                out.push(c);
            }
            (false, '/', Some('/')) => {
                while chars.peek().is_some_and(|c| *c != '\n') {
                    chars.next();
                }
            }
            (false, '/', Some('*')) => {
                chars.next();
                let mut last = ' ';
                for c in chars.by_ref() {
                    if c == '\n' {
                        out.push('\n');
                    }
                    if last == '*' && c == '/' {
                        break;
                    }
                    last = c;
                }
                out.push(' ');
            }
            _ => out.push(c),
        }
    }
    out
}

fn without_trailing_commas(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_string = false;
    let mut escaped = false;
    // Where the last comma stands in `out`, while nothing but white space came after it.
    let mut comma = None;
    for c in text.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            out.push(c);
            continue;
        }
        match c {
            ',' => comma = Some(out.len()),
            '}' | ']' => {
                if let Some(at) = comma.take() {
                    out.replace_range(at..at + 1, " ");
                }
            }
            c if c.is_whitespace() => {}
            c => {
                comma = None;
                in_string = c == '"';
            }
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::to_json;

    #[test]
    fn comments_and_trailing_commas_go_and_strings_stay() {
        let text = "{ // one\n \"a//b\": \"/* \\\" , ] */\", /* two\n */ \"c\": [1, 2,\n ], }";
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&to_json(text)).ok(),
            Some(serde_json::json!({ "a//b": "/* \" , ] */", "c": [1, 2] }))
        );
        assert_eq!(to_json(text).lines().count(), text.lines().count());
    }

    proptest::proptest! {
        #[test]
        fn plain_json_comes_through_as_it_is(text in "[a-z0-9\"{}\\[\\]:, \\\\é]{0,60}") {
            if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
                proptest::prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&to_json(&text)).ok(), Some(value));
            }
            to_json(&format!("/*{text}"));
        }
    }
}
