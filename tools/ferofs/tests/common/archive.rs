// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Makes archives header by header, right ones and wrong ones.

/// An archive being made.
#[derive(Default, Clone)]
pub struct Archive(pub Vec<u8>);

/// A header, with fields as bytes: what an archive may have in them is up to the test.
#[derive(Clone)]
pub struct Header {
    pub name: Vec<u8>,
    pub prefix: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: u8,
    pub mode: u32,
    pub uid: Vec<u8>,
    pub gid: Vec<u8>,
    pub size: Vec<u8>,
    pub mtime: Vec<u8>,
    pub device: (u32, u32),
    pub magic: Vec<u8>,
}

pub const USTAR: &[u8] = b"ustar\x0000";
pub const GNU: &[u8] = b"ustar  \0";
pub const V7: &[u8] = b"";

/// An octal number for a field of 8 or 12 bytes.
pub fn octal(number: u64, width: usize) -> Vec<u8> {
    format!("{number:0width$o}\0", width = width - 1).into_bytes()
}

/// A base-256 number for a field of 8 or 12 bytes.
pub fn base256(number: i64, width: usize) -> Vec<u8> {
    let fill = if number < 0 { 0xff } else { 0 };
    let mut field = vec![fill; width - 8];
    field.extend_from_slice(&number.to_be_bytes());
    field[0] = if number < 0 { 0xff } else { 0x80 };
    field
}

/// A number of 8 bytes, of which only 7 are left beside the mark.
pub fn base256_short(number: u32) -> Vec<u8> {
    let mut field = vec![0x80, 0, 0, 0];
    field.extend_from_slice(&number.to_be_bytes());
    field
}

impl Header {
    pub fn new(name: &str, kind: u8) -> Self {
        Header {
            name: name.as_bytes().to_vec(),
            prefix: Vec::new(),
            link: Vec::new(),
            kind,
            mode: if kind == b'5' { 0o755 } else { 0o644 },
            uid: octal(1000, 8),
            gid: octal(100, 8),
            size: octal(0, 12),
            mtime: octal(1_700_000_000, 12),
            device: (0, 0),
            magic: USTAR.to_vec(),
        }
    }

    pub fn link(mut self, target: &str) -> Self {
        self.link = target.as_bytes().to_vec();
        self
    }

    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.uid = octal(uid, 8);
        self.gid = octal(gid, 8);
        self
    }

    pub fn mtime(mut self, mtime: u64) -> Self {
        self.mtime = octal(mtime, 12);
        self
    }

    pub fn size(mut self, size: u64) -> Self {
        self.size = octal(size, 12);
        self
    }

    pub fn device(mut self, major: u32, minor: u32) -> Self {
        self.device = (major, minor);
        self
    }

    pub fn magic(mut self, magic: &[u8]) -> Self {
        self.magic = magic.to_vec();
        self
    }

    /// The header as a block, with its checksum.
    pub fn block(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name);
        put(100, &octal(self.mode.into(), 8));
        put(108, &self.uid);
        put(116, &self.gid);
        put(124, &self.size);
        put(136, &self.mtime);
        put(156, &[self.kind]);
        put(157, &self.link);
        put(257, &self.magic);
        if !self.magic.is_empty() {
            put(329, &octal(self.device.0.into(), 8));
            put(337, &octal(self.device.1.into(), 8));
        }
        put(345, &self.prefix);
        seal(&mut block);
        block
    }
}

/// Puts the checksum into a header.
pub fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// PAX records.
pub fn records<K: AsRef<[u8]>, V: AsRef<[u8]>>(records: &[(K, V)]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        let (key, value) = (key.as_ref(), value.as_ref());
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length.to_string().len() + rest != length {
            length += 1;
        }
        data.extend_from_slice(length.to_string().as_bytes());
        data.push(b' ');
        data.extend_from_slice(key);
        data.push(b'=');
        data.extend_from_slice(value);
        data.push(b'\n');
    }
    data
}

impl Archive {
    pub fn new() -> Self {
        Archive::default()
    }

    pub fn block(mut self, block: [u8; 512]) -> Self {
        self.0.extend_from_slice(&block);
        self
    }

    /// A header with data behind it, whose size it has unless `header` says another.
    pub fn with_data(self, mut header: Header, data: &[u8]) -> Self {
        if header.size == octal(0, 12) {
            header.size = octal(data.len() as u64, 12);
        }
        self.block(header.block()).data(data)
    }

    /// Data, padded.
    pub fn data(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn header(self, header: Header) -> Self {
        self.block(header.block())
    }

    pub fn file(self, name: &str, data: &str) -> Self {
        self.with_data(Header::new(name, b'0'), data.as_bytes())
    }

    pub fn directory(self, name: &str) -> Self {
        self.header(Header::new(name, b'5'))
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.header(Header::new(name, b'2').link(target))
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.header(Header::new(name, b'1').link(target))
    }

    /// An extended header for what follows.
    pub fn pax<K: AsRef<[u8]>, V: AsRef<[u8]>>(self, list: &[(K, V)]) -> Self {
        self.with_data(Header::new("pax", b'x'), &records(list))
    }

    /// A global extended header.
    pub fn global<K: AsRef<[u8]>, V: AsRef<[u8]>>(self, list: &[(K, V)]) -> Self {
        self.with_data(Header::new("pax_global", b'g'), &records(list))
    }

    /// A GNU header for a name (`L`) or link (`K`) that is too long.
    pub fn long(self, kind: u8, text: &str) -> Self {
        let mut data = text.as_bytes().to_vec();
        data.push(0);
        self.with_data(Header::new("././@LongLink", kind).magic(GNU), &data)
    }

    /// Ends the archive as writers do.
    pub fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }

    /// The archive without an end.
    pub fn open_end(self) -> Vec<u8> {
        self.0
    }
}
