// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is counted, as text for Prometheus over HTTP.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::histogram::exponential_buckets;
use prometheus_client::registry::Registry;

/// The counters.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Layers that were applied.
    pub applied: Counter,
    /// Bytes of their plain tars.
    pub bytes: Counter,
    /// Layers that were there already.
    pub reused: Counter,
    /// Layers that come on demand.
    pub on_demand: Counter,
    /// Layers that could not be applied.
    pub failed: Counter,
    /// Layers that were made of what containers wrote.
    pub compared: Counter,
    /// How long it took to apply layers, in seconds.
    pub seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            applied: Counter::default(),
            bytes: Counter::default(),
            reused: Counter::default(),
            on_demand: Counter::default(),
            failed: Counter::default(),
            compared: Counter::default(),
            seconds: Histogram::new(exponential_buckets(0.01, 4.0, 8)),
        }
    }
}

impl Metrics {
    /// All of them as text.
    ///
    /// # Errors
    ///
    /// When a text cannot be written.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("ferofs");
        registry.register(
            "layers_applied",
            "Layers that were applied",
            self.applied.clone(),
        );
        registry.register(
            "layer_bytes",
            "Bytes of the plain tars of applied layers",
            self.bytes.clone(),
        );
        registry.register(
            "layers_reused",
            "Layers that were there already",
            self.reused.clone(),
        );
        registry.register(
            "layers_on_demand",
            "Layers that come from a registry when they are read",
            self.on_demand.clone(),
        );
        registry.register(
            "layers_failed",
            "Layers that could not be applied",
            self.failed.clone(),
        );
        registry.register(
            "layers_made",
            "Layers made of what was written to snapshots",
            self.compared.clone(),
        );
        registry.register(
            "apply_seconds",
            "Time to apply a layer",
            self.seconds.clone(),
        );
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}
