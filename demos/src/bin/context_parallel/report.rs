//! What the program prints.

use crate::rank::Cost;
use std::io::{self, Write};

/// A mode's table: what each rank has received and computed.
pub fn costs(out: &mut impl Write, title: &str, costs: &[Cost]) -> io::Result<()> {
    writeln!(out, "\n{title}")?;
    writeln!(
        out,
        "  {:<6}{:>16}{:>16}{:>10}",
        "rank", "received", "tensor FLOPs", "balance"
    )?;
    let mean = costs.iter().map(|cost| cost.flops as f64).sum::<f64>() / costs.len() as f64;
    for (rank, cost) in costs.iter().enumerate() {
        let flops = |text: String| if cost.flops == 0 { "-".to_owned() } else { text };
        writeln!(
            out,
            "  {rank:<6}{:>16}{:>16}{:>10}",
            format!("{:.1} kB", cost.received as f64 / 1e3),
            flops(format!("{:.2} MFLOP", cost.flops as f64 / 1e6)),
            flops(format!("{:.2}", cost.flops as f64 / mean)),
        )?;
    }
    Ok(())
}
