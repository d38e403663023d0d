use super::*;

#[test]
fn every_name_has_its_row() {
    assert_eq!(NAMES.len(), ROWS.len());
    for (name, row) in NAMES.iter().zip(&ROWS) {
        assert_eq!(*name, row.name);
    }
}

#[test]
fn the_config_knows_every_row_and_no_other() {
    let mut known = crate::config::VARIANTS.to_vec();
    let mut names = NAMES.to_vec();
    known.sort_unstable();
    names.sort_unstable();
    assert_eq!(known, names);
}

#[test]
fn the_name_wins_over_the_address_and_the_address_over_the_kind() {
    let name = |kind, name, url| variant(kind, name, url).name;
    assert_eq!(name(ProviderKind::Openai, Some("vllm"), "https://api.openai.com/v1"), "vllm");
    assert_eq!(name(ProviderKind::Openai, None, "https://api.openai.com/v1"), "openai");
    assert_eq!(name(ProviderKind::Openai, None, "https://API.DeepSeek.com"), "deepseek");
    assert_eq!(name(ProviderKind::Openai, None, "https://x.openai.azure.com/openai/v1"), "azure");
    assert_eq!(name(ProviderKind::Openai, None, "https://evil.example/api.openai.com"), "generic");
    assert_eq!(name(ProviderKind::Openai, None, "http://gateway:8080"), "generic");
    assert_eq!(name(ProviderKind::Local, None, "http://localhost:11434/v1"), "ollama");
    assert_eq!(name(ProviderKind::Openai, None, "https://api.x.ai/v1"), "xai");
    assert_eq!(name(ProviderKind::Openai, None, "https://api.moonshot.cn/v1"), "moonshot");
    assert_eq!(name(ProviderKind::Openai, None, "https://api.z.ai/api/paas/v4"), "zai");
    assert_eq!(name(ProviderKind::Openai, None, "https://api.together.xyz/v1"), "together");
    assert_eq!(name(ProviderKind::Openai, None, "https://api.fireworks.ai/inference/v1"), "fireworks");
    assert_eq!(name(ProviderKind::Openai, None, "https://api.cerebras.ai/v1"), "cerebras");
    assert_eq!(name(ProviderKind::Openai, None, "https://evil-api.x.ai/v1"), "generic");
    assert_eq!(name(ProviderKind::Openrouter, None, ""), "openrouter");
    assert_eq!(name(ProviderKind::Openai, None, ""), "openai");
}
