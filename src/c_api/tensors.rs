//! Views of the caller's memory.

use super::structs::{self, there};
use crate::sys::c_api::{
    SALA_BF16, SALA_CACHED, SALA_F16, SALA_F32, SALA_HOST, SALA_I32, SALA_PACKED, SALA_PAGED, SALA_SWITCH_KEYS,
    SALA_SWITCH_LENGTHS, SALA_SWITCH_NONE, SALA_U32, sala_compressed_store, sala_key_store, sala_tensor,
};
use crate::{CompressedStore, DType, Device, Error, Keys, MAX_RANK, Result, Sequences, SwitchLen, Tensor, TensorMut};

/// What numbers mean as element types.
const DTYPES: [(u32, &str, DType); 5] = [
    (SALA_BF16, "SALA_BF16", DType::Bf16),
    (SALA_F16, "SALA_F16", DType::F16),
    (SALA_F32, "SALA_F32", DType::F32),
    (SALA_I32, "SALA_I32", DType::I32),
    (SALA_U32, "SALA_U32", DType::U32),
];

/// The element type of a number.
pub(super) fn dtype(argument: &'static str, number: i32) -> Result<DType> {
    structs::one_of(argument, number, &DTYPES)
}

/// Where the tensors of a launch lie.
///
/// Its functions turn pointers of a struct of arguments into views.
///
/// # Safety of its functions
/// A pointer is null or points to a struct whose own pointers are likewise, down to shapes and strides of `ndim` numbers. The memory that tensors
/// describe is there, and stays so for `'a`; that of [`Self::written`] is nobody else's meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'d> {
    pub(super) device: &'d Device,
    /// [`SALA_HOST`], or the device's.
    pub(super) ordinal: i32,
}

impl Place<'_> {
    /// A tensor that may be absent.
    pub(super) unsafe fn optional<'a>(
        &self,
        name: &'static str,
        tensor: *const sala_tensor,
    ) -> Result<Option<Tensor<'a>>> {
        match tensor.is_null() {
            true => Ok(None),
            // SAFETY: the caller's promise.
            false => unsafe { self.read(name, tensor) }.map(Some),
        }
    }

    /// A tensor that kernels write, and that may be absent.
    pub(super) unsafe fn optional_written<'a>(
        &self,
        name: &'static str,
        tensor: *const sala_tensor,
    ) -> Result<Option<TensorMut<'a>>> {
        match tensor.is_null() {
            true => Ok(None),
            // SAFETY: the caller's promise.
            false => unsafe { self.written(name, tensor) }.map(Some),
        }
    }

    /// A tensor that kernels write.
    pub(super) unsafe fn written<'a>(&self, name: &'static str, tensor: *const sala_tensor) -> Result<TensorMut<'a>> {
        // SAFETY: the caller's promise.
        let tensor = unsafe { self.read(name, tensor)? };
        TensorMut::unique(tensor).map_err(|error| about(name, error))
    }

    /// A tensor that kernels read.
    pub(super) unsafe fn read<'a>(&self, name: &'static str, tensor: *const sala_tensor) -> Result<Tensor<'a>> {
        let expected = "a tensor";
        if tensor.is_null() {
            return Err(Error::argument(name, expected, "NULL"));
        }
        // SAFETY: the caller's promise.
        let tensor = *unsafe { there(name, tensor)? };
        let dtype = dtype(name, tensor.dtype)
            .map_err(|_| Error::argument(name, "a dtype of sala_dtype", format_args!("dtype {}", tensor.dtype)))?;
        if tensor.device != self.ordinal {
            let (expected, got) = (device_name(self.ordinal), device_name(tensor.device));
            return Err(Error::argument(name, format_args!("memory of {expected}"), got));
        }
        if tensor.reserved != 0 {
            let got = format!("reserved {}", tensor.reserved);
            return Err(Error::argument(name, "a tensor whose field reserved is 0", got));
        }
        let rank = usize::try_from(tensor.ndim)
            .ok()
            .filter(|rank| (1..=MAX_RANK).contains(rank));
        let Some(rank) = rank else {
            return Err(Error::argument(name, format_args!("1 to {MAX_RANK} axes"), tensor.ndim));
        };
        let (mut shape, mut strides) = ([0; MAX_RANK], [0; MAX_RANK]);
        // SAFETY: the caller's promise.
        unsafe { axes(name, "shape", tensor.shape, &mut shape[..rank])? };
        let shape = &shape[..rank];
        let address = tensor.data.expose_provenance() as u64;
        let space = self.device.memory_space();
        let view = if tensor.strides.is_null() {
            Tensor::contiguous(space, address, dtype, shape)
        } else {
            // SAFETY: the caller's promise.
            unsafe { axes(name, "strides", tensor.strides, &mut strides[..rank])? };
            Tensor::new(space, address, dtype, shape, &strides[..rank])
        };
        let view = view.map_err(|error| about(name, error))?;
        if tensor.data.is_null() && !view.is_empty() {
            return Err(Error::argument(name, "an address", "data NULL"));
        }
        Ok(view)
    }

    /// Where keys lie.
    pub(super) unsafe fn keys<'a>(&self, keys: *const sala_key_store) -> Result<Keys<'a>> {
        // SAFETY: the caller's promise.
        let store = unsafe { structs::read("keys", keys)? };
        structs::reserved(store.reserved)?;
        let kinds = [
            (SALA_PACKED, "SALA_PACKED", SALA_PACKED),
            (SALA_CACHED, "SALA_CACHED", SALA_CACHED),
            (SALA_PAGED, "SALA_PAGED", SALA_PAGED),
        ];
        let kind = structs::one_of("keys", store.store, &kinds)?;
        let unless =
            |kinds: &[u32], name, tensor: *const sala_tensor| absent_unless(kinds.contains(&kind), name, tensor);
        unless(&[SALA_PACKED], "cu_seqlens_k", store.cu_seqlens_k)?;
        unless(&[SALA_CACHED, SALA_PAGED], "seqlens_k", store.seqlens_k)?;
        unless(&[SALA_CACHED], "cache_index", store.cache_index)?;
        unless(&[SALA_PAGED], "page_table", store.page_table)?;
        // SAFETY: the caller's promise, in each case.
        unsafe {
            Ok(match kind {
                SALA_PACKED => Keys::Packed {
                    cu_seqlens_k: self.read("cu_seqlens_k", store.cu_seqlens_k)?,
                },
                SALA_CACHED => Keys::Cached {
                    seqlens_k: self.read("seqlens_k", store.seqlens_k)?,
                    cache_index: self.optional("cache_index", store.cache_index)?,
                },
                _ => Keys::Paged {
                    seqlens_k: self.read("seqlens_k", store.seqlens_k)?,
                    page_table: self.read("page_table", store.page_table)?,
                },
            })
        }
    }

    /// Where compressed keys lie, if they have a store of their own.
    pub(super) unsafe fn compressed<'a>(
        &self,
        store: *const sala_compressed_store,
    ) -> Result<Option<CompressedStore<'a>>> {
        if store.is_null() {
            return Ok(None);
        }
        // SAFETY: the caller's promise.
        let store = unsafe { structs::read("compressed", store)? };
        structs::reserved(store.reserved)?;
        let kinds = [(SALA_CACHED, "SALA_CACHED", false), (SALA_PAGED, "SALA_PAGED", true)];
        let is_paged = structs::one_of("compressed", store.store, &kinds)?;
        absent_unless(!is_paged, "compressed.cache_index", store.cache_index)?;
        absent_unless(is_paged, "compressed.page_table", store.page_table)?;
        // SAFETY: the caller's promise, in both cases.
        unsafe {
            Ok(Some(match is_paged {
                false => CompressedStore::Cached {
                    cache_index: self.optional("compressed.cache_index", store.cache_index)?,
                },
                true => CompressedStore::Paged {
                    page_table: self.read("compressed.page_table", store.page_table)?,
                    rows_per_page: structs::count("compressed.rows_per_page", store.rows_per_page)?,
                },
            }))
        }
    }

    /// How queries and keys are cut into sequences.
    pub(super) unsafe fn sequences<'a>(
        &self,
        cu_seqlens_q: *const sala_tensor,
        keys: *const sala_key_store,
        [max_seqlen_q, max_seqlen_k]: [i64; 2],
    ) -> Result<Sequences<'a>> {
        // SAFETY: the caller's promise.
        let (cu_seqlens_q, keys) = unsafe { (self.read("cu_seqlens_q", cu_seqlens_q)?, self.keys(keys)?) };
        Ok(Sequences {
            cu_seqlens_q,
            keys,
            max_seqlen_q: structs::bound("max_seqlen_q", max_seqlen_q)?,
            max_seqlen_k: structs::bound("max_seqlen_k", max_seqlen_k)?,
        })
    }

    /// Which length decides whether a sequence is attended densely.
    pub(super) unsafe fn switch_len<'a>(
        &self,
        switch_by: i32,
        lengths: *const sala_tensor,
    ) -> Result<Option<SwitchLen<'a>>> {
        let kinds = [
            (SALA_SWITCH_NONE, "SALA_SWITCH_NONE", SALA_SWITCH_NONE),
            (SALA_SWITCH_KEYS, "SALA_SWITCH_KEYS", SALA_SWITCH_KEYS),
            (SALA_SWITCH_LENGTHS, "SALA_SWITCH_LENGTHS", SALA_SWITCH_LENGTHS),
        ];
        let kind = structs::one_of("switch_by", switch_by, &kinds)?;
        absent_unless(kind == SALA_SWITCH_LENGTHS, "switch_len", lengths)?;
        Ok(match kind {
            SALA_SWITCH_NONE => None,
            SALA_SWITCH_KEYS => Some(SwitchLen::Keys),
            // SAFETY: the caller's promise.
            _ => Some(SwitchLen::Lengths(unsafe { self.read("switch_len", lengths)? })),
        })
    }
}

/// Refuses a tensor that another field gives no meaning to.
fn absent_unless(has_meaning: bool, name: &'static str, tensor: *const sala_tensor) -> Result<()> {
    if has_meaning || tensor.is_null() {
        return Ok(());
    }
    Err(Error::argument(name, "NULL (what is chosen takes none)", "a tensor"))
}

/// Reads sizes or strides.
///
/// # Safety
/// `from` is null or points to as many numbers as there are places in `to`.
unsafe fn axes(name: &'static str, what: &str, from: *const i64, to: &mut [usize]) -> Result<()> {
    if from.is_null() || !from.is_aligned() {
        let got = format!("{what} at {from:p}");
        return Err(Error::argument(
            name,
            format_args!("{} numbers as {what}", to.len()),
            got,
        ));
    }
    // SAFETY: the caller's promise.
    let from = unsafe { std::slice::from_raw_parts(from, to.len()) };
    for (to, &number) in to.iter_mut().zip(from) {
        *to = usize::try_from(number)
            .map_err(|_| Error::argument(name, format_args!("{what} from 0 on"), format_args!("{from:?}")))?;
    }
    Ok(())
}

/// An error of a view, about the argument that it is of.
fn about(name: &'static str, error: Error) -> Error {
    match error {
        Error::Argument { expected, got, .. } => Error::argument(name, expected, got),
        other => other,
    }
}

fn device_name(ordinal: i32) -> String {
    match ordinal {
        SALA_HOST => "the host".to_owned(),
        ordinal => format!("CUDA device {ordinal}"),
    }
}
