//! Text of strangers on a terminal: process names, arguments and file names may hold anything.

use std::borrow::Cow;

/// Makes a text harmless: control characters, escape sequences, bidirectional overrides and invisible characters are
/// written as `\u{…}`. Nothing else changes.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_dangerous(c) {
            out.push_str(&c.escape_unicode().to_string());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{61c}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_shown_and_words_are_left_alone() {
        assert_eq!(printable("sh\u{1b}[2Jx\u{202e}cod"), "sh\\u{1b}[2Jx\\u{202e}cod");
        assert!(matches!(printable("Grüße, 世界 | 🦀"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn nothing_dangerous_reaches_a_terminal(text in "\\PC*|.*|[\\x00-\\x9f]{0,40}") {
            prop_assert!(!printable(&text).chars().any(is_dangerous));
        }
    }
}
