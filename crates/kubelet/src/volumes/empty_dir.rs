//! `emptyDir`: a directory of the pod, on disk or in memory.

use super::{Cause, Context, Mounted, blocking, mode, ownership};
use crate::api::{EmptyDir, amount, quantity};

/// Makes the directory once; its content belongs to the pod afterwards.
pub(crate) async fn set_up(context: &Context<'_>, source: &EmptyDir) -> Result<Mounted, Cause> {
    let in_memory = match source.medium.as_str() {
        "" => false,
        "Memory" => true,
        medium if medium.starts_with("HugePages") => {
            return Err(Cause::Spec(format!("storage medium {medium:?} is not supported by this node")));
        }
        medium => return Err(Cause::Spec(format!("unknown storage medium {medium:?}"))),
    };
    let size = in_memory.then(|| memory_size(context, source)).flatten();
    let dir = context.dir.clone();
    let mounter = context.volumes.mounter.clone();
    let fs_group = context.pod.spec.security_context.fs_group;
    blocking(move || {
        let mounted = Mounted { path: dir.clone(), read_only: false };
        let ready = dir.is_dir() && (!in_memory || mounter.is_mount_point(&dir));
        if ready {
            return Ok(mounted);
        }
        std::fs::create_dir_all(&dir).map_err(Cause::io("cannot create", &dir))?;
        if in_memory {
            mounter.tmpfs(&dir, size, 0o777).map_err(Cause::io("cannot mount a tmpfs at", &dir))?;
        }
        mode(&dir, 0o777)?;
        if let Some(group) = fs_group {
            ownership::give_to(&dir, group, false)?;
        }
        Ok(mounted)
    })
    .await
}

/// The smallest of the volume's limit and the pod's memory limit, when every container has one.
fn memory_size(context: &Context<'_>, source: &EmptyDir) -> Option<u64> {
    let limit = source.size_limit.as_ref().and_then(quantity).map(object::Quantity::units).filter(|n| *n > 0);
    let mut of_pod = 0;
    for container in &context.pod.spec.containers {
        match amount(&container.resources.limits, "memory").units() {
            0 => {
                of_pod = 0;
                break;
            }
            bytes => of_pod += bytes,
        }
    }
    let of_pod = Some(of_pod).filter(|n| *n > 0);
    let of_node = Some(context.volumes.node.memory_bytes).filter(|n| *n > 0);
    [limit, of_pod, of_node].into_iter().flatten().min().and_then(|n| u64::try_from(n).ok())
}
