//! The Python module: built beside the tests, used by Python's own tests in `tests/python`, and packed as a wheel.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(unix)]

mod support;

#[path = "../python/sources.rs"]
mod sources;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Python of the tests, or that of GRISTMILL_PYTHON, if it has what a test needs.
fn python(module: &str) -> Option<PathBuf> {
    let given = std::env::var_os("GRISTMILL_PYTHON").map(PathBuf::from);
    let python = given.unwrap_or_else(|| root().join(".venv/bin/python"));
    let has =
        |code: &str| Command::new(&python).args(["-c", code]).output().is_ok_and(|ran| ran.status.success());
    if has(&format!("import pyarrow, {module}")) {
        return Some(python);
    }
    assert!(
        std::env::var_os("REQUIRE_PYTHON").is_none(),
        "REQUIRE_PYTHON is set, and .venv has no pyarrow and {module}"
    );
    eprintln!("SKIPPED: .venv has no pyarrow and {module}; tests/run installs them");
    None
}

/// The module as cargo has built it, which is in the folder of this test.
fn library() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let ending = if cfg!(target_os = "macos") { "dylib" } else { "so" };
    this.parent().unwrap().join(format!("lib_gristmill.{ending}"))
}

/// Puts the package together in a folder, which is then one to import from.
fn package(folder: &Path) {
    let to = folder.join("gristmill");
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(root().join("python/gristmill")).unwrap() {
        let from = entry.unwrap().path();
        if from.is_file() {
            std::fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
        }
    }
    std::fs::copy(library(), to.join("_gristmill.abi3.so")).unwrap();
}

/// A command that imports the package from a folder.
fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("PYTHONPATH", folder).env("PYTHONDONTWRITEBYTECODE", "1");
    command
        .env("GRISTMILL", env!("CARGO_BIN_EXE_gristmill"))
        .env_remove("GRISTMILL_FAULTS")
        .env_remove("GRISTMILL_PRETEND");
    command
}

fn told(ran: Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{}\n{out}\n{err}", ran.status);
    out.into_owned()
}

/// Runs a file of Python's tests, or those of it that GRISTMILL_PYTHON_TESTS names.
fn test(name: &str, module: &str) {
    let Some(python) = python(module) else { return };
    let folder = tempfile::tempdir().unwrap();
    package(folder.path());
    let file = root().join("tests/python").join(name);
    let some = std::env::var("GRISTMILL_PYTHON_TESTS").ok();
    print!("{}", told(command(&python, folder.path()).arg(file).args(some).output().unwrap()));
}

#[test]
fn the_module_is_of_these_sources() {
    let Some(python) = python("polars") else { return };
    let folder = tempfile::tempdir().unwrap();
    package(folder.path());
    let code = "from gristmill import _gristmill; print(_gristmill.SOURCES)";
    let compiled = told(command(&python, folder.path()).args(["-c", code]).output().unwrap());
    assert_eq!(compiled.trim(), sources::digest(root()).unwrap());
}

#[test]
fn the_digest_has_all_that_is_compiled_in() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    // Crates of this workspace that the module is made of, by cargo's own account.
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "-p", "gristmill-python", "-e", "normal,build", "--prefix", "none", "--offline"]);
    let tree = told(cargo.current_dir(root()).output().unwrap());
    let mut parts = Vec::new();
    let here = format!("({}/", root().display());
    for line in tree.lines().filter_map(|line| line.split_once(&here)) {
        let folder = line.1.split(')').next().unwrap();
        match folder {
            "python" => parts.push("python".to_string()),
            folder => parts.extend([format!("{folder}/Cargo.toml"), format!("{folder}/src")]),
        }
    }
    assert!(parts.len() > 8, "{tree}");
    // Files of the built-in model.
    let built_in = read("jobs/src/model/builtin.rs");
    let names = built_in.split("file!(\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    parts.extend(names.map(|name| format!("nano/{name}")));
    for part in parts {
        assert!(sources::PARTS.contains(&part.as_str()), "{part}");
    }
}

#[test]
fn rows_in_memory_are_answered_as_those_of_files() {
    test("module.py", "polars, duckdb, pandas");
}

#[test]
fn a_long_stream_has_every_row_once_in_order_and_in_bounded_memory() {
    test("stream.py", "polars");
}

#[test]
fn a_command_that_is_ended_without_a_word_has_not_succeeded() {
    test("guard.py", "polars");
}

#[test]
fn a_cluster_loses_no_row_whoever_dies() {
    test("cluster.py", "ray.data");
}

/// Packs the module as a wheel: what maturin says of it, and what cargo has built for the tests.
fn wheel(python: &Path, folder: &Path) -> PathBuf {
    let (parts, to) = (folder.join("parts"), folder.join("wheels"));
    package(&parts);
    std::fs::create_dir(&to).unwrap();
    // Debug information would be most of it.
    let library = parts.join("gristmill/_gristmill.abi3.so");
    told(Command::new("strip").arg("-S").arg(&library).output().unwrap());
    let mut describe = Command::new(python);
    describe.args(["-m", "maturin", "pep517", "write-dist-info", "--metadata-directory"]).arg(&parts);
    describe.arg("--interpreter").arg(python).current_dir(root().join("python"));
    told(describe.output().unwrap());
    told(Command::new(python).args(["-m", "wheel", "pack", "-d"]).args([&to, &parts]).output().unwrap());
    std::fs::read_dir(to).unwrap().next().unwrap().unwrap().path()
}

/// Installs a wheel into an environment that has nothing else but what the wheel needs.
fn install(python: &Path, wheel: &Path, folder: &Path) {
    told(Command::new(python).args(["-m", "venv"]).arg(folder).output().unwrap());
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "-q", "--no-index", "--no-deps"]).arg(wheel);
    told(pip.output().unwrap());
    let place = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let [there, here] = [python.to_path_buf(), folder.join("bin/python")]
        .map(|python| told(Command::new(python).args(["-c", place]).output().unwrap()));
    std::fs::write(Path::new(here.trim()).join("needs.pth"), there).unwrap();
}

#[test]
fn the_wheel_has_the_command_and_the_module() {
    let Some(python) = python("maturin, wheel") else { return };
    let folder = tempfile::tempdir().unwrap();
    let wheel = wheel(&python, folder.path());
    let name = wheel.file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.starts_with(&format!("gristmill-{}-cp39-abi3-", env!("CARGO_PKG_VERSION"))), "{name}");
    let clean = folder.path().join("clean");
    install(&python, &wheel, &clean);
    let run = |program: &str| {
        let mut command = Command::new(clean.join("bin").join(program));
        command.current_dir(folder.path()).env_remove("PYTHONPATH").env_remove("GRISTMILL_FAULTS");
        command
    };
    let version = told(run("gristmill").arg("--version").output().unwrap());
    assert_eq!(version.trim(), format!("gristmill {}", env!("CARGO_PKG_VERSION")));
    let refused = run("gristmill").args(["run", "--no-such-flag"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    // The module, which writes what the command reads.
    let code = "import gristmill, pyarrow as pa, pyarrow.parquet as pq\n\
        from gristmill import _gristmill\n\
        rows = pa.table({'q': [f'{i} mills' for i in range(30)]})\n\
        pq.write_table(rows, 'rows.parquet')\n\
        table = gristmill.Engine(model='nano', device='cpu', threads=1).run(rows, prompt='{{ q }}', max_tokens=4)\n\
        assert table.num_rows == 30 and table['error'].null_count == 30, table\n\
        pq.write_table(table, 'module.parquet')\n\
        print(_gristmill.SOURCES)";
    let compiled = told(run("python").args(["-c", code]).output().unwrap());
    assert_eq!(compiled.trim(), sources::digest(root()).unwrap());
    // The command, whose worker dies once.
    let flags = "run -i rows.parquet --model nano --device cpu --threads 1 --max-tokens 4 --prompt {{q}} -o";
    let job = |mut command: Command, output: &str| {
        command.args(flags.split(' ')).arg(output);
        command.env("GRISTMILL_FAULTS", "1:abort@3").output().unwrap()
    };
    let ran = job(run("gristmill"), "wheel.parquet");
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    told(ran);
    assert!(said.contains("the worker died"), "{said}");
    let mut binary = Command::new(env!("CARGO_BIN_EXE_gristmill"));
    binary.current_dir(folder.path());
    told(job(binary, "binary.parquet"));
    let [wheels, binarys] =
        ["wheel.parquet", "binary.parquet"].map(|name| std::fs::read(folder.path().join(name)).unwrap());
    assert!(wheels == binarys);
    // Started as the supervisor starts it.
    let verified = run("python").args(["-m", "gristmill", "verify", "wheel.parquet"]).output().unwrap();
    told(verified);
}
