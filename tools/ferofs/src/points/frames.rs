// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Zstandard by frames: reading can begin where one does. A layer of one frame is read as a whole; those of zstd:chunked and
//! of `zstd --adapt` or `pzstd` have many. [`super::Maker`] and [`super::unit`] call it.

use crate::compression::Window;
use std::io;
use zstd::stream::raw::DParameter;
use zstd::stream::raw::Decoder;
use zstd::stream::raw::InBuffer;
use zstd::stream::raw::Operation;
use zstd::stream::raw::OutBuffer;

/// Decompresses frames one after the other; those that are to be skipped are.
pub struct Frames(Decoder<'static>);

/// What was done.
pub struct Step {
    /// Bytes that were taken.
    pub read: usize,
    /// Bytes that were made of them.
    pub written: usize,
    /// Whether a frame ended with them.
    pub ended: bool,
}

impl Frames {
    /// At the start of a frame.
    ///
    /// # Errors
    ///
    /// When there is no memory for it.
    pub fn new() -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        // As much as layers that are read as a whole may need.
        decoder.set_parameter(DParameter::WindowLogMax(Window::Usual.log()))?;
        Ok(Frames(decoder))
    }

    /// Goes on.
    ///
    /// # Errors
    ///
    /// When it is no frame, or damaged.
    pub fn step(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<Step> {
        let mut from = InBuffer::around(input);
        let mut to = OutBuffer::around(output);
        let left = self.0.run(&mut from, &mut to)?;
        Ok(Step {
            read: from.pos(),
            written: to.pos(),
            ended: left == 0,
        })
    }
}
