// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Any bytes as an image that is extracted, sound or not: all that comes of it is in the directory that it was
//! extracted into.

#![no_main]

use ferofs::inspect::contents::Contents;
use ferofs::inspect::extract::Options;
use ferofs::inspect::extract::extract;
use ferofs_fuzz::Scratch;
use ferofs_fuzz::open;
use libfuzzer_sys::fuzz_target;
use std::fs;

fuzz_target!(|bytes: &[u8]| {
    let Some(image) = open(bytes.to_vec()) else {
        return;
    };
    let Ok(contents) = Contents::of(&image, Vec::<(_, Vec<u8>)>::new()) else {
        return;
    };
    let contents = contents.uncertain();
    let scratch = Scratch::new();
    let (beside, target) = (scratch.0.join("beside"), scratch.0.join("out"));
    fs::write(&beside, "beside").expect("a file can be written");
    let options = Options::default();
    drop(extract(&contents, &target, options, &mut |_| {}));
    assert_eq!(fs::read(&beside).expect("it is still there"), b"beside");
    let names = fs::read_dir(&scratch.0).expect("it can be listed");
    let names: Vec<_> = names
        .map(|name| name.map(|name| name.file_name()))
        .collect();
    assert!(names.len() <= 2, "{names:?}");
});
