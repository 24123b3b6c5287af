//! Products of four warps.
//!
//! Each warp computes its quarter: nothing in it depends on the others. It does so as late as it may, when it waits for the batch; until then
//! its sums are no numbers.

use std::collections::VecDeque;

use super::{Step, Warp};
use crate::fault::{Kind, LaneTrouble, Trouble};
use crate::matrix::{self, Factors, from_register, to_register, transposed};
use crate::memory::{Memory, Space};
use crate::operation::{GroupFactor, GroupMultiply};
use crate::options;
use crate::registers::{ALL, LANES, Lanes, Register};

/// Bytes of a row of a matrix of 8 x 8.
const ROW: u32 = 16;
/// Registers of a row.
const ROW_LANES: usize = 4;
/// What is in the place of sums that are not there yet.
const NO_NUMBER: u32 = 0x7fff_ffff;

/// A matrix in shared memory, as a descriptor says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Matrix {
    start: u64,
    /// Bytes from one panel to the next, where the rows are k.
    panel: u64,
    /// Bytes from eight rows to the next.
    group: u64,
    /// Bytes of a row of a panel, within which vectors are permuted.
    row: u64,
    transposed: bool,
}

impl Matrix {
    fn new(descriptor: u64, transposed: bool) -> Result<Self, Trouble> {
        let field = |from: u32| (descriptor >> from & 0x3fff) << 4;
        let trouble = |message: &str| {
            Err(Trouble::new(
                Kind::Instruction,
                format!("{message}: descriptor {descriptor:#x}"),
            ))
        };
        let row = match descriptor >> 62 {
            1 => 128,
            2 => 64,
            3 => 32,
            _ => return trouble("only known of matrices whose vectors are permuted"),
        };
        if descriptor >> 49 & 7 != 0 {
            return trouble("only known of matrices that begin where the permutation does");
        }
        Ok(Self {
            start: field(0),
            panel: field(16),
            group: field(32),
            row,
            transposed,
        })
    }

    /// Where the eight rows of a matrix of 8 x 8 begin: its first element is `along` down the rows of A or the columns of B, and `k` along k.
    fn rows(&self, along: u64, k: u64) -> [u64; 8] {
        let first = if self.transposed {
            let columns = self.row / 2;
            self.start + along / columns * self.panel + along % columns * 2 + k / 8 * self.group
        } else {
            self.start + along / 8 * self.group + k * 2
        };
        std::array::from_fn(|row| self.permuted(first + row as u64 * self.row))
    }

    /// Bits 4 to 6 of an address change by bits 7 to 9, or fewer of them in shorter rows.
    fn permuted(&self, address: u64) -> u64 {
        address ^ (address >> 7 & (self.row / 16 - 1)) << 4
    }

    /// A matrix of 8 x 8 as a register: a row for each `along`.
    fn load(&self, along: u64, k: u64, memory: &mut Memory<'_>) -> Result<Lanes<u32>, LaneTrouble> {
        let mut register = [0; LANES];
        for (row, address) in self.rows(along, k).into_iter().enumerate() {
            let place = memory
                .read(Space::Shared, address, ROW)
                .map_err(|trouble| trouble.on(row))?;
            // SAFETY: `read` has checked that sixteen bytes lie in shared memory, at a multiple of sixteen, and nobody else uses it now.
            let words: [u32; ROW_LANES] = unsafe { place.cast::<[u32; ROW_LANES]>().read() };
            register[ROW_LANES * row..][..ROW_LANES].copy_from_slice(&words);
        }
        if self.transposed {
            register = to_register(&transposed(&from_register(&register)));
        }
        Ok(register)
    }
}

/// A, as it was when the product was started.
#[derive(Debug)]
enum Left {
    Registers(Box<[Lanes<u32>; 4]>),
    Shared(Matrix),
}

#[derive(Debug)]
struct Product {
    element: matrix::Element,
    to: Box<[Register]>,
    /// What the sums were; none where they are what the product before it leaves.
    before: Option<Vec<Lanes<u32>>>,
    adds: bool,
    a: Left,
    b: Matrix,
}

/// The products that have not happened.
#[derive(Debug, Default)]
pub(super) struct Products {
    started: VecDeque<Product>,
    /// How many products each batch has that has been committed.
    batches: VecDeque<usize>,
    /// Products of the batch that is not committed.
    open: usize,
}

impl Products {
    pub(super) fn commit(&mut self) {
        self.batches.push_back(std::mem::take(&mut self.open));
    }
}

impl Warp<'_> {
    pub(super) fn start_product(&mut self, multiply: &GroupMultiply, memory: &mut Memory<'_>) -> Step {
        let shared = |warp: &Self, descriptor: Register, transposed: bool| {
            let descriptors = warp.registers.get::<u64>(descriptor);
            if descriptors.iter().any(|other| *other != descriptors[0]) {
                let message = "lanes that name different matrices";
                return Err(Trouble::new(Kind::Instruction, message).on(0));
            }
            Matrix::new(descriptors[0], transposed).map_err(|trouble| trouble.on(0))
        };
        let a = match multiply.a {
            GroupFactor::Registers(registers) => {
                Left::Registers(Box::new(registers.map(|register| *self.registers.get::<u32>(register))))
            }
            GroupFactor::Shared { descriptor, transposed } => Left::Shared(shared(self, descriptor, transposed)?),
        };
        let b = match multiply.b {
            GroupFactor::Shared { descriptor, transposed } => shared(self, descriptor, transposed)?,
            GroupFactor::Registers(_) => return Err(Trouble::new(Kind::Instruction, "B in registers").on(0)),
        };
        let follows = self.group_products.started.iter().any(|other| other.to == multiply.to);
        let before = (!follows).then(|| {
            let sums = multiply.to.iter().map(|register| *self.registers.get::<u32>(*register));
            sums.collect()
        });
        let product = Product {
            element: multiply.element,
            to: multiply.to.clone(),
            before,
            adds: self.registers.predicate(multiply.adds) & 1 == 1,
            a,
            b,
        };
        if self.options.copies == options::Copies::Eager {
            return self.perform_product(product, memory);
        }
        for register in &multiply.to {
            self.registers.set(*register, ALL, &[NO_NUMBER; LANES]);
        }
        self.group_products.started.push_back(product);
        self.group_products.open += 1;
        Ok(())
    }

    /// Performs the products of all batches but the newest.
    pub(super) fn wait_for_products(&mut self, newest: u32, memory: &mut Memory<'_>) -> Step {
        while self.group_products.batches.len() > newest as usize {
            for _ in 0..self.group_products.batches.pop_front().unwrap_or(0) {
                if let Some(product) = self.group_products.started.pop_front() {
                    self.perform_product(product, memory)?;
                }
            }
        }
        Ok(())
    }

    fn perform_product(&mut self, product: Product, memory: &mut Memory<'_>) -> Step {
        self.products += 1;
        let quarter = (self.position.warp % 4 * 16) as u64;
        let a = match product.a {
            Left::Registers(registers) => *registers,
            Left::Shared(matrix) => {
                let mut registers = [[0; LANES]; 4];
                for (register, (m, k)) in registers.iter_mut().zip([(0, 0), (8, 0), (0, 8), (8, 8)]) {
                    *register = matrix.load(quarter + m, k, memory)?;
                }
                registers
            }
        };
        for (block, to) in product.to.chunks_exact(4).enumerate() {
            let columns = 8 * block as u64;
            let b = [product.b.load(columns, 0, memory)?, product.b.load(columns, 8, memory)?];
            let sums: [Lanes<u32>; 4] = std::array::from_fn(|index| match &product.before {
                _ if !product.adds => [0; LANES],
                Some(before) => before[4 * block + index],
                None => *self.registers.get::<u32>(to[index]),
            });
            let factors = Factors {
                a: a.each_ref(),
                b: b.each_ref(),
                c: sums.each_ref(),
            };
            let result = matrix::multiply(product.element, self.options.sums, &factors);
            for (register, lanes) in to.iter().zip(&result) {
                self.registers.set(*register, ALL, lanes);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a descriptor of these fields is.
    fn descriptor(start: u64, panel: u64, group: u64, mode: u64) -> u64 {
        start >> 4 | panel >> 4 << 16 | group >> 4 << 32 | mode << 62
    }

    #[test]
    fn rows_are_found_in_panels_of_permuted_vectors() {
        let matrix = Matrix::new(descriptor(2048 + 32, 8192, 1024, 1), false).unwrap();
        // Row 3 of the second group, elements 8 to 15 of k: vector 2 + 1 of the row, which 3 permutes to 0.
        assert_eq!(matrix.rows(8, 8)[3], 2048 + 1024 + 3 * 128);
        let matrix = Matrix::new(descriptor(2048, 8192, 1024, 1), true).unwrap();
        // Column 64 + 16 begins in the second panel; row 8 + 5 of k.
        assert_eq!(matrix.rows(80, 8)[5], 2048 + 8192 + 1024 + 5 * 128 + (2 ^ 5) * 16);
        let matrix = Matrix::new(descriptor(1024, 0, 512, 2), false).unwrap();
        // Two rows of 64 bytes are permuted alike.
        assert_eq!(matrix.rows(0, 8)[3], 1024 + 3 * 64);
    }

    #[test]
    fn descriptors_that_are_not_known_are_refused() {
        assert!(Matrix::new(descriptor(0, 0, 0, 0), false).is_err());
        assert!(Matrix::new(descriptor(0, 0, 0, 1) | 1 << 49, false).is_err());
    }
}
