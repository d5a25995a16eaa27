//! This module limits the size of statuses. A status is sent in HTTP headers, and clients of gRPC refuse headers of more
//! than 8 KiB. Such a client would report RESOURCE_EXHAUSTED instead of the status.

/// Maximum size of each text of a status, in bytes of `grpc-message`. A status contains its text twice, and at most two
/// further texts that quote a field of a request, so its headers stay below 8 KiB.
pub const TEXT_BYTES: usize = 1024;
/// Size of the end of a shortened text. The end contains the advice to the caller.
const END_BYTES: usize = 256;
/// Marks the place where a text is cut.
const CUT: &str = "…";

/// Returns a text of at most `TEXT_BYTES`. If the text is longer, the function replaces the middle of the text with "…".
pub fn shorten(text: &str) -> String {
    if count_up_to(text.chars(), TEXT_BYTES) == text.chars().count() {
        return text.to_owned();
    }
    let start_bytes = TEXT_BYTES - END_BYTES - encoded_len_of_text(CUT);
    let start: String = text.chars().take(count_up_to(text.chars(), start_bytes)).collect();
    let end: Vec<char> = text.chars().rev().take(count_up_to(text.chars().rev(), END_BYTES)).collect();
    let end: String = end.into_iter().rev().collect();
    format!("{start}{CUT}{end}")
}

/// Returns the number of characters that fit in `limit` bytes.
fn count_up_to(text: impl Iterator<Item = char>, limit: usize) -> usize {
    let sizes = text.scan(0, |size, letter| {
        *size += encoded_len(letter);
        Some(*size)
    });
    sizes.take_while(|size| *size <= limit).count()
}

fn encoded_len_of_text(text: &str) -> usize {
    text.chars().map(encoded_len).sum()
}

/// Returns the maximum size of a character in `grpc-message`, which is percent-encoded: three bytes for each byte that
/// is not a letter or a digit. The header contains some of these characters unencoded, so the size can be smaller.
fn encoded_len(letter: char) -> usize {
    if letter.is_ascii_alphanumeric() { 1 } else { 3 * letter.len_utf8() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_within_the_limit_is_not_changed() {
        for text in [String::new(), "a".repeat(TEXT_BYTES), "é".repeat(TEXT_BYTES / 6)] {
            assert_eq!(shorten(&text), text);
        }
    }

    #[test]
    fn long_text_keeps_its_start_and_its_end() {
        for middle in ["x", "é", "→", "😀", "\n"] {
            let text = format!("the name is {}: pass a name", middle.repeat(TEXT_BYTES));
            let short = shorten(&text);
            assert!(short.starts_with("the name is ") && short.ends_with(": pass a name"), "{short}");
            assert!(short.contains(&format!("{middle}…{middle}")), "{short}");
            let size = encoded_len_of_text(&short);
            assert!(size <= TEXT_BYTES && size > TEXT_BYTES - 24, "{size} bytes");
        }
    }
}
