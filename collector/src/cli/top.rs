//! `stockade top`: what each workload did in the last second, again and again.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use super::{Common, Exit, Output, table};
use crate::api::protocol::{Request, TopRow};

pub fn run(common: &Common) -> anyhow::Result<Exit> {
    let mut client = common.client()?;
    let mut before: HashMap<String, TopRow> = HashMap::new();
    let live = std::io::stdout().is_terminal() && common.output == Output::Table;
    for round in 0.. {
        let mut rows: Vec<TopRow> = client.ask(Request::Top)?;
        let rate = |row: &TopRow| before.get(&row.workload).map_or(0, |old| row.windows.saturating_sub(old.windows));
        rows.sort_by_key(|row| std::cmp::Reverse((rate(row), row.windows)));
        if round > 0 || !live {
            if live {
                print!("\u{1b}[2J\u{1b}[H");
            }
            let header = ["WORKLOAD", "PROCESSES", "WINDOWS/s", "EXECS/s", "FLOWS/s", "WINDOWS"];
            table::list(common.output, &rows, header, |row| {
                let old = before.get(&row.workload);
                let per_second = |now: u64, of: fn(&TopRow) -> u64| old.map_or(0, |old| now.saturating_sub(of(old)));
                [
                    row.workload.clone(),
                    row.processes.to_string(),
                    per_second(row.windows, |old| old.windows).to_string(),
                    per_second(row.execs, |old| old.execs).to_string(),
                    per_second(row.flows, |old| old.flows).to_string(),
                    row.windows.to_string(),
                ]
            })?;
        }
        if !live {
            break;
        }
        before = rows.into_iter().map(|row| (row.workload.clone(), row)).collect();
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(Exit::Fine)
}
