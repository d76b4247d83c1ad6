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

/// Makes JSON harmless for a terminal without changing what it means: `serde_json` escapes the old control characters only.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    // The only dangerous character outside of strings is the newline of pretty printing.
    let to_escape = |c: char| c != '\n' && is_dangerous(c);
    if !json.chars().any(to_escape) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if to_escape(c) {
            out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// An error with its causes. Many errors name their cause in the middle of a sentence: it is not said again at the end.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
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
    fn a_cause_is_said_once() {
        let cause = std::io::Error::other("no such thing");
        let named = crate::loader::LoadError::NoPins { path: "/p".into(), source: cause };
        let error = anyhow::Error::new(named).context("cannot start");
        assert_eq!(chain(&error).matches("no such thing").count(), 1, "{}", chain(&error));
        let error = anyhow::Error::new(std::io::Error::other("no such thing")).context("cannot start");
        assert_eq!(chain(&error), "cannot start: no such thing");
    }

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

        #[test]
        fn json_is_harmless_and_means_the_same(text in "\\PC*|.*|[\\x00-\u{9f}\u{202a}-\u{202e}\u{e0000}-\u{e007f}]{0,40}") {
            let json = serde_json::to_string_pretty(&[&text]).expect("JSON");
            let harmless = printable_json(&json);
            prop_assert!(!harmless.chars().any(|c| c != '\n' && is_dangerous(c)));
            let [back]: [String; 1] = serde_json::from_str(&harmless).expect("still JSON");
            prop_assert_eq!(back, text);
        }
    }
}
