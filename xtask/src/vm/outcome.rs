//! What the tests in a guest printed, read.

/// What became of one test binary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The binary's name.
    pub test: String,
    /// Tests that passed.
    pub passed: Vec<String>,
    /// Tests that failed.
    pub failed: Vec<String>,
    /// Tests that were left out.
    pub left_out: Vec<String>,
    /// Why tests were left out, as they said it.
    pub reasons: Vec<String>,
    /// It did not come to its end.
    pub cut: bool,
}

impl Outcome {
    /// `kernel_lsm: 9 passed, 1 failed (name), 2 left out: reason`.
    pub fn line(&self) -> String {
        format!("{}: {}", self.test, self.told())
    }

    /// The same without the name.
    pub fn told(&self) -> String {
        let mut told = format!("{} passed", self.passed.len());
        if !self.failed.is_empty() {
            told += &format!(", {} failed ({})", self.failed.len(), self.failed.join(", "));
        }
        if self.cut {
            told += ", did not come to its end";
        }
        if !self.left_out.is_empty() {
            let reasons = if self.reasons.is_empty() { "no reason given".to_owned() } else { self.reasons.join("; ") };
            told += &format!(", {} left out: {reasons}", self.left_out.len());
        }
        told
    }

    /// Tests that failed, and one more when it did not come to its end.
    pub fn faults(&self) -> usize {
        self.failed.len() + usize::from(self.cut)
    }

    /// Takes a verdict; whether it was one.
    fn take(&mut self, test: &str, verdict: &str) -> bool {
        let list = match verdict.trim() {
            "ok" => &mut self.passed,
            "FAILED" => &mut self.failed,
            "ignored" => &mut self.left_out,
            _ => return false,
        };
        list.push(test.to_owned());
        true
    }
}

/// The line before a binary's output, in the form that [`outcomes`] reads.
pub fn begin(test: &str) -> String {
    format!("@@ test {test}")
}

/// Reads what tests printed: what [`begin`] says, libtest's lines, `@@ end CODE`.
pub fn outcomes(text: &str) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    // A test that prints something has its verdict on a line of its own, after what it printed.
    let mut open: Option<String> = None;
    for line in text.lines().map(|line| line.trim_end_matches('\r')) {
        if let Some(test) = line.strip_prefix("@@ test ") {
            outcomes.push(Outcome { test: test.to_owned(), cut: true, ..Outcome::default() });
            open = None;
            continue;
        }
        let Some(outcome) = outcomes.last_mut() else { continue };
        if let Some(code) = line.strip_prefix("@@ end ") {
            outcome.cut = false;
            // Whatever was not understood above must not look like success.
            if code.trim() != "0" && outcome.failed.is_empty() {
                outcome.failed.push(format!("exit code {}", code.trim()));
            }
        } else if let Some(reason) = line.strip_prefix("skipped: ") {
            if !outcome.reasons.iter().any(|known| known == reason) {
                outcome.reasons.push(reason.to_owned());
            }
        } else if let Some((test, verdict)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            let test = test.trim();
            open = (!outcome.take(test, verdict)).then(|| test.to_owned());
        } else if let Some(test) = &open
            && ["ok", "FAILED"].iter().any(|verdict| line.ends_with(verdict) && outcome.take(test, verdict))
        {
            open = None;
        }
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tests_print_is_counted_with_their_names() {
        let text = "@@ test kernel_lsm\r\n\nrunning 4 tests\ntest one   ... ok\ntest two ... \nthread panicked\nFAILED\n\
                    test three ... ignored\nskipped: no LSM here\nskipped: no LSM here\ntest four ... noise\nok\n\
                    ---- two ----\ntest result: FAILED. 2 passed; 1 failed;\n@@ end 101\n\
                    @@ test kernel\ntest a ... ok\ntest b ... ";
        let outcomes = outcomes(text);
        assert_eq!(outcomes[0].passed, ["one", "four"], "the second printed something");
        assert_eq!((outcomes[0].failed.as_slice(), outcomes[0].left_out.len()), (&["two".to_owned()][..], 1));
        assert_eq!(outcomes[0].told(), "2 passed, 1 failed (two), 1 left out: no LSM here");
        assert!(!outcomes[0].cut && outcomes[1].cut, "the second never came to its end");
        assert_eq!(outcomes[1].faults(), 1);
    }

    #[test]
    fn a_binary_that_does_not_start_has_failed() {
        let outcomes = outcomes("@@ test kernel\n/t/kernel: not found\n@@ end 127\n");
        assert_eq!(outcomes[0].failed, ["exit code 127"]);
    }
}
