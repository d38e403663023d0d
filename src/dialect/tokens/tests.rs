#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

#[test]
fn english_prose_costs_about_one_token_for_four_characters() {
    let text = "The daemon stands between the client and every model that its user can reach. It reads the \
                request once, decides where it should go, and hands the answer back unchanged. When a \
                provider fails before anything was sent, the next one is asked, and nobody notices.";
    let per_token = text.len() as f64 / of_text(text) as f64;
    assert!((3.6..4.9).contains(&per_token), "{per_token}");
}

#[test]
fn code_costs_more_per_character_than_prose() {
    let code = "    pub fn push(&mut self, bytes: &Bytes) -> Result<(), Fault> {\n        if self.broken.is_some() {\n            return Err(Fault::protocol(\"broken\"));\n        }\n        self.buffer.extend_from_slice(bytes);\n    }\n";
    let per_token = code.len() as f64 / of_text(code) as f64;
    assert!((2.5..4.2).contains(&per_token), "{per_token}");
}

#[test]
fn scripts_outside_ascii_cost_more_a_character_than_prose() {
    assert!((6..=16).contains(&of_text("模型的回答来得很慢吗")));
    assert!(of_text("Привет, мир") >= 3);
    assert!(of_text("😀") >= 1);
}

#[test]
fn each_family_counts_in_its_own_way() {
    for (model, family) in [
        ("claude-haiku-4-5-20251001", Family::ClaudeTo45),
        ("anthropic/claude-3.5-sonnet", Family::ClaudeTo45),
        ("claude-sonnet-4-6", Family::Claude46),
        ("claude-opus-4-8", Family::Claude),
        ("claude-fable-latest", Family::Claude),
        ("openai/gpt-5.2", Family::OpenAi),
        ("o3-mini", Family::OpenAi),
        ("google/gemini-3-pro", Family::Gemini),
        ("Qwen/Qwen3-Coder", Family::Open),
        ("deepseek-chat", Family::Open),
        ("a-model-of-mine", Family::Claude),
    ] {
        assert_eq!(Family::of(model), family, "{model}");
    }
    let text = Weight { text: 100_000, messages: 2, ..Weight::default() };
    let tools = Weight { tool_text: 20_000, tools: 3, calls: 2, vendor: WEB_SEARCH, ..text };
    assert!(text.tokens(Family::OpenAi) < text.tokens(Family::Claude));
    let costs = |family| tools.tokens(family) - text.tokens(family);
    assert!(costs(Family::Claude) > costs(Family::OpenAi) + WEB_SEARCH, "no other vendor adds its prompts");
    let most = Weight { text: u64::MAX, media: u64::MAX, calls: u64::MAX, ..tools };
    assert_eq!(most.tokens(Family::Claude), u64::MAX, "nonsense saturates");
    assert_eq!(Weight::default().tokens(Family::Gemini), 1);
}

#[test]
fn only_the_empty_text_costs_nothing() {
    assert_eq!(of_text(""), 0);
    for text in ["a", " x", "1", ".", "\n", "é"] {
        assert!(of_text(text) > 0, "{text:?}");
    }
}

#[test]
fn the_sample_of_a_long_text_is_near_the_whole() {
    // Prose, code and Chinese in turns, so that a sample in the wrong places would show.
    let mut mixed = String::new();
    let mut exact = 0;
    for turn in 0..400 {
        let piece = match turn % 3 {
            0 => {
                "The next provider is asked, and nobody notices anything of it at all. ".repeat(turn % 7 + 1)
            }
            1 => "if self.open[i] != Some(Kind::Text) { return Err(e); } ".repeat(turn % 5 + 1),
            _ => "模型的回答来得很慢".repeat(turn % 4 + 1),
        };
        exact += of_text(&piece);
        mixed.push_str(&piece);
    }
    assert!(mixed.len() > 4 * tally::EXACT);
    let off = of_text(&mixed) as f64 / exact as f64 - 1.0;
    assert!(off.abs() < 0.06, "{off}");
}

#[test]
fn a_long_text_costs_what_its_parts_cost() {
    let line = "All work and no play makes a dull day. ";
    let many = line.repeat(1000);
    let (one, all) = (of_text(line) as f64 * 1000.0, of_text(&many) as f64);
    assert!((all / one - 1.0).abs() < 0.1, "{one} {all}");
}
