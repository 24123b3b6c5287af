//! The GPU kernels that the build embedded, and which of them a device can run.

use crate::{Error, Result};

/// A fatbin of one kernel file.
#[derive(Debug)]
#[cfg_attr(feature = "test-kernels", doc(hidden))]
#[allow(missing_docs, reason = "only tests see it, and `IMAGES` of the build")]
pub struct Image {
    /// The kernel file, as `KernelFile::stem` names it.
    pub name: &'static str,
    /// The architectures that the fatbin really holds, as nvcc's `code=` calls them.
    pub archs: &'static [&'static str],
    /// The fatbin, 64-byte aligned.
    pub bytes: &'static [u8],
}

// `pub static IMAGES: &[Image]`, written by the build script.
include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// A compute capability.
pub(crate) type Capability = (u32, u32);

impl Image {
    /// The image's bytes if a device of this capability can run one of them.
    pub(crate) fn for_device(&self, capability: Capability) -> Result<&'static [u8]> {
        if self.archs.iter().any(|arch| runs_on(arch, capability)) {
            return Ok(self.bytes);
        }
        Err(no_image(self.name, capability, self.archs))
    }
}

/// [`Error::NoImage`] for a kernel or kernel file.
#[cold]
pub(crate) fn no_image(kernel: &str, (major, minor): Capability, archs: &[&str]) -> Error {
    let embedded = if archs.is_empty() {
        "nothing for it".to_owned()
    } else {
        archs.join(", ")
    };
    Error::NoImage {
        kernel: kernel.to_owned(),
        device: format!("sm_{major}{minor}"),
        embedded,
    }
}

/// Whether code for `arch` runs on a device.
///
/// Machine code (`sm_`) runs within its major version, on the same minor or a later one; PTX (`compute_`) on anything later.
/// An `a` ties either to exactly its capability, an `f` to its major version from there on.
fn runs_on(arch: &str, (major, minor): Capability) -> bool {
    let (is_ptx, version) = match (arch.strip_prefix("compute_"), arch.strip_prefix("sm_")) {
        (Some(version), _) => (true, version),
        (None, Some(version)) => (false, version),
        (None, None) => return false,
    };
    let digits = version.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let Ok(number) = digits.parse::<u32>() else {
        return false;
    };
    let (code_major, code_minor) = (number / 10, number % 10);
    let same_family = major == code_major && minor >= code_minor;
    match version.strip_prefix(digits) {
        Some("") if is_ptx => (major, minor) >= (code_major, code_minor),
        Some("" | "f") => same_family,
        Some("a") => (major, minor) == (code_major, code_minor),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_code_runs_within_its_major_version() {
        assert!(runs_on("sm_80", (8, 0)));
        assert!(runs_on("sm_80", (8, 6)));
        assert!(runs_on("sm_80", (8, 9)));
        assert!(!runs_on("sm_86", (8, 0)));
        assert!(!runs_on("sm_80", (9, 0)));
        assert!(runs_on("sm_120", (12, 1)));
        assert!(!runs_on("sm_100", (12, 0)));
    }

    #[test]
    fn ptx_runs_on_everything_later() {
        assert!(runs_on("compute_80", (12, 0)));
        assert!(!runs_on("compute_80", (7, 5)));
    }

    #[test]
    fn suffixes_bind() {
        assert!(runs_on("sm_90a", (9, 0)));
        assert!(!runs_on("sm_100a", (10, 3)));
        assert!(runs_on("sm_100f", (10, 3)));
        assert!(!runs_on("compute_90a", (10, 0)));
    }

    #[test]
    fn nonsense_runs_nowhere() {
        for arch in ["", "sm_", "sm_x", "80", "sm_80x", "compute_"] {
            assert!(!runs_on(arch, (8, 0)), "{arch}");
        }
    }

    #[test]
    fn refusal_names_both_sides() {
        let image = Image {
            name: "scan",
            archs: &["sm_90a", "sm_120"],
            bytes: &[],
        };
        let message = image.for_device((7, 5)).unwrap_err().to_string();
        assert_eq!(message, "scan: no image for sm_75; this build embeds sm_90a, sm_120");
    }
}
