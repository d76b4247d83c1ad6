//! The catalogue of attacks. What they do is in `datasets/scenarios/outside/attacker/`, one file a split.

use super::labels::Class::{self, Evasive, InProcess, Visible};
use super::labels::Split::{self, Test, Validation};
use super::services::{API, ORDERS, PHP};
use super::unseen;

/// One attack.
pub struct Attack {
    /// Its name there and in the labels.
    pub name: &'static str,
    /// The only split in which it occurs.
    pub split: Split,
    /// How it shows.
    pub class: Class,
    /// The unit whose workload does the harm.
    pub unit: &'static str,
    /// Text in the command line of its root process; none: it is the service's own process, or several trees.
    pub root: Option<&'static str>,
    /// The operation that does the harm.
    pub harm: &'static str,
    /// What is cleaned up afterwards.
    pub cleanup: Cleanup,
}

/// What an attack leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// Nothing that lasts.
    Nothing,
    /// Encrypted pictures.
    Pictures,
    /// The service runs with a library of the attacker's.
    Preload,
    /// A script of cron's was changed.
    CronScript,
    /// A line in a user's crontab.
    Crontab,
    /// Redis has a module, or other settings.
    Redis,
    /// Files and folders of the attacker's.
    Files(&'static [&'static str]),
    /// A line in a user's profile.
    Bashrc,
}

/// The database.
pub const POSTGRES: &str = "postgresql@15-main.service";
/// Cache and queue.
pub const REDIS: &str = "redis-server.service";
/// People's sessions have no unit.
pub const LOGIN: &str = "login";
const CRON: &str = "cron.service";
/// What every command line of the API's shell holds into which something was injected.
pub const INJECTED: &str = "getent hosts localhost;";
/// A harm.
pub const TOLD: &str = "the answer with the payment key is received";
/// A harm.
pub const CALLED: &str = "the first bytes arrive at the attacker's port";

/// An attack after which nothing is to be cleaned up.
pub const fn attack(
    name: &'static str,
    split: Split,
    class: Class,
    unit: &'static str,
    root: Option<&'static str>,
    harm: &'static str,
) -> Attack {
    Attack { name, split, class, unit, root, harm, cleanup: Cleanup::Nothing }
}

/// One that leaves something.
pub const fn leaving(attack: Attack, cleanup: Cleanup) -> Attack {
    Attack { cleanup, ..attack }
}

/// Every attack.
pub const ATTACKS: [Attack; 35] = [
    attack("web-shell-commands", Validation, Visible, PHP, None, TOLD),
    attack("reverse-shell-bash", Validation, Visible, API, Some(INJECTED), "the first answer of the shell"),
    attack("memfd-from-python", Validation, Visible, API, Some("dbus-helper"), CALLED),
    attack("port-scan-python", Validation, Visible, API, None, "the list of open ports is received"),
    attack("bulk-exfiltration-curl", Validation, Visible, API, Some(INJECTED), CALLED),
    leaving(
        attack("crontab-persistence", Validation, Visible, LOGIN, Some("crontab -"), "the crontab is installed"),
        Cleanup::Crontab,
    ),
    attack("brute-force-ssh", Validation, InProcess, "ssh.service", None, "the right password is accepted"),
    attack("secret-reading-node", Validation, InProcess, ORDERS, None, TOLD),
    leaving(
        attack("encryption-openssl", Validation, Visible, API, Some(INJECTED), "the first pictures are replaced"),
        Cleanup::Pictures,
    ),
    attack("padded-reading-php", Validation, Evasive, PHP, None, TOLD),
    attack("web-shell-files", Test, InProcess, PHP, None, TOLD),
    attack("downloader", Test, Visible, API, Some(INJECTED), CALLED),
    attack("reverse-shell-python", Test, Visible, ORDERS, Some("python3 -c"), "the first answer of the shell"),
    attack("reverse-shell-in-process", Test, InProcess, ORDERS, None, "the first answer reaches the provider"),
    leaving(attack("memfd-from-module", Test, Visible, REDIS, Some("redis-bio"), CALLED), Cleanup::Redis),
    leaving(
        attack("encryption-in-process", Test, InProcess, PHP, None, "the first picture is overwritten"),
        Cleanup::Pictures,
    ),
    leaving(
        attack("encryption-32-threads", Test, Evasive, API, Some(INJECTED), "the first pictures are overwritten"),
        Cleanup::Pictures,
    ),
    attack("port-scan-tool", Test, Visible, PHP, Some("thumb.bin"), "the list of open ports is received"),
    attack("slow-exfiltration", Test, Evasive, ORDERS, None, "the first piece reaches the provider"),
    attack("ramp-exfiltration", Test, Evasive, ORDERS, None, "100 kB have reached the provider"),
    attack("copy-to-program", Test, Visible, POSTGRES, Some("curl -s -m 6 -T -"), CALLED),
    attack("brute-force-postgres", Test, InProcess, POSTGRES, None, "the right password is accepted"),
    attack("miner", Test, Visible, API, Some(INJECTED), CALLED),
    attack("ptrace-injection", Test, Visible, API, Some(INJECTED), "the neighbour's memory is written"),
    leaving(
        attack("preload-implant", Test, InProcess, API, None, "the first secret reaches the provider"),
        Cleanup::Preload,
    ),
    leaving(attack("cron-script-hijack", Test, Visible, CRON, Some("\"curl -s -m 3"), CALLED), Cleanup::CronScript),
    attack("namespace-escape", Test, Visible, API, Some(INJECTED), "a mount in a namespace of its own"),
    attack("uring-exfiltration", Test, Visible, API, Some(INJECTED), CALLED),
    attack("int80-sequence", Test, Visible, PHP, Some("font.bin"), CALLED),
    attack("credential-reading", Test, InProcess, PHP, None, TOLD),
    attack("padded-theft-python", Test, Evasive, API, None, TOLD),
    attack("act-every-ten-minutes", Test, Evasive, PHP, None, TOLD),
    attack("hidden-behind-flood", Test, Evasive, PHP, None, TOLD),
    attack("bulk-theft-in-process", Test, InProcess, API, None, "the customers are received"),
    attack("web-shell-by-redis", Test, InProcess, REDIS, None, TOLD),
];

/// An attack of any host by its name.
pub fn named(name: &str) -> Option<&'static Attack> {
    ATTACKS.iter().chain(&unseen::ATTACKS).find(|attack| attack.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_attacker_knows_every_attack_in_its_split_and_no_name_is_in_two() {
        let attacker = crate::root().join("datasets/scenarios/outside/attacker");
        let known = crate::told(Command::new("python3").arg("-B").arg(attacker).arg("--list")).expect("python3");
        let known: BTreeSet<&str> = known.lines().collect();
        let file = |attack: &Attack| if attack.split == Test { "test" } else { "validation" };
        let usual = ATTACKS.iter().map(|attack| format!("{} {}", file(attack), attack.name));
        let unseen = unseen::ATTACKS.iter().map(|attack| format!("unseen {}", attack.name));
        let ours: BTreeSet<String> = usual.chain(unseen).collect();
        assert_eq!(known, ours.iter().map(String::as_str).collect());
        let names: BTreeSet<&str> = ATTACKS.iter().chain(&unseen::ATTACKS).map(|attack| attack.name).collect();
        assert_eq!(names.len(), ATTACKS.len() + unseen::ATTACKS.len());
    }
}
