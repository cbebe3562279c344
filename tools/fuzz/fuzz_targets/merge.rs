// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Any two images as layers, an upper and a lower one: they are refused, or the image that they are
//! merged into is sound. Four bytes in front say where the second begins.

#![no_main]

use ferofs::merge::Merge;
use ferofs_fuzz::open;
use ferofs_fuzz::pair;
use ferofs_fuzz::write_and_check;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((lower, upper)) = pair(bytes) else {
        return;
    };
    let mut merge = Merge::new();
    for layer in [lower, upper] {
        let Some(image) = open(layer.to_vec()) else {
            return;
        };
        if merge.apply(&image).is_err() {
            return;
        }
    }
    let Ok(merged) = merge.finish() else {
        return;
    };
    // Attributes stay what they are in the layers, right or wrong, and so do encoded bytes.
    write_and_check(&merged.tree, &merged.options(), &merged.tails, |problem| {
        let as_it_is = ["attribute", "cannot be had from"];
        as_it_is.iter().any(|text| problem.what.contains(text))
    });
});
