//! The model's own state as findings: a fault of the model, and workloads that have drifted.

use std::sync::Arc;

use model::event::Time;
use model::{Drifted, Health};
use uuid::Uuid;

use super::finding::Change;
use super::{Outcome, Policy};
use crate::finding::{Finding, FindingType, Reason};

/// Subject of the finding about the model.
const MODEL: &str = "model";

impl Policy {
    /// Reports a fault of the model and workloads that have drifted, once each; closes what is over.
    pub fn on_health(&mut self, health: &Health, drifted: &[(Arc<str>, Vec<Drifted>)], at: Time) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let about_model = |finding: &Finding| finding.kind == FindingType::Agent && &*finding.workload == "agent:model";
        let is_open = self.findings.iter().any(about_model);
        match (health.state.is_fault(), is_open) {
            (true, false) => {
                let text = format!("nothing is denied automatically, the model is {}", health.state);
                outcomes.extend(self.about_agent(MODEL, text, at));
            }
            (false, true) => outcomes.extend(self.close_all(about_model, at)),
            _ => (),
        }
        for (workload, of) in drifted {
            let text =
                format!("{workload} is not what it was: nothing is denied automatically there until it is frozen anew");
            let said = (text, of.iter().map(reason).collect());
            let found = self.findings.about_workload(&self.host, workload, FindingType::Drift, said, &self.config, at);
            outcomes.extend(found.map(|finding| Outcome::Finding(Change::Created, finding)));
        }
        let is_over = |finding: &Finding| {
            finding.kind == FindingType::Drift && !drifted.iter().any(|(workload, _)| *workload == finding.workload)
        };
        outcomes.extend(self.close_all(is_over, at));
        outcomes
    }

    pub(super) fn close_all(&mut self, which: impl Fn(&Finding) -> bool, at: Time) -> Vec<Outcome> {
        let ids: Vec<Uuid> = self.findings.iter().filter(|finding| which(finding)).map(|finding| finding.id).collect();
        let closed = ids.into_iter().filter_map(|id| self.findings.close(id, at));
        closed.map(|finding| Outcome::Finding(Change::Closed, finding)).collect()
    }
}

fn reason(of: &Drifted) -> Reason {
    let unit = of.gauge.unit();
    Reason {
        what: of.gauge.coordinate().name().to_owned(),
        now: format!("{:.1} {unit}", of.now),
        usual: format!("{:.1} in the first days after the freeze", of.usual),
        bits: ((1.0 + of.now) / (1.0 + of.usual)).log2().abs(),
    }
}
