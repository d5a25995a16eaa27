//! This module replaces the characters of a text that could control a terminal, change the order of other characters, or
//! stay invisible.

/// Returns a text in which each such character is replaced with U+FFFD. Removes the characters that only select the look
/// of an emoji.
pub fn printable(text: &str) -> String {
    let letters = text.chars().filter(|letter| !selects_look(*letter));
    letters.map(|letter| if is_printable(letter) { letter } else { '\u{fffd}' }).collect()
}

/// Returns JSON in which each such character is escaped. The characters can occur only within the strings of the JSON.
pub fn escape_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for letter in json.chars() {
        if is_printable(letter) {
            escaped.push(letter);
        } else {
            let units =
                letter.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
            escaped.push_str(&units);
        }
    }
    escaped
}

/// Returns the first line of a text.
pub fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn selects_look(letter: char) -> bool {
    matches!(letter, '\u{fe0e}' | '\u{fe0f}')
}

/// Returns false for control characters, the separators of lines and paragraphs, characters that change the writing
/// direction, and the invisible characters: those with the Unicode property Default_Ignorable_Code_Point, and the marks
/// of annotations.
fn is_printable(letter: char) -> bool {
    let is_invisible = matches!(letter,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}');
    !letter.is_control() && !is_invisible
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Control characters, characters that change the direction, invisible characters, and separators.
    const BAD: &str = "\0\u{7}\t\n\r\u{1b}\u{7f}\u{85}\u{9b}\u{61c}\u{200e}\u{202a}\u{202e}\u{2066}\u{2069}\u{ad}\u{200b}\u{200d}\u{2060}\u{feff}\u{2028}\u{2029}\u{e0041}";

    #[test]
    fn each_bad_character_is_replaced_and_others_are_not() {
        assert_eq!(printable(BAD), "\u{fffd}".repeat(BAD.chars().count()));
        let good = "Prüfe → ja, 日本語, हिन्दी, e\u{301}, 😀";
        assert_eq!(printable(good), good);
        assert_eq!(printable("⚠\u{fe0f}!"), "⚠!");
    }

    #[test]
    fn escaped_json_has_no_bad_character_and_the_same_value() {
        let json = serde_json::to_string(&[BAD, "→ ⚠\u{fe0f}"]).unwrap();
        let escaped = escape_json(&json);
        assert_eq!(printable(&escaped), escaped);
        assert!(
            escaped.contains("\\u202e") && escaped.contains("\\udb40\\udc41") && escaped.contains('→'),
            "{escaped}"
        );
        assert_eq!(serde_json::from_str::<[String; 2]>(&escaped).unwrap(), [BAD, "→ ⚠\u{fe0f}"]);
    }
}
