//! The operations of [sala-kernels](sala_kernels) over tensors of [candle](candle_core), on the CPU and (feature `cuda`) on GPUs.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use sala_kernels::{Decay, LinearAttention, LinearShape, lightning_log_decay};
//! use sala_kernels_candle::Kernels;
//!
//! let kernels = Kernels::load(&Device::Cpu)?;
//! let shape = LinearShape { heads_q: 4, heads_kv: 4, dim_k: 64, dim_v: 64 };
//! let layer = LinearAttention::builder(sala_kernels::DType::Bf16, shape, Decay::PerHead).build()?;
//! let qkv = Tensor::ones((300, 4, 64), DType::BF16, &Device::Cpu)?; // what projections give
//! let cu_seqlens = Tensor::new(&[0u32, 100, 300], &Device::Cpu)?; // two sequences
//! let log_decay = Tensor::new(lightning_log_decay(0, 4, 4)?, &Device::Cpu)?;
//! let out = kernels.linear_prefill(&layer, &qkv, &qkv, &qkv, &cu_seqlens, Some(&log_decay), None)?;
//! assert_eq!(out.dims(), [300, 4, 64]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The methods of [`Kernels`] return new tensors, and write caches, pools and states where they are, which are tensors too. For outputs in
//! tensors that there are, for gates, trees, checkpoints and whatever else an operation has, a [`Launch`] turns any tensors into the views
//! that its arguments take.
//!
//! Tensors may have any strides that the operation takes: nothing is copied. Indices and lengths are `U32` or `I32`, as candle makes them
//! (`u32::MAX` is −1). What an operation refuses is an error that names the argument; what it refuses on the device is counted in
//! [`Kernels::status`]. Results have no gradients.

mod keys;
mod launch;
mod memory;
mod operations;

use candle_core::{DType, Device, Error, Result, Tensor};
pub use keys::{Keys, Sequences, SwitchLen};
pub use launch::{Launch, Read, Views, Written};
pub use operations::States;
use sala_kernels::{Status, Stream};

/// The kernels, loaded on a device of candle, and its stream.
#[derive(Debug)]
pub struct Kernels {
    kernels: sala_kernels::Kernels,
    stream: Stream,
    device: Device,
    status: Tensor,
}

impl Kernels {
    /// Loads the kernels on a device of candle.
    ///
    /// # Errors
    /// What [`sala_kernels::Kernels::load`] says, and a device that is neither the CPU nor, with feature `cuda`, a GPU of NVIDIA's.
    pub fn load(device: &Device) -> Result<Self> {
        let (here, stream) = memory::place(device)?;
        Ok(Self {
            kernels: sala_kernels::Kernels::load(&here).map_err(Error::wrap)?,
            stream,
            device: device.clone(),
            status: Tensor::zeros(4, DType::U32, device)?,
        })
    }

    /// The kernels themselves.
    pub fn kernels(&self) -> &sala_kernels::Kernels {
        &self.kernels
    }

    /// The device that they were loaded on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Counts of what launches by the methods of this type have refused on the device so far, `[4]` U32.
    pub fn status(&self) -> &Tensor {
        &self.status
    }

    /// Waits for the device, and fails if anything was refused on it. A launch needs no such check: it is for tests and for the end of a step.
    pub fn check_status(&self) -> Result<()> {
        let counts: Vec<u32> = self.status.to_vec1()?;
        let counts: [u32; 4] = counts.try_into().unwrap_or_default();
        Status::from(counts).check().map_err(Error::wrap)
    }
}
