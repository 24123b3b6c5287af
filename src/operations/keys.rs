//! Where keys lie, and how many each sequence has.

use crate::launch::{MapAxis, MappedTensor, checks};
use crate::sys::params::{SALA_ONE_PAGE, SALA_SWIZZLE_128, sala_key_rows, sala_keys};
use crate::{DType, Error, Result, Tensor};

/// Where the keys of each sequence lie, and how many there are: of k and v, and of the compressed keys unless those have a
/// [`CompressedStore`] of their own.
///
/// Lengths, indices and tables lie on the device and are never read back. A sequence whose lengths do not fit the tensors is refused and
/// counted. Whatever the way of storing, an operation gives the same bits.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Keys<'a> {
    /// One sequence after the other in tensors `[total_k, heads_kv, dim]`.
    #[non_exhaustive]
    Packed {
        /// Where the keys of a sequence begin, `[batch + 1]` i32: from 0, non-decreasing, to at most `total_k`.
        cu_seqlens_k: Tensor<'a>,
    },
    /// Each sequence in a cache of its own, tensors `[caches, capacity, heads_kv, dim]`.
    #[non_exhaustive]
    Cached {
        /// The filled part of each cache, `[batch]` i32, with the tokens of this call.
        seqlens_k: Tensor<'a>,
        /// Which cache a sequence has, `[batch]` i32; −1: none, as padding of a batch has it, and so no keys. Another index that names no cache
        /// refuses the sequence (slots). Absent: sequence b has cache b, and there are as many caches as sequences.
        cache_index: Option<Tensor<'a>>,
    },
    /// In pages of a power of two of tokens up to 1024, tensors `[pages, page_size, heads_kv, dim]` of any strides: tokens or heads first, or
    /// keys and values interleaved in one allocation. Token `t` of sequence `b` is row `t % page_size` of page `page_table[b][t / page_size]`.
    ///
    /// Keys of a page that the table names wrongly are as if they were not visible, and counted (pages). Sequences may share pages.
    #[non_exhaustive]
    Paged {
        /// How many keys each sequence has, `[batch]` i32, with the tokens of this call.
        seqlens_k: Tensor<'a>,
        /// `[batch, max_pages]` i32. Entries past a sequence's length are not read.
        page_table: Tensor<'a>,
    },
}

/// A store of compressed keys apart from the keys: for pages smaller than a block, and wherever a caller likes it.
///
/// Without one, K1 and K2 lie as the keys do. In the pages of the keys, `[pages, page_size / stride, heads_kv, dim]`, a row belongs to the last
/// token of its window, so that a page that two prompts share never depends on the page after it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum CompressedStore<'a> {
    /// Caches `[caches, rows, heads_kv, dim]`.
    #[non_exhaustive]
    Cached {
        /// Which cache a sequence has, `[batch]` i32. Absent: sequence b has cache b.
        cache_index: Option<Tensor<'a>>,
    },
    /// Pages `[pages, rows_per_page, heads_kv, dim]`, a power of two of rows up to 1024, in K1 and K2 alike: row `c` of sequence `b` is row
    /// `c % rows_per_page` of page `page_table[b][c / rows_per_page]`.
    #[non_exhaustive]
    Paged {
        /// `[batch, max_pages]` i32.
        page_table: Tensor<'a>,
        /// Rows of a page.
        rows_per_page: usize,
    },
}

/// The largest page, in rows.
const MAX_PAGE: usize = 1024;

/// A tensor of keys, values or compressed keys as kernels take it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KeyRows {
    /// Rows that there is room for: of all packed sequences together, or of each sequence.
    pub(crate) room: usize,
    /// Caches or pages; packed rows have one.
    stores: usize,
    /// Rows of a page, or of a cache.
    store_rows: usize,
    pub(crate) rows: sala_key_rows,
}

/// How many keys there may be, for [`Keys::params`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Tokens of all packed sequences together, or of each sequence.
    pub(crate) capacity: usize,
    /// Tokens of the longest sequence that the other tensors have room for.
    pub(crate) longest: usize,
    /// Caches that an index may name.
    pub(crate) caches: usize,
}

impl Room {
    /// No bound but that of the kernels' numbers.
    pub(crate) const ANY: Self = Self {
        capacity: i32::MAX as usize,
        longest: usize::MAX,
        caches: i32::MAX as usize,
    };
}

impl<'a> Keys<'a> {
    /// Packed keys: `cu_seqlens_k` `[batch + 1]` i32 says where those of a sequence begin.
    pub fn packed(cu_seqlens_k: Tensor<'a>) -> Self {
        Self::Packed { cu_seqlens_k }
    }

    /// A cache per sequence, in order: `seqlens_k` `[batch]` i32 says how much of it is filled, this call's tokens included.
    pub fn cached(seqlens_k: Tensor<'a>) -> Self {
        Self::Cached {
            seqlens_k,
            cache_index: None,
        }
    }

    /// The cache that `cache_index` `[batch]` i32 names for each sequence.
    pub fn cached_at(seqlens_k: Tensor<'a>, cache_index: Tensor<'a>) -> Self {
        Self::Cached {
            seqlens_k,
            cache_index: Some(cache_index),
        }
    }

    /// Pages that `page_table` `[batch, max_pages]` i32 names, and how many keys each sequence has.
    pub fn paged(seqlens_k: Tensor<'a>, page_table: Tensor<'a>) -> Self {
        Self::Paged { seqlens_k, page_table }
    }

    /// The tensors of lengths and of places with their names.
    pub(crate) fn views(&self) -> [(&'static str, Option<Tensor<'a>>); 2] {
        match *self {
            Self::Packed { cu_seqlens_k } => [("cu_seqlens_k", Some(cu_seqlens_k)), ("cache_index", None)],
            Self::Cached { seqlens_k, cache_index } => [("seqlens_k", Some(seqlens_k)), ("cache_index", cache_index)],
            Self::Paged { seqlens_k, page_table } => [("seqlens_k", Some(seqlens_k)), ("page_table", Some(page_table))],
        }
    }

    /// The number of sequences.
    pub(crate) fn batch(&self) -> Result<usize> {
        match self {
            Self::Packed { cu_seqlens_k } => bounds("cu_seqlens_k", cu_seqlens_k),
            Self::Cached { seqlens_k, .. } | Self::Paged { seqlens_k, .. } => {
                checks::rank("seqlens_k", seqlens_k, 1)?;
                checks::batch("seqlens_k", checks::first_axis(seqlens_k))?;
                Ok(checks::first_axis(seqlens_k))
            }
        }
    }

    /// What kernels are told of the lengths of `batch` sequences.
    pub(crate) fn params(&self, batch: usize, room: Room, max_seqlen: Option<usize>) -> Result<sala_keys> {
        let list = |name, tensor: &Tensor<'_>, length| checks::list(name, tensor, DType::I32, length);
        let (mut cu_seqlens, mut seqlens, mut index) = (0, 0, 0);
        match self {
            Self::Packed { cu_seqlens_k } => cu_seqlens = list("cu_seqlens_k", cu_seqlens_k, batch + 1)?,
            Self::Cached { seqlens_k, cache_index } => {
                seqlens = list("seqlens_k", seqlens_k, batch)?;
                index = checks::optional(*cache_index, |index| list("cache_index", index, batch))?;
            }
            Self::Paged { seqlens_k, page_table } => {
                seqlens = list("seqlens_k", seqlens_k, batch)?;
                table("page_table", page_table, batch)?;
            }
        }
        let longest = room.longest.min(room.capacity);
        Ok(sala_keys {
            cu_seqlens,
            seqlens,
            cache_index: index,
            capacity: i64::try_from(room.capacity).unwrap_or(i64::MAX),
            max_seqlen: checks::saturate(max_seqlen.unwrap_or(longest).min(longest)),
            caches: checks::saturate(room.caches),
        })
    }

    /// Checks a tensor of keys or values, which kernels move in rows of `[heads, dim]`.
    pub(crate) fn rows(
        &self,
        argument: &'static str,
        tensor: &Tensor<'_>,
        dtype: DType,
        batch: usize,
        heads: [usize; 2],
    ) -> Result<KeyRows> {
        match self {
            Self::Packed { .. } => packed(argument, tensor, dtype, heads),
            Self::Cached { cache_index, .. } => {
                let caches = cache_index.is_none().then_some(batch);
                cached(argument, tensor, dtype, caches, heads)
            }
            Self::Paged { page_table, .. } => paged(argument, tensor, dtype, page_table, batch, heads),
        }
    }

    /// Checks K1 or K2, a row of which stands for `stride` tokens, where they lie as the keys do or in a store of their own.
    pub(crate) fn compressed_rows(
        &self,
        argument: &'static str,
        tensor: &Tensor<'_>,
        store: &Option<CompressedStore<'_>>,
        dtype: DType,
        batch: usize,
        heads: [usize; 2],
    ) -> Result<KeyRows> {
        match store {
            None => {
                let mut rows = self.rows(argument, tensor, dtype, batch, heads)?;
                // The row of a window's last token: one further than that of the window's number.
                rows.rows.first_row = i32::from(rows.is_paged());
                Ok(rows)
            }
            Some(CompressedStore::Cached { cache_index: None }) => {
                let mut rows = cached(argument, tensor, dtype, Some(batch), heads)?;
                rows.rows.by_sequence = 1;
                Ok(rows)
            }
            Some(CompressedStore::Cached {
                cache_index: Some(index),
            }) => {
                let mut rows = cached(argument, tensor, dtype, None, heads)?;
                rows.rows.page_table = checks::list("compressed.cache_index", index, DType::I32, batch)?;
                rows.rows.table_stride = 1;
                rows.rows.page_shift = SALA_ONE_PAGE as i32;
                rows.rows.pages = checks::saturate(rows.stores);
                Ok(rows)
            }
            Some(CompressedStore::Paged {
                page_table,
                rows_per_page,
            }) => {
                let rows = paged(argument, tensor, dtype, page_table, batch, heads)?;
                rows.has_store_rows(argument, *rows_per_page, "compressed.rows_per_page")?;
                Ok(rows)
            }
        }
    }
}

impl CompressedStore<'_> {
    /// The tensor of places and its name.
    pub(crate) fn view(store: &Option<Self>) -> (&'static str, Option<Tensor<'_>>) {
        match *store {
            None => ("compressed", None),
            Some(CompressedStore::Cached { cache_index }) => ("compressed.cache_index", cache_index),
            Some(CompressedStore::Paged { page_table, .. }) => ("compressed.page_table", Some(page_table)),
        }
    }
}

impl<'a> CompressedStore<'a> {
    /// A cache per sequence, in order.
    pub fn cached() -> Self {
        Self::Cached { cache_index: None }
    }

    /// The cache that `cache_index` `[batch]` i32 names for each sequence.
    pub fn cached_at(cache_index: Tensor<'a>) -> Self {
        Self::Cached {
            cache_index: Some(cache_index),
        }
    }

    /// Pages of `rows_per_page` rows that `page_table` `[batch, max_pages]` i32 names.
    pub fn paged(page_table: Tensor<'a>, rows_per_page: usize) -> Self {
        Self::Paged {
            page_table,
            rows_per_page,
        }
    }
}

impl KeyRows {
    /// Whether a table says where rows lie.
    pub(crate) fn is_paged(&self) -> bool {
        self.rows.page_table != 0
    }

    /// Keys that there is room for.
    pub(crate) fn room(&self) -> Room {
        Room {
            capacity: self.room,
            longest: self.room,
            caches: self.stores,
        }
    }

    /// Keys that the rows of K1 or K2 are enough for, of which one stands for `stride` tokens.
    pub(crate) fn compressed_room(&self, stride: usize, store: &Option<CompressedStore<'_>>) -> Room {
        if store.is_some() {
            // Row n − 1 is the last of (n + 1)·stride tokens, and of all up to the next multiple.
            let longest = self.room.saturating_add(2).saturating_mul(stride) - 1;
            return Room { longest, ..Room::ANY };
        }
        let spare = if self.is_paged() { 0 } else { stride - 1 };
        let tokens = self.room.saturating_mul(stride).saturating_add(spare);
        Room {
            capacity: tokens,
            longest: tokens,
            caches: self.stores,
        }
    }

    /// Refuses a tensor with another number of caches or pages than `other` has.
    pub(crate) fn has_stores_of(&self, argument: &'static str, other: &KeyRows, name: &str) -> Result<()> {
        if self.stores == other.stores {
            return Ok(());
        }
        let expected = format!("as many caches or pages as {name} ({})", other.stores);
        Err(Error::argument(argument, expected, self.stores))
    }

    /// Refuses pages of another number of rows.
    fn has_store_rows(&self, argument: &'static str, rows: usize, why: &str) -> Result<()> {
        if self.store_rows == rows {
            return Ok(());
        }
        Err(Error::argument(
            argument,
            format!("pages of {rows} rows ({why})"),
            self.store_rows,
        ))
    }

    /// Refuses K1 or K2 in pages of `page_size` keys, unless a page holds a block and has one row for each `stride` of its keys.
    pub(crate) fn fits_pages(
        &self,
        argument: &'static str,
        page_size: usize,
        block_size: usize,
        stride: usize,
    ) -> Result<()> {
        if page_size < block_size {
            let expected = format!("a store (pages of {page_size} keys are smaller than a block of {block_size})");
            return Err(Error::argument("compressed", expected, "none"));
        }
        let why = format!("one for each {stride} of a page's {page_size} keys");
        self.has_store_rows(argument, page_size / stride, &why)
    }

    /// The tensor as tensor copies see it, whatever the way of storing: axes are the elements of a head, heads, rows of a cache or page, and
    /// caches or pages. A box is half a row of 128 elements, or a whole one of 64, of one head and up to `rows` rows: no more than a page has.
    pub(crate) fn mapped(&self, [heads, dim]: [usize; 2], rows: usize) -> MappedTensor<4> {
        let axis = |size, stride, boxed| MapAxis { size, stride, boxed };
        let boxed = if self.is_paged() {
            rows.min(self.store_rows)
        } else {
            rows
        };
        MappedTensor {
            address: self.rows.address,
            axes: [
                axis(dim, 1, 64),
                axis(heads, self.rows.head_stride, 1),
                axis(self.store_rows, self.rows.row_stride, boxed),
                axis(self.stores, self.rows.store_stride, 1),
            ],
            swizzle: SALA_SWIZZLE_128,
        }
    }

    /// Keys of a page.
    pub(crate) fn page_size(&self) -> usize {
        self.store_rows
    }

    /// Refuses fewer rows than `needed`.
    pub(crate) fn has_room_for(&self, argument: &'static str, needed: usize) -> Result<()> {
        if self.room >= needed {
            return Ok(());
        }
        let expected = format!("at least {needed} rows");
        Err(Error::argument(argument, expected, self.room))
    }
}

/// `[rows, heads, dim]`.
fn packed(argument: &'static str, tensor: &Tensor<'_>, dtype: DType, [heads, dim]: [usize; 2]) -> Result<KeyRows> {
    checks::rank(argument, tensor, 3)?;
    let room = checks::first_axis(tensor);
    let rows = checks::rows(argument, tensor, dtype, &[room, heads, dim])?;
    Ok(KeyRows {
        room,
        stores: 1,
        store_rows: room,
        rows: sala_key_rows {
            address: rows.address,
            row_stride: rows.token_stride,
            head_stride: rows.head_stride,
            ..Default::default()
        },
    })
}

/// Checks `[caches, rows, heads, dim]` that are caches in order, whatever the keys of the call are.
pub(crate) fn caches(argument: &'static str, tensor: &Tensor<'_>, dtype: DType, heads: [usize; 2]) -> Result<KeyRows> {
    cached(argument, tensor, dtype, None, heads)
}

/// `[stores, rows, heads, dim]`, of so many stores if that is given.
fn cached(
    argument: &'static str,
    tensor: &Tensor<'_>,
    dtype: DType,
    stores: Option<usize>,
    [heads, dim]: [usize; 2],
) -> Result<KeyRows> {
    checks::rank(argument, tensor, 4)?;
    let room = tensor.shape().get(1).copied().unwrap_or(0);
    let stores = stores.unwrap_or(checks::first_axis(tensor));
    checks::shape(argument, tensor, &[stores, room, heads, dim])?;
    checks::aligned_rows(argument, tensor, dtype)?;
    Ok(KeyRows {
        room,
        stores,
        store_rows: room,
        rows: sala_key_rows {
            address: tensor.address(),
            store_stride: checks::stride(tensor, 0),
            row_stride: checks::stride(tensor, 1),
            head_stride: checks::stride(tensor, 2),
            ..Default::default()
        },
    })
}

/// `[pages, page_size, heads, dim]`.
fn paged(
    argument: &'static str,
    tensor: &Tensor<'_>,
    dtype: DType,
    page_table: &Tensor<'_>,
    batch: usize,
    heads: [usize; 2],
) -> Result<KeyRows> {
    let pages = cached(argument, tensor, dtype, None, heads)?;
    let size = pages.store_rows;
    if !size.is_power_of_two() || size > MAX_PAGE {
        let expected = format!("pages of a power of two of rows, up to {MAX_PAGE}");
        return Err(Error::argument(argument, expected, size));
    }
    let (address, table_stride, max_pages) = table("page_table", page_table, batch)?;
    Ok(KeyRows {
        room: max_pages.saturating_mul(size),
        rows: sala_key_rows {
            page_table: address,
            table_stride,
            pages: checks::saturate(pages.stores),
            page_shift: size.trailing_zeros() as i32,
            ..pages.rows
        },
        ..pages
    })
}

/// Checks a table `[batch, max_pages]`; gives its address, the stride of its rows and `max_pages`.
fn table(argument: &'static str, table: &Tensor<'_>, batch: usize) -> Result<(u64, i64, usize)> {
    let max_pages = checks::last_axis(table);
    let rows = checks::numbers(argument, table, DType::I32, &[batch, max_pages])?;
    Ok((rows.address, rows.token_stride, max_pages))
}

/// The number of sequences that bounds `[batch + 1]` cut.
pub(crate) fn bounds(argument: &'static str, bounds: &Tensor<'_>) -> Result<usize> {
    checks::rank(argument, bounds, 1)?;
    let batch = checks::first_axis(bounds)
        .checked_sub(1)
        .ok_or_else(|| Error::argument(argument, "shape [batch + 1]", "shape [0]"))?;
    checks::batch(argument, batch)?;
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    /// What the map of a tensor of two sequences says of its axes: sizes, strides in elements, and the box for steps of 64 rows.
    fn axes(keys: &Keys<'_>, tensor: &Tensor<'_>, heads: [usize; 2]) -> [(usize, i64, usize); 4] {
        let rows = keys.rows("k", tensor, DType::Bf16, 2, heads).unwrap();
        let mapped = rows.mapped(heads, 64);
        assert_eq!(mapped.address, tensor.address());
        assert!(mapped.is_mappable());
        mapped.axes.map(|axis| (axis.size, axis.stride, axis.boxed))
    }

    #[test]
    fn keys_of_every_storage_have_a_map() {
        let values = vec![bf16::ZERO; 1 << 15];
        let numbers = [0_i32; 8];
        let list = |count| Tensor::from_slice(&numbers[..count], &[count]).unwrap();
        let tensor = |shape: &[usize], strides: &[usize]| Tensor::with_strides(&values, shape, strides).unwrap();

        let packed = tensor(&[50, 3, 128], &[400, 128, 1]);
        let expected = [(128, 1, 64), (3, 128, 1), (50, 400, 64), (1, 0, 1)];
        assert_eq!(axes(&Keys::packed(list(3)), &packed, [3, 128]), expected);

        let cached = tensor(&[2, 100, 2, 64], &[100 * 128, 128, 64, 1]);
        let expected = [(64, 1, 64), (2, 64, 1), (100, 128, 64), (2, 12800, 1)];
        assert_eq!(axes(&Keys::cached(list(2)), &cached, [2, 64]), expected);

        // Heads first, keys and values of a page one behind the other.
        let table = Tensor::from_slice(&numbers, &[2, 4]).unwrap();
        let paged = tensor(&[5, 16, 2, 64], &[2 * 2 * 16 * 64, 64, 16 * 64, 1]);
        let expected = [(64, 1, 64), (2, 1024, 1), (16, 64, 16), (5, 4096, 1)];
        assert_eq!(axes(&Keys::paged(list(2), table), &paged, [2, 64]), expected);
    }
}
