//! What was written after the model had been frozen, by somebody who did not build it: attacks and benign changes of the test
//! days of a host that shares neither with the others. What the attacks do is in `datasets/scenarios/outside/attacker/unseen.py`.

use std::os::unix::fs::chown;
use std::time::Duration;

use anyhow::Context;

use super::attacks::Cleanup::{Bashrc, Files, Redis};
use super::attacks::{Attack, CALLED, INJECTED, LOGIN, POSTGRES, REDIS, TOLD, attack, leaving};
use super::changes::{Change, change, job};
use super::day::Day;
use super::labels::Class::{Evasive, InProcess, Visible};
use super::labels::Split::Test;
use super::services::{API, NGINX, ORDERS, PHP};

const SHELL: &str = "the first answer of the shell";
const PROBED: &str = "the list of what the kernel allows is received";

/// The attacks.
pub const ATTACKS: [Attack; 28] = [
    attack("openssl-reverse-shell", Test, Visible, API, Some(INJECTED), SHELL),
    attack("dns-tunnel", Test, Visible, ORDERS, None, "the whole secret has arrived in queries"),
    leaving(
        attack("ssh-key-by-sql", Test, Visible, LOGIN, Some(".ssh/"), "the customers are received in a session"),
        Files(&["/var/lib/postgresql/.ssh"]),
    ),
    leaving(
        attack("udf-in-postgres", Test, Visible, POSTGRES, None, CALLED),
        Files(&["/var/lib/postgresql/15/main/libstats.so"]),
    ),
    leaving(
        attack("setuid-drop", Test, Visible, API, Some("/var/tmp/.sync"), "a command has run as another user"),
        Files(&["/var/tmp/.sync"]),
    ),
    leaving(attack("bashrc-persistence", Test, Visible, LOGIN, Some("fonts.py"), CALLED), Bashrc),
    attack("process-hollowing", Test, Visible, API, Some("sleep 1.31"), CALLED),
    attack("kernel-probing", Test, Visible, PHP, Some("cover.bin"), PROBED),
    attack("backup-deletion", Test, Visible, API, Some(INJECTED), "the backup host holds no backup any more"),
    leaving(attack("rogue-master", Test, Visible, REDIS, None, TOLD), Redis),
    attack("ssh-tunnel", Test, Visible, "ssh.service", None, "the first customers come through the tunnel"),
    attack("sql-file-reading", Test, InProcess, POSTGRES, None, TOLD),
    attack("sql-ransom", Test, InProcess, POSTGRES, None, "the customers' cards are encrypted"),
    attack("request-hook", Test, InProcess, API, None, "the first customer's order is received"),
    attack("memory-of-a-neighbour", Test, InProcess, API, None, "an order out of the neighbour's memory is received"),
    attack("neighbours-environment", Test, InProcess, ORDERS, None, "the environment of the API is received"),
    attack("cache-poisoning", Test, InProcess, PHP, None, "a page with the attacker's script is served"),
    attack("log-wiping", Test, InProcess, PHP, None, "no line of the attacker's is left in the log"),
    attack("redis-through-node", Test, InProcess, ORDERS, None, "the keys are received through the forwarded port"),
    attack("fork-bomb-light", Test, InProcess, API, Some(INJECTED), "the processes have been started"),
    attack("blind-sql", Test, Evasive, POSTGRES, None, "the last character of the payment key is known"),
    attack("slow-dump-by-search", Test, Evasive, POSTGRES, None, "a hundred customers are received"),
    attack("staged-archive", Test, Evasive, PHP, None, "the last part of the archive is received"),
    attack("session-theft", Test, Evasive, PHP, None, "a page is received in somebody else's session"),
    attack("dead-drop-in-redis", Test, Evasive, API, None, "the first answer is read from the dead drop"),
    attack("piggyback-on-payments", Test, Evasive, ORDERS, None, "the whole secret has reached the provider"),
    attack("reading-by-file", Test, Evasive, PHP, None, TOLD),
    attack("builtins-only", Test, Evasive, API, Some(INJECTED), TOLD),
];

/// The changes.
pub const CHANGES: [Change; 9] = [
    change("dba-maintenance", LOGIN, "a person: vacuum, analyze, reindex, pg_dump of a table, sizes", |day| {
        errand(day, "dba")
    }),
    change(
        "feature-flag",
        API,
        "the API gets an endpoint that asks the Node service, is restarted, and customers use it",
        flag,
    ),
    change("new-cron-job", "cron.service", "a new line in the crontab: a report in Perl, mailed", report),
    change("hot-fix", PHP, "a page is edited with vi, php-fpm is reloaded", hot_fix),
    change("log-level-debug", POSTGRES, "a person has every statement logged, and Redis debug, for a while", |day| {
        errand(day, "debug-logs")
    }),
    change("looking-around", LOGIN, "a person with ss, lsof, /proc, find, vmstat, journal and package lists", |day| {
        errand(day, "look")
    }),
    change("authorised-scan", NGINX, "the operator's own vulnerability scanner asks for 250 things", scan),
    change(
        "renewal-by-another-client",
        "shop-renew.service",
        "a certificate by a client in Python instead of a shell",
        |day| job(day, "shop-renew.service", &["/usr/local/bin/shop-acme"]),
    ),
    change(
        "data-migration",
        "shop-deploy.service",
        "a script in Python adds a column and fills it in batches",
        |day| job(day, "shop-deploy.service", &["/usr/local/bin/shop-migrate", &day.cycle.to_string()]),
    ),
];

fn errand(day: &Day<'_>, name: &str) -> anyhow::Result<()> {
    day.person("bob", day.seed ^ 0xe44, &["--errand", name])
}

fn flag(day: &Day<'_>) -> anyhow::Result<()> {
    job(day, "shop-deploy.service", &["/usr/local/bin/shop-flag", &day.cycle.to_string()])?;
    day.running.restart(day.stage, API)?;
    for product in 1..=16 {
        day.customer(&format!("/api/recommend/{product}"))?;
        std::thread::sleep(Duration::from_millis(300));
    }
    Ok(())
}

/// Cron looks once a minute whether its table is another.
fn report(day: &Day<'_>) -> anyhow::Result<()> {
    let table = day.stage.path("/etc/crontab");
    let before = std::fs::read_to_string(&table).context("cannot read the crontab")?;
    std::fs::write(&table, format!("{before}* * * * * www-data sleep 3; /usr/local/bin/shop-report\n"))?;
    std::thread::sleep(Duration::from_secs(130));
    Ok(std::fs::write(&table, before)?)
}

fn hot_fix(day: &Day<'_>) -> anyhow::Result<()> {
    // The page is given to whoever edits it beforehand, from outside the host.
    let bob = std::fs::metadata(day.stage.path("/home/bob")).context("bob has no home")?;
    let bob = std::os::unix::fs::MetadataExt::uid(&bob);
    for path in ["/srv/www", "/srv/www/page.html"] {
        chown(day.stage.path(path), Some(bob), None).with_context(|| format!("cannot give {path} away"))?;
    }
    errand(day, "hot-fix")?;
    job(day, PHP, &["/bin/sh", "-c", "kill -USR2 $(cat /run/php/fpm.pid)"])
}

fn scan(day: &Day<'_>) -> anyhow::Result<()> {
    let script = day.stage.scenarios.join("outside/scanner.py");
    let mut scanner = day.stage.outside("python3");
    scanner.arg("-B").arg(script).args([&day.stage.address, &day.seed.to_string()]);
    crate::must(scanner.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()))
}
