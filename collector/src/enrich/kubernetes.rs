//! Who owns a pod, read from its name and labels: `cart-7d9c8b6f5d-x2x7k` belongs to the Deployment `cart`.
//!
//! The node's runtime state does not name the owner, and asking the API server would make identity depend on the network.
//! Labels that controllers set decide when the runtime kept them; otherwise the name's shape does.

/// Letters of generated name parts (k8s.io/apimachinery/pkg/util/rand): no vowels, nothing that looks like another.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of the random suffix of a pod.
const SUFFIX: usize = 5;

/// The owner's kind and name.
pub fn owner<'a>(pod: &'a str, label: impl Fn(&str) -> Option<&'a str>) -> (&'static str, &'a str) {
    if let Some(job) = label("batch.kubernetes.io/job-name").or_else(|| label("job-name")) {
        return job_owner(job);
    }
    if label("statefulset.kubernetes.io/pod-name").is_some()
        && let Some((name, _ordinal)) = pod.rsplit_once('-')
    {
        return ("StatefulSet", name);
    }
    if let Some(hash) = label("pod-template-hash")
        && let Some((set, _)) = pod.rsplit_once('-')
        && let Some(name) = set.strip_suffix(hash).and_then(|name| name.strip_suffix('-'))
    {
        return ("Deployment", name);
    }
    by_name(pod)
}

fn by_name(pod: &str) -> (&'static str, &str) {
    let Some((rest, last)) = pod.rsplit_once('-') else { return ("Pod", pod) };
    if rest.is_empty() {
        return ("Pod", pod);
    }
    if is_ordinal(last) {
        return ("StatefulSet", rest);
    }
    if !is_suffix(last) {
        return ("Pod", pod);
    }
    match rest.rsplit_once('-') {
        Some((name, hash)) if is_template_hash(hash) && !name.is_empty() => ("Deployment", name),
        Some((name, time)) if is_cron_time(time) && !name.is_empty() => ("CronJob", name),
        _ => ("DaemonSet", rest),
    }
}

fn job_owner(job: &str) -> (&'static str, &str) {
    match job.rsplit_once('-') {
        Some((name, time)) if is_cron_time(time) && !name.is_empty() => ("CronJob", name),
        _ => ("Job", job),
    }
}

fn is_ordinal(part: &str) -> bool {
    // More than four digits is a timestamp or a hash, and a leading zero is no ordinal.
    matches!(part.len(), 1..=4)
        && part.bytes().all(|byte| byte.is_ascii_digit())
        && (part == "0" || !part.starts_with('0'))
}

fn is_suffix(part: &str) -> bool {
    part.len() == SUFFIX && part.bytes().all(|byte| ALPHABET.contains(&byte))
}

fn is_template_hash(part: &str) -> bool {
    // The hash is a 32-bit number in decimal, each digit mapped into the alphabet: seldom fewer than eight.
    matches!(part.len(), 6..=10) && part.bytes().all(|byte| ALPHABET.contains(&byte)) && !is_cron_time(part)
}

fn is_cron_time(part: &str) -> bool {
    // Minutes since 1970 (eight digits until 2160), or seconds before Kubernetes 1.21 (ten digits).
    matches!(part.len(), 8 | 10) && part.bytes().all(|byte| byte.is_ascii_digit()) && part.starts_with(['1', '2', '3'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_shape_for_each_owner() {
        let none = |_: &str| None;
        let cases = [
            ("cart-7d9c8b6f5d-x2x7k", ("Deployment", "cart")),
            ("my-web-app-5d4f8c7b9-zz4kd", ("Deployment", "my-web-app")),
            ("postgres-0", ("StatefulSet", "postgres")),
            ("kafka-broker-11", ("StatefulSet", "kafka-broker")),
            ("node-exporter-vk4jd", ("DaemonSet", "node-exporter")),
            ("backup-28391040-qx7wz", ("CronJob", "backup")),
            ("backup-1609459200-qx7wz", ("CronJob", "backup")),
            ("debug", ("Pod", "debug")),
            ("kube-apiserver-control", ("Pod", "kube-apiserver-control")),
            ("etcd-node1", ("Pod", "etcd-node1")),
            ("release-007", ("Pod", "release-007")),
            ("-", ("Pod", "-")),
            ("", ("Pod", "")),
        ];
        for (pod, expected) in cases {
            assert_eq!(owner(pod, none), expected, "{pod}");
        }
    }

    #[test]
    fn labels_decide_before_the_shape_does() {
        let labelled = |key: &'static str, value: &'static str| move |asked: &str| (asked == key).then_some(value);
        assert_eq!(owner("migrate-vk4jd", labelled("job-name", "migrate")), ("Job", "migrate"));
        assert_eq!(owner("x-28391040-qx7wz", labelled("job-name", "x-28391040")), ("CronJob", "x"));
        assert_eq!(owner("web-abcde-vk4jd", labelled("pod-template-hash", "abcde")), ("Deployment", "web"));
        assert_eq!(
            owner("db-12345", labelled("statefulset.kubernetes.io/pod-name", "db-12345")),
            ("StatefulSet", "db")
        );
        assert_eq!(owner("web-1", labelled("pod-template-hash", "other")), ("StatefulSet", "web"));
    }
}
