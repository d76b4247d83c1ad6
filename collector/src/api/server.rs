//! The agent's end of the socket.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::protocol::{Answer, ApiError, Call, ErrorCode, LONGEST, Request, VERSION, Watch, WatchItem};

/// Clients at once.
const MAX_CLIENTS: usize = 64;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User id, as the kernel says.
    pub uid: u32,
    /// Login name, or `uid:N`.
    pub name: String,
}

/// Answers requests.
pub trait Backend: Send + Sync + 'static {
    /// Answers one request; may wait, on a thread of its own.
    ///
    /// # Errors
    ///
    /// Says why not.
    fn answer(&self, caller: Caller, request: Request) -> Result<Value, ApiError>;

    /// Where a stream comes from.
    fn watch(&self) -> broadcast::Receiver<WatchItem>;
}

/// Listens on the socket until the task is dropped.
///
/// # Errors
///
/// When the socket cannot be made.
pub async fn serve(path: &Path, backend: Arc<dyn Backend>) -> anyhow::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    // A socket that nobody answers on was left by an agent that was killed.
    if path.exists() && std::os::unix::net::UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
    let listener = UnixListener::bind(path)
        .with_context(|| format!("cannot listen on {}: does another agent run?", path.display()))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o660))
        .with_context(|| format!("cannot set the mode of {}", path.display()))?;
    let clients = Arc::new(AtomicUsize::new(0));
    loop {
        let (stream, _) = listener.accept().await?;
        if clients.fetch_add(1, Ordering::Relaxed) >= MAX_CLIENTS {
            clients.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (backend, clients) = (backend.clone(), clients.clone());
        tokio::spawn(async move {
            // A client that goes away is no error of ours.
            let _ = talk(stream, backend).await;
            clients.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn talk(stream: UnixStream, backend: Arc<dyn Backend>) -> anyhow::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let caller = Caller { uid, name: login_name(uid) };
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let got = (&mut lines).take(LONGEST as u64 + 1).read_until(b'\n', &mut line).await?;
        if got == 0 {
            return Ok(());
        }
        if got > LONGEST {
            let error = ApiError::new(ErrorCode::Usage, format!("a request has at most {LONGEST} bytes"));
            return send(&mut write, &Answer::Error(error)).await;
        }
        let answer = match understand(&line, &caller) {
            Err(error) => Err(error),
            Ok(Request::Watch { what }) => return stream_to(&mut write, what, backend.watch()).await,
            Ok(request) => {
                let (backend, caller) = (backend.clone(), caller.clone());
                tokio::task::spawn_blocking(move || backend.answer(caller, request)).await?
            }
        };
        let answer = match answer {
            Ok(value) => Answer::Ok(value),
            Err(error) => Answer::Error(error),
        };
        send(&mut write, &answer).await?;
    }
}

fn understand(line: &[u8], caller: &Caller) -> Result<Request, ApiError> {
    let call: Call = serde_json::from_slice(line)
        .map_err(|error| ApiError::new(ErrorCode::Usage, format!("this is no request: {error}")))?;
    if call.version != VERSION {
        let text = format!("the request has version {}, the agent speaks {VERSION}: use its own binary", call.version);
        return Err(ApiError::new(ErrorCode::Usage, text));
    }
    let own = rustix::process::geteuid().as_raw();
    if call.request.changes() && caller.uid != 0 && caller.uid != own {
        let text = format!("{} may look but not change: use sudo", caller.name);
        return Err(ApiError::new(ErrorCode::NotPermitted, text));
    }
    Ok(call.request)
}

async fn stream_to(
    write: &mut (impl AsyncWriteExt + Unpin),
    what: Watch,
    mut items: broadcast::Receiver<WatchItem>,
) -> anyhow::Result<()> {
    send(write, &Answer::Ok(Value::Null)).await?;
    loop {
        let item = match items.recv().await {
            Ok(item) => item,
            Err(RecvError::Lagged(missed)) => {
                send(write, &serde_json::json!({ "missed": missed })).await?;
                continue;
            }
            Err(RecvError::Closed) => return Ok(()),
        };
        let wanted = match &item {
            WatchItem::Finding(..) => what == Watch::Findings,
            WatchItem::Event(_) => what == Watch::Events,
        };
        if wanted {
            send(write, &item).await?;
        }
    }
}

async fn send(write: &mut (impl AsyncWriteExt + Unpin), value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(write.write_all(&line).await?)
}

/// The name that `/etc/passwd` gives a user.
fn login_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of_uid = |line: &&str| line.split(':').nth(2).and_then(|field| field.parse().ok()) == Some(uid);
    let name = passwd.lines().find(of_uid).and_then(|line| line.split(':').next());
    name.map_or_else(|| format!("uid:{uid}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream as Plain;
    use std::time::Duration;

    use super::*;
    use crate::api::client::Client;

    struct Fake(broadcast::Sender<WatchItem>);

    impl Backend for Fake {
        fn answer(&self, caller: Caller, request: Request) -> Result<Value, ApiError> {
            match request {
                Request::Status => Ok(Value::from(caller.name)),
                _ => Err(ApiError::new(ErrorCode::Refused, "not ready")),
            }
        }

        fn watch(&self) -> broadcast::Receiver<WatchItem> {
            self.0.subscribe()
        }
    }

    fn served(test: impl FnOnce(&Path)) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("run/stockade.sock");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let backend = Arc::new(Fake(broadcast::channel(8).0));
        let at = path.clone();
        runtime.spawn(async move { serve(&at, backend).await });
        while !path.exists() || std::fs::metadata(&path).expect("it").permissions().mode() & 0o777 != 0o660 {
            std::thread::sleep(Duration::from_millis(5));
        }
        test(&path);
    }

    #[test]
    fn the_socket_is_for_its_group_and_knows_who_asks() {
        served(|path| {
            let mut client = Client::connect(path).expect("a connection");
            let name = client.ask::<String>(Request::Status).expect("an answer");
            assert_eq!(name, login_name(rustix::process::geteuid().as_raw()));
            let refused = client.ask::<Value>(Request::Disarm).expect_err("the fake refuses").to_string();
            assert!(refused.contains("not ready"));
        });
    }

    #[test]
    fn garbage_and_giants_are_refused_without_harm() {
        served(|path| {
            let mut stream = Plain::connect(path).expect("a connection");
            stream.write_all(b"\xff\xfe{]\n").expect("written");
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).expect("an answer");
            assert!(line.contains("this is no request"), "{line}");
            let mut giant = Plain::connect(path).expect("a connection");
            let _ = giant.write_all(&vec![b'x'; LONGEST + 10]);
            line.clear();
            let _ = BufReader::new(&giant).read_line(&mut line);
            let mut other = Plain::connect(path).expect("a connection");
            other.write_all(b"{\"version\":99,\"request\":\"status\"}\n").expect("written");
            line.clear();
            BufReader::new(&other).read_line(&mut line).expect("an answer");
            assert!(line.contains("version 99"), "{line}");
            assert!(Client::connect(path).expect("still there").ask::<String>(Request::Status).is_ok());
        });
    }
}
