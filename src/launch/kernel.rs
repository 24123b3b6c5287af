//! Kernels that know their parameters, and the variants of an operation.

use std::marker::PhantomData;

use crate::shapes::{self, ElementType, Machine};
use crate::{DType, Error, Result};

/// The parameter struct of a kernel. Implemented in the generated `sys::params`.
pub trait Params: bytemuck::Pod {
    /// Its name in C, and in the table of kernels.
    const NAME: &'static str;
}

/// One kernel instance: its place among [`shapes::instance_names`]. It takes a `P`, as the table of kernels says.
#[derive(Debug)]
pub(crate) struct Kernel<P> {
    index: u16,
    params: PhantomData<fn(&P)>,
}

impl<P> Clone for Kernel<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Kernel<P> {}

impl<P: Params> Kernel<P> {
    /// The instance of a kernel file for an element type and numbers, one per axis.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the table has no such instance, or one with other parameters.
    pub(crate) fn find(machine: Machine, file: &str, element: Option<DType>, values: &[u32]) -> Result<Self> {
        let element = element.map(element_type).transpose()?;
        let mut index = 0;
        for candidate in shapes::compiled_files() {
            let instances = candidate.instances();
            let is_file = candidate.machine == machine && candidate.name == file && candidate.params == P::NAME;
            let found = instances
                .iter()
                .position(|instance| is_file && instance.element == element && instance.values == values);
            if let Some(found) = found {
                return Ok(Self {
                    index: index + found as u16,
                    params: PhantomData,
                });
            }
            index += instances.len() as u16;
        }
        let element = element.map(|element| element.name().to_owned());
        let shape: Vec<_> = element.into_iter().chain(values.iter().map(u32::to_string)).collect();
        Err(Error::unsupported(
            format!("{file} for {}", shape.join(", ")),
            "no kernel of that shape is compiled",
        ))
    }
}

impl<P> Kernel<P> {
    /// Its place in the list of instances.
    pub(crate) fn index(self) -> usize {
        usize::from(self.index)
    }
}

fn element_type(dtype: DType) -> Result<ElementType> {
    match dtype {
        DType::Bf16 => Ok(ElementType::Bf16),
        DType::F16 => Ok(ElementType::F16),
        _ => Err(Error::argument("dtype", "bf16 or f16", dtype)),
    }
}

/// One way to launch an operation: a kernel, the size of its blocks, and how its work is cut (`T`, which the operation knows).
///
/// An operation holds its variants best first, and [`Kernels::pick`](super::Kernels::pick) takes the first that runs.
#[derive(Debug, Clone)]
pub(crate) struct Variant<P, T = ()> {
    pub(crate) kernel: Kernel<P>,
    pub(crate) machine: Machine,
    pub(crate) threads: u32,
    /// Dynamic shared memory of a block in bytes: exactly what the kernel's plan takes.
    pub(crate) shared: u32,
    pub(crate) tile: T,
}

impl<P: Params, T> Variant<P, T> {
    /// The variant of the kernel file of that name for any GPU.
    pub(crate) fn base(
        file: &str,
        element: Option<DType>,
        values: &[u32],
        threads: usize,
        shared: usize,
        tile: T,
    ) -> Result<Self> {
        Self::of(Machine::Base, file, element, values, threads, shared, tile)
    }

    /// That for one kind of GPU.
    pub(crate) fn of(
        machine: Machine,
        file: &str,
        element: Option<DType>,
        values: &[u32],
        threads: usize,
        shared: usize,
        tile: T,
    ) -> Result<Self> {
        Ok(Self {
            kernel: Kernel::find(machine, file, element, values)?,
            machine,
            threads: threads as u32,
            shared: shared as u32,
            tile,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::params::{sala_compress_keys_params, sala_linear_attention_params, sala_linear_prefill_params};

    #[test]
    fn an_index_is_a_place_in_the_list_of_names() {
        let element = Some(DType::F16);
        let name = |index| shapes::instance_names().nth(index);
        let scan =
            Kernel::<sala_linear_prefill_params>::find(Machine::Base, "linear_attention_scan", element, &[128, 64]);
        let scan = scan.unwrap();
        assert_eq!(name(scan.index()).as_deref(), Some("linear_attention_scan_f16_128_64"));
        let decode =
            Kernel::<sala_linear_attention_params>::find(Machine::Base, "linear_attention_decode", element, &[64]);
        let decode = decode.unwrap();
        assert_eq!(name(decode.index()).as_deref(), Some("linear_attention_decode_f16_64"));
    }

    #[test]
    fn an_unknown_shape_is_refused() {
        let find = Kernel::<sala_linear_attention_params>::find;
        let error = find(Machine::Base, "linear_attention_scan", Some(DType::Bf16), &[64, 256]).unwrap_err();
        let expected = "linear_attention_scan for bf16, 64, 256 is not supported: no kernel of that shape is compiled";
        assert_eq!(error.to_string(), expected);
        assert!(find(Machine::Sm90a, "linear_attention_scan", Some(DType::Bf16), &[64, 64]).is_err());
        assert!(find(Machine::Base, "linear_attention_decode", Some(DType::F32), &[64]).is_err());
    }

    #[test]
    fn a_kernel_has_its_own_parameters() {
        let other = Kernel::<sala_compress_keys_params>::find;
        assert!(other(Machine::Base, "linear_attention_decode", Some(DType::F16), &[64]).is_err());
        assert!(other(Machine::Base, "compress_keys", Some(DType::F16), &[64]).is_ok());
    }

    #[test]
    fn names_are_unique_and_parameters_known() {
        let mut names: Vec<_> = shapes::instance_names().collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        for file in shapes::compiled_files() {
            let sizes = crate::sys::params::SIZES;
            assert!(sizes.iter().any(|(name, _)| *name == file.params), "{}", file.name);
        }
    }
}
