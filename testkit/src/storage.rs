//! How the keys of a call are stored: packed, in caches or in pages, raw and compressed; and the indices and tables that say so.

use crate::memory::{Memory, POISON};
use crate::numbers::Numbers;
use crate::values::Values;
use sala_kernels::{CompressedStore, Keys, Result};
use std::ops::Range;
use std::sync::Arc;

/// How the keys of a call are stored, raw or compressed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// One sequence after the other.
    #[default]
    Packed,
    /// In a cache for each sequence, with room for this many keys; what a sequence does not fill is NaN.
    Cached(usize),
    /// Likewise, in caches that an index names in no order, and of which some are nobody's.
    Indexed(usize),
    /// In pages that a table names in no order, and of which some are nobody's.
    Paged(Pages),
}

/// Pages of keys. Compressed keys lie in them too, if a page has room for a block of keys; otherwise in a store of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages {
    /// Keys of a page.
    pub page_size: usize,
    /// The pages that lie within so many keys are those of the first sequence, which must have the same keys there.
    pub shared: usize,
    /// A page of a sequence that the table names wrongly.
    pub bad: Option<(usize, usize)>,
    /// Where half of the table's entries become any numbers from, if they do.
    pub corrupted: Option<u64>,
    /// The table, if it is not made up.
    pub given: Option<Arc<Table>>,
}

/// What is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Keys and values.
    Keys,
    /// Means of windows of keys, one every `stride`.
    Compressed {
        /// Keys from one to the next.
        stride: usize,
        /// Keys of a block.
        block_size: usize,
    },
}

/// Rows of a page of compressed keys that have a store of their own.
const ROWS_PER_PAGE: usize = 8;

/// A table `[batch, width]`, or an index, for which the width is 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Which store each entry names.
    pub entries: Vec<i32>,
    /// Entries of a sequence.
    pub width: usize,
    /// Stores that may be named.
    pub stores: usize,
}

/// Where rows are stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Places {
    /// Caches or pages; none if rows are packed.
    pub stores: Option<usize>,
    /// Rows of a store.
    pub rows: usize,
    /// For each sequence the place of each of its rows, counted over all stores; none in a bad page.
    pub rows_of: Vec<Vec<Option<usize>>>,
}

impl Pages {
    /// Pages of so many keys.
    pub fn new(page_size: usize) -> Pages {
        Pages {
            page_size,
            shared: 0,
            bad: None,
            corrupted: None,
            given: None,
        }
    }
}

impl Table {
    /// Stores in no order for sequences that need so many each; two more exist, and tables are one entry longer than needed.
    fn shuffled(needed: &[usize], spare: usize, seed: u64) -> Table {
        let width = needed.iter().max().map_or(0, |longest| longest + spare);
        let stores = needed.iter().sum::<usize>() + 2;
        let mut order: Vec<i32> = (0..stores as i32).collect();
        let mut numbers = Numbers::new(seed);
        for last in (1..stores).rev() {
            order.swap(last, numbers.below(last + 1));
        }
        // What no sequence needs names no store.
        let mut entries = vec![i32::MAX; needed.len() * width];
        let mut next = order.into_iter();
        for (entries, &needed) in entries.chunks_mut(width.max(1)).zip(needed) {
            entries[..needed]
                .iter_mut()
                .zip(&mut next)
                .for_each(|(entry, store)| *entry = store);
        }
        Table { entries, width, stores }
    }

    fn row(&self, sequence: usize) -> &[i32] {
        &self.entries[sequence * self.width..(sequence + 1) * self.width]
    }

    /// The place of a row, where stores have so many rows.
    fn place(&self, sequence: usize, row: usize, rows: usize) -> Option<usize> {
        let store = usize::try_from(self.row(sequence)[row / rows]).ok()?;
        (store < self.stores).then_some(store * rows + row % rows)
    }
}

impl Storage {
    /// Pages of so many keys.
    pub fn paged(page_size: usize) -> Storage {
        Storage::Paged(Pages::new(page_size))
    }

    /// Keys that there is room for: of all `total_k` packed ones, or of each sequence.
    pub fn capacity(&self, bounds: &[i32]) -> usize {
        match self {
            Storage::Packed => bounds.last().map_or(0, |&end| end.max(0) as usize),
            Storage::Cached(capacity) | Storage::Indexed(capacity) => *capacity,
            Storage::Paged(pages) => self.page_table(bounds, pages).width * pages.page_size,
        }
    }

    /// Whether compressed keys have a store of their own, for blocks of so many keys.
    fn is_apart(&self, block_size: usize) -> Option<&Pages> {
        match self {
            Storage::Paged(pages) if pages.page_size < block_size => Some(pages),
            _ => None,
        }
    }

    /// Where the rows of sequences are that have the keys that `bounds` cut.
    pub fn places(&self, bounds: &[i32], content: Content) -> Places {
        let lengths = lengths(bounds);
        let stride = match content {
            Content::Keys => 1,
            Content::Compressed { stride, .. } => stride,
        };
        let capacity = self.capacity(bounds);
        let counts = lengths.iter().map(|&length| length.min(capacity) / stride);
        let build = |stores, rows, place: &dyn Fn(usize, usize) -> Option<usize>| Places {
            stores,
            rows,
            rows_of: counts
                .clone()
                .enumerate()
                .map(|(sequence, count)| (0..count).map(|row| place(sequence, row)).collect())
                .collect(),
        };
        let in_caches = |capacity: usize, index: Table| {
            let rows = capacity / stride;
            build(Some(index.stores), rows, &|sequence, row| {
                (row < rows).then(|| index.place(sequence, 0, 1).map(|cache| cache * rows + row))?
            })
        };
        let block_size = match content {
            Content::Keys => 0,
            Content::Compressed { block_size, .. } => block_size,
        };
        if self.is_apart(block_size).is_some() {
            return match self.compressed_table(bounds, block_size) {
                (None, _) => in_caches(capacity, ordered(lengths.len())),
                (Some(index), false) => in_caches(capacity, index),
                (Some(table), true) => build(Some(table.stores), ROWS_PER_PAGE, &|sequence, row| {
                    table.place(sequence, row, ROWS_PER_PAGE)
                }),
            };
        }
        match self {
            Storage::Packed => build(None, capacity / stride, &|sequence, row| {
                Some(bounds[sequence].max(0) as usize / stride + row)
            }),
            Storage::Cached(capacity) => in_caches(*capacity, ordered(lengths.len())),
            Storage::Indexed(capacity) => in_caches(*capacity, self.cache_index(lengths.len())),
            Storage::Paged(pages) => {
                let (table, rows) = (self.page_table(bounds, pages), pages.page_size / stride);
                let first_row = usize::from(content != Content::Keys);
                build(Some(table.stores), rows, &|sequence, row| {
                    let row = row + first_row;
                    (row < table.width * rows).then(|| table.place(sequence, row, rows))?
                })
            }
        }
    }

    /// Uploads what a call is told of where keys lie, raw ones and those compressed for blocks of `block_size`.
    pub fn add_to(&self, memory: &mut Memory, bounds: &[i32], block_size: usize) -> Result<()> {
        let batch = bounds.len() - 1;
        match self {
            Storage::Packed | Storage::Cached(_) => {}
            Storage::Indexed(_) => {
                memory.add("cache_index", &[batch], 0, Some(&self.cache_index(batch).entries))?;
            }
            Storage::Paged(pages) => {
                let Table { entries, width, .. } = self.page_table(bounds, pages);
                memory.add("page_table", &[batch, width], 3, Some(&entries))?;
            }
        }
        if self.is_apart(block_size).is_none() {
            return Ok(());
        }
        match self.compressed_table(bounds, block_size) {
            (None, _) => Ok(()),
            (Some(index), false) => memory.add("compressed.cache_index", &[batch], 0, Some(&index.entries)),
            (Some(table), true) => memory.add("compressed.page_table", &[batch, table.width], 0, Some(&table.entries)),
        }
    }

    /// The store of compressed keys whose table lies in `memory`, if they have one of their own.
    pub fn compressed<'a>(&self, memory: &'a Memory, block_size: usize) -> Option<CompressedStore<'a>> {
        self.is_apart(block_size)?;
        if let Some(table) = memory.get("compressed.page_table") {
            return Some(CompressedStore::paged(table, ROWS_PER_PAGE));
        }
        Some(match memory.get("compressed.cache_index") {
            Some(index) => CompressedStore::cached_at(index),
            None => CompressedStore::cached(),
        })
    }

    /// The table of pages, if keys are stored in some.
    pub fn table(&self, bounds: &[i32]) -> Option<Table> {
        match self {
            Storage::Paged(pages) => Some(self.page_table(bounds, pages)),
            _ => None,
        }
    }

    fn cache_index(&self, batch: usize) -> Table {
        Table::shuffled(&vec![1; batch], 0, 11)
    }

    fn page_table(&self, bounds: &[i32], pages: &Pages) -> Table {
        if let Some(given) = &pages.given {
            return Table::clone(given);
        }
        let Pages {
            page_size,
            shared,
            bad,
            corrupted,
            given: _,
        } = *pages;
        let needed: Vec<usize> = lengths(bounds)
            .iter()
            .map(|length| length.div_ceil(page_size))
            .collect();
        let mut table = Table::shuffled(&needed, 1, page_size as u64);
        for sequence in 1..needed.len() {
            let both = needed[sequence].min(needed[0]).min(shared / page_size);
            let (first, rest) = table.entries.split_at_mut(sequence * table.width);
            rest[..both].copy_from_slice(&first[..both]);
        }
        if let Some((sequence, page)) = bad {
            table.entries[sequence * table.width + page] = if page % 2 == 0 { table.stores as i32 } else { -1 };
        }
        let mut numbers = Numbers::new(corrupted.unwrap_or(0));
        for entry in table.entries.iter_mut().filter(|_| corrupted.is_some()) {
            let any = [
                *entry,
                *entry,
                numbers.below(table.stores) as i32,
                -1,
                i32::MIN,
                table.stores as i32,
            ];
            *entry = numbers.pick(&any);
        }
        table
    }

    /// The table of a store of its own, if it has one, and whether that is of pages.
    fn compressed_table(&self, bounds: &[i32], block_size: usize) -> (Option<Table>, bool) {
        let Some(&Pages { page_size, .. }) = self.is_apart(block_size) else {
            return (None, false);
        };
        let batch = bounds.len() - 1;
        let rows = lengths(bounds).into_iter().map(|length| length * 4 / block_size);
        match page_size {
            1 => (None, false),
            2 => (Some(Table::shuffled(&vec![1; batch], 0, 13)), false),
            _ => {
                let needed: Vec<usize> = rows.map(|rows| rows.div_ceil(ROWS_PER_PAGE)).collect();
                // Room for the rows of as many keys as the table of the keys has room for.
                let capacity = (self.capacity(bounds) * 4 / block_size).div_ceil(ROWS_PER_PAGE);
                let spare = capacity - needed.iter().max().copied().unwrap_or(0);
                (Some(Table::shuffled(&needed, spare, 17)), true)
            }
        }
    }
}

/// The keys whose lengths and places lie in `memory`.
pub fn keys(memory: &Memory) -> Keys<'_> {
    match (
        memory.get("seqlens_k"),
        memory.get("page_table"),
        memory.get("cache_index"),
    ) {
        (None, ..) => Keys::packed(memory.tensor("cu_seqlens_k")),
        (Some(lengths), Some(table), _) => Keys::paged(lengths, table),
        (Some(lengths), None, Some(index)) => Keys::cached_at(lengths, index),
        (Some(lengths), None, None) => Keys::cached(lengths),
    }
}

/// A tensor of keys as it is stored, whatever the strides: `[stores, rows, heads, dim]`, where packed keys have one store. Rows that no
/// sequence has are [`POISON`].
#[derive(Clone, Debug, PartialEq)]
pub struct KeyRows {
    pub bits: Vec<u16>,
    pub places: Places,
    pub heads: usize,
    pub dim: usize,
}

impl KeyRows {
    /// Rows that nothing has filled yet.
    pub fn empty(places: Places, heads: usize, dim: usize) -> KeyRows {
        let bits = vec![POISON; places.stores.unwrap_or(1) * places.rows * heads * dim];
        KeyRows {
            bits,
            places,
            heads,
            dim,
        }
    }

    /// The rows of packed sequences, `[total, heads, dim]` cut by `bounds` (`[batch + 1]`), where they belong. A sequence stores what there is
    /// room for.
    pub fn store(places: Places, values: &Values, bounds: &[i32], heads: usize, dim: usize) -> KeyRows {
        let (row, bits) = (heads * dim, values.to_bits());
        if places.stores.is_none() {
            let rows = bits.len() / row;
            return KeyRows {
                bits,
                places: Places { rows, ..places },
                heads,
                dim,
            };
        }
        let mut stored = KeyRows::empty(places, heads, dim);
        for (sequence, bound) in bounds[..bounds.len() - 1].iter().enumerate() {
            for index in 0..stored.places.rows_of[sequence].len() {
                let from = (*bound as usize + index) * row;
                if let Some(to) = stored.row(sequence, index) {
                    stored.bits[to].copy_from_slice(&bits[from..from + row]);
                }
            }
        }
        stored
    }

    /// The elements of a row of a sequence; none if it has no place.
    pub fn row(&self, sequence: usize, row: usize) -> Option<Range<usize>> {
        let length = self.heads * self.dim;
        let place = self.places.rows_of[sequence].get(row).copied().flatten()?;
        Some(place * length..(place + 1) * length)
    }

    /// The first `count` rows of a sequence; those without a place are [`POISON`].
    pub fn rows(&self, sequence: usize, count: usize) -> Vec<u16> {
        let poison = vec![POISON; self.heads * self.dim];
        let row = |row| {
            self.row(sequence, row)
                .map_or(&poison[..], |elements| &self.bits[elements])
        };
        (0..count).flat_map(row).copied().collect()
    }
}

fn lengths(bounds: &[i32]) -> Vec<usize> {
    bounds
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]).max(0) as usize)
        .collect()
}

/// Sequence b has store b.
fn ordered(batch: usize) -> Table {
    Table {
        entries: (0..batch as i32).collect(),
        width: 1,
        stores: batch,
    }
}
