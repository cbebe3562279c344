// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A blob's slot in the device table. Its last bytes are reserved, and nobody looks at them: there it has the digest
//! of the headers of a tar.
//!
//! | bytes | |
//! | --- | --- |
//! | 0 to 4 | "tar1" |
//! | 4 to 12 | size of the tar in bytes, little-endian |
//! | 12 to 44 | sha256 of the headers, see [`HeaderDigest`] |
//! | 44 to 52 | zero |

use super::Device;
use crate::tar::HeaderDigest;
use erofs_format::ondisk::DeviceSlot;
use zerocopy::FromZeros;

const MAGIC: &[u8; 4] = b"tar1";

/// A slot with everything but block numbers.
pub fn slot(device: &Device) -> DeviceSlot {
    let mut slot = DeviceSlot::new_zeroed();
    if let Some(verity) = device.verity {
        slot.tag = verity.tag();
    } else if let Some(digest) = device.digest {
        for (to, from) in slot.tag.iter_mut().zip(digest.to_string().bytes()) {
            *to = from;
        }
    }
    if let Some(HeaderDigest { size, sha256 }) = device.headers {
        let bytes = MAGIC
            .iter()
            .copied()
            .chain(size.to_le_bytes())
            .chain(sha256);
        for (to, from) in slot.reserved.iter_mut().zip(bytes) {
            *to = from;
        }
    }
    slot
}

/// The digest of a tar's headers in the reserved bytes of a slot, if there is one.
pub fn header_digest(reserved: &[u8; 52]) -> Option<HeaderDigest> {
    let (size, rest) = reserved.strip_prefix(MAGIC)?.split_first_chunk()?;
    let (sha256, rest) = rest.split_first_chunk()?;
    (*rest == [0; 8]).then_some(HeaderDigest {
        size: u64::from_le_bytes(*size),
        sha256: *sha256,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_out() {
        let headers = HeaderDigest {
            size: 1 << 33,
            sha256: [7; 32],
        };
        let device = Device {
            headers: Some(headers),
            ..Device::default()
        };
        let mut found = slot(&device).reserved;
        assert_eq!(header_digest(&found), Some(headers));
        found[51] = 1;
        assert_eq!(header_digest(&found), None);
        assert_eq!(header_digest(&slot(&Device::default()).reserved), None);
    }
}
