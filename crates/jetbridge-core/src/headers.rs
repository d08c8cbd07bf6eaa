//! Message headers: names and values as NATS carries them.

use crate::error::{Error, ErrorKind, Result};

/// An ordered list of header fields. Names are case-sensitive, as in NATS; a name may repeat.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Headers(Vec<(Box<str>, Box<str>)>);

impl Headers {
    /// No headers.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Sets `name` to `value`, replacing what was there.
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the name is empty or either holds what would
    /// break the header block: control characters, or `:` and white space in the name.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        check(name, value)?;
        self.0.retain(|(known, _)| **known != *name);
        self.0.push((name.into(), value.into()));
        Ok(())
    }

    /// Adds another field called `name`. Errors as [`Headers::set`].
    pub fn append(&mut self, name: &str, value: &str) -> Result<()> {
        check(name, value)?;
        self.0.push((name.into(), value.into()));
        Ok(())
    }

    /// The builder form of [`Headers::set`].
    pub fn with(mut self, name: &str, value: &str) -> Result<Self> {
        self.set(name, value)?;
        Ok(self)
    }

    /// Adds a field that a server delivered, unchecked: it has been through a header block.
    pub fn push_wire(&mut self, name: &str, value: &str) {
        self.0.push((name.into(), value.into()));
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
    }

    /// Removes every field called `name`.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| **known != *name);
    }

    /// All fields in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// True if there is no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Bytes of the header block on the wire: `NATS/1.0`, one line per field, an empty line.
    pub fn wire_bytes(&self) -> usize {
        if self.0.is_empty() {
            return 0;
        }
        12 + self.0.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>()
    }
}

fn check(name: &str, value: &str) -> Result<()> {
    let bad_name = |c: char| c == ':' || c.is_whitespace() || c.is_control() || !c.is_ascii();
    let bad_value = |c: char| c == '\r' || c == '\n' || c == '\0';
    if name.is_empty() || name.contains(bad_name) {
        return Err(Error::new(ErrorKind::InvalidInput, "headers.set")
            .because("a header name is visible ASCII without `:` and spaces")
            .with("header", format!("{name:?}")));
    }
    if value.contains(bad_value) {
        return Err(Error::new(ErrorKind::InvalidInput, "headers.set")
            .because("a header value is one line")
            .with("header", name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_replaces_and_append_repeats() {
        let mut headers = Headers::new().with("A", "1").unwrap();
        headers.append("A", "2").unwrap();
        assert_eq!((headers.get("A"), headers.len()), (Some("1"), 2));
        headers.set("A", "3").unwrap();
        assert_eq!((headers.get("A"), headers.len()), (Some("3"), 1));
    }

    #[test]
    fn what_would_break_the_block_is_refused() {
        for (name, value) in [("", "x"), ("a b", "x"), ("a:", "x"), ("a", "x\ny"), ("a\r", "x")] {
            assert!(Headers::new().set(name, value).is_err(), "{name:?}");
        }
    }
}
