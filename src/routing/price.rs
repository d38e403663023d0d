//! What models cost: list prices as data, and what a request costs by them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::config::{Config, ProviderKind};
use crate::dialect::Usage;

pub use crate::config::Price;

/// A price table: by provider and model, then by model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prices {
    models: HashMap<Arc<str>, Price>,
    own: HashMap<Arc<str>, HashMap<Arc<str>, Price>>,
}

// === impl Price ===

impl Price {
    /// What the usage costs in US dollars.
    pub fn cost(&self, usage: &Usage) -> f64 {
        let per_million = self.input * usage.input as f64
            + self.cache_read.unwrap_or(self.input) * usage.cache_read as f64
            + self.cache_write.unwrap_or(self.input) * usage.cache_creation as f64
            + self.output * usage.output as f64;
        per_million / 1_000_000.0
    }
}

// === impl Prices ===

impl Prices {
    /// The vendors' public list prices, as far as this version knows them.
    pub fn builtin() -> &'static Prices {
        static BUILTIN: OnceLock<Prices> = OnceLock::new();
        // A broken table would be a defect of this build, and a test reads it: without one, all is unknown.
        BUILTIN.get_or_init(|| Prices::parse(include_str!("prices.toml")).unwrap_or_default())
    }

    /// Reads a table with a section for each model: `input`, `output`, `cache_read`, `cache_write`.
    pub fn parse(text: &str) -> Result<Prices, toml::de::Error> {
        Ok(Prices { models: toml::from_str(text)?, own: HashMap::new() })
    }

    /// The built-in list, and before it what the config says in `[prices]`: of a model, wherever it is served, or
    /// of `provider/model`, where the config has that provider.
    pub fn of_config(config: &Config) -> Prices {
        let mut prices = Prices::builtin().clone();
        for (name, price) in &config.prices {
            match name.split_once('/') {
                Some((provider, model)) if config.providers.contains_key(provider) => {
                    prices.set(provider, model, *price);
                }
                _ => prices.set_everywhere(name, *price),
            }
        }
        prices
    }

    /// Adds or replaces the price of a model at one provider alone.
    pub fn set(&mut self, provider: &str, model: &str, price: Price) {
        self.own.entry(Arc::from(provider)).or_default().insert(Arc::from(model), price);
    }

    /// Adds or replaces the price of a model, wherever it is served.
    pub fn set_everywhere(&mut self, model: &str, price: Price) {
        self.models.insert(Arc::from(model), price);
    }

    /// The price of a model at a provider: its own entry, else that of the model wherever it is served. A
    /// vendor in front of the name and a date behind it are left out, OpenRouter's `claude-sonnet-4.5` is
    /// Anthropic's `claude-sonnet-4-5`, and its models that end in `:free` are free. A server of one's own costs
    /// nothing unless an entry says so. `None` is unknown.
    pub fn of(&self, provider: &str, kind: ProviderKind, model: &str) -> Option<Price> {
        if let Some(price) = self.own.get(provider).and_then(|own| own.get(model)) {
            return Some(*price);
        }
        if kind == ProviderKind::Local || (kind == ProviderKind::Openrouter && model.ends_with(":free")) {
            return Some(Price::default());
        }
        let by_name = |name: &str| self.models.get(name).copied();
        let bare = model.rsplit_once('/').map_or(model, |(_, bare)| bare);
        by_name(model).or_else(|| by_name(bare)).or_else(|| by_name(without_date(bare))).or_else(|| {
            let dotted = bare.starts_with("claude-") && bare.contains('.');
            dotted.then(|| by_name(&bare.replace('.', "-"))).flatten()
        })
    }

    /// What the usage cost in US dollars; `None` if the price is unknown.
    pub fn cost(&self, provider: &str, kind: ProviderKind, model: &str, usage: &Usage) -> Option<f64> {
        self.of(provider, kind, model).map(|price| price.cost(usage))
    }
}

/// `claude-sonnet-4-5-20250929` and `gpt-4o-2024-08-06` without their dates.
fn without_date(model: &str) -> &str {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    if let Some((name, date)) = model.rsplit_once('-')
        && digits(date, 8)
    {
        return name;
    }
    let mut parts = model.rsplitn(4, '-');
    if let (Some(day), Some(month), Some(year), Some(name)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
        && digits(day, 2)
        && digits(month, 2)
        && digits(year, 4)
    {
        return name;
    }
    model
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const KIND: ProviderKind = ProviderKind::Openrouter;

    #[test]
    fn the_built_in_table_is_whole_and_sane() {
        let prices = Prices::parse(include_str!("prices.toml")).unwrap();
        assert!(prices.models.len() > 15);
        for (name, price) in &prices.models {
            assert!(price.input > 0.0 && price.output >= price.input, "{name}");
            assert!(price.cache_read.is_none_or(|read| read < price.input), "{name}");
            assert!(price.cache_write.is_none_or(|write| write > price.input), "{name}");
        }
        assert_eq!(Prices::builtin(), &prices);
    }

    #[test]
    fn a_model_is_found_by_its_name_with_a_date_or_a_vendor_in_front() {
        let prices = Prices::builtin();
        let sonnet = prices.of("x", KIND, "claude-sonnet-4-5").unwrap();
        assert_eq!(prices.of("x", KIND, "claude-sonnet-4-5-20250929"), Some(sonnet));
        assert_eq!(prices.of("x", KIND, "anthropic/claude-sonnet-4-5"), Some(sonnet));
        assert_eq!(prices.of("x", KIND, "anthropic/claude-sonnet-4.5"), Some(sonnet));
        assert_eq!(prices.of("x", KIND, "gpt-4o-2024-08-06"), prices.of("x", KIND, "gpt-4o"));
        assert!(prices.of("x", KIND, "gpt-5.2").is_some());
        assert_eq!(prices.of("x", KIND, "gpt-5-2"), None);
        assert_eq!(prices.of("x", KIND, "claude-sonnet-4-5-preview"), None, "another model, another price");
        assert_eq!(prices.of("x", KIND, "meta/llama:free"), Some(Price::default()));
        assert_eq!(prices.of("x", KIND, ""), None);
    }

    #[test]
    fn a_providers_own_price_counts_there_and_a_server_of_ones_own_is_free() {
        let mut prices = Prices::builtin().clone();
        let own = Price { input: 1.0, output: 2.0, ..Price::default() };
        prices.set("cheap", "gpt-5", own);
        assert_eq!(prices.of("cheap", KIND, "gpt-5"), Some(own));
        assert_ne!(prices.of("other", KIND, "gpt-5"), Some(own));
        assert_eq!(prices.of("here", ProviderKind::Local, "qwen3"), Some(Price::default()));
        prices.set("here", "qwen3", own);
        assert_eq!(prices.of("here", ProviderKind::Local, "qwen3"), Some(own));
    }

    #[test]
    fn the_config_goes_before_the_list_and_unknown_stays_unknown() {
        let text = "[providers.mine]\nkind = \"openrouter\"\n[prices]\n\
                    \"mine/gpt-5\" = { input = 1.0, output = 2.0 }\n\
                    \"z-ai/glm-9\" = { input = 3.0, output = 4.0, cache_read = 0.5 }\n\
                    claude-sonnet-4-5 = { input = 5.0, output = 6.0 }\n";
        let config: Config = toml::from_str(text).unwrap();
        let prices = Prices::of_config(&config);
        let input = |provider: &str, model: &str| prices.of(provider, KIND, model).map(|price| price.input);
        assert_eq!(input("mine", "gpt-5"), Some(1.0));
        assert_ne!(input("other", "gpt-5"), Some(1.0));
        assert_eq!(input("other", "z-ai/glm-9"), Some(3.0));
        assert_eq!(input("other", "anthropic/claude-sonnet-4.5"), Some(5.0));
        assert_eq!(input("mine", "mystery"), None);
    }

    #[test]
    fn each_sort_of_token_has_its_price() {
        let usage = Usage {
            input: 1_000_000,
            cache_read: 2_000_000,
            cache_creation: 1_000_000,
            output: 100_000,
            ..Usage::default()
        };
        let cost = |model| Prices::builtin().cost("a", ProviderKind::Anthropic, model, &usage);
        let expected = 3.0 + 0.6 + 3.75 + 1.5;
        assert!((cost("claude-sonnet-4-5").unwrap() - expected).abs() < 1e-9);
        assert_eq!(cost("mystery"), None);
    }
}
