// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Any bytes as an archive: it is read to an error, or every image made of it is sound and the
//! tree survives a round through it.

#![no_main]

use ferofs::build::apply_archive;
use ferofs::image::Device;
use ferofs::image::Mode;
use ferofs::image::Options;
use ferofs::image::source::Blobs;
use ferofs::tree::Tree;
use ferofs::tree::whiteouts;
use ferofs::tree::whiteouts::Form;
use ferofs_fuzz::Sealed;
use ferofs_fuzz::index;
use ferofs_fuzz::write_and_check;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if index(bytes).is_none() {
        return;
    }
    for (form, mode, block_bits) in [
        (Form::Overlay, Mode::Index, 9),
        (Form::Aufs, Mode::Full, 12),
        (Form::Applied, Mode::Meta, 10),
    ] {
        let mut tree = Tree::new();
        let archive = apply_archive(Sealed::new(bytes), &mut tree, 0, &mut ())
            .expect("it could be read before");
        if whiteouts::convert(&mut tree, form).is_err() {
            continue;
        }
        let mut options = Options::default()
            .with_mode(mode)
            .with_block_bits(block_bits);
        if mode == Mode::Index {
            options.devices = vec![Device::new(archive.totals.size)];
        }
        write_and_check(&tree, &options, &Blobs(vec![bytes]), |_| false);
    }
});
