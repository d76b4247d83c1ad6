//! The services of a recorded host: real software, each in the cgroup that systemd would give it.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};

use super::init::Job;
use super::stage::Stage;

/// How a service is started.
pub struct Service {
    /// Its unit, which names its workload.
    pub unit: &'static str,
    user: &'static str,
    argv: &'static [&'static str],
    /// It counts as up after so long.
    settle: Duration,
}

const fn service(unit: &'static str, user: &'static str, argv: &'static [&'static str], settle_ms: u64) -> Service {
    Service { unit, user, argv, settle: Duration::from_millis(settle_ms) }
}

/// In the order in which they are started.
pub const SERVICES: [Service; 8] = [
    service(
        "postgresql@15-main.service",
        "postgres",
        &["/usr/lib/postgresql/15/bin/postgres", "-D", "/var/lib/postgresql/15/main"],
        1500,
    ),
    service("redis-server.service", "redis", &["/usr/bin/redis-server", "/etc/redis/redis.conf"], 300),
    service(
        API,
        "www-data",
        &[
            "/usr/bin/gunicorn",
            "-w",
            "2",
            "--threads",
            "2",
            "--chdir",
            "/srv/api/current",
            "-b",
            "127.0.0.1:8000",
            "app:app",
        ],
        1500,
    ),
    service(ORDERS, "www-data", &["/usr/bin/node", "/srv/orders/server.js"], 500),
    service(
        PHP,
        "root",
        &["/usr/sbin/php-fpm8.2", "--nodaemonize", "--fpm-config", "/etc/php/8.2/fpm/php-fpm.conf"],
        500,
    ),
    service(NGINX, "root", &["/usr/sbin/nginx", "-g", "daemon off;"], 300),
    service("ssh.service", "root", &["/usr/sbin/sshd", "-D"], 200),
    service("cron.service", "root", &["/usr/sbin/cron", "-f"], 100),
];

/// Programs that are recorded or needed to record, with their packages.
const PROGRAMS: [(&str, &str); 19] = [
    ("/usr/lib/postgresql/15/bin/postgres", "postgresql-15"),
    ("/usr/bin/redis-server", "redis-server"),
    ("/usr/bin/gunicorn", "gunicorn"),
    ("/usr/lib/python3/dist-packages/flask", "python3-flask"),
    ("/usr/lib/python3/dist-packages/psycopg2", "python3-psycopg2"),
    ("/usr/bin/node", "nodejs"),
    ("/usr/sbin/php-fpm8.2", "php8.2-fpm"),
    ("/usr/sbin/nginx", "nginx-light"),
    ("/usr/sbin/sshd", "openssh-server"),
    ("/usr/bin/sshpass", "sshpass"),
    ("/usr/sbin/cron", "cron"),
    ("/usr/sbin/logrotate", "logrotate"),
    ("/usr/bin/rsync", "rsync"),
    ("/usr/bin/strace", "strace"),
    ("/usr/bin/gcc", "gcc"),
    ("/usr/bin/make", "make"),
    ("/usr/bin/file", "file"),
    ("/usr/bin/curl", "curl"),
    ("/usr/bin/unshare", "util-linux"),
];

/// Refuses where software is missing. It is not installed by itself: its packages start services on the machine.
pub fn check() -> anyhow::Result<()> {
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(|(path, _)| !std::path::Path::new(path).exists()).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "the recorded hosts need Debian 12's {0}: `apt-get install --no-install-recommends {0}`, on a machine where it does no harm that some of them start services",
        missing.join(" ")
    )
}

/// The API in Python.
pub const API: &str = "shop-api.service";
/// The Node service.
pub const ORDERS: &str = "shop-orders.service";
/// The PHP application.
pub const PHP: &str = "php8.2-fpm.service";
/// The web server.
pub const NGINX: &str = "nginx.service";

/// The services that run.
#[derive(Default)]
pub struct Running(Mutex<BTreeMap<&'static str, Job>>);

impl Running {
    /// Whether any was started.
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Starts every service.
    pub fn start_all(&self, stage: &Stage) -> anyhow::Result<()> {
        SERVICES.iter().try_for_each(|service| self.start(stage, service.unit, ""))
    }

    /// Starts one service with additions to its environment.
    pub fn start(&self, stage: &Stage, unit: &str, environment: &str) -> anyhow::Result<()> {
        let service = named(unit)?;
        let cgroup = stage.unit(service.unit)?;
        let job = stage.init.start_job(&cgroup, service.user, environment, service.argv)?;
        if let Some(status) = stage.init.wait(job, service.settle) {
            let log = std::fs::read_to_string(stage.path(&format!("/var/log/{unit}.log"))).unwrap_or_default();
            bail!("{unit} ended at its start with status {status}: {log}");
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(service.unit, job);
        Ok(())
    }

    /// Stops one service as systemd does: a signal to every process of its cgroup.
    pub fn stop(&self, stage: &Stage, unit: &str) -> anyhow::Result<()> {
        let job = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(unit);
        let job = job.with_context(|| format!("{unit} does not run"))?;
        signal(&stage.pids(unit), "TERM");
        if stage.init.wait(job, Duration::from_secs(6)).is_none() {
            signal(&stage.pids(unit), "KILL");
            stage.init.wait(job, Duration::from_secs(2));
        }
        Ok(())
    }

    /// Stops and starts one service.
    pub fn restart(&self, stage: &Stage, unit: &str) -> anyhow::Result<()> {
        self.stop(stage, unit)?;
        self.start(stage, unit, "")
    }
}

/// Sends a signal to processes of a host.
pub fn signal(pids: &[u32], name: &str) {
    if !pids.is_empty() {
        let pids = pids.iter().map(u32::to_string);
        // One that ended meanwhile is not an error.
        let _ = Command::new("kill").arg(format!("-{name}")).args(pids).stderr(std::process::Stdio::null()).status();
    }
}

fn named(unit: &str) -> anyhow::Result<&'static Service> {
    SERVICES.iter().find(|service| service.unit == unit).with_context(|| format!("there is no service {unit}"))
}
