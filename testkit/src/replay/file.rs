//! Typed access to the metadata and tensors of a safetensors file. Every `Err` is the rest of a sentence that starts with the file.

use crate::tolerance::Precision;
use crate::values::Values;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::str::FromStr;

/// More heads or channels than any operation has, and few enough that no product of them overflows.
const MAX_HEADS: usize = 65_535;
const MAX_DIM: usize = 1024;

/// A file that holds one call.
pub struct ReplayFile<'a> {
    metadata: HashMap<String, String>,
    tensors: SafeTensors<'a>,
}

impl<'a> ReplayFile<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let broken = |error| format!("is not a complete safetensors file: {error}");
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(broken)?;
        Ok(ReplayFile {
            metadata: header.metadata().clone().unwrap_or_default(),
            tensors,
        })
    }

    /// A constant.
    pub fn text(&self, name: &str) -> Result<&str, String> {
        self.metadata
            .get(name)
            .map(String::as_str)
            .ok_or_else(|| format!("has no `{name}` in its metadata"))
    }

    /// A constant that may be left out.
    pub fn optional_text(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).map(String::as_str)
    }

    /// A constant that counts something.
    pub fn count(&self, name: &str) -> Result<usize, String> {
        self.count_up_to(name, u32::MAX)
    }

    /// A constant that counts something of which there are not too many.
    pub fn count_up_to(&self, name: &str, most: u32) -> Result<usize, String> {
        let text = self.text(name)?;
        let count = u32::from_str(text).ok().filter(|&count| count <= most);
        let sentence = || format!("`{name}` is `{text}`, expected a whole number from 0 to {most}");
        count.map(|count| count as usize).ok_or_else(sentence)
    }

    /// The softmax scale or output factor.
    pub fn scale(&self) -> Result<f32, String> {
        let text = self.text("scale")?;
        let scale = f32::from_str(text).ok().filter(|scale| scale.is_finite());
        scale.ok_or_else(|| format!("`scale` is `{text}`, expected a finite number"))
    }

    /// Refuses tensors under other names, which a misspelt optional tensor would hide behind.
    pub fn expect_only(&self, names: &[&str]) -> Result<(), String> {
        match self.tensors.names().into_iter().find(|name| !names.contains(name)) {
            Some(name) => Err(format!("has a tensor `{name}`, which the operation does not know")),
            None => Ok(()),
        }
    }

    /// The shape of a tensor of rank three.
    pub fn shape_3(&self, name: &str) -> Result<[usize; 3], String> {
        let tensor = self.required(name)?;
        let shape: Result<[usize; 3], _> = tensor.shape().try_into();
        let shape =
            shape.map_err(|_| format!("tensor `{name}` has shape {:?}, expected three axes", tensor.shape()))?;
        match shape {
            [_, 1..=MAX_HEADS, 1..=MAX_DIM] => Ok(shape),
            _ => {
                let limits = format!("1 to {MAX_HEADS} heads and 1 to {MAX_DIM} channels");
                Err(format!("tensor `{name}` has shape {shape:?}, expected {limits}"))
            }
        }
    }

    /// A 16-bit tensor.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Values, String> {
        let tensor = self.required(name)?;
        check_shape(name, &tensor, shape)?;
        let bits = tensor.data().chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        match tensor.dtype() {
            Dtype::BF16 => Ok(Values::from_bits(Precision::Bf16, bits)),
            Dtype::F16 => Ok(Values::from_bits(Precision::F16, bits)),
            other => Err(wrong_type(name, other, "BF16 or F16")),
        }
    }

    /// q, k and v, which share a type.
    pub fn query_key_value(&self, q: &[usize], k: &[usize], v: &[usize]) -> Result<(Values, Values, Values), String> {
        let (q, k, v) = (self.values("q", q)?, self.values("k", k)?, self.values("v", v)?);
        for (name, values) in [("k", &k), ("v", &v)] {
            if values.precision() != q.precision() {
                return Err(format!(
                    "tensor `{name}` is {}, expected {} as `q` is",
                    values.dtype(),
                    q.dtype()
                ));
            }
        }
        Ok((q, k, v))
    }

    /// A tensor of indices, `expected` elements or any number.
    pub fn indices(&self, name: &str, expected: Option<&[usize]>) -> Result<Vec<i32>, String> {
        let tensor = self.required(name)?;
        if let Some(shape) = expected {
            check_shape(name, &tensor, shape)?;
        }
        if tensor.dtype() != Dtype::I32 {
            return Err(wrong_type(name, tensor.dtype(), "I32"));
        }
        Ok(tensor
            .data()
            .chunks_exact(4)
            .map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect())
    }

    /// A tensor of sequence bounds over `total` tokens.
    pub fn bounds(&self, name: &str, total: usize) -> Result<Vec<i32>, String> {
        let tensor = self.required(name)?;
        if tensor.shape().len() != 1 || tensor.shape()[0] == 0 {
            return Err(format!(
                "tensor `{name}` has shape {:?}, expected [batch + 1]",
                tensor.shape()
            ));
        }
        let bounds = self.indices(name, None)?;
        let is_ordered = bounds.windows(2).all(|pair| pair[0] <= pair[1]);
        if bounds[0] == 0 && is_ordered && i64::from(bounds[bounds.len() - 1]) == total as i64 {
            return Ok(bounds);
        }
        Err(format!(
            "tensor `{name}` must rise from 0 to {total}, but holds {}",
            abbreviated(&bounds)
        ))
    }

    /// An f32 tensor.
    pub fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        let tensor = self.required(name)?;
        check_shape(name, &tensor, shape)?;
        match tensor.dtype() {
            Dtype::F32 => Ok(f32_values(&tensor)),
            other => Err(wrong_type(name, other, "F32")),
        }
    }

    /// An f32 tensor that may be left out.
    pub fn optional_floats(&self, name: &str, shape: &[usize]) -> Result<Option<Vec<f32>>, String> {
        if self.has(name) {
            self.floats(name, shape).map(Some)
        } else {
            Ok(None)
        }
    }

    /// An f32 or f16 tensor that may be left out.
    pub fn optional_numbers(&self, name: &str, shape: &[usize]) -> Result<Option<Vec<f64>>, String> {
        if !self.has(name) {
            return Ok(None);
        }
        let tensor = self.required(name)?;
        check_shape(name, &tensor, shape)?;
        match tensor.dtype() {
            Dtype::F32 => Ok(Some(f32_values(&tensor).into_iter().map(f64::from).collect())),
            Dtype::F16 => Ok(Some(self.values(name, shape)?.to_f64())),
            other => Err(wrong_type(name, other, "F16 or F32")),
        }
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_ok()
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>, String> {
        Ok(self.required(name)?.shape().to_vec())
    }

    fn required(&self, name: &str) -> Result<TensorView<'_>, String> {
        self.tensors.tensor(name).map_err(|_| format!("has no tensor `{name}`"))
    }
}

fn check_shape(name: &str, tensor: &TensorView<'_>, expected: &[usize]) -> Result<(), String> {
    if tensor.shape() == expected {
        return Ok(());
    }
    Err(format!(
        "tensor `{name}` has shape {:?}, expected {expected:?}",
        tensor.shape()
    ))
}

fn wrong_type(name: &str, got: Dtype, expected: &str) -> String {
    format!("tensor `{name}` is {got:?}, expected {expected}")
}

fn f32_values(tensor: &TensorView<'_>) -> Vec<f32> {
    tensor
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}

/// A list for a sentence: the first few entries.
fn abbreviated(list: &[i32]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = list.iter().take(SHOWN).map(i32::to_string).collect();
    let rest = if list.len() > SHOWN { ", …" } else { "" };
    format!("[{}{rest}]", shown.join(", "))
}

/// Refuses heads of q that those of k do not divide.
pub fn check_heads(heads_q: usize, heads_kv: usize) -> Result<(), String> {
    if heads_kv == 0 || !heads_q.is_multiple_of(heads_kv) {
        return Err(format!(
            "tensor `q` has {heads_q} heads, expected a multiple of the {heads_kv} of `k`"
        ));
    }
    Ok(())
}
