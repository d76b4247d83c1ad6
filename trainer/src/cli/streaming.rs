//! `stockade-trainer streaming`

use std::path::PathBuf;

use clap::Args;

use crate::datasets::adbench;
use crate::streaming::{METHODS, Method, Row, SETS, markdown, plain, run as reach};

/// Which methods, on which files.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder with ADBench's files: 32_shuttle.npz and so on.
    #[arg(value_name = "DIR")]
    from: PathBuf,
    /// Only methods whose name contains this.
    #[arg(long, value_name = "TEXT")]
    method: Option<String>,
    /// Seeds of each; the table holds their medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Print it as Markdown.
    #[arg(long)]
    markdown: bool,
}

/// Runs the command: every row is scored, then learnt.
///
/// # Errors
///
/// When a set is missing or damaged, or no method is called so.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let wanted = |method: &&Method| options.method.as_ref().is_none_or(|text| method.name.contains(text.as_str()));
    let methods: Vec<&Method> = METHODS.iter().filter(wanted).collect();
    if methods.is_empty() {
        let names: Vec<&str> = METHODS.iter().map(|method| method.name).collect();
        anyhow::bail!("no method has that in its name; there are: {}", names.join("; "));
    }
    let tables = SETS.iter().map(|(_, file)| adbench::load(&options.from.join(file))).collect::<Result<Vec<_>, _>>()?;
    let mut rows = Vec::new();
    for method in methods {
        eprintln!("running  {}", method.name);
        let reached = tables.iter().map(|table| reach(method, table, options.seeds)).collect();
        rows.push(Row { method: method.name, reached });
    }
    let sets = SETS.map(|(name, _)| name);
    let show = if options.markdown { markdown } else { plain };
    print!("{}", show(&sets, &rows));
    Ok(())
}
