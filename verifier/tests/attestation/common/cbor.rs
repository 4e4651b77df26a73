//! Encodes CBOR item by item, so that a test can put any item, right or wrong, in any place.

/// A head: type 0 to 7 and a number in its shortest form.
pub(crate) fn head(major: u8, number: u64) -> Vec<u8> {
    let mut width = match number {
        0..24 => return vec![major << 5 | u8::try_from(number).unwrap()],
        24..0x100 => 0,
        0x100..0x1_0000 => 1,
        0x1_0000..0x1_0000_0000 => 2,
        _ => 3,
    };
    let mut bytes = vec![major << 5 | (0x18 + width)];
    width = 1 << width;
    bytes.extend_from_slice(&number.to_be_bytes()[8 - usize::from(width)..]);
    bytes
}

/// A head whose number takes `width` bytes, needed or not.
pub(crate) fn wide_head(major: u8, number: u64, width: usize) -> Vec<u8> {
    let mut bytes = vec![major << 5 | (0x18 + u8::try_from(width.ilog2()).unwrap())];
    bytes.extend_from_slice(&number.to_be_bytes()[8 - width..]);
    bytes
}

pub(crate) fn unsigned(number: u64) -> Vec<u8> {
    head(0, number)
}

/// The number -1 - `number`.
pub(crate) fn negative(number: u64) -> Vec<u8> {
    head(1, number)
}

pub(crate) fn bytes(content: &[u8]) -> Vec<u8> {
    [head(2, content.len() as u64).as_slice(), content].concat()
}

pub(crate) fn text(content: &str) -> Vec<u8> {
    [head(3, content.len() as u64).as_slice(), content.as_bytes()].concat()
}

pub(crate) fn array(items: &[Vec<u8>]) -> Vec<u8> {
    [head(4, items.len() as u64), items.concat()].concat()
}

pub(crate) fn map(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = head(5, entries.len() as u64);
    for (key, value) in entries {
        out.extend_from_slice(&[key.as_slice(), value].concat());
    }
    out
}

/// The same map, ended by a break.
pub(crate) fn open_map(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0xbf];
    for (key, value) in entries {
        out.extend_from_slice(&[key.as_slice(), value].concat());
    }
    out.push(0xff);
    out
}

pub(crate) fn null() -> Vec<u8> {
    vec![0xf6]
}
