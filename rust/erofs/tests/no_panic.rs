// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Proves that no panic can be reached: compiles the crate the way the kernel module does (by path,
//! optimised, with overflow checks), with every public function instantiated, and looks for a call
//! of a panicking function in the assembly.
//!
//! What it inlines from `core` is as the toolchain ships it. The kernel compiles `core` itself, with
//! overflow checks there, too; the build of the module looks at that.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Parts of names of functions in `core` that panic; `core::panicking` is where all of them end.
const PANICKING: [&str; 4] = ["panicking", "_fail", "unwrap_failed", "expect_failed"];

const MANIFEST: &str = r#"
[package]
name = "instances"
version = "0.0.0"
edition = "2021"

[lib]
path = "lib.rs"

[workspace]

[dependencies]
zerocopy = "0.8"
zerocopy-derive = "0.8"

[profile.release]
panic = "abort"
overflow-checks = true
codegen-units = 1
"#;

#[test]
fn no_panic_is_reachable() {
    for opt_level in ["2", "3", "s"] {
        let assembly = compile(opt_level);
        assert!(
            assembly.contains("list_xattrs"),
            "the functions are not in the assembly"
        );
        let calls: Vec<_> = assembly
            .lines()
            .filter(|line| PANICKING.iter().any(|name| line.contains(name)))
            .collect();
        assert!(
            calls.is_empty(),
            "with opt-level {opt_level}:\n{}",
            calls.join("\n")
        );
    }
}

/// Compiles the crate and its instances, and returns the assembly.
fn compile(opt_level: &str) -> String {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let project = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no_panic");
    let target = project.join("target");
    fs::create_dir_all(&project).unwrap();
    fs::write(project.join("Cargo.toml"), MANIFEST).unwrap();
    let lock = package.join("../../tools/Cargo.lock");
    if lock.exists() {
        // The same versions of the dependencies; cargo has them at hand.
        fs::copy(lock, project.join("Cargo.lock")).unwrap();
    }
    let path = |name| package.join(name).to_str().unwrap().to_owned();
    let root = format!(
        "#![no_std]\n#[path = {:?}]\npub mod erofs;\n#[path = {:?}]\npub mod instances;\n",
        path("src/lib.rs"),
        path("tests/no_panic/instances.rs"),
    );
    let source = project.join("lib.rs");
    // A newer source would be compiled again.
    if fs::read_to_string(&source).ok().as_ref() != Some(&root) {
        fs::write(&source, root).unwrap();
    }
    let assembly = project.join(format!("instances-{opt_level}.s"));
    let output = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
        .current_dir(&project)
        .args(["rustc", "--offline", "--release", "--target-dir"])
        .arg(&target)
        .args(["--", "--cfg", "MODULE"])
        .arg(format!("--emit=asm={}", assembly.display()))
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", opt_level)
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo can be run");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::read_to_string(&assembly).unwrap()
}
