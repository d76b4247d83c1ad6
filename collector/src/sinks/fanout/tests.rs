use std::sync::mpsc;

use model::event::Time;

use super::*;
use crate::sinks::HealthReport;
use crate::sinks::tests_support::{decision, finding, window};

/// Tells what it got; may be made to hang.
struct Probe {
    got: mpsc::Sender<Kind>,
    hang: Option<mpsc::Receiver<()>>,
}

impl Sink for Probe {
    fn wants(&self, _: Kind) -> bool {
        true
    }

    fn deliver(&mut self, kind: Kind, _: &Message) -> Result<(), SinkError> {
        if let Some(hang) = &self.hang {
            let _ = hang.recv();
        }
        let _ = self.got.send(kind);
        Ok(())
    }

    fn tick(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn close(&mut self, _: Duration) -> Result<(), SinkError> {
        Ok(())
    }

    fn report(&self) -> Report {
        Report::default()
    }
}

fn probe(hang: Option<mpsc::Receiver<()>>) -> (Opener, mpsc::Receiver<Kind>) {
    let (got, heard) = mpsc::channel();
    (Box::new(move || Ok(Box::new(Probe { got, hang }) as Box<dyn Sink>)), heard)
}

fn health() -> Message {
    Message::Health(Arc::new(HealthReport { at: Time::default(), status: serde_json::Value::Null }))
}

#[test]
fn a_hung_sink_delays_neither_the_sender_nor_another_sink() {
    let (release, hang) = mpsc::channel::<()>();
    let (hung, _hung_heard) = probe(Some(hang));
    let (healthy, heard) = probe(None);
    let fanout = Fanout::with(vec![("hung".into(), hung), ("healthy".into(), healthy)]).unwrap();
    let message = Message::Event(window("unit:a", 1));
    let mut slowest = Duration::ZERO;
    for sent in 0..20_000 {
        let before = Instant::now();
        fanout.send(&message);
        slowest = slowest.max(before.elapsed());
        // The healthy one keeps up, whatever the other does.
        if sent % 64 == 63 {
            (0..64).for_each(|_| assert_eq!(heard.recv_timeout(Duration::from_secs(5)), Ok(Kind::Window)));
        }
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let status = fanout.status();
    assert!(status[0].dropped_by_kind.get(Kind::Window) >= (20_000 - QUEUE - BATCH) as u64, "{status:?}");
    assert_eq!(status[1].dropped, 0);
    assert_eq!(fanout.close(Duration::from_millis(100)), ["hung"]);
    drop(release);
}

#[test]
fn a_finding_never_waits_behind_windows() {
    let (release, hang) = mpsc::channel::<()>();
    let (sink, heard) = probe(Some(hang));
    let fanout = Fanout::with(vec![("probe".into(), sink)]).unwrap();
    for number in 0..1000 {
        fanout.send(&Message::Event(window("unit:a", number)));
    }
    fanout.send(&health());
    fanout.send(&Message::Finding(crate::sinks::Change::Created, finding()));
    fanout.send(&Message::Decision(crate::sinks::Change::Created, decision()));
    drop(release);
    let order: Vec<Kind> = heard.iter().take(1003).collect();
    let place = |kind| order.iter().position(|heard| *heard == kind).unwrap();
    assert!(place(Kind::Decision) <= BATCH && place(Kind::Decision) < place(Kind::Finding));
    assert!(place(Kind::Finding) < place(Kind::Health) && place(Kind::Health) <= BATCH + 2);
}

#[test]
fn closing_hands_over_what_waits() {
    let (sink, heard) = probe(None);
    let fanout = Fanout::with(vec![("probe".into(), sink)]).unwrap();
    for number in 0..5000 {
        fanout.send(&Message::Event(window("unit:a", number)));
    }
    assert!(fanout.close(Duration::from_secs(20)).is_empty());
    assert_eq!(heard.iter().count(), 5000);
}

#[test]
fn a_sink_that_cannot_be_opened_is_said_to_be_stopped() {
    let opener: Opener = Box::new(|| Err(SinkError::Client { brokers: "x:1".into(), detail: "no".into() }));
    let fanout = Fanout::with(vec![("broken".into(), opener)]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while fanout.status()[0].state != State::Stopped && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    fanout.send(&health());
    let status = &fanout.status()[0];
    assert_eq!((status.state, status.dropped), (State::Stopped, 1));
    assert!(status.last_error.as_ref().unwrap().contains("x:1"));
}
