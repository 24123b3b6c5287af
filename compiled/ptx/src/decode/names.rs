//! What names and operands stand for.

use std::collections::HashMap;

use crate::operation::{Address, Value};
use crate::parse::{Body, Name, Operand, Width};
use crate::registers::{LANES, Predicate, Register, Slot};

/// An error without its place.
pub type Result<T> = std::result::Result<T, String>;

/// The registers, constants and variables of a kernel.
#[derive(Debug)]
pub struct Names<'b, 't> {
    pub body: &'b Body<'t>,
    /// Addresses of variables in their spaces.
    pub variables: HashMap<String, u64>,
    registers: HashMap<Name<'t>, Register>,
    /// The width of each register.
    pub widths: Vec<Width>,
    predicates: HashMap<Name<'t>, u32>,
    /// The pool of constants.
    pub constants: Vec<Slot>,
    known_constants: HashMap<(u64, bool), Register>,
}

impl<'b, 't> Names<'b, 't> {
    pub fn new(body: &'b Body<'t>, variables: HashMap<String, u64>) -> Self {
        Self {
            body,
            variables,
            registers: HashMap::new(),
            widths: Vec::new(),
            predicates: HashMap::new(),
            constants: Vec::new(),
            known_constants: HashMap::new(),
        }
    }

    /// How many predicates were named.
    pub fn predicate_count(&self) -> usize {
        self.predicates.len()
    }

    /// The declared width of a register; none if the name is not one's.
    fn declared(&self, name: Name<'t>) -> Option<Width> {
        if let Some(declaration) = self
            .body
            .registers
            .get(&name)
            .filter(|declaration| declaration.count.is_none())
        {
            return Some(declaration.width);
        }
        let common = name.text.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let number: u32 = name.text[common.len()..].parse().ok()?;
        let common = Name { text: common, scope: 0 };
        let declaration = self.body.registers.get(&common)?;
        (number < declaration.count?).then_some(declaration.width)
    }

    /// A register that no name stands for.
    pub fn fresh(&mut self, width: Width) -> Register {
        self.widths.push(width);
        Register(self.widths.len() as u32 - 1)
    }

    fn register(&mut self, name: Name<'t>) -> Result<(Register, Width)> {
        if let Some(&register) = self.registers.get(&name) {
            return Ok((register, self.widths[register.0 as usize]));
        }
        match self.declared(name) {
            None => Err(format!("{} is not declared", name.text)),
            Some(Width::Predicate) => Err(format!("{} is a predicate", name.text)),
            Some(width) => {
                let register = self.fresh(width);
                self.registers.insert(name, register);
                Ok((register, width))
            }
        }
    }

    /// A number of a width, as a register.
    pub fn constant(&mut self, value: u64, width: Width) -> Register {
        let wide = width == Width::W64;
        let value = if wide { value } else { value & 0xffff_ffff };
        if let Some(&register) = self.known_constants.get(&(value, wide)) {
            return register;
        }
        let register = Register::constant(self.constants.len() as u32);
        if wide {
            // In memory as 32 numbers of 64 bits.
            let words = |first: usize| Slot(std::array::from_fn(|index| half(value, first + index)));
            self.constants.extend([words(0), words(LANES)]);
        } else {
            self.constants.push(Slot([value as u32; LANES]));
        }
        self.known_constants.insert((value, wide), register);
        register
    }

    /// What an instruction reads: a register of exactly this width, a number, or the address of a variable.
    pub fn source(&mut self, operand: &Operand<'t>, width: Width) -> Result<Register> {
        match operand {
            Operand::Number(value) => Ok(self.constant(*value, width)),
            Operand::Name(name) if name.text == "WARP_SZ" => Ok(self.constant(LANES as u64, width)),
            Operand::Name(name) => match self.variables.get(name.text) {
                Some(&address) => Ok(self.constant(address, width)),
                None => self.of_width(*name, width),
            },
            other => Err(format!("expected a register or a number, got {other:?}")),
        }
    }

    /// The same for `cvt` of integers, which may take less than a register holds; and whether the register has 64 bits.
    pub fn converted(&mut self, operand: &Operand<'t>, width: Width) -> Result<(Register, bool)> {
        let Operand::Name(name) = operand else {
            return Ok((self.source(operand, width)?, width == Width::W64));
        };
        match (width, self.register(*name)?) {
            (Width::W16, (register, Width::W16 | Width::W32)) => Ok((register, false)),
            (Width::W16 | Width::W32, (register, Width::W64)) => Ok((register, true)),
            _ => Ok((self.of_width(*name, width)?, width == Width::W64)),
        }
    }

    /// What an instruction writes: a register of exactly this width.
    pub fn target(&mut self, operand: &Operand<'t>, width: Width) -> Result<Register> {
        match operand {
            Operand::Name(name) if name.text == "_" => Ok(self.fresh(width)),
            Operand::Name(name) => self.of_width(*name, width),
            other => Err(format!("expected a register, got {other:?}")),
        }
    }

    pub fn of_width(&mut self, name: Name<'t>, width: Width) -> Result<Register> {
        let (register, declared) = self.register(name)?;
        if declared == width {
            return Ok(register);
        }
        Err(format!(
            "{} has {}, expected {}",
            name.text,
            bits(declared),
            bits(width)
        ))
    }

    /// A register at least as wide as a type.
    pub fn at_least(&mut self, name: Name<'t>, bytes: u32) -> Result<Value> {
        let (register, width) = self.register(name)?;
        let room = match width {
            Width::Predicate => 0,
            Width::W16 => 2,
            Width::W32 => 4,
            Width::W64 => 8,
        };
        if room < bytes {
            return Err(format!(
                "{} has {}, expected at least {}",
                name.text,
                bits(width),
                8 * bytes
            ));
        }
        Ok(Value {
            register,
            wide: width == Width::W64,
        })
    }

    /// What `st` writes: a register at least as wide as the type, or a number.
    pub fn stored(&mut self, operand: &Operand<'t>, bytes: u32) -> Result<Value> {
        match operand {
            Operand::Name(name) => self.at_least(*name, bytes),
            number => {
                let width = if bytes == 8 { Width::W64 } else { Width::W32 };
                Ok(Value {
                    register: self.source(number, width)?,
                    wide: bytes == 8,
                })
            }
        }
    }

    /// Where `ld` puts an element: a register at least as wide as the type; none for `_`.
    pub fn loaded(&mut self, operand: &Operand<'t>, bytes: u32) -> Result<Option<Value>> {
        match operand {
            Operand::Name(name) if name.text == "_" => Ok(None),
            Operand::Name(name) => self.at_least(*name, bytes).map(Some),
            other => Err(format!("expected a register, got {other:?}")),
        }
    }

    /// The number of a predicate.
    pub fn predicate(&mut self, name: Name<'t>) -> Result<u32> {
        if let Some(&index) = self.predicates.get(&name) {
            return Ok(index);
        }
        if self.declared(name) != Some(Width::Predicate) {
            return Err(format!("{} is no predicate", name.text));
        }
        let index = self.predicates.len() as u32;
        self.predicates.insert(name, index);
        Ok(index)
    }

    /// A predicate that is read, perhaps negated.
    pub fn condition(&mut self, operand: &Operand<'t>) -> Result<Predicate> {
        let (name, negated) = match operand {
            Operand::Name(name) => (*name, false),
            Operand::Not(name) => (*name, true),
            // Nobody writes the predicate without a name, so it holds nowhere.
            Operand::Number(value) => {
                let name = Name {
                    text: "",
                    scope: u32::MAX,
                };
                let count = self.predicates.len() as u32;
                let index = *self.predicates.entry(name).or_insert(count);
                let negated = value & 1 == 1;
                return Ok(Predicate { index, negated });
            }
            other => return Err(format!("expected a predicate, got {other:?}")),
        };
        let index = self.predicate(name)?;
        Ok(Predicate { index, negated })
    }

    /// `[base + offset]`
    pub fn address(&mut self, operand: &Operand<'t>) -> Result<Address> {
        let Operand::Address(base, offset) = operand else {
            return Err(format!("expected an address, got {operand:?}"));
        };
        let constant = |address: u64| Address {
            base: None,
            offset: offset.wrapping_add(address as i64),
        };
        match &**base {
            Operand::Number(address) => Ok(constant(*address)),
            Operand::Name(name) => match self.variables.get(name.text) {
                Some(&address) => Ok(constant(address)),
                None => Ok(Address {
                    base: Some(self.at_least(*name, 4)?),
                    offset: *offset,
                }),
            },
            other => Err(format!("expected an address, got {other:?}")),
        }
    }

    /// The parts of a vector, or the only one.
    pub fn parts<'o>(operand: &'o Operand<'t>) -> &'o [Operand<'t>] {
        match operand {
            Operand::Vector(parts) => parts,
            single => std::slice::from_ref(single),
        }
    }

    /// Exactly so many registers of 32 bits.
    pub fn registers<const N: usize>(&mut self, operand: &Operand<'t>) -> Result<[Register; N]> {
        let parts = Self::parts(operand);
        let registers: Result<Vec<_>> = parts.iter().map(|part| self.source(part, Width::W32)).collect();
        registers?
            .try_into()
            .map_err(|found: Vec<_>| format!("expected {N} registers, got {}", found.len()))
    }

    /// Targets of 32 bits.
    pub fn targets(&mut self, operand: &Operand<'t>) -> Result<Box<[Register]>> {
        Self::parts(operand)
            .iter()
            .map(|part| self.target(part, Width::W32))
            .collect()
    }

    /// Sources of 32 bits.
    pub fn sources(&mut self, operand: &Operand<'t>) -> Result<Box<[Register]>> {
        Self::parts(operand)
            .iter()
            .map(|part| self.source(part, Width::W32))
            .collect()
    }
}

/// The word of that index among many copies of a number.
fn half(value: u64, index: usize) -> u32 {
    let bytes = value.to_ne_bytes();
    let [low, high] = [0, 4].map(|at| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
    if index.is_multiple_of(2) { low } else { high }
}

fn bits(width: Width) -> &'static str {
    match width {
        Width::Predicate => "1 bit",
        Width::W16 => "16 bits",
        Width::W32 => "32 bits",
        Width::W64 => "64 bits",
    }
}
