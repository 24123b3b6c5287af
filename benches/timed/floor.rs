//! How long the least work of a call would take on a GPU, at the rates that it is known to reach.

use sala_model::GPUS;
use sala_testkit::floors::Floor;

/// Seconds for the products or for the bytes, whichever take longer; none for a device that is not known.
pub fn seconds(device: &str, floor: &Floor) -> Option<f64> {
    let plain = |name: &str| name.to_ascii_uppercase().replace(['_', '-', ' '], "");
    let device = plain(device);
    let gpu = GPUS.iter().find(|gpu| device.contains(&plain(gpu.name)))?;
    let rate = gpu.warp_product_rate.max(gpu.warpgroup_product_rate);
    let products = floor.flops as f64 / (gpu.teraflops(rate) * 1e12);
    let memory = gpu.memory_microseconds(floor.bytes() as f64) / 1e6;
    Some(products.max(memory))
}

/// What a reader is told.
pub fn sentence(seconds: f64, least: f64) -> String {
    let percent = 100.0 * least / seconds;
    format!("{:.2} µs, {percent:.0} % of the fastest launch", least * 1e6)
}
