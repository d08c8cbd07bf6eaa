//! Damage to what is stored.

use jetbridge_core::{ObjectPut, ObjectsExt as _};
use jetbridge_sqlite::store::LtxFile;

use super::rig::Rig;

/// Replaces a file by one with one bit flipped in the middle, under a digest that is right: as if
/// its writer had written it so.
pub(crate) async fn flip(rig: &Rig, file: &LtxFile) {
    let name = rig.replica().name(file.level, file.range).unwrap();
    let mut bytes = rig.objects.get_bytes(&name, u64::MAX).await.unwrap().unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let info = rig.objects.info(&name).await.unwrap().unwrap();
    let opts = ObjectPut::new().headers(info.headers);
    rig.objects.put_bytes(&name, bytes, opts).await.unwrap();
}
