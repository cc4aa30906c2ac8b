//! HAProxy's way to write a time: a number and a unit of `us`, `ms`, `s`, `m`, `h` or `d`;
//! milliseconds without a unit.

use std::time::Duration;

/// The longest time HAProxy's timers hold (31 bits of milliseconds, about 24 days).
pub const MAX: Duration = Duration::from_millis(i32::MAX as u64);

/// Why a time is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// No number at the start.
    #[error("`{0}` is not a time; write a number and a unit, e.g. 500ms, 5s, 1m, 1h")]
    NoNumber(String),
    /// A unit we do not know.
    #[error("unit `{0}` is not known; use us, ms, s, m, h or d")]
    Unit(String),
    /// More than the timers hold.
    #[error("`{0}` is longer than 24 days")]
    TooLong(String),
}

/// Reads a time; `default_unit_us` is the unit of a bare number in microseconds.
///
/// # Errors
/// When it is not a time.
pub fn parse(text: &str, default_unit_us: u64) -> Result<Duration, TimeError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(TimeError::NoNumber(text.to_owned()));
    }
    let factor = match unit {
        "" => default_unit_us,
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return Err(TimeError::Unit(unit.to_owned())),
    };
    let too_long = || TimeError::TooLong(text.to_owned());
    let number: u64 = number.parse().map_err(|_| too_long())?;
    let time = Duration::from_micros(number.checked_mul(factor).ok_or_else(too_long)?);
    if time > MAX { Err(too_long()) } else { Ok(time) }
}

/// Reads a time in milliseconds unless a unit is given.
///
/// # Errors
/// When it is not a time.
pub fn parse_ms(text: &str) -> Result<Duration, TimeError> {
    parse(text, 1_000)
}

/// Writes a time in the largest unit that fits exactly.
#[must_use]
pub fn show(time: Duration) -> String {
    let micros = time.as_micros();
    for (unit, size) in
        [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000)]
    {
        if micros != 0 && micros.is_multiple_of(size) {
            return format!("{}{unit}", micros / size);
        }
    }
    format!("{micros}us")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_unit() {
        assert_eq!(parse_ms("5000").unwrap(), Duration::from_secs(5));
        for (text, micros) in [
            ("7us", 7),
            ("5ms", 5_000),
            ("5s", 5_000_000),
            ("2m", 120_000_000),
            ("1h", 3_600_000_000),
            ("1d", 86_400_000_000),
        ] {
            assert_eq!(parse_ms(text).unwrap(), Duration::from_micros(micros), "{text}");
            assert_eq!(show(Duration::from_micros(micros)), text);
        }
        assert_eq!(parse("3", 1_000_000).unwrap(), Duration::from_secs(3));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        assert!(matches!(parse_ms("soon"), Err(TimeError::NoNumber(_))));
        assert!(matches!(parse_ms(""), Err(TimeError::NoNumber(_))));
        assert!(matches!(parse_ms("5 s"), Err(TimeError::Unit(_))));
        assert!(matches!(parse_ms("5min"), Err(TimeError::Unit(_))));
        assert!(matches!(parse_ms("99999d"), Err(TimeError::TooLong(_))));
        assert!(matches!(parse_ms("99999999999999999999999"), Err(TimeError::TooLong(_))));
    }
}
