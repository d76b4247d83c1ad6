//! Benign changes: what makes false positives, with the workload in which it happens.

use std::time::Duration;

use anyhow::{Context, bail};

use super::attacks::LOGIN;
use super::day::Day;
use super::services::{API, NGINX, ORDERS, PHP, signal};

/// One benign change.
pub struct Change {
    /// Its name in the labels.
    pub name: &'static str,
    /// The unit in which it shows most; [`LOGIN`] for people.
    pub unit: &'static str,
    /// What happens.
    pub note: &'static str,
    /// Does it.
    pub run: fn(&Day<'_>) -> anyhow::Result<()>,
}

/// A change.
pub const fn change(
    name: &'static str,
    unit: &'static str,
    note: &'static str,
    run: fn(&Day<'_>) -> anyhow::Result<()>,
) -> Change {
    Change { name, unit, note, run }
}

const LONG: Duration = Duration::from_secs(40);

/// Every change.
pub const CHANGES: [Change; 15] = [
    change("package-upgrade", "apt-daily-upgrade.service", "dpkg, post-install script, reload of nginx", upgrade),
    change("config-reload", NGINX, "another line in nginx.conf, nginx -s reload", reload),
    change("log-rotation", "logrotate.service", "logrotate with postrotate, old log compressed", rotate),
    change("backup", "shop-backup.service", "pg_dump, tar, rsync to the backup host", backup),
    change("restart", API, "the API is stopped and started", |day| day.running.restart(day.stage, API)),
    change("deploy", "shop-deploy.service", "new release, migration, switch, restart of the API", deploy),
    change("load-x10", NGINX, "ten times the usual requests for 9 s", load),
    change("certificate-renewal", "shop-renew.service", "openssl, request to the authority, reload", renew),
    change(
        "configuration-management",
        "shop-configure.service",
        "a script that looks at everything and writes two files",
        configure,
    ),
    change("debugging-session", LOGIN, "a person with ps, ss, strace on php-fpm and node, psql, redis-cli", debug),
    change("health-checks", NGINX, "a new monitoring service asks every two seconds", health),
    change("new-upstream", ORDERS, "a second payment provider at 203.0.113.40", upstream),
    change("jit-warm-up", ORDERS, "restart of Node, then heavy formulas", warm_up),
    change("month-end", "shop-month-end.service", "a large query, a compressed file, a mail", month_end),
    change("php-restart", PHP, "php-fpm is stopped and started", |day| day.running.restart(day.stage, PHP)),
];

/// A change by its name.
pub fn named(name: &str) -> anyhow::Result<&'static Change> {
    CHANGES.iter().find(|change| change.name == name).with_context(|| format!("there is no change {name}"))
}

/// Runs a job of the host's root to its end, in the cgroup of its unit.
pub fn job(day: &Day<'_>, unit: &str, argv: &[&str]) -> anyhow::Result<()> {
    let cgroup = day.stage.unit(unit)?;
    let status = day.stage.init.run(&cgroup, "root", argv, LONG)?;
    if status != 0 {
        let log = std::fs::read_to_string(day.stage.path(&format!("/var/log/{unit}.log"))).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(3).collect();
        bail!("{argv:?} ended with {status}: {last:?}");
    }
    Ok(())
}

fn upgrade(day: &Day<'_>) -> anyhow::Result<()> {
    let package = format!("/var/cache/apt/archives/shop-agent_{}.deb", day.cycle % 6 + 1);
    job(day, "apt-daily-upgrade.service", &["/usr/bin/dpkg", "--force-downgrade", "-i", &package])
}

fn reload(day: &Day<'_>) -> anyhow::Result<()> {
    let path = day.stage.path("/etc/nginx/nginx.conf");
    let text = std::fs::read_to_string(&path)?;
    let text: String = text
        .lines()
        .map(
            |line| {
                if line.contains("# reload") { format!("    # reload {}\n", day.cycle) } else { format!("{line}\n") }
            },
        )
        .collect();
    std::fs::write(&path, text)?;
    job(day, NGINX, &["/usr/sbin/nginx", "-s", "reload"])
}

fn rotate(day: &Day<'_>) -> anyhow::Result<()> {
    job(
        day,
        "logrotate.service",
        &["/usr/sbin/logrotate", "-f", "-s", "/var/lib/logrotate.status", "/etc/logrotate-shop.conf"],
    )
}

fn backup(day: &Day<'_>) -> anyhow::Result<()> {
    job(day, "shop-backup.service", &["/usr/local/bin/shop-backup"])
}

fn deploy(day: &Day<'_>) -> anyhow::Result<()> {
    let version = (day.cycle + 1).to_string();
    job(day, "shop-deploy.service", &["/usr/local/bin/shop-deploy", &version])?;
    day.running.restart(day.stage, API)
}

fn load(day: &Day<'_>) -> anyhow::Result<()> {
    day.world.tell("rate 10")?;
    std::thread::sleep(Duration::from_secs(9));
    day.world.tell("rate 1")
}

fn renew(day: &Day<'_>) -> anyhow::Result<()> {
    job(day, "shop-renew.service", &["/usr/local/bin/shop-renew"])
}

fn configure(day: &Day<'_>) -> anyhow::Result<()> {
    job(day, "shop-configure.service", &["/usr/local/bin/shop-configure"])
}

fn debug(day: &Day<'_>) -> anyhow::Result<()> {
    day.person("bob", day.seed ^ 0xdeb, &["--debug"])
}

fn health(day: &Day<'_>) -> anyhow::Result<()> {
    day.world.tell("monitor on")?;
    std::thread::sleep(Duration::from_secs(16));
    day.world.tell("monitor off")
}

fn upstream(day: &Day<'_>) -> anyhow::Result<()> {
    let both = r#"[{"host": "203.0.113.10", "port": 443}, {"host": "203.0.113.40", "port": 443}]"#;
    let one = r#"[{"host": "203.0.113.10", "port": 443}]"#;
    let path = day.stage.path("/srv/orders/providers.json");
    std::fs::write(&path, both)?;
    std::thread::sleep(Duration::from_secs(16));
    Ok(std::fs::write(&path, one)?)
}

fn warm_up(day: &Day<'_>) -> anyhow::Result<()> {
    day.running.restart(day.stage, ORDERS)?;
    for rounds in [1_000_000, 5_000_000, 20_000_000, 20_000_000] {
        day.customer(&format!("/orders/work?rounds={rounds}"))?;
    }
    Ok(())
}

fn month_end(day: &Day<'_>) -> anyhow::Result<()> {
    job(day, "shop-month-end.service", &["/usr/local/bin/shop-month-end"])
}

/// What belongs to every day and is no change: the build job.
pub fn build(day: &Day<'_>) -> anyhow::Result<()> {
    job(day, "shop-build.service", &["/usr/local/bin/shop-build"])
}

/// Ends what an attack left, and repairs what it broke. Nothing of it happens inside the host, but for restarts.
pub fn clean_up(day: &Day<'_>, attack: &super::attacks::Attack) -> anyhow::Result<()> {
    use super::attacks::Cleanup::{Bashrc, CronScript, Crontab, Files, Nothing, Pictures, Preload, Redis};
    signal(&day.strangers(), "KILL");
    let uploads = day.stage.path("/srv/www/uploads");
    for entry in std::fs::read_dir(&uploads)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".jpg") {
            std::fs::remove_file(entry.path())?;
        }
    }
    match attack.cleanup {
        Nothing => Ok(()),
        Pictures => day.restore_pictures(),
        Preload => day.running.restart(day.stage, API),
        CronScript => {
            let script = std::fs::read(day.stage.scenarios.join("jobs/shop-stats"))?;
            Ok(std::fs::write(day.stage.path("/usr/local/bin/shop-stats"), script)?)
        }
        Crontab => Ok(std::fs::remove_file(day.stage.path("/var/spool/cron/crontabs/alice"))?),
        Redis => day.running.restart(day.stage, "redis-server.service"),
        Files(paths) => paths.iter().try_for_each(|path| remove(&day.stage.path(path))),
        Bashrc => Ok(std::fs::write(day.stage.path("/home/alice/.bashrc"), "export HISTFILE=/dev/null PS1=\"$ \"\n")?),
    }
}

/// Removes a file or a folder that may not be there: the attack that leaves it may have failed.
fn remove(path: &std::path::Path) -> anyhow::Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
