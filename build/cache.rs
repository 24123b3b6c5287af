//! Compiled files, kept by content: a file is compiled once for all profiles, feature sets and checks of a target folder.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::Mutex;
use std::thread;

use crate::closure::Closure;
use crate::environment::{Environment, Failure, warn};

/// One run of a compiler.
pub struct Job {
    /// What the compiled file is called, before its key.
    pub label: String,
    pub extension: &'static str,
    /// The compiler and its arguments, but for the source and the output.
    pub command: Command,
    /// Everything but the sources that decides the output: the compiler's version and its flags, without the folders of this machine.
    pub identity: String,
    pub source: PathBuf,
    /// Whether it fails if the compiler says that it has serialised products of warpgroups. Unit kernels of misuse are serialised for a reason.
    pub forbids_serialising: bool,
}

/// What a job left in the cache.
pub struct Compiled {
    pub output: PathBuf,
    /// What the compiler said.
    pub log: PathBuf,
}

/// Runs every job whose output is not there yet, `NUM_JOBS` at a time. Results are in the order of `jobs`; all errors are reported together.
pub fn compile_all(environment: &Environment, closure: &Closure, jobs: Vec<Job>) -> Result<Vec<Compiled>, Failure> {
    let mut compiled = Vec::with_capacity(jobs.len());
    let mut missing = Vec::new();
    for job in jobs {
        let entry = entry(environment, closure, &job)?;
        if !entry.output.is_file() || !entry.log.is_file() {
            missing.push((
                job,
                Compiled {
                    output: entry.output.clone(),
                    log: entry.log.clone(),
                },
            ));
        }
        compiled.push(entry);
    }
    let workers = environment.jobs.clamp(1, missing.len().max(1));
    let queue = Mutex::new(missing.into_iter());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((job, entry)) = next(&queue) {
                    if let Err(Failure(message)) = compile(job, &entry) {
                        lock(&failures).push(message);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    if failures.is_empty() {
        Ok(compiled)
    } else {
        Err(Failure::new(failures.join("\n")))
    }
}

fn next<T>(queue: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    lock(queue).next()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn entry(environment: &Environment, closure: &Closure, job: &Job) -> Result<Compiled, Failure> {
    let mut hasher = DefaultHasher::new();
    job.identity.hash(&mut hasher);
    closure.hash(&job.source, &mut hasher)?;
    let stem = format!("{}-{:016x}", job.label, hasher.finish());
    let file = |extension: &str| environment.cache.join(format!("{stem}.{extension}"));
    Ok(Compiled {
        output: file(job.extension),
        log: file("log"),
    })
}

/// Compiles into a file of this process and renames it, so that builds that run side by side never see half a file.
fn compile(mut job: Job, entry: &Compiled) -> Result<(), Failure> {
    let partial = entry.output.with_extension(format!("{}.partial", process::id()));
    let result = job.command.arg("-o").arg(&partial).arg(&job.source).output();
    let output =
        result.map_err(|error| Failure::new(format!("cannot run {}: {error}", job.command.get_program().display())))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let _ = fs::remove_file(&partial);
        return Err(Failure::new(format!("{} ({}):\n{said}", job.label, output.status)));
    }
    if let Some(line) = said
        .lines()
        .find(|line| job.forbids_serialising && says_serialised(line))
    {
        let _ = fs::remove_file(&partial);
        return Err(Failure::new(format!("{}: {line}", job.label)));
    }
    said.lines().filter(|line| line.contains("warning")).for_each(warn);
    fs::write(&entry.log, said.as_bytes()).map_err(|error| Failure::file("write", &entry.log, error))?;
    rename(&partial, &entry.output)
}

/// Whether ptxas says, among its numbers C7510 to C7519, that it has serialised products of warpgroups, or has added what orders them: such a kernel
/// is correct and half as fast.
fn says_serialised(line: &str) -> bool {
    line.contains("(C751")
}

fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::rename(from, to).map_err(|error| Failure::file("write", to, error))
}
