//! What the program prints.

use crate::config::{Config, Mixer};
use crate::{DECODE_STEPS, Layers};
use demos::meter::Operation;
use half::bf16;
use std::io::{self, Write};

/// The model's layers, and how the sparse ones will attend.
pub fn schedule(out: &mut impl Write, config: &Config, length: usize) -> io::Result<()> {
    let list = |mixer| {
        config
            .layers(mixer)
            .iter()
            .map(usize::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let sparse = &config.sparse_config;
    writeln!(
        out,
        "sparse layers  {}   ({} query and {} key heads of {}; {} blocks of {} per token: {} by content and {} recent)",
        list(Mixer::Sparse),
        config.num_attention_heads,
        config.num_key_value_heads,
        config.head_dim,
        sparse.topk + sparse.local_blocks(),
        sparse.block_size,
        sparse.topk,
        sparse.local_blocks(),
    )?;
    writeln!(
        out,
        "linear layers  {}   ({} heads of {})",
        list(Mixer::Linear),
        config.lightning_nh,
        config.lightning_head_dim
    )?;
    let dense_len = sparse.dense_len;
    let mode = match (length < dense_len, length + DECODE_STEPS < dense_len) {
        (true, true) => format!("dense attention in sparse layers, below {dense_len} tokens"),
        (true, false) => format!("sparse layers go from dense to sparse at {dense_len} tokens"),
        (false, _) => "block-sparse attention in sparse layers".to_owned(),
    };
    writeln!(
        out,
        "prompt         {length} tokens, then {DECODE_STEPS} decoded one by one; {mode}"
    )
}

/// Tables of costs, totals for the whole model, and what came out.
pub fn costs(
    out: &mut impl Write,
    config: &Config,
    length: usize,
    counted: Option<&Layers>,
    timed: Option<&Layers>,
) -> io::Result<()> {
    let tables = [
        (
            format!("prompt of {length} tokens, one layer of each kind"),
            (|layers| &layers.prefill) as fn(&Layers) -> &Vec<Operation>,
        ),
        (
            format!("{DECODE_STEPS} decode steps, one layer of each kind"),
            |layers| &layers.decode,
        ),
    ];
    for (title, operations) in tables {
        writeln!(out, "\n{title}")?;
        table(out, config, counted.map(operations), timed.map(operations))?;
    }
    if let Some(timed) = timed {
        writeln!(
            out,
            "\nwall time: the CPU's clock, from before each launch until {} has finished it, one launch at a time",
            timed.device
        )?;
    }
    writeln!(out)?;
    for layers in [counted, timed].into_iter().flatten() {
        writeln!(
            out,
            "output on {}: root mean square {:.4} from the sparse layer, {:.4} from the linear layer",
            layers.device,
            root_mean_square(&layers.sparse_out),
            root_mean_square(&layers.linear_out),
        )?;
    }
    if let (Some(counted), Some(timed)) = (counted, timed) {
        writeln!(
            out,
            "largest difference between the devices: {:.4} sparse, {:.4} linear",
            largest_difference(&counted.sparse_out, &timed.sparse_out),
            largest_difference(&counted.linear_out, &timed.linear_out),
        )?;
    }
    Ok(())
}

/// One line per operation, and one for all layers of the model.
fn table(
    out: &mut impl Write,
    config: &Config,
    counted: Option<&Vec<Operation>>,
    timed: Option<&Vec<Operation>>,
) -> io::Result<()> {
    writeln!(
        out,
        "  {:<26}{:>9}{:>15}{:>15}{:>13}{:>13}",
        "operation", "launches", "tensor FLOPs", "exponentials", "bytes", "wall time"
    )?;
    let mut total = Cost::default();
    for (index, operation) in counted.or(timed).into_iter().flatten().enumerate() {
        let cost = Cost {
            counts: counted
                .map(|list| &list[index])
                .map(|o| [o.tensor_flops, o.exponentials, o.bytes]),
            seconds: timed.map(|list| list[index].time.as_secs_f64()),
        };
        cost.print(out, operation.name, &operation.launches.to_string())?;
        let mixer = if operation.name.starts_with("linear") {
            Mixer::Linear
        } else {
            Mixer::Sparse
        };
        total.add(&cost, config.layers(mixer).len());
    }
    total.print(out, &format!("all {} layers", config.num_hidden_layers), "")
}

/// What is known of an operation's cost: FLOPs, exponentials and bytes; seconds.
#[derive(Default)]
struct Cost {
    counts: Option<[u64; 3]>,
    seconds: Option<f64>,
}

impl Cost {
    fn add(&mut self, other: &Cost, times: usize) {
        if let Some(counts) = other.counts {
            let sum = self.counts.get_or_insert([0; 3]);
            for (sum, count) in sum.iter_mut().zip(counts) {
                *sum += count * times as u64;
            }
        }
        if let Some(seconds) = other.seconds {
            *self.seconds.get_or_insert(0.0) += seconds * times as f64;
        }
    }

    fn print(&self, out: &mut impl Write, name: &str, launches: &str) -> io::Result<()> {
        let count = |index: usize, unit: &str| match self.counts {
            Some(counts) => scaled(counts[index] as f64, unit),
            None => "-".to_owned(),
        };
        let time = self
            .seconds
            .map_or("-".to_owned(), |seconds| format!("{:.3} ms", 1e3 * seconds));
        writeln!(
            out,
            "  {name:<26}{launches:>9}{:>15}{:>15}{:>13}{time:>13}",
            count(0, "FLOP"),
            count(1, ""),
            count(2, "B")
        )
    }
}

/// A number with three digits or so and a decimal prefix.
fn scaled(number: f64, unit: &str) -> String {
    let prefixes = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match prefixes.into_iter().find(|(size, _)| number >= *size) {
        Some((size, prefix)) => format!("{:.2} {prefix}{unit}", number / size),
        None => format!("{number} {unit}").trim_end().to_owned(),
    }
}

fn root_mean_square(values: &[bf16]) -> f64 {
    (values.iter().map(|x| x.to_f64().powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

fn largest_difference(a: &[bf16], b: &[bf16]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a.to_f64() - b.to_f64()).abs())
        .fold(0.0, f64::max)
}
