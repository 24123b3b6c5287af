//! The one table of kernels: their source files, machines, shapes, parameters and tests.
//!
//! The build script compiles what it lists, [`crate::Kernels`] loads it, the tests and `cargo xtask` walk it, so that a kernel is added by adding a
//! row to `kernels.rs`. This folder stands alone (`std` only), because the build script and the xtask include it.

mod kernels;
mod test_kernels;

pub use kernels::KERNELS;
pub use test_kernels::TEST_KERNELS;

/// One kernel source file and the instances that it is compiled into.
#[derive(Debug)]
pub struct KernelFile {
    /// The file's stem. The same name under another [`Self::machine`] is the same operation.
    pub name: &'static str,
    /// What the kernel needs of a GPU.
    pub machine: Machine,
    /// The parameter struct in `include/params`.
    pub params: &'static str,
    /// What it is compiled into.
    pub instances: Instances,
    /// The integration tests (`tests/<name>`) that exercise it.
    pub tests: &'static [&'static str],
}

/// Which machine a kernel is written for; later ones are better where they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Machine {
    /// Unit kernels that only tests launch, on every GPU.
    Tests,
    /// Unit kernels of what GPUs have since compute capability 9.0.
    Sm90Tests,
    /// Unit kernels of what compute capability 9.0 alone has.
    Sm90aTests,
    /// Unit kernels that only the executor runs; compiled for a GPU to see that they compile.
    Faults,
    /// `mma.sync` and `cp.async`: every GPU since compute capability 8.0.
    Base,
    /// TMA and `wgmma`: compute capability 9.0 alone.
    Sm90a,
}

/// The element type of a kernel's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// bfloat16.
    Bf16,
    /// IEEE half precision.
    F16,
}

/// What a kernel file is compiled into.
#[derive(Debug)]
pub enum Instances {
    /// One for each combination of an element type and a number from each axis.
    Shapes {
        /// Element types; empty: the kernel has none.
        elements: &'static [ElementType],
        /// Numeric template parameters.
        axes: &'static [Axis],
        /// Whether a combination of numbers, one per axis, is compiled.
        keep: fn(&[u32]) -> bool,
    },
    /// Kernels of these names, for tests.
    Named(&'static [&'static str]),
}

/// A numeric template parameter.
#[derive(Debug)]
pub struct Axis {
    /// What the number is, for errors.
    pub name: &'static str,
    /// The numbers that there are kernels for.
    pub values: &'static [u32],
}

/// One instance of a kernel file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The symbol in the images and in the executor's registry. No two kernels share one.
    pub name: String,
    /// The element type, if the kernel has one.
    pub element: Option<ElementType>,
    /// A number per axis.
    pub values: Vec<u32>,
}

/// Both element types.
const ELEMENTS: &[ElementType] = &[ElementType::Bf16, ElementType::F16];

impl Machine {
    /// The GPU architectures that its kernels are compiled for, as nvcc's `code=` calls them: an image per generation and PTX for later ones.
    pub const fn archs(self) -> &'static [&'static str] {
        match self {
            Self::Tests | Self::Base => &["sm_80", "sm_90a", "sm_100", "sm_120", "compute_80"],
            Self::Sm90Tests => &["sm_90a", "sm_100", "sm_120"],
            Self::Faults => &["compute_80"],
            Self::Sm90a | Self::Sm90aTests => &["sm_90a"],
        }
    }

    /// The folder of its kernels.
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Tests | Self::Sm90Tests | Self::Sm90aTests | Self::Faults => "cuda/tests",
            Self::Base => "cuda/base",
            Self::Sm90a => "cuda/sm90a",
        }
    }
}

impl ElementType {
    /// The type in C++, and in names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }
}

impl KernelFile {
    /// The source file, relative to the crate's root.
    pub fn source(&self) -> String {
        format!("{}/{}.cu", self.machine.folder(), self.name)
    }

    /// The name of the image, and what instance names begin with: the file's stem, with the machine where that is a special one.
    pub fn stem(&self) -> String {
        match self.machine {
            Machine::Sm90a => format!("sm90a_{}", self.name),
            _ => self.name.to_owned(),
        }
    }

    /// Its numeric template parameters.
    pub fn axes(&self) -> &'static [Axis] {
        match self.instances {
            Instances::Shapes { axes, .. } => axes,
            Instances::Named(_) => &[],
        }
    }

    /// Every compiled instance; the last axis varies fastest.
    pub fn instances(&self) -> Vec<Instance> {
        match &self.instances {
            Instances::Named(names) => names.iter().map(|name| self.instance(None, &[], &[name])).collect(),
            Instances::Shapes { elements, axes, keep } => {
                let mut combinations = vec![Vec::new()];
                for axis in *axes {
                    combinations = combinations.iter().flat_map(|head| extend_each(head, axis)).collect();
                }
                combinations.retain(|values| keep(values));
                let elements = elements.iter().map(|&element| Some(element));
                let elements: Vec<_> = if elements.len() == 0 {
                    vec![None]
                } else {
                    elements.collect()
                };
                elements
                    .into_iter()
                    .flat_map(|element| {
                        combinations
                            .iter()
                            .map(move |values| self.instance(element, values, &[]))
                    })
                    .collect()
            }
        }
    }

    /// The instance of an element type, numbers and names, which its own name is made of.
    fn instance(&self, element: Option<ElementType>, values: &[u32], names: &[&str]) -> Instance {
        let mut name = self.stem();
        let parts = element.map(|element| element.name().to_owned()).into_iter();
        let parts = parts.chain(values.iter().map(u32::to_string));
        for part in parts.chain(names.iter().map(|&name| name.to_owned())) {
            name.push('_');
            name.push_str(&part);
        }
        Instance {
            name,
            element,
            values: values.to_vec(),
        }
    }
}

/// `head` continued by each value of an axis.
fn extend_each(head: &[u32], axis: &Axis) -> impl Iterator<Item = Vec<u32>> {
    axis.values
        .iter()
        .map(move |value| head.iter().chain([value]).copied().collect())
}

/// The files of this build: all of [`KERNELS`], and [`TEST_KERNELS`] if feature `test-kernels` is on. The order is the order of identifiers.
pub fn compiled_files() -> impl Iterator<Item = &'static KernelFile> {
    let for_tests = TEST_KERNELS.iter().filter(|_| cfg!(feature = "test-kernels"));
    KERNELS.iter().chain(for_tests)
}

/// The names of all instances of this build, in the order of identifiers.
pub fn instance_names() -> impl Iterator<Item = String> {
    compiled_files().flat_map(|file| file.instances().into_iter().map(|instance| instance.name))
}
