//! Opcodes that compute on each lane by itself.

use super::opcode::Opcode;
use crate::alu::{
    Approximate, Bits, Comparison, Convert, Float, Function, Integer, IntegerType, IntegerWidth, Relation, Rounding,
};
use crate::matrix::Element;
use crate::parse::Width;

/// A function, and the widths of its target and sources.
#[derive(Debug)]
pub struct Signature {
    pub function: Function,
    pub to: Width,
    pub from: Vec<Width>,
}

type Result<T> = std::result::Result<T, String>;

impl Signature {
    fn new(function: Function, to: Width, from: &[Width]) -> Self {
        let from = from.to_vec();
        Self { function, to, from }
    }

    fn integer(function: Integer, kind: IntegerType, sources: usize) -> Self {
        let width = width(kind);
        Self::new(Function::Integer(function, kind), width, &vec![width; sources])
    }

    fn bits(function: Bits, to: Width, from: &[Width]) -> Self {
        Self::new(Function::Bits(function), to, from)
    }
}

fn width(kind: IntegerType) -> Width {
    width_of(kind.bits())
}

fn width_of(bits: u32) -> Width {
    match bits {
        64 => Width::W64,
        32 => Width::W32,
        _ => Width::W16,
    }
}

/// The function of an opcode; none if it is not of this kind. `table`: what `lop3` computes.
pub fn signature(opcode: &mut Opcode<'_>, table: Option<u8>) -> Result<Option<Signature>> {
    let found = match opcode.name {
        "cvt" => conversion(opcode)?,
        "cvta" => return Ok(None),
        "mul" | "mad" | "fma" => product(opcode)?,
        "rcp" | "sqrt" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" | "div" if !is_integer(opcode) => {
            special(opcode)?
        }
        "popc" | "clz" | "brev" | "bfind" | "bfe" | "bfi" | "prmt" | "lop3" | "shf" => bits(opcode, table)?,
        _ => return simple(opcode),
    };
    Ok(Some(found))
}

fn is_integer(opcode: &Opcode<'_>) -> bool {
    opcode
        .text
        .rsplit('.')
        .next()
        .is_some_and(|kind| IntegerType::parse(kind).is_some())
}

/// One type for everything.
fn simple(opcode: &mut Opcode<'_>) -> Result<Option<Signature>> {
    let (integer, float, sources) = match opcode.name {
        "mov" => (Some(Integer::Move), None, 1),
        "add" => (Some(Integer::Add), Some(Float::Add), 2),
        "sub" => (Some(Integer::Sub), Some(Float::Sub), 2),
        "div" => (Some(Integer::Divide), None, 2),
        "rem" => (Some(Integer::Remainder), None, 2),
        "min" => (Some(Integer::Min), Some(Float::Min), 2),
        "max" => (Some(Integer::Max), Some(Float::Max), 2),
        "neg" => (Some(Integer::Negate), Some(Float::Negate), 1),
        "abs" => (Some(Integer::Absolute), Some(Float::Absolute), 1),
        "and" => (Some(Integer::And), None, 2),
        "or" => (Some(Integer::Or), None, 2),
        "xor" => (Some(Integer::Xor), None, 2),
        "not" => (Some(Integer::Not), None, 1),
        "shl" => (Some(Integer::ShiftLeft), None, 2),
        "shr" => (Some(Integer::ShiftRight), None, 2),
        "copysign" => (None, Some(Float::CopySign), 2),
        _ => return Ok(None),
    };
    let kind = opcode.kind()?;
    if kind == "f32" {
        let flush = opcode.take("ftz");
        opcode.take("rn");
        let float = match float {
            Some(Float::Min) if opcode.take("NaN") => Float::MinOrNan,
            Some(Float::Max) if opcode.take("NaN") => Float::MaxOrNan,
            Some(float) => float,
            None if opcode.name == "mov" => {
                return Ok(Some(Signature::integer(Integer::Move, IntegerType::U32, 1)));
            }
            None => return Err("not known of floats".to_owned()),
        };
        let from = vec![Width::W32; sources];
        return Ok(Some(Signature::new(Function::Float(float, flush), Width::W32, &from)));
    }
    let kind = match kind {
        "f64" if opcode.name == "mov" => IntegerType::U64,
        _ => integer_type(kind)?,
    };
    let integer = integer.ok_or_else(|| "not known of integers".to_owned())?;
    let mut signature = Signature::integer(integer, kind, sources);
    if matches!(integer, Integer::ShiftLeft | Integer::ShiftRight) {
        signature.from[1] = Width::W32;
    }
    Ok(Some(signature))
}

fn integer_type(kind: &str) -> Result<IntegerType> {
    IntegerType::parse(kind).ok_or_else(|| format!("`.{kind}` is not known here"))
}

fn product(opcode: &mut Opcode<'_>) -> Result<Signature> {
    let kind = opcode.kind()?;
    let adds = opcode.name != "mul";
    let sources = if adds { 3 } else { 2 };
    if kind == "f32" {
        let flush = opcode.take("ftz");
        let rounded = opcode.take("rn");
        let function = match opcode.name {
            "mul" => Float::Multiply,
            // Without a rounding it would be another instruction.
            _ if rounded => Float::MultiplyAdd,
            _ => return Err("expected `.rn`".to_owned()),
        };
        return Ok(Signature::new(
            Function::Float(function, flush),
            Width::W32,
            &vec![Width::W32; sources],
        ));
    }
    let kind = integer_type(kind)?;
    if opcode.take("wide") {
        let (function, to) = match (kind, adds) {
            (IntegerType::S16, false) => (Bits::MultiplyWideS16, Width::W32),
            (IntegerType::U16, false) => (Bits::MultiplyWideU16, Width::W32),
            (IntegerType::S32, false) => (Bits::MultiplyWideS32, Width::W64),
            (IntegerType::U32, false) => (Bits::MultiplyWideU32, Width::W64),
            (IntegerType::S32, true) => (Bits::MultiplyAddWideS32, Width::W64),
            (IntegerType::U32, true) => (Bits::MultiplyAddWideU32, Width::W64),
            _ => return Err("not known of this type".to_owned()),
        };
        let mut from = vec![width(kind); sources];
        if adds {
            from[2] = to;
        }
        return Ok(Signature::bits(function, to, &from));
    }
    let parts = [("lo", false), ("hi", true)];
    let high = opcode
        .choose(&parts)
        .ok_or_else(|| "expected `.lo`, `.hi` or `.wide`".to_owned())?;
    let function = match (high, adds) {
        (false, false) => Integer::MultiplyLow,
        (true, false) => Integer::MultiplyHigh,
        (false, true) => Integer::MultiplyAddLow,
        (true, true) => Integer::MultiplyAddHigh,
    };
    Ok(Signature::integer(function, kind, sources))
}

/// Divisions, roots and transcendental functions of floats.
fn special(opcode: &mut Opcode<'_>) -> Result<Signature> {
    if opcode.kind()? != "f32" {
        return Err("only known of f32".to_owned());
    }
    let flush = opcode.take("ftz");
    let approximate = opcode.take("approx") || (opcode.name == "div" && opcode.take("full"));
    let from = if opcode.name == "div" {
        vec![Width::W32; 2]
    } else {
        vec![Width::W32]
    };
    let function = if approximate {
        let function = match opcode.name {
            "rcp" => Approximate::Reciprocal,
            "sqrt" => Approximate::SquareRoot,
            "rsqrt" => Approximate::ReciprocalSquareRoot,
            "ex2" => Approximate::Exp2,
            "lg2" => Approximate::Log2,
            "sin" => Approximate::Sine,
            "cos" => Approximate::Cosine,
            "tanh" => Approximate::Tanh,
            _ => Approximate::Divide,
        };
        Function::Approximate(function, flush)
    } else if opcode.take("rn") {
        let function = match opcode.name {
            "rcp" => Float::Reciprocal,
            "sqrt" => Float::SquareRoot,
            "div" => Float::Divide,
            _ => return Err("expected `.approx`".to_owned()),
        };
        Function::Float(function, flush)
    } else {
        return Err("expected `.approx` or `.rn`".to_owned());
    };
    Ok(Signature::new(function, Width::W32, &from))
}

fn bits(opcode: &mut Opcode<'_>, table: Option<u8>) -> Result<Signature> {
    use Width::{W32, W64};
    let shift = opcode.name == "bfind" && opcode.take("shiftamt");
    let funnel = match opcode.name {
        "shf" => {
            let left = opcode.choose(&[("l", true), ("r", false)]);
            let wrap = opcode.choose(&[("wrap", true), ("clamp", false)]);
            left.zip(wrap)
        }
        _ => None,
    };
    let kind = opcode.kind()?;
    Ok(match (opcode.name, kind) {
        ("popc", "b32") => Signature::bits(Bits::Count32, W32, &[W32]),
        ("popc", "b64") => Signature::bits(Bits::Count64, W32, &[W64]),
        ("clz", "b32") => Signature::bits(Bits::LeadingZeros32, W32, &[W32]),
        ("clz", "b64") => Signature::bits(Bits::LeadingZeros64, W32, &[W64]),
        ("brev", "b32") => Signature::bits(Bits::Reverse32, W32, &[W32]),
        ("brev", "b64") => Signature::bits(Bits::Reverse64, W64, &[W64]),
        ("bfind", "u32") if shift => Signature::bits(Bits::FindShiftU32, W32, &[W32]),
        ("bfind", "s32") if shift => Signature::bits(Bits::FindShiftS32, W32, &[W32]),
        ("bfind", "u32") => Signature::bits(Bits::FindU32, W32, &[W32]),
        ("bfind", "s32") => Signature::bits(Bits::FindS32, W32, &[W32]),
        ("bfe", "u32") => Signature::bits(Bits::ExtractU32, W32, &[W32, W32, W32]),
        ("bfe", "s32") => Signature::bits(Bits::ExtractS32, W32, &[W32, W32, W32]),
        ("bfe", "u64") => Signature::bits(Bits::ExtractU64, W64, &[W64, W32, W32]),
        ("bfi", "b32") => Signature::bits(Bits::Insert32, W32, &[W32, W32, W32, W32]),
        ("bfi", "b64") => Signature::bits(Bits::Insert64, W64, &[W64, W64, W32, W32]),
        ("prmt", "b32") => Signature::bits(Bits::Permute, W32, &[W32, W32, W32]),
        ("lop3", "b32") => {
            let table = table.ok_or_else(|| "expected a number for the table".to_owned())?;
            Signature::bits(Bits::Logic3(table), W32, &[W32, W32, W32])
        }
        ("shf", "b32") => {
            let function = match funnel {
                Some((true, true)) => Bits::FunnelLeftWrap,
                Some((true, false)) => Bits::FunnelLeftClamp,
                Some((false, true)) => Bits::FunnelRightWrap,
                Some((false, false)) => Bits::FunnelRightClamp,
                None => return Err("expected `.l` or `.r` and `.wrap` or `.clamp`".to_owned()),
            };
            Signature::bits(function, W32, &[W32, W32, W32])
        }
        _ => return Err(format!("`.{kind}` is not known here")),
    })
}

fn element(kind: &str) -> Option<Element> {
    match kind {
        "f16" | "f16x2" => Some(Element::F16),
        "bf16" | "bf16x2" => Some(Element::Bf16),
        _ => None,
    }
}

fn integer_width(kind: &str) -> Option<IntegerWidth> {
    let (signed, bits) = match kind.split_at_checked(1)? {
        ("s", bits) => (true, bits),
        ("u" | "b", bits) => (false, bits),
        _ => return None,
    };
    let bits = bits.parse().ok().filter(|bits| [8, 16, 32, 64].contains(bits))?;
    Some(IntegerWidth { bits, signed })
}

/// `cvt.rounding.to.from`
fn conversion(opcode: &mut Opcode<'_>) -> Result<Signature> {
    let (from, to) = (opcode.kind()?, opcode.kind()?);
    let nearest = opcode.take("rn");
    let integral = opcode.choose(&[
        ("rni", Rounding::NearestEven),
        ("rzi", Rounding::Zero),
        ("rmi", Rounding::Down),
        ("rpi", Rounding::Up),
    ]);
    let register = |kind: IntegerWidth| width_of(kind.bits);
    let new = |function, to, from: &[Width]| Ok(Signature::new(Function::Convert(function), to, from));
    let unknown = || Err(format!("from {from} to {to} is not known"));
    match (element(to), element(from), integer_width(to), integer_width(from)) {
        (Some(element), None, None, None) if from == "f32" && nearest => {
            if to.ends_with("x2") {
                new(Convert::NarrowPair(element), Width::W32, &[Width::W32, Width::W32])
            } else {
                new(Convert::Narrow(element), Width::W16, &[Width::W32])
            }
        }
        (None, Some(element), None, None) if to == "f32" && !from.ends_with("x2") => {
            new(Convert::Widen(element), Width::W32, &[Width::W16])
        }
        (None, None, None, None) if to == "f32" && from == "f32" => match integral {
            Some(rounding) => new(Convert::Round(rounding), Width::W32, &[Width::W32]),
            None => unknown(),
        },
        (None, None, Some(to), None) if from == "f32" => match integral {
            Some(rounding) => new(Convert::ToInteger(rounding, to), register(to), &[Width::W32]),
            None => unknown(),
        },
        (None, None, None, Some(from)) if to == "f32" && nearest => {
            new(Convert::FromInteger(from), Width::W32, &[register(from)])
        }
        (None, None, Some(to), Some(from)) => new(
            Convert::Integer { from, to, wide: false },
            register(to),
            &[register(from)],
        ),
        _ => unknown(),
    }
}

/// The comparison of `setp`, and the width of what it compares.
pub fn comparison(opcode: &mut Opcode<'_>) -> Result<(Comparison, Width)> {
    let kind = opcode.kind()?;
    if kind == "f32" {
        if opcode.take("num") {
            return Ok((Comparison::Numbers, Width::W32));
        }
        if opcode.take("nan") {
            return Ok((Comparison::NotNumbers, Width::W32));
        }
        let unordered = opcode.choose(&[
            ("equ", Relation::Equal),
            ("neu", Relation::NotEqual),
            ("ltu", Relation::Less),
            ("leu", Relation::LessOrEqual),
            ("gtu", Relation::Greater),
            ("geu", Relation::GreaterOrEqual),
        ]);
        let or_unordered = unordered.is_some();
        let relation = unordered.or_else(|| relation(opcode)).ok_or_else(no_relation)?;
        return Ok((Comparison::Float(relation, or_unordered), Width::W32));
    }
    let kind = integer_type(kind)?;
    let unsigned = [
        ("lo", Relation::Less),
        ("ls", Relation::LessOrEqual),
        ("hi", Relation::Greater),
        ("hs", Relation::GreaterOrEqual),
    ];
    let relation = relation(opcode)
        .or_else(|| opcode.choose(&unsigned))
        .ok_or_else(no_relation)?;
    Ok((Comparison::Integer(relation, kind), width(kind)))
}

fn relation(opcode: &mut Opcode<'_>) -> Option<Relation> {
    opcode.choose(&[
        ("eq", Relation::Equal),
        ("ne", Relation::NotEqual),
        ("lt", Relation::Less),
        ("le", Relation::LessOrEqual),
        ("gt", Relation::Greater),
        ("ge", Relation::GreaterOrEqual),
    ])
}

fn no_relation() -> String {
    "expected a relation such as `.lt`".to_owned()
}
