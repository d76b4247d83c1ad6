//! Paths without what varies from run to run, so that a directory made anew each time is the same directory.

use std::sync::Arc;

/// Directories kept of a path; what lies deeper is one with its ancestor.
const DEPTH: usize = 8;

/// Replaces components that are numbers, long hexadecimal or otherwise made up by `*`, and cuts below the eighth.
pub fn folded(path: &str) -> Arc<str> {
    let mut folded = String::with_capacity(path.len());
    for (at, part) in path.split('/').enumerate() {
        if at > 0 {
            folded.push('/');
        }
        if at > DEPTH {
            folded.push('…');
            break;
        }
        match unit_without_number(part) {
            Some((name, kind)) => folded.extend([name, "*", kind]),
            None => folded.push_str(if is_made_up(part) { "*" } else { part }),
        }
    }
    folded.into()
}

/// What systemd makes anew for each session, user or command, without its number: `session-`, `.scope`.
fn unit_without_number(part: &str) -> Option<(&str, &str)> {
    let (name, _) = part.rsplit_once('.').filter(|(_, kind)| ["scope", "slice", "service"].contains(kind))?;
    let stem = name.trim_end_matches(|digit: char| digit.is_ascii_digit());
    let is_numbered =
        stem.len() < name.len() && (stem.ends_with(['-', '@']) || ["session-c", "run-u", "run-p"].contains(&stem));
    is_numbered.then(|| (stem, &part[name.len()..]))
}

/// A number, eight or more hexadecimal digits of which one is a number (ids, hashes, UUIDs), or a name that ends in random
/// letters as `mktemp` and systemd's private directories do.
fn is_made_up(part: &str) -> bool {
    if part.is_empty() {
        return false;
    }
    let all = |is: fn(&u8) -> bool| part.bytes().all(|byte| is(&byte));
    let has_digit = part.bytes().any(|byte| byte.is_ascii_digit());
    if all(u8::is_ascii_digit) {
        return true;
    }
    if part.len() >= 8 && has_digit && part.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        return true;
    }
    let Some((_, tail)) = part.rsplit_once(['.', '-']) else { return false };
    let mixed = |tail: &str| {
        let upper = tail.bytes().any(|byte| byte.is_ascii_uppercase());
        let lower = tail.bytes().any(|byte| byte.is_ascii_lowercase());
        upper && lower
    };
    (6..=32).contains(&tail.len()) && tail.bytes().all(|byte| byte.is_ascii_alphanumeric()) && mixed(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_varies_is_folded_and_what_does_not_stays() {
        for (path, wanted) in [
            ("/proc/4711/fd", "/proc/*/fd"),
            ("/tmp/tmp.aB3dEfGhIj", "/tmp/*"),
            ("/var/lib/docker/overlay2/4f2a9c0d11e2b3/merged/etc", "/var/lib/docker/overlay2/*/merged/etc"),
            (
                "/sys/fs/cgroup/user.slice/user-1000.slice/session-42.scope",
                "/sys/fs/cgroup/user.slice/user-*.slice/session-*.scope",
            ),
            (
                "/sys/fs/cgroup/user.slice/user-0.slice/user@0.service/app.slice",
                "/sys/fs/cgroup/user.slice/user-*.slice/user@*.service/app.slice",
            ),
            ("/sys/fs/cgroup/system.slice/run-u117.service", "/sys/fs/cgroup/system.slice/run-u*.service"),
            ("/sys/fs/cgroup/system.slice/php8.2-fpm.service", "/sys/fs/cgroup/system.slice/php8.2-fpm.service"),
            ("/sys/fs/cgroup/system.slice/web2.service", "/sys/fs/cgroup/system.slice/web2.service"),
            ("/etc/ssl/certs", "/etc/ssl/certs"),
            ("/usr/lib/python3.11/site-packages", "/usr/lib/python3.11/site-packages"),
            ("/var/tmp/systemd-private-abc-nginx.service-Xy12Zq/tmp", "/var/tmp/*/tmp"),
            ("/a/b/c/d/e/f/g/h/i/j", "/a/b/c/d/e/f/g/h/…"),
            ("/", "/"),
        ] {
            assert_eq!(&*folded(path), wanted, "{path}");
        }
    }
}
