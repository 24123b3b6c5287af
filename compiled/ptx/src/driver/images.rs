//! From an image to the PTX that nvcc made on the way to it.
//!
//! An image holds machine code, which nobody runs here. With `SALA_KEEP_PTX=1` the crate's build script keeps beside every image `<file>.fatbin`
//! the PTX of each code in it: `<file>.sm_80.ptx`, `<file>.compute_80.ptx` and so on. The image that a program loads is looked for, byte by
//! byte, among the kept ones, and of the PTX beside it that is taken whose code a real device of the pretended capability would run.
//!
//! `SALA_PTX_IMAGES` names folders with kept images, separated by colons. Without it they are those of the builds under the target folder
//! that this library lies in.

use std::collections::HashMap;
use std::ffi::{CStr, OsString, c_char, c_int, c_void};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use super::status::{FILE_NOT_FOUND, INVALID_IMAGE, INVALID_PTX, NO_BINARY_FOR_GPU, Status};
use crate::code::Kernel;
use crate::decode::{Interface, decode};
use crate::parse::File;

/// The kernels of an image.
#[derive(Debug)]
pub struct Image {
    file: Arc<File>,
    kernels: Vec<Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    interface: OnceLock<Result<Interface, String>>,
    kernel: OnceLock<Result<Arc<Kernel>, String>>,
}

impl Image {
    /// The kernels of PTX text.
    pub fn new(name: &str, text: String) -> Result<Self, String> {
        let file = File::new(name, text)?;
        let kernels = file.entries.iter().map(|_| Entry::default()).collect();
        let file = Arc::new(file);
        Ok(Self { file, kernels })
    }

    /// The kernel's place among the image's.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.file.entries.iter().position(|entry| entry.name == name)
    }

    /// What a launch has to know of a kernel.
    pub fn interface(&self, index: usize) -> Result<&Interface, String> {
        let read = || Interface::new(&self.file, &self.file.entries[index]);
        self.kernels[index]
            .interface
            .get_or_init(read)
            .as_ref()
            .map_err(String::clone)
    }

    /// A kernel, decoded at the first call.
    pub fn kernel(&self, index: usize) -> Result<Arc<Kernel>, String> {
        let read = || decode(&self.file, &self.file.entries[index]).map(Arc::new);
        self.kernels[index].kernel.get_or_init(read).clone()
    }
}

/// A status, and what a person wants to know.
type Refusal = (Status, String);

/// The images found so far.
#[derive(Default)]
struct Registry {
    /// Folders that the test has named.
    folders: Vec<PathBuf>,
    /// By the hash of the image's bytes and the capability.
    known: HashMap<(u64, (u32, u32)), Arc<Image>>,
}

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);

/// Looks for images in another folder, too.
pub fn add_folder(folder: PathBuf) {
    let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    registry.folders.push(folder);
}

/// The first bytes of a fatbin.
const MAGIC: [u8; 4] = [0x50, 0xed, 0x55, 0xba];

/// Whether something starts as a fatbin does, where the driver wants one to lie.
///
/// # Safety
/// The image must be null or valid for reads of four bytes.
pub unsafe fn is_fatbin(image: *const u8) -> bool {
    // SAFETY: the caller's promise.
    !image.is_null() && image.addr().is_multiple_of(64) && unsafe { image.cast::<[u8; 4]>().read_unaligned() } == MAGIC
}

/// The kernels of an image: a fatbin, or PTX text that ends in NUL.
///
/// # Safety
/// The image must be one or the other.
pub unsafe fn load(image: *const u8, capability: (u32, u32)) -> Result<Arc<Image>, Refusal> {
    // SAFETY: both kinds have at least four bytes.
    if unsafe { is_fatbin(image) } {
        // SAFETY: a fatbin says behind its first bytes how long its header and what follows are.
        let bytes = unsafe {
            let header = image.cast::<u16>().add(3).read_unaligned();
            let rest = image.cast::<u64>().add(1).read_unaligned();
            std::slice::from_raw_parts(image, usize::from(header) + rest as usize)
        };
        return find(bytes, capability);
    }
    if image.is_null() {
        return Err((INVALID_IMAGE, "a null pointer".to_owned()));
    }
    // SAFETY: the caller's promise: then it is text.
    let text = unsafe { CStr::from_ptr(image.cast::<c_char>()) };
    match text.to_str() {
        Ok(text) if text.contains(".version") => {
            let image = Image::new("image.ptx", text.to_owned()).map_err(|error| (INVALID_PTX, error))?;
            Ok(Arc::new(image))
        }
        _ => Err((INVALID_IMAGE, "neither an aligned fatbin nor PTX".to_owned())),
    }
}

fn find(bytes: &[u8], capability: (u32, u32)) -> Result<Arc<Image>, Refusal> {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let key = (hasher.finish(), capability);
    let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(image) = registry.known.get(&key) {
        return Ok(Arc::clone(image));
    }
    let folders: Vec<PathBuf> = registry.folders.iter().cloned().chain(folders()).collect();
    let same: Vec<_> = folders.iter().filter_map(|folder| same_file(folder, bytes)).collect();
    let Some(first) = same.first() else {
        let searched: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        let searched = searched.join(", ");
        let message = format!("an image of {} bytes is none of those in {searched}", bytes.len());
        return Err((FILE_NOT_FOUND, message));
    };
    // Builds with and without PTX make the same images.
    let with_ptx = same
        .iter()
        .map(|fatbin| (fatbin, kept(fatbin)))
        .find(|(_, kept)| !kept.is_empty());
    let Some((fatbin, kept)) = with_ptx else {
        let message = format!("no PTX was kept beside {}: build with SALA_KEEP_PTX=1", first.display());
        return Err((FILE_NOT_FOUND, message));
    };
    let codes: Vec<&str> = kept.iter().map(|(code, _)| code.as_str()).collect();
    let Some(code) = best(&codes, capability) else {
        let (major, minor) = capability;
        let message = format!(
            "{} has code for {}, nothing for sm_{major}{minor}",
            fatbin.display(),
            codes.join(", ")
        );
        return Err((NO_BINARY_FOR_GPU, message));
    };
    let path = &kept[codes.iter().position(|other| *other == code).unwrap_or(0)].1;
    let name = path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    let text = fs::read_to_string(path).map_err(|error| (FILE_NOT_FOUND, format!("{}: {error}", path.display())))?;
    let image = Arc::new(Image::new(&name, text).map_err(|error| (INVALID_PTX, error))?);
    registry.known.insert(key, Arc::clone(&image));
    Ok(image)
}

/// The file in a folder that is an image, but for what pads it.
fn same_file(folder: &Path, bytes: &[u8]) -> Option<PathBuf> {
    let is_same = |path: &PathBuf| {
        let long_enough = fs::metadata(path).is_ok_and(|data| data.len() as usize >= bytes.len());
        let is_fatbin = path.extension().is_some_and(|extension| extension == "fatbin");
        is_fatbin && long_enough && fs::read(path).is_ok_and(|found| found.starts_with(bytes))
    };
    fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(is_same)
}

/// The PTX beside `<file>.fatbin`: for each code, `sm_80` or `compute_80`, its path.
fn kept(fatbin: &Path) -> Vec<(String, PathBuf)> {
    let Some(stem) = fatbin.file_stem().and_then(|stem| stem.to_str()) else {
        return Vec::new();
    };
    let Some(entries) = fatbin.parent().and_then(|folder| fs::read_dir(folder).ok()) else {
        return Vec::new();
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut kept: Vec<_> = paths
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            let code = name
                .strip_prefix(stem)?
                .strip_prefix('.')?
                .strip_suffix(".ptx")?
                .to_owned();
            Some((code, path))
        })
        .collect();
    kept.sort();
    kept
}

/// The code that a device runs: machine code of its family if there is some, else PTX; of several the newest.
fn best<'c>(codes: &[&'c str], capability: (u32, u32)) -> Option<&'c str> {
    let rank = |code: &&'c str| rank(code, capability).map(|rank| (rank, *code));
    codes.iter().filter_map(rank).max().map(|(_, code)| code)
}

/// How good a code is for a device; none if it does not run there.
fn rank(code: &str, (major, minor): (u32, u32)) -> Option<(bool, u32, bool)> {
    let (is_machine, version) = match code.strip_prefix("sm_") {
        Some(version) => (true, version),
        None => (false, code.strip_prefix("compute_")?),
    };
    let digits = version.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let number: u32 = digits.parse().ok()?;
    let of_family = number / 10 == major && number % 10 <= minor;
    let runs = match &version[digits.len()..] {
        "" if !is_machine => number <= 10 * major + minor,
        "" | "f" => of_family,
        "a" => number == 10 * major + minor,
        _ => false,
    };
    runs.then_some((is_machine, number, version.len() > digits.len()))
}

/// Where kept images are.
fn folders() -> Vec<PathBuf> {
    if let Some(named) = std::env::var_os("SALA_PTX_IMAGES") {
        return std::env::split_paths(&named).collect();
    }
    let Some(library) = library() else { return Vec::new() };
    let builds = library
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("build"))
        .find(|folder| folder.is_dir());
    let Some(entries) = builds.and_then(|folder| fs::read_dir(folder).ok()) else {
        return Vec::new();
    };
    let of_crate = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| name.starts_with("sala-kernels-"))
    };
    let builds = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(of_crate);
    builds
        .map(|build| build.join("out/images"))
        .filter(|folder| folder.is_dir())
        .collect()
}

/// The file that this code was loaded from.
pub fn library() -> Option<PathBuf> {
    #[repr(C)]
    struct Info {
        file: *const c_char,
        base: *mut c_void,
        symbol: *const c_char,
        address: *mut c_void,
    }
    unsafe extern "C" {
        fn dladdr(address: *const c_void, info: *mut Info) -> c_int;
    }
    let mut info = Info {
        file: std::ptr::null(),
        base: std::ptr::null_mut(),
        symbol: std::ptr::null(),
        address: std::ptr::null_mut(),
    };
    // SAFETY: an address in this library, and a place for the answer.
    let found = unsafe { dladdr(library as *const c_void, &mut info) };
    if found == 0 || info.file.is_null() {
        return None;
    }
    // SAFETY: `dladdr` has set it to a string that lives as long as the library.
    let path = unsafe { CStr::from_ptr(info.file) };
    fs::canonicalize(OsString::from_vec(path.to_bytes().to_vec())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_run_the_newest_code_of_their_family() {
        let codes = ["compute_80", "sm_80", "sm_90a", "sm_120"];
        let best = |capability| best(&codes, capability);
        assert_eq!(best((8, 0)), Some("sm_80"));
        assert_eq!(best((8, 6)), Some("sm_80"));
        assert_eq!(best((8, 9)), Some("sm_80"));
        assert_eq!(best((9, 0)), Some("sm_90a"));
        assert_eq!(best((10, 0)), Some("compute_80"));
        assert_eq!(best((12, 0)), Some("sm_120"));
        assert_eq!(best((12, 1)), Some("sm_120"));
        assert_eq!(best((7, 5)), None);
        assert_eq!(super::best(&["sm_100f", "sm_100"], (10, 3)), Some("sm_100f"));
    }

    #[test]
    fn ptx_is_found_beside_an_image() {
        let folder = std::env::temp_dir().join(format!("sala-ptx-images-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let ptx = |target: &str| format!(".version 9.0\n.target {target}\n.visible .entry k()\n{{\n\tret;\n}}\n");
        let fatbin = |tag: u8| [&MAGIC[..], &[1, 0, 16, 0, 1, 0, 0, 0, 0, 0, 0, 0, tag]].concat();
        fs::write(folder.join("a.fatbin"), fatbin(7)).unwrap();
        fs::write(folder.join("b.fatbin"), fatbin(8)).unwrap();
        fs::write(folder.join("a.sm_80.ptx"), ptx("sm_80")).unwrap();
        fs::write(folder.join("a.sm_90a.ptx"), ptx("sm_90a")).unwrap();
        add_folder(folder.clone());
        let found = |tag, capability| find(&fatbin(tag), capability).map(|image| image.file.name.clone());
        assert_eq!(found(7, (8, 6)).unwrap(), "a.sm_80.ptx");
        assert_eq!(found(7, (9, 0)).unwrap(), "a.sm_90a.ptx");
        assert_eq!(found(7, (12, 0)).unwrap_err().0, NO_BINARY_FOR_GPU);
        let (status, message) = found(8, (8, 0)).unwrap_err();
        assert!(
            status == FILE_NOT_FOUND && message.ends_with("b.fatbin: build with SALA_KEEP_PTX=1"),
            "{message}"
        );
        assert_eq!(found(9, (8, 0)).unwrap_err().0, FILE_NOT_FOUND);
        fs::remove_dir_all(folder).unwrap();
    }
}
