//! The protobuf wire format, as far as `gogo/protobuf` writes it.

/// Bytes that are not protobuf.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) &'static str);

/// One field's value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

impl<'a> Payload<'a> {
    pub(crate) fn bytes(self) -> Result<&'a [u8], Broken> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Broken("wrong wire type: bytes wanted")),
        }
    }

    pub(crate) fn varint(self) -> Result<u64, Broken> {
        match self {
            Self::Varint(number) => Ok(number),
            _ => Err(Broken("wrong wire type: varint wanted")),
        }
    }

    pub(crate) fn double(self) -> Result<f64, Broken> {
        match self {
            Self::Fixed(bits) => Ok(f64::from_bits(bits)),
            _ => Err(Broken("wrong wire type: 64 bits wanted")),
        }
    }
}

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field's number and value; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Payload<'a>)>, Broken> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Fixed(u64::from_le_bytes(self.take(8)?.try_into().unwrap_or_default())),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Broken("length overflow"))?;
                Payload::Bytes(self.take(length)?)
            }
            5 => Payload::Fixed(u64::from(u32::from_le_bytes(self.take(4)?.try_into().unwrap_or_default()))),
            _ => return Err(Broken("illegal wire type")),
        };
        Ok(Some((tag >> 3, payload)))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Broken> {
        let mut number = 0_u64;
        for (at, byte) in self.rest.iter().enumerate().take(10) {
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok(number);
            }
        }
        Err(Broken(if self.rest.len() < 10 { "unexpected EOF" } else { "integer overflow" }))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Broken> {
        if length > self.rest.len() {
            return Err(Broken("unexpected EOF"));
        }
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(taken)
    }
}
