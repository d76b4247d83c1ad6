//! What container runtimes keep on disk about a container: read as files, no API and no daemon is asked.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kubernetes;

/// Longest state file that is read; real ones have some ten kilobytes.
const LONGEST_FILE: u64 = 4 << 20;

/// The pod that a container belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodInfo {
    /// Namespace.
    pub namespace: String,
    /// Kind of the owner: `Deployment`, `StatefulSet`, `DaemonSet`, `CronJob`, `Job`, or `Pod` for a bare one.
    pub kind: String,
    /// Name of the owner.
    pub name: String,
    /// Container inside the pod; `pause` for the one that holds its namespaces.
    pub container: String,
}

/// A container, as far as its identity goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerInfo {
    /// Its name; the compose or swarm service where one made it.
    pub name: Option<String>,
    /// Image reference as its user wrote it.
    pub image: Option<String>,
    /// Digest of the image or its configuration: a version of the workload, not part of its key.
    pub digest: Option<String>,
    /// Set for containers of Kubernetes.
    pub pod: Option<PodInfo>,
}

impl ContainerInfo {
    /// `k8s:namespace/kind/name/container` or `container:image/name`.
    pub fn workload(&self) -> String {
        if let Some(PodInfo { namespace, kind, name, container }) = &self.pod {
            return format!("k8s:{namespace}/{kind}/{name}/{container}");
        }
        let image = self.image.as_deref().map_or("unknown", image_name);
        format!("container:{image}/{}", self.name.as_deref().unwrap_or("unnamed"))
    }
}

/// An image reference without what every user leaves out (the default registry) and without its version.
pub fn image_name(reference: &str) -> &str {
    let name = reference.split_once('@').map_or(reference, |(name, _digest)| name);
    // A colon after the last slash starts a tag; one before it is a registry's port.
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    match name.strip_prefix("library/").unwrap_or(name) {
        "" | "sha256" => "unknown",
        name => name,
    }
}

/// Looks up a container's state.
pub trait RuntimeState {
    /// The container with this full id; `None` when no runtime knows it (yet).
    fn container(&self, id: &str) -> Option<ContainerInfo>;
}

/// The runtimes' own files below a root directory (`/` except in tests).
#[derive(Clone, Debug)]
pub struct OnDisk {
    root: PathBuf,
}

impl OnDisk {
    /// Reads state below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn docker(&self, id: &str) -> Option<ContainerInfo> {
        let state = json(&self.root.join("var/lib/docker/containers").join(id).join("config.v2.json"))?;
        Some(docker_info(&state))
    }

    fn containerd(&self, id: &str) -> Option<ContainerInfo> {
        let tasks = self.root.join("run/containerd/io.containerd.runtime.v2.task");
        let bundles = directories(&tasks).into_iter().map(|namespace| namespace.join(id).join("config.json"));
        let spec = bundles.filter(|path| path.is_file()).find_map(|path| json(&path))?;
        annotated(&spec)
    }

    fn containers_storage(&self, id: &str) -> Option<ContainerInfo> {
        let mut states = vec![self.root.join("run/containers/storage")];
        let mut stores = vec![self.root.join("var/lib/containers/storage")];
        for user in directories(&self.root.join("run/user")) {
            states.push(user.join("containers"));
        }
        let homes = directories(&self.root.join("home")).into_iter().chain([self.root.join("root")]);
        stores.extend(homes.map(|home| home.join(".local/share/containers/storage")));

        let config = |state: &PathBuf| json(&state.join("overlay-containers").join(id).join("userdata/config.json"));
        let from_spec = states.iter().chain(&stores).find_map(config).as_ref().and_then(annotated);
        // Containers that are removed when they stop are listed apart.
        let lists = ["containers.json", "volatile-containers.json"];
        let listed = || {
            let places = stores.iter().chain(&states).map(|store| store.join("overlay-containers"));
            places.flat_map(|place| lists.map(|list| place.join(list))).find_map(|list| stored(&json(&list)?, id))
        };
        from_spec.or_else(listed)
    }
}

impl RuntimeState for OnDisk {
    fn container(&self, id: &str) -> Option<ContainerInfo> {
        // The id comes from a cgroup's name, which a container may choose: it must not leave the directories read here.
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            return None;
        }
        self.docker(id).or_else(|| self.containerd(id)).or_else(|| self.containers_storage(id))
    }
}

/// Docker's `config.v2.json`.
pub fn docker_info(state: &Value) -> ContainerInfo {
    let labels = strings(&state["Config"]["Labels"]);
    let label = |key: &str| labels.get(key).cloned();
    let compose = label("com.docker.compose.project")
        .zip(label("com.docker.compose.service"))
        .map(|(project, service)| format!("{project}-{service}"));
    let own = state["Name"].as_str().map(|name| name.trim_start_matches('/').to_owned());
    ContainerInfo {
        name: label("com.docker.swarm.service.name").or(compose).or(own).filter(|name| !name.is_empty()),
        image: text(&state["Config"]["Image"]),
        digest: text(&state["Image"]),
        pod: pod(
            &labels,
            &labels,
            "io.kubernetes.pod.namespace",
            "io.kubernetes.pod.name",
            "io.kubernetes.container.name",
        ),
    }
}

/// An OCI `config.json` with the annotations of containerd's CRI plugin, CRI-O or nerdctl; `None` without a name.
pub fn annotated(spec: &Value) -> Option<ContainerInfo> {
    let notes = strings(&spec["annotations"]);
    let note = |keys: &[&str]| keys.iter().find_map(|key| notes.get(*key).cloned());
    let labels = note(&["io.kubernetes.cri-o.Labels"])
        .and_then(|labels| serde_json::from_str(&labels).ok())
        .map_or_else(BTreeMap::new, |labels: Value| strings(&labels));
    let containerd = || {
        pod(
            &notes,
            &labels,
            "io.kubernetes.cri.sandbox-namespace",
            "io.kubernetes.cri.sandbox-name",
            "io.kubernetes.cri.container-name",
        )
    };
    let crio = || {
        pod(&notes, &labels, "io.kubernetes.pod.namespace", "io.kubernetes.pod.name", "io.kubernetes.container.name")
    };
    let info = ContainerInfo {
        name: note(&["nerdctl/name", "io.kubernetes.cri.container-name"]),
        image: note(&["io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName"]),
        digest: note(&["io.kubernetes.cri-o.ImageRef", "io.kubernetes.cri.image-ref"]),
        pod: containerd().or_else(crio),
    };
    (info.pod.is_some() || info.name.is_some()).then_some(info)
}

/// The entry of `id` in `containers.json`, where podman and CRI-O keep name and image.
pub fn stored(containers: &Value, id: &str) -> Option<ContainerInfo> {
    let entry = containers.as_array()?.iter().find(|entry| entry["id"] == id)?;
    let about: Value =
        entry["metadata"].as_str().and_then(|about| serde_json::from_str(about).ok()).unwrap_or_default();
    let name = text(&about["name"]).or_else(|| text(&entry["names"][0]));
    name.is_some().then(|| ContainerInfo {
        name,
        image: text(&about["image-name"]),
        digest: text(&about["image-id"]).or_else(|| text(&entry["image"])),
        pod: None,
    })
}

fn pod(
    notes: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
    namespace: &str,
    name: &str,
    container: &str,
) -> Option<PodInfo> {
    let pod_name = notes.get(name)?;
    let (kind, owner) = kubernetes::owner(pod_name, |key| labels.get(key).map(String::as_str));
    // The container that only holds the pod's namespaces has no name of its own, or docker's old one.
    let container = notes.get(container).map(String::as_str).filter(|name| !name.is_empty() && *name != "POD");
    Some(PodInfo {
        namespace: notes.get(namespace)?.clone(),
        kind: kind.to_owned(),
        name: owner.to_owned(),
        container: container.unwrap_or("pause").to_owned(),
    })
}

fn strings(object: &Value) -> BTreeMap<String, String> {
    let pairs = object.as_object().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn json(path: &Path) -> Option<Value> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(LONGEST_FILE).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let mut found: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0";

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn found(path: &str, text: &str) -> Option<String> {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &path.replace("ID", ID), &text.replace("ID", ID));
        OnDisk::new(root.path()).container(ID).map(|info| info.workload())
    }

    #[test]
    fn docker_keeps_a_name_an_image_and_labels() {
        let path = "var/lib/docker/containers/ID/config.v2.json";
        let plain = r#"{"Name":"/web","Image":"sha256:ab","Config":{"Image":"nginx:1.25","Labels":{}}}"#;
        assert_eq!(found(path, plain).as_deref(), Some("container:nginx/web"));
        let compose = r#"{"Name":"/shop-web-2","Config":{"Image":"registry.example:5000/shop/web:3","Labels":
            {"com.docker.compose.project":"shop","com.docker.compose.service":"web"}}}"#;
        assert_eq!(found(path, compose).as_deref(), Some("container:registry.example:5000/shop/web/shop-web"));
        let kubernetes = r#"{"Name":"/k8s_app_cart-0_prod_u_0","Config":{"Image":"sha256:cd","Labels":{
            "io.kubernetes.pod.namespace":"prod","io.kubernetes.pod.name":"cart-0","io.kubernetes.container.name":"app"}}}"#;
        assert_eq!(found(path, kubernetes).as_deref(), Some("k8s:prod/StatefulSet/cart/app"));
    }

    #[test]
    fn containerd_and_crio_annotate_the_bundle() {
        let path = "run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json";
        let app = r#"{"annotations":{"io.kubernetes.cri.sandbox-namespace":"prod","io.kubernetes.cri.container-name":"app",
            "io.kubernetes.cri.sandbox-name":"cart-7d9c8b6f5d-x2x7k","io.kubernetes.cri.image-name":"docker.io/library/nginx:1"}}"#;
        assert_eq!(found(path, app).as_deref(), Some("k8s:prod/Deployment/cart/app"));
        let sandbox = r#"{"annotations":{"io.kubernetes.cri.sandbox-namespace":"prod",
            "io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.sandbox-name":"cart-7d9c8b6f5d-x2x7k"}}"#;
        assert_eq!(found(path, sandbox).as_deref(), Some("k8s:prod/Deployment/cart/pause"));
        let crio = r#"{"annotations":{"io.kubernetes.pod.namespace":"kube-system","io.kubernetes.pod.name":"proxy-vk4jd",
            "io.kubernetes.container.name":"proxy"}}"#;
        let crio_path = "run/containers/storage/overlay-containers/ID/userdata/config.json";
        assert_eq!(found(crio_path, crio).as_deref(), Some("k8s:kube-system/DaemonSet/proxy/proxy"));
    }

    #[test]
    fn podman_keeps_its_names_in_the_store() {
        let list = r#"[{"id":"other"},{"id":"ID","names":["db"],"image":"ab12","metadata":
            "{\"image-name\":\"docker.io/library/redis:7\",\"name\":\"db\"}"}]"#;
        let rootful = "var/lib/containers/storage/overlay-containers/containers.json";
        assert_eq!(found(rootful, list).as_deref(), Some("container:redis/db"));
        let removed_when_stopped = "var/lib/containers/storage/overlay-containers/volatile-containers.json";
        assert_eq!(found(removed_when_stopped, list).as_deref(), Some("container:redis/db"));
        let rootless = "home/ann/.local/share/containers/storage/overlay-containers/containers.json";
        assert_eq!(found(rootless, list).as_deref(), Some("container:redis/db"));
    }

    #[test]
    fn damaged_state_is_no_state() {
        assert_eq!(found("var/lib/docker/containers/ID/config.v2.json", "{\"Name\":"), None);
        assert_eq!(found("run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json", "[]"), None);
        assert_eq!(OnDisk::new("/").container("../../../etc"), None);
    }

    #[test]
    fn image_names_lose_default_registry_and_version() {
        let cases = [
            ("nginx", "nginx"),
            ("nginx:1.25", "nginx"),
            ("docker.io/library/nginx:1.25@sha256:00", "nginx"),
            ("docker.io/grafana/grafana:11", "grafana/grafana"),
            ("registry.example:5000/a/b", "registry.example:5000/a/b"),
            ("ghcr.io/org/app:v1", "ghcr.io/org/app"),
            ("sha256:0123", "unknown"),
        ];
        for (reference, expected) in cases {
            assert_eq!(image_name(reference), expected, "{reference}");
        }
    }
}
