//! The model's own state as findings: a fault of the model, workloads whose own forest is sick, and workloads that have drifted.

use std::sync::Arc;

use model::event::Time;
use model::{Drifted, Health, HealthState, Model};
use uuid::Uuid;

use super::finding::Change;
use super::{Outcome, Policy};
use crate::finding::{Finding, FindingType, Reason};

/// Subject of the finding about the model.
const MODEL: &str = "model";
/// Workload of every finding about the agent, and its beginning.
const AGENT: &str = "agent:";

/// What the model says about itself.
#[derive(Debug)]
pub struct Wellbeing {
    /// On the host as a whole.
    pub health: Health,
    /// Workloads whose own forest is sick, and how.
    pub sick: Vec<(Arc<str>, HealthState)>,
    /// Workloads that have drifted, and how.
    pub drifted: Vec<(Arc<str>, Vec<Drifted>)>,
}

impl Wellbeing {
    /// Of a model as it is.
    pub fn of(model: &Model) -> Self {
        Self { health: model.health(), sick: model.all_sick(), drifted: model.all_drifted() }
    }
}

impl Policy {
    /// Reports a fault of the model, workloads whose own forest is sick and workloads that have drifted, once each; closes what is
    /// over.
    pub fn on_health(&mut self, told: &Wellbeing, at: Time) -> Vec<Outcome> {
        let Wellbeing { health, sick, drifted } = told;
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
        for (workload, state) in sick {
            let text = format!("the forest of {workload} alone is {state}; nothing is denied automatically there");
            outcomes.extend(self.about_workload(workload, FindingType::Agent, (text, Vec::new()), at));
        }
        let is_well = |finding: &Finding| {
            let about_workload = finding.kind == FindingType::Agent && !finding.workload.starts_with(AGENT);
            about_workload && !sick.iter().any(|(workload, _)| *workload == finding.workload)
        };
        outcomes.extend(self.close_all(is_well, at));
        for (workload, of) in drifted {
            let text =
                format!("{workload} is not what it was: nothing is denied automatically there until it is frozen anew");
            let said = (text, of.iter().map(reason).collect());
            outcomes.extend(self.about_workload(workload, FindingType::Drift, said, at));
        }
        let is_over = |finding: &Finding| {
            finding.kind == FindingType::Drift && !drifted.iter().any(|(workload, _)| *workload == finding.workload)
        };
        outcomes.extend(self.close_all(is_over, at));
        outcomes
    }

    fn about_workload(
        &mut self,
        workload: &Arc<str>,
        kind: FindingType,
        said: (String, Vec<Reason>),
        at: Time,
    ) -> Option<Outcome> {
        let found = self.findings.about_workload(&self.host, workload, kind, said, &self.config, at);
        found.map(|finding| Outcome::Finding(Change::Created, finding))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::FindingState;
    use crate::policy::mode::Mode;
    use crate::policy::tests::{at, policy_in};

    fn told(state: HealthState, sick: Vec<(Arc<str>, HealthState)>) -> Wellbeing {
        let health = Health { state, since: at(1), rows: 600, trees: 64, unmodelled: 0, dropped: 0, given_up: 0 };
        Wellbeing { health, sick, drifted: Vec::new() }
    }

    fn findings(outcomes: Vec<Outcome>) -> Vec<Finding> {
        let finding = |outcome| match outcome {
            Outcome::Finding(_, finding) => Some(finding),
            _ => None,
        };
        outcomes.into_iter().filter_map(finding).collect()
    }

    #[test]
    fn a_sick_forest_of_a_workload_is_one_finding_with_its_name_until_it_is_well() {
        let mut policy = policy_in(Mode::Monitoring);
        let shop: Arc<str> = "unit:shop.service".into();
        let sick = || vec![(shop.clone(), HealthState::Constant { depth: 8.2, asked: 9 })];
        let found = findings(policy.on_health(&told(HealthState::Healthy, sick()), at(10)));
        assert!(matches!(&found[..], [one] if one.kind == FindingType::Agent && one.workload == shop), "{found:?}");
        assert!(found[0].title.contains("unit:shop.service alone is constant"), "{}", found[0].title);
        assert!(!policy.findings.suspects(&shop), "the forest is at fault, not the workload: it may become ready");
        assert_eq!(findings(policy.on_health(&told(HealthState::Healthy, sick()), at(20))), [], "told once");

        let stunted = HealthState::Stunted { in_a_row: 1, last: at(30) };
        let found = findings(policy.on_health(&told(stunted, sick()), at(30)));
        assert!(matches!(&found[..], [one] if &*one.workload == "agent:model"), "{found:?}");
        let closed = findings(policy.on_health(&told(HealthState::Healthy, Vec::new()), at(40)));
        assert_eq!(closed.len(), 2);
        assert!(closed.iter().all(|finding| finding.state == FindingState::Closed), "{closed:?}");
    }
}
