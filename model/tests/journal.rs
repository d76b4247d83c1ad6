//! A journal's row says everything that its event said.

use std::net::SocketAddr;
use std::sync::Arc;

use model::event::{Deny, Exec, Exit, File, Flow, Fork, Process, Window};
use model::journal::{COLUMNS, Cell, Row, RowError};
use model::{Body, Event, Time};
use proptest::prelude::*;

fn text() -> impl Strategy<Value = Arc<str>> {
    ".{0,12}".prop_map(Arc::from)
}

fn process() -> impl Strategy<Value = Arc<Process>> {
    let ids = (any::<u64>(), any::<u32>(), any::<u32>(), any::<Option<u32>>(), any::<u64>(), any::<bool>());
    let names = (text(), text(), proptest::option::of(text()), text());
    (ids, names, proptest::collection::vec(any::<u64>(), 0..16)).prop_map(
        |((cookie, pid, uid, loginuid, cgroup, pre_existing), (workload, exe, script, cmdline), ancestors)| {
            let process =
                Process { cookie, pid, workload, exe, script, cmdline, uid, loginuid, cgroup, ancestors, pre_existing };
            Arc::new(process)
        },
    )
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<std::net::IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn exec() -> impl Strategy<Value = Body> {
    let numbers = any::<(u64, u32, u32, u32, u32, u32)>();
    (numbers, text(), proptest::option::of(text()), proptest::collection::vec(".{0,9}", 0..5)).prop_map(
        |((parent, argv_full, bits, euid, gid, netns), parent_exe, parent_script, argv)| {
            Body::Exec(Exec { parent, parent_exe, parent_script, argv, argv_full, bits, euid, gid, netns })
        },
    )
}

fn window() -> impl Strategy<Value = Body> {
    let lists = (proptest::collection::vec(any::<u32>(), 0..8), proptest::collection::vec(any::<u16>(), 1..128));
    (any::<(u32, u8, u32, u64, u16, u16, u64, u64)>(), any::<[u8; 8]>(), lists).prop_map(
        |(numbers, class, (novel_trigrams, trace))| {
            let (tid, why, missed, start_boot_ns, errors, permission_errors, read_bytes, write_bytes) = numbers;
            Body::Window(Window {
                tid,
                why,
                missed,
                start_boot_ns,
                errors,
                permission_errors,
                read_bytes,
                write_bytes,
                class,
                novel_trigrams,
                trace,
            })
        },
    )
}

fn flow() -> impl Strategy<Value = Body> {
    let numbers = (any::<(u64, u64, u8, u8, u8, u8)>(), any::<(u64, u64, u64, u64, u64, u64)>());
    (numbers, address(), address(), any::<([u8; 16], [u8; 16])>()).prop_map(
        |((small, large), local, remote, (gaps, sizes))| {
            let (socket, opener, why, direction, protocol, tcp_flags) = small;
            let (tx_bytes, rx_bytes, tx_packets, rx_packets, first_ns, last_ns) = large;
            Body::Flow(Flow {
                socket,
                opener,
                why,
                direction,
                protocol,
                tcp_flags,
                local,
                remote,
                tx_bytes,
                rx_bytes,
                tx_packets,
                rx_packets,
                first_ns,
                last_ns,
                gaps,
                sizes,
            })
        },
    )
}

fn deny() -> impl Strategy<Value = Body> {
    (any::<(u64, u32, u8, u8, u8, u8, u32, bool, bool)>(), address(), proptest::option::of(text())).prop_map(
        |((decision, slot, hook, action, matched, protocol, suppressed, shadow, breaker), remote, file)| {
            let deny =
                Deny { decision, slot, hook, action, matched, protocol, suppressed, remote, file, shadow, breaker };
            Body::Deny(deny)
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let small = prop_oneof![
        any::<(u64, u64)>().prop_map(|(child, clone_flags)| Body::Fork(Fork { child, clone_flags })),
        any::<u32>().prop_map(|code| Body::Exit(Exit { code })),
        (any::<(u8, u8, u8)>(), text(), text(), any::<[u32; 3]>()).prop_map(
            |((why, mode, sensitive), directory, name, touched)| {
                Body::File(File { why, mode, sensitive, directory, name, touched })
            }
        ),
    ];
    let body = prop_oneof![small, exec(), window(), flow(), deny()];
    (any::<(u64, u64)>(), process(), body).prop_map(|((unix_ns, boot_ns), process, body)| Event {
        at: Time { unix_ns, boot_ns },
        process,
        body,
    })
}

proptest! {
    #[test]
    fn there_and_back_changes_nothing(event in event()) {
        let row = Row::from(&event);
        let mut cells = Vec::new();
        row.each_cell(|_, cell| cells.push(cell));
        prop_assert_eq!(cells.len(), COLUMNS.len());
        let again = Row::of_cells(|at| cells[at].clone()).expect("cells of a row");
        prop_assert_eq!(&again, &row);
        prop_assert_eq!(Event::try_from(again).expect("the row of an event"), event);
    }

    #[test]
    fn a_column_that_its_kind_needs_is_named_when_it_is_null(event in event(), at in any::<prop::sample::Index>()) {
        let mut cells = Vec::new();
        Row::from(&event).each_cell(|_, cell| cells.push(cell));
        let at = at.index(cells.len());
        let was = std::mem::replace(&mut cells[at], Cell::Null);
        let told = Row::of_cells(|at| cells[at].clone()).and_then(Event::try_from);
        match told {
            Ok(other) => prop_assert!(was == Cell::Null || other != event, "an optional column"),
            Err(RowError::Missing { column, .. } | RowError::Value { column, .. }) => {
                prop_assert_eq!(column, COLUMNS[at].name);
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}

#[test]
fn an_unknown_kind_is_refused_by_name() {
    let row = Row { kind: "dance".into(), ..Row::default() };
    assert!(Event::try_from(row).expect_err("no such kind").to_string().contains("\"dance\" is no kind of event"));
}
