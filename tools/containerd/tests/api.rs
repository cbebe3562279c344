// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `src/api/` is what the definitions in `proto/` come to: generated here and compared. With FEROFS_GENERATE=1 in the
//! environment it is written instead.

use std::fs;
use std::path::Path;

/// The definitions of what is answered here, and for the tests asked.
const ANSWERED: [&str; 4] = [
    "containerd/types.proto",
    "containerd/snapshots.proto",
    "containerd/diff.proto",
    "store.proto",
];

/// Those of what is only asked.
const ASKED: [&str; 2] = ["containerd/content.proto", "containerd/leases.proto"];

#[test]
fn the_generated_code_is_that_of_the_definitions() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("api");
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out).unwrap();
    let generate = |files: &[&str], servers| {
        let descriptors = protox::compile(files, [here.join("proto")]).unwrap();
        tonic_prost_build::configure()
            .build_server(servers)
            .out_dir(&out)
            .emit_rerun_if_changed(false)
            .compile_fds(descriptors)
            .unwrap();
    };
    generate(&ANSWERED, true);
    generate(&ASKED, false);
    let mut names: Vec<_> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let write = std::env::var_os("FEROFS_GENERATE").is_some();
    for name in &names {
        let generated = fs::read_to_string(out.join(name)).unwrap();
        // REUSE-IgnoreStart
        let text = format!("// SPDX-License-Identifier: GPL-2.0-only OR MIT\n\n{generated}");
        // REUSE-IgnoreEnd
        let kept = here.join("src/api").join(name);
        if write {
            fs::create_dir_all(kept.parent().unwrap()).unwrap();
            fs::write(&kept, text).unwrap();
            continue;
        }
        let found = fs::read_to_string(&kept).unwrap_or_default();
        assert!(
            found == text,
            "{name} is not what proto/ says: run this test with FEROFS_GENERATE=1"
        );
    }
    if !write {
        let mut kept: Vec<_> = fs::read_dir(here.join("src/api"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "mod.rs")
            .collect();
        kept.sort();
        assert_eq!(kept, names);
    }
}
