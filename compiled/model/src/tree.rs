//! The kernels of a checkout, compiled and read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{process, thread};

use crate::description::{self, Descriptions};
use crate::sass::{Function, Listing, Sources};
use crate::shapes::{self, KernelFile};
use crate::tools::Tools;
use crate::{Problem, Unit};

/// The flags of build/nvcc.rs for one architecture. `-lineinfo` changes no instruction.
const FLAGS: [&str; 5] = [
    "-cubin",
    "-std=c++17",
    "-DSALA_VARIANT=device",
    "-lineinfo",
    "-Xptxas=-v",
];

/// A checkout: its kernels, and the descriptions of their hot loops.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    cache: PathBuf,
    tools: Tools,
    descriptions: Descriptions,
}

/// Kernels of a checkout as nvcc made them.
#[derive(Debug)]
pub struct Kernels {
    descriptions: Descriptions,
    release: String,
    /// By kernel and architecture.
    compiled: BTreeMap<(String, String), Compiled>,
}

/// One kernel for one architecture.
#[derive(Debug)]
struct Compiled {
    listing: Listing,
    resources: Resources,
}

/// What the compiler says that a kernel takes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// Of a thread.
    pub registers: u32,
    /// Bytes that a thread stores to and loads from local memory for want of registers.
    pub spilled: u32,
}

impl Tree {
    /// The checkout at `root`; what is compiled is kept in `cache`, by content. Fails if the checkout is no longer what the rows of the table are
    /// about.
    pub fn open(root: &Path, cache: &Path) -> Result<Self, Problem> {
        let file = root.join(description::FILE);
        let text = fs::read_to_string(&file).map_err(|error| Problem::file(&file, error))?;
        let tree = Self {
            root: root.to_owned(),
            cache: cache.to_owned(),
            tools: Tools::find(root)?,
            descriptions: Descriptions::parse(&text)?,
        };
        tree.check_assumptions()?;
        Ok(tree)
    }

    /// Compiles the kernels of `units`, of all that are described by default, for each of `archs` (`80`, `90a`).
    pub fn compile(self, archs: &[&str], units: Option<&[&str]>) -> Result<Kernels, Problem> {
        let mut wanted = BTreeSet::new();
        for (name, description) in &self.descriptions.unit {
            if units.is_none_or(|units| units.contains(&name.as_str())) {
                let file = file_of(&description.kernel)?;
                let archs = archs
                    .iter()
                    .filter(|arch| file.machine.archs().contains(&format!("sm_{arch}").as_str()));
                wanted.extend(archs.map(|arch| (description.kernel.clone(), (*arch).to_owned())));
            }
        }
        let queue = Mutex::new(wanted.into_iter());
        let compiled = Mutex::new(BTreeMap::new());
        let problems = Mutex::new(Vec::new());
        let workers = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while let Some((kernel, arch)) = next(&queue) {
                        match self.compiled(&kernel, &arch) {
                            Ok(result) => drop(lock(&compiled).insert((kernel, arch), result)),
                            Err(problem) => lock(&problems).push(problem),
                        }
                    }
                });
            }
        });
        match lock(&problems).pop() {
            Some(problem) => Err(problem),
            None => Ok(Kernels {
                release: self.tools.release().to_owned(),
                descriptions: self.descriptions,
                compiled: std::mem::take(&mut *lock(&compiled)),
            }),
        }
    }

    fn check_assumptions(&self) -> Result<(), Problem> {
        for (file, texts) in &self.descriptions.assume {
            let path = self.root.join(file);
            let content = fs::read_to_string(&path).unwrap_or_default();
            if let Some(text) = texts.iter().find(|text| !content.contains(text.as_str())) {
                return Err(Problem::misfit(format!(
                    "{file} no longer says `{text}`: correct the rows in compiled/model/src/rows, then [assume] in {}",
                    description::FILE
                )));
            }
        }
        let units = self.descriptions.unit.values();
        let known: BTreeSet<String> = units
            .map(|unit| file_of(&unit.kernel).map(KernelFile::stem))
            .collect::<Result<_, _>>()?;
        for file in shapes::KERNELS {
            let stem = file.stem();
            if !known.contains(&stem) && !self.descriptions.other.contains_key(&stem) {
                return Err(Problem::misfit(format!(
                    "no row knows the kernel {stem} of src/shapes: give it a unit in {} and its part in compiled/model/src/rows, or a place in [other]",
                    description::FILE
                )));
            }
        }
        Ok(())
    }

    /// One kernel, from the cache if neither its sources nor the compiler changed.
    fn compiled(&self, kernel: &str, arch: &str) -> Result<Compiled, Problem> {
        let file = file_of(kernel)?;
        let instance = instance_line(file, kernel);
        let entry = self.entry(file, kernel, arch, &instance)?;
        let (listing, log) = (entry.with_extension("sass"), entry.with_extension("log"));
        if !listing.is_file() || !log.is_file() {
            self.make(file, kernel, arch, &instance, &entry)?;
        }
        let read = |path: &Path| fs::read_to_string(path).map_err(|error| Problem::file(path, error));
        Ok(Compiled {
            listing: Listing::parse(&read(&listing)?, &mut Sources::on_disk()),
            resources: Resources::parse(&read(&log)?),
        })
    }

    fn entry(&self, file: &KernelFile, kernel: &str, arch: &str, instance: &str) -> Result<PathBuf, Problem> {
        let mut hasher = DefaultHasher::new();
        // Listings name the sources by where they are.
        (self.tools.version(), &self.root, arch, instance, FLAGS).hash(&mut hasher);
        self.hash_sources(&self.root.join(file.source()), &mut hasher)?;
        let stem = format!("{kernel}-sm_{arch}-{:016x}", hasher.finish());
        Ok(self.cache.join(stem).with_extension("sass"))
    }

    /// Follows `#include "..."` from file to file.
    fn hash_sources(&self, source: &Path, hasher: &mut impl Hasher) -> Result<(), Problem> {
        let mut seen = BTreeSet::new();
        let mut open = vec![source.to_owned()];
        while let Some(file) = open.pop() {
            if !seen.insert(file.clone()) {
                continue;
            }
            let text = fs::read_to_string(&file).map_err(|error| Problem::file(&file, error))?;
            text.hash(hasher);
            let names = text.lines().filter_map(included);
            open.extend(names.filter_map(|name| {
                let folders = [
                    file.parent().unwrap_or(&self.root).to_owned(),
                    self.root.join("cuda"),
                    self.root.join("include"),
                ];
                folders
                    .iter()
                    .map(|folder| folder.join(name))
                    .find(|path| path.is_file())
            }));
        }
        Ok(())
    }

    /// Compiles one instance and lists its code; both are renamed into place, so that runs side by side never see half a file.
    fn make(&self, file: &KernelFile, kernel: &str, arch: &str, instance: &str, entry: &Path) -> Result<(), Problem> {
        eprintln!("compiling {kernel} for sm_{arch}");
        let folder = entry.with_extension(format!("{}.partial", process::id()));
        let instances = folder.join("instances");
        fs::create_dir_all(&instances).map_err(|error| Problem::file(&instances, error))?;
        let write = |path: &Path, text: &[u8]| fs::write(path, text).map_err(|error| Problem::file(path, error));
        write(&instances.join(format!("{}.h", file.stem())), instance.as_bytes())?;
        let cubin = folder.join("cubin");
        let include = [self.root.join("cuda"), self.root.join("include"), folder.clone()];
        let mut command = self.tools.nvcc();
        command.args(FLAGS).arg(format!("-arch=sm_{arch}"));
        command.args(include.iter().flat_map(|folder| [Path::new("-I"), folder]));
        command.arg("-o").arg(&cubin).arg(self.root.join(file.source()));
        let output = command.output();
        let output = output
            .map_err(|error| Problem::Machine(format!("cannot run {}: {error}", command.get_program().display())))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Problem::misfit(format!(
                "{} ({kernel}, sm_{arch}):\n{said}",
                file.source()
            )));
        }
        let (listing, log) = (folder.join("sass"), folder.join("log"));
        write(&listing, self.tools.disassemble(&cubin)?.as_bytes())?;
        write(&log, &output.stderr)?;
        let rename = |from: &Path, extension: &str| {
            let to = entry.with_extension(extension);
            fs::rename(from, &to).map_err(|error| Problem::file(&to, error))
        };
        rename(&cubin, "cubin")?;
        rename(&log, "log")?;
        rename(&listing, "sass")?;
        fs::remove_dir_all(&folder).map_err(|error| Problem::file(&folder, error))
    }
}

impl Kernels {
    /// What the descriptions say.
    pub fn descriptions(&self) -> &Descriptions {
        &self.descriptions
    }

    /// The compiler's release.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// A unit of the descriptions, found in the kernel for one architecture.
    pub fn unit(&self, name: &str, arch: &str) -> Result<Unit<'_>, Problem> {
        let description = self.descriptions.unit.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.descriptions.unit.keys().map(String::as_str).collect();
            Problem::misfit(format!(
                "{} has no unit `{name}`; it has {}",
                description::FILE,
                names.join(", ")
            ))
        })?;
        let function = self.function(&description.kernel, arch)?;
        Unit::new(&format!("{name} (sm_{arch})"), description, function)
    }

    /// The units whose kernels are compiled for an architecture.
    pub fn units_of(&self, arch: &str) -> impl Iterator<Item = &str> {
        let units = self.descriptions.unit.iter();
        let units = units.filter(move |(_, unit)| self.compiled(&unit.kernel, arch).is_ok());
        units.map(|(name, _)| name.as_str())
    }

    /// What a kernel takes.
    pub fn resources(&self, kernel: &str, arch: &str) -> Result<Resources, Problem> {
        Ok(self.compiled(kernel, arch)?.resources)
    }

    fn function(&self, kernel: &str, arch: &str) -> Result<&Function, Problem> {
        let function = self.compiled(kernel, arch)?.listing.function(kernel);
        function.ok_or_else(|| Problem::misfit(format!("the cubin of {kernel} for sm_{arch} does not have it")))
    }

    fn compiled(&self, kernel: &str, arch: &str) -> Result<&Compiled, Problem> {
        let compiled = self.compiled.get(&(kernel.to_owned(), arch.to_owned()));
        compiled.ok_or_else(|| Problem::misfit(format!("{kernel} is not compiled for sm_{arch}")))
    }
}

impl Resources {
    /// Reads what `-Xptxas=-v` says.
    pub fn parse(log: &str) -> Self {
        let before = |line: &str, what: &str| -> Option<u32> {
            let (head, _) = line.split_once(what)?;
            head.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let sum = |what: &str| log.lines().filter_map(|line| before(line, what)).sum::<u32>();
        Self {
            registers: log
                .lines()
                .filter_map(|line| before(line, " registers"))
                .max()
                .unwrap_or(0),
            spilled: sum(" bytes spill stores") + sum(" bytes spill loads"),
        }
    }
}

fn next<T>(queue: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    lock(queue).next()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The file that a kernel instance is compiled from.
fn file_of(kernel: &str) -> Result<&'static KernelFile, Problem> {
    let mut files = shapes::KERNELS.iter();
    let has = |file: &&KernelFile| file.instances().iter().any(|instance| instance.name == kernel);
    files.find(has).ok_or_else(|| {
        Problem::misfit(format!(
            "src/shapes has no kernel `{kernel}`: correct `kernel` in {}",
            description::FILE
        ))
    })
}

/// The line of the header that names the instances of a file.
fn instance_line(file: &KernelFile, kernel: &str) -> String {
    let instances = file.instances();
    let instance = instances.iter().find(|instance| instance.name == kernel);
    let arguments = instance.into_iter().flat_map(|instance| {
        let element = instance.element.map(|element| element.name().to_owned());
        let values = instance.values.iter().map(u32::to_string);
        [instance.name.clone()].into_iter().chain(element).chain(values)
    });
    format!("INSTANCE({})\n", arguments.collect::<Vec<_>>().join(", "))
}

/// The file that a line includes in quotes.
fn included(line: &str) -> Option<&str> {
    let directive = line.trim_start().strip_prefix('#')?.trim_start();
    let (_, rest) = directive.strip_prefix("include")?.split_once('"')?;
    rest.split('"').next()
}
