//! The contents of a step's tensors, before they go to the device.

use crate::inputs::{MAX_CHECKPOINTS, MAX_PAGES};

/// The contents of the tensors, sequence by sequence.
#[derive(Default)]
pub struct Lists {
    pub tokens: Vec<u8>,
    pub positions: Vec<i32>,
    /// Rows of each sequence.
    pub rows: Vec<i32>,
    pub base: Vec<i32>,
    pub seqlens_k: Vec<i32>,
    pub page_table: Vec<i32>,
    pub state_in: Vec<i32>,
    pub state_out: Vec<i32>,
    pub checkpoints: Vec<i32>,
}

impl Lists {
    pub fn sequence(&mut self, start: usize, end: usize, pages: &[usize], [state_in, state_out]: [i32; 2]) {
        self.rows.push((end - start) as i32);
        self.base.push(start as i32);
        self.seqlens_k.push(end as i32);
        self.page_table.extend(table_row(pages));
        self.state_in.push(state_in);
        self.state_out.push(state_out);
    }

    /// A sequence without rows and keys. Rows of the projections there are all the same.
    pub fn padding(&mut self, width: usize) {
        self.tokens.extend(vec![0; width]);
        self.positions.extend(vec![0; width]);
        self.sequence(0, 0, &[], [-1; 2]);
    }

    pub fn chunk(&mut self, checkpoints: &[i32]) {
        let slots = checkpoints.iter().copied();
        self.checkpoints
            .extend(slots.chain(std::iter::repeat(-1)).take(MAX_CHECKPOINTS));
    }
}

/// A row of a page table.
pub fn table_row(pages: &[usize]) -> impl Iterator<Item = i32> {
    let pages = pages.iter().map(|&page| page as i32);
    pages.chain(std::iter::repeat(-1)).take(MAX_PAGES)
}

pub fn slot_number(slot: Option<usize>) -> i32 {
    slot.map_or(-1, |slot| slot as i32)
}

/// `0, a, a + b, …`
pub fn sums(counts: &[i32]) -> Vec<i32> {
    let running = counts.iter().scan(0, |sum, count| {
        *sum += count;
        Some(*sum)
    });
    std::iter::once(0).chain(running).collect()
}
