//! The fields of a model's `config.json` that decide its attention layers.

use serde::Deserialize;
use serde_json::error::Category;
use std::fs;
use std::path::Path;

/// Those fields, under the names they have in the file. Others are ignored.
#[derive(Debug, Deserialize)]
pub struct Config {
    pub num_hidden_layers: usize,
    /// What each layer mixes tokens with.
    pub mixer_types: Vec<Mixer>,
    pub rms_norm_eps: f32,
    pub rope_theta: f64,

    /// Query heads of a sparse layer.
    pub num_attention_heads: usize,
    /// Key and value heads of a sparse layer.
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    #[serde(default)]
    pub attn_use_rope: bool,
    #[serde(default)]
    pub attn_use_output_gate: bool,
    pub sparse_config: SparseConfig,

    /// Query heads of a linear layer.
    pub lightning_nh: usize,
    /// Key and value heads of a linear layer.
    pub lightning_nkv: usize,
    pub lightning_head_dim: usize,
    pub lightning_scale: String,
    #[serde(default)]
    pub lightning_use_rope: bool,
    #[serde(default)]
    pub qk_norm: bool,
    #[serde(default)]
    pub use_output_norm: bool,
    #[serde(default)]
    pub use_output_gate: bool,
}

/// What a layer mixes tokens with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Mixer {
    /// Block-sparse softmax attention.
    #[serde(rename = "minicpm4")]
    Sparse,
    /// Linear attention with Lightning's decay.
    #[serde(rename = "lightning-attn")]
    Linear,
}

/// How a sparse layer chooses blocks.
#[derive(Debug, Deserialize)]
pub struct SparseConfig {
    /// Tokens of a window of compressed keys, and from one window to the next.
    pub kernel_size: usize,
    pub kernel_stride: usize,
    pub block_size: usize,
    pub init_blocks: usize,
    /// Tokens before a query that it always reads.
    pub window_size: usize,
    /// Blocks read besides those of the window.
    pub topk: usize,
    /// Shorter sequences are attended densely.
    pub dense_len: usize,
}

impl SparseConfig {
    /// Blocks before its own that a token always reads.
    pub fn local_blocks(&self) -> usize {
        self.window_size / self.block_size
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// A sentence that names the file and, where one is at fault, the field.
    pub fn read(path: &Path) -> Result<Config, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Config::parse(&text).map_err(|fault| format!("{}: {fault}", path.display()))
    }

    /// The fields as MiniCPM-SALA was released with them.
    pub fn released() -> Result<Config, String> {
        Config::parse(include_str!("config.json"))
    }

    fn parse(text: &str) -> Result<Config, String> {
        let config: Config = serde_json::from_str(text).map_err(|error| match error.classify() {
            // A field that is missing, or holds something else: serde names it.
            Category::Data => error.to_string(),
            _ => format!("not JSON: {error}"),
        })?;
        config.check()?;
        Ok(config)
    }

    /// The scale of a linear layer's outputs; anything but the two known names is no scaling.
    pub fn linear_scale(&self) -> f32 {
        let dim = self.lightning_head_dim as f32;
        match self.lightning_scale.as_str() {
            "1/sqrt(d)" => dim.sqrt().recip(),
            "1/d" => dim.recip(),
            _ => 1.0,
        }
    }

    /// The layers with a mixer.
    pub fn layers(&self, mixer: Mixer) -> Vec<usize> {
        (0..self.mixer_types.len())
            .filter(|&layer| self.mixer_types[layer] == mixer)
            .collect()
    }

    /// What this program relies on. What the kernels rely on they check themselves.
    fn check(&self) -> Result<(), String> {
        let sparse = &self.sparse_config;
        let rules = [
            (
                self.mixer_types.len() == self.num_hidden_layers,
                "mixer_types",
                "one entry for each of num_hidden_layers",
            ),
            (
                !self.layers(Mixer::Sparse).is_empty(),
                "mixer_types",
                "at least one sparse layer (minicpm4)",
            ),
            (
                !self.layers(Mixer::Linear).is_empty(),
                "mixer_types",
                "at least one linear layer (lightning-attn)",
            ),
            (
                self.head_dim > 0 && self.num_attention_heads > 0,
                "head_dim and num_attention_heads",
                "positive numbers",
            ),
            (self.num_key_value_heads > 0, "num_key_value_heads", "a positive number"),
            (
                self.lightning_head_dim > 0 && self.lightning_nh > 0,
                "lightning_head_dim and lightning_nh",
                "positive numbers",
            ),
            (
                self.lightning_head_dim.is_multiple_of(2),
                "lightning_head_dim",
                "an even number (rotary embedding)",
            ),
            (
                self.lightning_nkv == self.lightning_nh,
                "lightning_nkv",
                "the same as lightning_nh",
            ),
            (
                self.qk_norm && self.use_output_norm && self.use_output_gate,
                "qk_norm, use_output_norm and use_output_gate",
                "true: linear layers norm, turn and gate in one kernel each",
            ),
            (
                !self.attn_use_rope,
                "attn_use_rope",
                "false: sparse layers have no rotary embedding here",
            ),
            (sparse.block_size > 0, "sparse_config.block_size", "a positive number"),
            (
                sparse.window_size.is_multiple_of(sparse.block_size),
                "sparse_config.window_size",
                "a multiple of block_size",
            ),
            (
                2 * sparse.kernel_size == sparse.block_size,
                "sparse_config.kernel_size",
                "half of block_size",
            ),
            (
                4 * sparse.kernel_stride == sparse.block_size,
                "sparse_config.kernel_stride",
                "a quarter of block_size",
            ),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, field, rule)) => Err(format!("{field}: expected {rule}")),
            None => Ok(()),
        }
    }
}
