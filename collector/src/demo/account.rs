//! What the demo promised and what came of it: a line for each step, and the sum at the end.

use std::time::Instant;

/// Prints steps with the time since the start, and remembers which promises were kept.
pub struct Account {
    began: Instant,
    kept: u32,
    broken: Vec<String>,
}

impl Default for Account {
    fn default() -> Self {
        Self { began: Instant::now(), kept: 0, broken: Vec::new() }
    }
}

impl Account {
    /// Something that happens.
    pub fn tell(&self, tag: &str, text: impl AsRef<str>) {
        let seconds = self.began.elapsed().as_secs();
        println!("{:>2}:{:02}  {tag:<10} {}", seconds / 60, seconds % 60, text.as_ref());
    }

    /// A promise: kept or broken.
    pub fn promise(&mut self, tag: &str, kept: bool, text: impl AsRef<str>) {
        let text = text.as_ref();
        if kept {
            self.kept += 1;
            self.tell(tag, text);
        } else {
            self.broken.push(format!("{tag}: {text}"));
            self.tell(tag, format!("BROKEN PROMISE: {text}"));
        }
    }

    /// The last line. `true` when every promise was kept.
    pub fn close(self) -> bool {
        let seconds = self.began.elapsed().as_secs();
        let all = self.kept as usize + self.broken.len();
        let word = if self.broken.is_empty() { "PASS" } else { "FAIL" };
        println!("{word}     {} of {all} promises kept in {} min {:02} s", self.kept, seconds / 60, seconds % 60);
        for promise in &self.broken {
            println!("         broken: {promise}");
        }
        self.broken.is_empty()
    }
}
