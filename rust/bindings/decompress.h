/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Input of this module's second bindgen run: the kernel's decoders. Which of their functions are taken stands in
 * decompress_parameters. Used by Kbuild alone; the result is included by ../decompress/bindings.rs.
 */
#include <linux/lz4.h>
#include <linux/xz.h>
#include <linux/zlib.h>
#include <linux/zstd.h>
