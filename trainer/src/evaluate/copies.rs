//! Events that were recorded elsewhere or before, put among others: by other processes, at another time, in order.

use std::sync::Arc;

use model::{Body, Event, Time};

/// A day's events with further ones among them, by their time.
pub(super) fn among<'a>(
    events: impl Iterator<Item = anyhow::Result<Event>> + 'a,
    further: &'a [Event],
) -> impl Iterator<Item = anyhow::Result<Event>> + 'a {
    let (mut events, mut further) = (events.peekable(), further.iter().peekable());
    std::iter::from_fn(move || {
        let is_due = match (further.peek(), events.peek()) {
            (Some(more), Some(Ok(event))) => more.at.unix_ns < event.at.unix_ns,
            (Some(_), None) => true,
            _ => false,
        };
        if is_due { further.next().cloned().map(Ok) } else { events.next() }
    })
}

/// The same event by another process: the n-th copy of a subtree is a subtree of its own.
pub(super) fn by_another(mut event: Event, copy: u64) -> Event {
    // An odd factor loses nothing: different cookies stay different.
    let other = |cookie: u64| match cookie {
        0 => 0,
        cookie => (cookie ^ copy.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd134_2543_de82_ef95),
    };
    let process = Arc::make_mut(&mut event.process);
    process.cookie = other(process.cookie);
    process.ancestors.iter_mut().for_each(|cookie| *cookie = other(*cookie));
    match &mut event.body {
        Body::Fork(fork) => fork.child = other(fork.child),
        Body::Exec(exec) => exec.parent = other(exec.parent),
        Body::Flow(flow) => (flow.socket, flow.opener) = (other(flow.socket), other(flow.opener)),
        Body::Exit(_) | Body::Window(_) | Body::File(_) | Body::Deny(_) => (),
    }
    event
}

/// The same event as if what began at one moment had begun at another.
pub(super) fn moved(mut event: Event, from: Time, to: Time) -> Event {
    let shifted = |at: u64, from: u64, to: u64| to.saturating_add(at.saturating_sub(from));
    event.at = Time {
        unix_ns: shifted(event.at.unix_ns, from.unix_ns, to.unix_ns),
        boot_ns: shifted(event.at.boot_ns, from.boot_ns, to.boot_ns),
    };
    event
}

#[cfg(test)]
pub(super) mod tests {
    use model::event::{Exit, Fork, Process};

    use super::*;

    /// What a shell below process 7 did.
    pub fn event(unix_ns: u64, cookie: u64, body: Body) -> Event {
        let process = Process {
            cookie,
            pid: 1,
            workload: "unit:web.service".into(),
            exe: "/bin/sh".into(),
            script: None,
            cmdline: "sh".into(),
            uid: 0,
            loginuid: None,
            cgroup: 1,
            ancestors: vec![7, 0],
            pre_existing: false,
        };
        Event { at: Time { unix_ns, boot_ns: unix_ns }, process: Arc::new(process), body }
    }

    #[test]
    fn further_events_come_at_their_time_and_none_is_lost() {
        let ends = |at| event(at, 9, Body::Exit(Exit { code: 0 }));
        let further = [ends(2), ends(5), ends(9)];
        let merged = among([1, 3, 6].into_iter().map(|at| Ok(ends(at))), &further);
        let times: Vec<u64> = merged.map(|event| event.expect("an event").at.unix_ns).collect();
        assert_eq!(times, [1, 2, 3, 5, 6, 9]);
    }

    #[test]
    fn a_copy_is_another_subtree_whose_members_belong_together() {
        let born = by_another(event(1, 8, Body::Fork(Fork { child: 9, clone_flags: 0 })), 3);
        let child = by_another(event(2, 9, Body::Exit(Exit { code: 0 })), 3);
        assert!(matches!(&born.body, Body::Fork(fork) if fork.child == child.process.cookie));
        assert_eq!(child.process.ancestors[1], 0, "unknown stays unknown");
        let other = by_another(event(2, 9, Body::Exit(Exit { code: 0 })), 4);
        assert!(![9, other.process.cookie].contains(&child.process.cookie));
    }
}
