//! The agent's end of the socket.

use std::fs::Permissions;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::protocol::{Answer, ApiError, Call, ErrorCode, LONGEST, Request, VERSION, Watch, WatchItem};

/// Clients at once. As many again are kept for root: whoever fills the first ones cannot lock out a release.
const MAX_CLIENTS: usize = 64;
/// How long to wait when no connection can be taken, for want of file descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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

/// Listens on the socket until the task is dropped. Members of `group` may look, only root may change.
///
/// # Errors
///
/// When the socket cannot be made, or there is no such group.
pub async fn serve(path: &Path, group: Option<&str>, backend: Arc<dyn Backend>) -> anyhow::Result<()> {
    let listener = listen(path, group)?;
    let clients = Arc::new(AtomicUsize::new(0));
    loop {
        // A connection that cannot be taken is no reason to stop answering the others.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(uid) = stream.peer_cred().map(|peer| peer.uid()) else { continue };
        if !admits(uid, clients.fetch_add(1, Ordering::Relaxed)) {
            clients.fetch_sub(1, Ordering::Relaxed);
            let error = ApiError::new(ErrorCode::Failed, format!("{MAX_CLIENTS} clients are connected already"));
            let line = serde_json::to_string(&Answer::Error(error))?;
            let _ = stream.try_write(format!("{line}\n").as_bytes());
            continue;
        }
        let (backend, clients) = (backend.clone(), clients.clone());
        tokio::spawn(async move {
            // A client that goes away is no error of ours.
            let _ = talk(stream, uid, backend).await;
            clients.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn listen(path: &Path, group: Option<&str>) -> anyhow::Result<UnixListener> {
    let group = group.map(group_id).transpose()?;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    // A socket that nobody answers on was left by an agent that was killed. Anything else is not ours to remove.
    if let Ok(there) = std::fs::symlink_metadata(path) {
        if !there.file_type().is_socket() {
            bail!("{} is there and is no socket: agent.socket must name another place", path.display());
        }
        if std::os::unix::net::UnixStream::connect(path).is_err() {
            let _ = std::fs::remove_file(path);
        }
    }
    let listener = UnixListener::bind(path)
        .with_context(|| format!("cannot listen on {}: does another agent run?", path.display()))?;
    if group.is_some() {
        chown(path, None, group).with_context(|| format!("cannot give {} to its group", path.display()))?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o660))
        .with_context(|| format!("cannot set the mode of {}", path.display()))?;
    Ok(listener)
}

/// Whether one more may connect.
fn admits(uid: u32, connected: usize) -> bool {
    connected < if uid == 0 { 2 * MAX_CLIENTS } else { MAX_CLIENTS }
}

async fn talk(stream: UnixStream, uid: u32, backend: Arc<dyn Backend>) -> anyhow::Result<()> {
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

/// The id that `/etc/group` gives a group.
fn group_id(name: &str) -> anyhow::Result<u32> {
    let groups = std::fs::read_to_string("/etc/group").context("cannot read /etc/group")?;
    let named = |line: &&str| line.split(':').next() == Some(name);
    let id = groups.lines().find(named).and_then(|line| line.split(':').nth(2)).and_then(|id| id.parse().ok());
    id.with_context(|| format!("agent.group is `{name}`: there is no such group; `groupadd --system {name}` makes it"))
}

#[cfg(test)]
mod tests;
