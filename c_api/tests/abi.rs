//! The interface is the one that was published: sizes, offsets, values and symbols. What changes here makes callers compile again, but for fields at
//! the end of structs, values at the end of enumerations, and functions: those are added to `abi.txt` with `SALA_TEST_BLESS=1`.

mod common;

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

/// The published interface, a line each: `struct NAME SIZE`, `field NAME.FIELD OFFSET`, `value NAME NUMBER`, `function NAME`, `symbol NAME`.
fn published() -> String {
    fs::read_to_string(common::repository().join("c_api/tests/abi.txt")).unwrap_or_default()
}

/// That of the header, as its bindings have it, and the functions that the library exports.
fn current() -> String {
    let bindings = fs::read_to_string(common::repository().join("src/sys/c_api.rs")).expect("the bindings are there");
    let mut lines = String::new();
    // Statements, which may be broken over lines; the first of a block has what stands before its brace.
    let statements = bindings
        .split([';', '{'])
        .map(|statement| statement.split_whitespace().collect::<Vec<_>>().join(" "));
    for statement in statements {
        if let Some(rest) = statement.strip_prefix("[\"Size of ") {
            let name = rest.split('"').next().unwrap_or_default();
            writeln!(lines, "struct {name} {}", last_number(&statement)).expect("a string takes all");
        } else if let Some(rest) = statement.strip_prefix("[\"Offset of field: ") {
            let field = rest.split('"').next().unwrap_or_default().replace("::", ".");
            writeln!(lines, "field {field} {}", last_number(&statement)).expect("a string takes all");
        } else if let Some((name, value)) = constant(&statement) {
            writeln!(lines, "value SALA_{name} {value}").expect("a string takes all");
        }
    }
    for name in exported() {
        // Those of tvm-ffi are not the header's.
        let kind = if name.starts_with("sala_") {
            "function"
        } else {
            "symbol"
        };
        writeln!(lines, "{kind} {name}").expect("a string takes all");
    }
    lines
}

/// The number that a statement such as `[…][size_of::<T>() - 40usize]` ends with.
fn last_number(statement: &str) -> &str {
    let number = statement.rsplit("- ").next().unwrap_or_default();
    number.split("usize").next().unwrap_or_default()
}

/// Name, without `SALA_`, and value of a constant.
fn constant(statement: &str) -> Option<(&str, &str)> {
    let (name, rest) = statement.rsplit_once("pub const SALA_")?.1.split_once(": ")?;
    Some((name, rest.split_once(" = ")?.1))
}

/// What the shared library exports, sorted.
fn exported() -> Vec<String> {
    let library = common::libraries().join("libsala_kernels.so");
    let output = Command::new("nm")
        .args(["-D", "--defined-only", "--format=posix"])
        .arg(library)
        .output();
    let text = common::succeeded("nm", output.expect("run nm"));
    let mut names: Vec<_> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

#[test]
fn the_interface_is_the_published_one() {
    let current = current();
    if std::env::var_os("SALA_TEST_BLESS").is_some() {
        fs::write(common::repository().join("c_api/tests/abi.txt"), &current).expect("write abi.txt");
    }
    let published = published();
    for (line, (now, then)) in current.lines().zip(published.lines()).enumerate() {
        assert_eq!(now, then, "line {} of abi.txt", line + 1);
    }
    assert_eq!(current.lines().count(), published.lines().count());
}

/// A compiler of C sees the same numbers.
#[test]
fn compilers_agree_with_it() {
    let mut program = String::from(
        "#include \"sala_kernels.h\"\n#define SAME(a, b) if ((long long)(a) != (b)) return __LINE__\nint main(void) {\n",
    );
    for line in published().lines() {
        let words: Vec<_> = line.split(' ').collect();
        let _ = match words[..] {
            ["struct", name, size] => writeln!(program, "    SAME(sizeof({name}), {size});"),
            ["field", field, offset] => {
                let (name, field) = field.split_once('.').expect("a struct and its field");
                writeln!(program, "    SAME(offsetof({name}, {field}), {offset});")
            }
            ["value", name, value] => writeln!(program, "    SAME({name}, {value});"),
            ["function", name] => writeln!(program, "    if ((void*){name} == NULL) return __LINE__;"),
            ["symbol", _] => Ok(()),
            _ => panic!("{line}"),
        };
    }
    program += "    return 0;\n}\n";
    assert!(program.lines().count() > 200, "abi.txt is not there");
    let source = common::scratch("abi").join("abi.c");
    fs::write(&source, program).expect("write the program");
    for build in common::BUILDS.into_iter().filter(|build| !build.is_static) {
        // Functions are compared with null as `void*`, and are never null.
        build.run(&source, &["-Wno-pedantic", "-Wno-address", "-Wno-nonnull-compare"]);
    }
}

/// Every function of the header is there, and no other name but those of `sala`.
#[test]
fn the_library_exports_what_the_header_declares() {
    let header = fs::read_to_string(common::repository().join("include/sala_kernels.h")).expect("the header is there");
    let code: String = header
        .lines()
        .filter_map(|line| line.split("//").next())
        .map(|line| format!("{line} "))
        .collect();
    let mut declared: Vec<_> = code
        .split(';')
        .filter_map(|statement| statement.split_once('(').map(|(before, _)| before))
        .filter_map(|before| before.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("sala_"))
        .map(str::to_owned)
        .collect();
    declared.sort();
    let exported: Vec<_> = exported()
        .into_iter()
        .filter(|name| name.starts_with("sala_"))
        .collect();
    assert_eq!(exported, declared);
}
