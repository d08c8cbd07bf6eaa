//! Randomness for names and jitter; never for secrets.

/// Sixty-four random bits.
pub fn u64() -> u64 {
    // A system without randomness would break NATS logins long before jitter; a counter keeps
    // names distinct within the process even then.
    static FALLBACK: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    getrandom::u64().unwrap_or_else(|_no_source| {
        FALLBACK.fetch_add(0x9E37_79B9_7F4A_7C15, std::sync::atomic::Ordering::Relaxed)
    })
}

/// A random fraction in `[0, 1)`.
pub fn fraction() -> f64 {
    // 53 bits are what an f64 holds exactly.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let bits = (u64() >> 11) as f64;
    bits / 9_007_199_254_740_992.0
}

/// A name that nobody else makes: 22 letters and digits.
pub fn name() -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::with_capacity(22);
    for _ in 0..2 {
        let mut bits = u64();
        for _ in 0..11 {
            let digit = usize::try_from(bits % 62).unwrap_or(0);
            text.push(char::from(ALPHABET[digit]));
            bits /= 62;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_differ_and_are_words() {
        let (a, b) = (super::name(), super::name());
        assert_ne!(a, b);
        assert!(a.len() == 22 && a.chars().all(|c| c.is_ascii_alphanumeric()));
    }
}
