//! systemd's names: which unit a cgroup path belongs to, and what that unit is called when ids are folded.

/// Workload of interactive sessions; never denied automatically.
pub const LOGIN: &str = "login";
/// Workload of everything that cron starts.
pub const CRON: &str = "cron";
/// Units that start what users and packages have scheduled.
const CRON_SERVICES: [&str; 6] =
    ["cron.service", "crond.service", "cronie.service", "anacron.service", "atd.service", "fcron.service"];

/// The workload of a path that systemd laid out; `None` when no component is a unit.
///
/// The outermost service or scope decides: what a service makes below itself (delegation) is part of it, whatever its name
/// is. The exception is a user's own manager, whose units are named apart (`user:`), because a user may call a unit like a
/// system one.
pub fn workload(path: &str) -> Option<String> {
    let components = components(path);
    let at = components.iter().position(|component| is_unit(component) || is_session(component));
    let unit = match at {
        Some(at) if is_user_manager(components[at]) => return Some(user_workload(&components[at + 1..])),
        Some(at) if is_session(components[at]) => return Some(LOGIN.to_owned()),
        Some(at) => components[at],
        None => last_slice(&components)?,
    };
    if CRON_SERVICES.contains(&unit) {
        return Some(CRON.to_owned());
    }
    Some(format!("unit:{}", normalised(unit)))
}

/// Whether a user's own manager laid out this part of the hierarchy.
pub fn is_below_user_manager(path: &str) -> bool {
    components(path).into_iter().find(|component| is_unit(component)).is_some_and(is_user_manager)
}

fn components(path: &str) -> Vec<&str> {
    path.split('/').filter(|component| !component.is_empty()).collect()
}

fn user_workload(below: &[&str]) -> String {
    match below.iter().find(|component| is_unit(component)) {
        // The manager itself, shells in terminal windows, and slices without a unit: a person at work.
        None | Some(&"init.scope") => LOGIN.to_owned(),
        Some(unit) if unit.starts_with("vte-spawn-") || unit.starts_with("tmux-spawn-") => LOGIN.to_owned(),
        Some(unit) => format!("user:{}", normalised(unit)),
    }
}

fn is_user_manager(component: &str) -> bool {
    component.strip_prefix("user@").and_then(|rest| rest.strip_suffix(".service")).is_some_and(is_number)
}

/// `session-3.scope` and `session-c2.scope` of logind; `3.session` of its predecessors.
fn is_session(component: &str) -> bool {
    let id = match component.strip_suffix(".session") {
        Some(id) => Some(id),
        None => component.strip_prefix("session-").and_then(|rest| rest.strip_suffix(".scope")),
    };
    id.is_some_and(|id| is_number(id.strip_prefix('c').unwrap_or(id)))
}

/// Anything of systemd's that holds processes, except slices.
pub fn is_unit(component: &str) -> bool {
    const SUFFIXES: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];
    SUFFIXES.iter().any(|suffix| component.len() > suffix.len() && component.ends_with(suffix))
}

/// Somebody's directory below a slice is a cgroup of its own, not the slice.
fn last_slice<'a>(components: &[&'a str]) -> Option<&'a str> {
    components.last().copied().filter(|component| component.ends_with(".slice"))
}

/// A unit's name without what changes from start to start.
pub fn normalised(unit: &str) -> String {
    let unit = unescape(unit);
    let Some((stem, kind)) = unit.rsplit_once('.') else { return unit };
    if let Some((template, _instance)) = stem.split_once('@') {
        return format!("{}@.{kind}", without_bus_name(template));
    }
    if is_run(stem) {
        return format!("run-@.{kind}");
    }
    if let Some(uid) = stem.strip_prefix("user-")
        && is_number(uid)
    {
        return format!("user-@.{kind}");
    }
    match kind {
        // Scopes hold processes that somebody else started, so their names nearly always end in a pid or an id.
        "scope" => format!("{}.{kind}", without_trailing_ids(&machine(stem), |part| is_number(part) || is_id(part))),
        "service" => format!("{}.{kind}", without_trailing_ids(stem, is_id)),
        _ => unit,
    }
}

/// Names that `systemd-run` makes up: `run-r<32 hex>`, `run-u<number>`, `run-p<pid>-i<number>`, `run-<pid>`.
fn is_run(stem: &str) -> bool {
    stem.strip_prefix("run-").is_some_and(|rest| {
        rest.split('-').all(|part| {
            let digits = part.strip_prefix(['u', 'p', 'i']).unwrap_or(part);
            is_number(digits) || part.strip_prefix('r').is_some_and(|id| id.len() == 32 && is_hex(id))
        })
    })
}

/// `dbus-:1.12-org.example.Name` is the bus connection 1.12 asking for a name.
fn without_bus_name(template: &str) -> String {
    match template.strip_prefix("dbus-:").and_then(|rest| rest.split_once('-')) {
        Some((_connection, name)) => format!("dbus-{name}"),
        None => template.to_owned(),
    }
}

/// `machine-qemu-3-web` is the third start of the virtual machine `web`.
fn machine(stem: &str) -> String {
    match stem.strip_prefix("machine-qemu-").and_then(|rest| rest.split_once('-')) {
        Some((number, name)) if is_number(number) => format!("machine-qemu-{name}"),
        _ => stem.to_owned(),
    }
}

fn without_trailing_ids(stem: &str, is_folded: impl Fn(&str) -> bool) -> String {
    let mut left = stem;
    loop {
        // A UUID has dashes of its own, so it is tried before its last part.
        let uuid = left.len().checked_sub(37).filter(|at| left.is_char_boundary(*at)).map(|at| left.split_at(at));
        if let Some((before, tail)) = uuid
            && let Some(uuid) = tail.strip_prefix('-')
            && is_uuid(uuid)
            && !before.is_empty()
        {
            left = before;
            continue;
        }
        match left.rsplit_once('-') {
            Some((before, part)) if !before.is_empty() && is_folded(part) => left = before,
            _ => return left.to_owned(),
        }
    }
}

/// `\x2d` and its kin back to the character; anything that is not valid UTF-8 then stays escaped.
fn unescape(unit: &str) -> String {
    let mut bytes = Vec::with_capacity(unit.len());
    let mut rest = unit.as_bytes();
    while let [first, tail @ ..] = rest {
        match tail {
            [b'x', high, low, after @ ..] if *first == b'\\' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes.push(hex_digit(*high) << 4 | hex_digit(*low));
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| unit.to_owned())
}

fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => byte - b'A' + 10,
    }
}

/// Only decimal digits, at least one.
pub fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.split('-').all(is_hex)
}

/// A made-up name: a UUID, or twelve or more hexadecimal digits of which at least one is a decimal digit.
pub fn is_id(text: &str) -> bool {
    is_uuid(text) || (text.len() >= 12 && is_hex(text) && text.bytes().any(|byte| byte.is_ascii_digit()))
}
