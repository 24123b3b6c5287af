//! Opcodes of barriers in shared memory.

use super::names::{Names, Result};
use super::opcode::Opcode;
use crate::operation::{BulkCopy, BulkSource, Mbarrier, Operation, Phase};
use crate::parse::{Operand, Width};

/// What changes nothing here: the order of memory that every arrival and wait has unless it says otherwise.
const ORDER: [&str; 6] = ["shared", "shared::cta", "release", "acquire", "relaxed", "cta"];

/// `mbarrier`; `target` is the architecture that the file is for.
pub fn mbarrier<'t>(
    names: &mut Names<'_, 't>,
    opcode: &mut Opcode<'_>,
    operands: &[Operand<'t>],
    target: u32,
) -> Result<Operation> {
    if opcode.take("pending_count") {
        let [to, from] = operands else {
            return Err("expected a target and a state".to_owned());
        };
        opcode.take("b64");
        return Ok(Operation::PendingCount {
            to: names.target(to, Width::W32)?,
            from: names.source(from, Width::W64)?,
        });
    }
    if !opcode.take("b64") {
        return Err("expected `.b64`".to_owned());
    }
    opcode.ignore(&ORDER);
    let (place, phase) = match operands {
        [place, arrivals] if opcode.take("init") => {
            let arrivals = names.source(arrivals, Width::W32)?;
            (place, Phase::Begin { arrivals })
        }
        [place, bytes] if opcode.take("expect_tx") => {
            since_90(target)?;
            return Ok(Operation::Announce {
                place: names.address(place)?,
                bytes: names.source(bytes, Width::W32)?,
            });
        }
        [state, place, bytes] if opcode.take_all(&["arrive", "expect_tx"]) => {
            since_90(target)?;
            let arrive = Phase::Arrive {
                state: names.target(state, Width::W64)?,
                arrivals: None,
                announced: Some(names.source(bytes, Width::W32)?),
                completes: true,
            };
            (place, arrive)
        }
        [state, place, arrivals @ ..] if arrivals.len() <= 1 && opcode.take("arrive") => {
            let completes = !opcode.take("noComplete");
            if !arrivals.is_empty() && completes && target < 90 {
                return Err("before sm_90 a count needs `.noComplete`".to_owned());
            }
            let count = arrivals.first().map(|count| names.source(count, Width::W32));
            let arrivals = count.transpose()?;
            let state = names.target(state, Width::W64)?;
            let arrive = Phase::Arrive {
                state,
                arrivals,
                announced: None,
                completes,
            };
            (place, arrive)
        }
        [Operand::Name(to), place, parity] if opcode.take("parity") => {
            match opcode.choose(&[("test_wait", 80), ("try_wait", 90)]) {
                Some(since) if target < since => return Err(format!("there is none before sm_{since}")),
                Some(_) => {}
                None => return Err("expected `.test_wait` or `.try_wait`".to_owned()),
            }
            let to = names.predicate(*to)?;
            let parity = names.source(parity, Width::W32)?;
            (place, Phase::Test { to, parity })
        }
        _ => return Err("not known with these operands".to_owned()),
    };
    let place = names.address(place)?;
    Ok(Operation::Mbarrier(Box::new(Mbarrier { place, phase })))
}

fn since_90(target: u32) -> Result<()> {
    if target < 90 {
        return Err("there is none before sm_90".to_owned());
    }
    Ok(())
}

/// `cp.async.bulk`
pub fn bulk<'t>(
    names: &mut Names<'_, 't>,
    opcode: &mut Opcode<'_>,
    operands: &[Operand<'t>],
    target: u32,
) -> Result<Operation> {
    since_90(target)?;
    let target_space = opcode.take("shared::cluster") || opcode.take("shared::cta");
    if !target_space || !opcode.take_all(&["global", "mbarrier::complete_tx::bytes"]) {
        return Err("only known from global to shared memory, counted by an mbarrier".to_owned());
    }
    let (target, source, barrier) = match operands {
        [target, Operand::Element(map, indices), barrier] if opcode.take("tensor") => {
            opcode.take("tile");
            let Operand::Vector(indices) = &**indices else {
                return Err(format!("expected indices, got {indices:?}"));
            };
            if !opcode.take(&format!("{}d", indices.len())) {
                return Err(format!("{} indices for other axes", indices.len()));
            }
            let indices = indices.iter().map(|index| names.source(index, Width::W32));
            let indices = indices.collect::<Result<_>>()?;
            let map = names.address(&Operand::Address(map.clone(), 0))?;
            (target, BulkSource::Box { map, indices }, barrier)
        }
        [target, from, bytes, barrier] => {
            let from = names.address(from)?;
            let bytes = names.source(bytes, Width::W32)?;
            (target, BulkSource::Bytes { from, bytes }, barrier)
        }
        _ => return Err("not known with these operands".to_owned()),
    };
    Ok(Operation::BulkCopy(Box::new(BulkCopy {
        target: names.address(target)?,
        source,
        barrier: names.address(barrier)?,
    })))
}

/// `cp.async.mbarrier`
pub fn with_copies<'t>(
    names: &mut Names<'_, 't>,
    opcode: &mut Opcode<'_>,
    operands: &[Operand<'t>],
) -> Result<Operation> {
    if !opcode.take_all(&["arrive", "noinc", "b64"]) {
        return Err("expected `.arrive.noinc` and `.b64`".to_owned());
    }
    opcode.ignore(&ORDER);
    let [place] = operands else {
        return Err("expected an address".to_owned());
    };
    let place = names.address(place)?;
    let phase = Phase::ArriveWithCopies;
    Ok(Operation::Mbarrier(Box::new(Mbarrier { place, phase })))
}
