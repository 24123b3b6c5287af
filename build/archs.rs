//! For which GPUs the images are.
//!
//! `SALA_CUDA_ARCHS` (or `CUDA_COMPUTE_CAP`, which engines set) narrows the images to the GPUs it names, `80`, `90a`, `sm_120` or `12.0`, separated
//! by commas; `compute_80` names the PTX that later GPUs translate, and `none` leaves everything out. By default a file is compiled for every
//! architecture that src/shapes gives it.

use std::collections::BTreeSet;

use crate::environment::{Failure, variable};

/// Which GPUs the images are for.
pub enum Wanted {
    All,
    These(Vec<Arch>),
}

impl Wanted {
    pub fn read() -> Result<Self, Failure> {
        let by_name = ["SALA_CUDA_ARCHS", "CUDA_COMPUTE_CAP"].map(|name| variable(name).map(|list| (name, list)));
        let Some((name, list)) = by_name.into_iter().flatten().next() else {
            return Ok(Self::All);
        };
        if list.trim() == "none" {
            return Ok(Self::These(Vec::new()));
        }
        let archs = list.split([',', ';', ' ']).filter(|entry| !entry.is_empty());
        let archs: Option<Vec<Arch>> = archs.map(Arch::parse).collect();
        let expected = "compute capabilities such as `80,90a,120`, `compute_80` for PTX, or `none`";
        archs
            .map(Self::These)
            .ok_or_else(|| Failure::new(format!("{name}: expected {expected}, got `{list}`")))
    }

    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::These(archs) if archs.is_empty())
    }

    /// Whether GPUs were named, so that a build without images for them is an error.
    pub fn is_explicit(&self) -> bool {
        matches!(self, Self::These(archs) if !archs.is_empty())
    }

    /// What a file that `archs` lists is compiled for.
    pub fn of(&self, archs: &[&str]) -> Vec<String> {
        let offered: Vec<Arch> = archs.iter().filter_map(|arch| Arch::parse(arch)).collect();
        let chosen: BTreeSet<Arch> = match self {
            Self::All => offered.into_iter().collect(),
            Self::These(wanted) => wanted.iter().filter_map(|gpu| gpu.served_by(&offered)).collect(),
        };
        chosen.iter().map(Arch::name).collect()
    }
}

/// `sm_90a` or `compute_80`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arch {
    is_ptx: bool,
    /// Ten times the major number plus the minor one.
    pub capability: u32,
    /// `a` or `f`: code for this GPU, or this family, alone.
    suffix: String,
}

impl Arch {
    pub fn parse(text: &str) -> Option<Self> {
        let (is_ptx, rest) = match text.strip_prefix("compute_") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("sm_").unwrap_or(text)),
        };
        let digits = rest.trim_end_matches(['a', 'f']);
        let capability = digits.replacen('.', "", 1).parse().ok()?;
        Some(Self {
            is_ptx,
            capability,
            suffix: rest[digits.len()..].to_owned(),
        })
    }

    fn name(&self) -> String {
        format!(
            "{}{}{}",
            if self.is_ptx { "compute_" } else { "sm_" },
            self.capability,
            self.suffix
        )
    }

    /// The best of `offered` for this GPU: machine code of its major number and no later minor number, else PTX.
    fn served_by(&self, offered: &[Self]) -> Option<Self> {
        let same_family =
            |code: &Self| code.capability / 10 == self.capability / 10 && code.capability <= self.capability;
        let runs = |code: &&Self| match (self.is_ptx || code.is_ptx, code.suffix.as_str()) {
            (true, _) => code.is_ptx && code.capability <= self.capability,
            (false, "a") => code.capability == self.capability,
            (false, _) => same_family(code),
        };
        offered
            .iter()
            .filter(runs)
            .max_by_key(|code| (!code.is_ptx, code.capability, code.suffix.clone()))
            .cloned()
    }
}
