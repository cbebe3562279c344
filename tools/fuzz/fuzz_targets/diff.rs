// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Any two images, an old and a new one: comparing them ends, an image is what it is itself if it is sound, and from
//! the other side what was added is removed. Four bytes in front say where the second begins.

#![no_main]

use ferofs::error::Error;
use ferofs::inspect::Image;
use ferofs::inspect::check::check;
use ferofs::inspect::contents::Contents;
use ferofs::inspect::diff::Ignored;
use ferofs::inspect::diff::Summary;
use ferofs::inspect::diff::diff;
use ferofs_fuzz::open;
use ferofs_fuzz::pair;
use libfuzzer_sys::fuzz_target;

/// Compares two images whose blobs are not there.
fn compare(old: &Image, new: &Image) -> Result<Summary, Error> {
    let (old, new) = (contents(old)?, contents(new)?);
    diff(&old, &new, &Ignored::default(), &mut |_| {
        Ok::<_, Error>(true)
    })
}

fn contents(image: &Image) -> Result<Contents<'_>, Error> {
    Ok(Contents::of(image, Vec::<(_, Vec<u8>)>::new())?.uncertain())
}

fuzz_target!(|bytes: &[u8]| {
    let Some((old, new)) = pair(bytes) else {
        return;
    };
    let (Some(old), Some(new)) = (open(old.to_vec()), open(new.to_vec())) else {
        return;
    };
    let there = compare(&old, &new);
    let back = compare(&new, &old);
    if let (Ok(there), Ok(back)) = (there, back) {
        assert_eq!((there.added, there.removed), (back.removed, back.added));
        assert_eq!((there.changed, there.same), (back.changed, back.same));
    }
    for image in [&old, &new] {
        let report = check(image, &[], &mut |_| {}).expect("memory can be read");
        if report.problems.is_empty() {
            let same = compare(image, image).expect("what is sound can be compared");
            assert!(same.is_same(), "{same:?}");
        }
    }
});
