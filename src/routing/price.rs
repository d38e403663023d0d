//! What models cost: list prices as data, and what a request costs by them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde::Deserialize;

use crate::config::ProviderKind;
use crate::dialect::Usage;

/// US dollars for a million tokens of each sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Input.
    pub input: f64,
    /// Output, reasoning included.
    pub output: f64,
    /// Input read from the prompt cache; as input where not said.
    #[serde(default)]
    pub cache_read: Option<f64>,
    /// Input written to the prompt cache; as input where not said.
    #[serde(default)]
    pub cache_write: Option<f64>,
}

/// A price table: by `provider/model`, then by model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prices {
    models: HashMap<Arc<str>, Price>,
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

    /// Reads a table: `["model"]` or `["provider/model"]` sections with `input`, `output`, `cache_read`,
    /// `cache_write`.
    pub fn parse(text: &str) -> Result<Prices, toml::de::Error> {
        let models: HashMap<Arc<str>, Price> = toml::from_str(text)?;
        Ok(Prices { models })
    }

    /// Adds or replaces the price of `model` or `provider/model`.
    pub fn set(&mut self, name: &str, price: Price) {
        self.models.insert(Arc::from(name), price);
    }

    /// The price of a model at a provider: its own entry, else that of the model wherever it is served, with
    /// OpenRouter's vendor prefix and a date at the end left out. A server of one's own costs nothing unless
    /// an entry says so. `None` is unknown.
    pub fn of(&self, provider: &str, kind: ProviderKind, model: &str) -> Option<Price> {
        if let Some(price) = self.own(provider, model) {
            return Some(price);
        }
        if kind == ProviderKind::Local {
            return Some(Price::default());
        }
        let by_name = |name: &str| self.models.get(name).copied();
        let bare = model.rsplit_once('/').map_or(model, |(_, bare)| bare);
        by_name(model).or_else(|| by_name(bare)).or_else(|| by_name(without_date(bare)))
    }

    fn own(&self, provider: &str, model: &str) -> Option<Price> {
        // No text is put together for a table that has no entry of the provider's own.
        self.models
            .iter()
            .find(|(name, _)| {
                name.strip_prefix(provider).and_then(|rest| rest.strip_prefix('/')) == Some(model)
            })
            .map(|(_, price)| *price)
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
