//! The table: a row a method, a column a set, and the mean over the sets.

use std::fmt::Write as _;

use super::Reached;

/// A method, and what it reaches on each set.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Method.
    pub method: &'static str,
    /// By set, in the order of the head.
    pub reached: Vec<Reached>,
}

impl Row {
    /// Median AUC and average precision of each set, and of the mean over them.
    fn cells(&self) -> Vec<(f64, f64)> {
        let mut cells: Vec<(f64, f64)> = self.reached.iter().map(|reached| (reached.auc[1], reached.ap[1])).collect();
        let sets = cells.len().max(1) as f64;
        let (auc, ap) = cells.iter().fold((0.0, 0.0), |sum, cell| (sum.0 + cell.0, sum.1 + cell.1));
        cells.push((auc / sets, ap / sets));
        cells
    }
}

/// For a terminal: AUC/AP, medians over the seeds.
pub fn plain(sets: &[&str], rows: &[Row]) -> String {
    let wide = rows.iter().map(|row| row.method.len()).max().unwrap_or(0).max(6);
    let mut out = format!("{:wide$}", "AUC/AP");
    for set in sets.iter().chain(&["mean"]) {
        // Writing to a string does not fail.
        let _ = write!(out, "  {set:>11}");
    }
    for row in rows {
        let _ = write!(out, "\n{:wide$}", row.method);
        for (auc, ap) in row.cells() {
            let _ = write!(out, "  {:>11}", format!("{auc:.3}/{ap:.3}"));
        }
    }
    out.push('\n');
    out
}

/// For a page.
pub fn markdown(sets: &[&str], rows: &[Row]) -> String {
    let mut out = format!("| AUC/AP | {} | mean |\n|---|{}---|\n", sets.join(" | "), "---|".repeat(sets.len()));
    for row in rows {
        let cells: Vec<String> = row.cells().iter().map(|(auc, ap)| format!("{auc:.3}/{ap:.3}")).collect();
        let _ = writeln!(out, "| {} | {} |", row.method, cells.join(" | "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tables_hold_medians_and_their_mean() {
        let reached = |auc: f64| Reached { auc: [0.0, auc, 1.0], ap: [0.0, 0.25, 1.0] };
        let rows = [Row { method: "ours", reached: vec![reached(0.5), reached(0.75)] }];
        let table = markdown(&["a", "b"], &rows);
        assert_eq!(
            table,
            "| AUC/AP | a | b | mean |\n|---|---|---|---|\n| ours | 0.500/0.250 | 0.750/0.250 | 0.625/0.250 |\n"
        );
        assert!(plain(&["a", "b"], &rows).ends_with("ours    0.500/0.250  0.750/0.250  0.625/0.250\n"));
    }
}
