//! This module reads the deadline that a caller sets with the header `grpc-timeout`.

use std::time::Duration;

use tonic::codegen::http::HeaderMap;

/// Maximum number of digits of a timeout, according to gRPC's specification.
const MAX_DIGITS: usize = 8;

/// Returns the time in which the server must answer the call, or None if the header is missing or malformed.
pub fn parse(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > MAX_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().unwrap());
        parse(&headers)
    }

    #[test]
    fn every_unit_is_parsed() {
        for (text, expected) in [
            ("3H", Duration::from_secs(3 * 3600)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
            ("2M", Duration::from_secs(120)),
            ("20S", Duration::from_secs(20)),
            ("1500m", Duration::from_millis(1_500)),
            ("7u", Duration::from_micros(7)),
            ("00000009n", Duration::from_nanos(9)),
        ] {
            assert_eq!(parse_text(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn malformed_timeouts_are_ignored() {
        for text in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S", "1 S"] {
            assert_eq!(parse_text(text), None, "{text:?}");
        }
        assert_eq!(parse(&HeaderMap::new()), None);
    }
}
