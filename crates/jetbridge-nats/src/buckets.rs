//! Making, changing, listing and deleting buckets of either kind.

use jetbridge_core::{BucketInfo, BucketKind, BucketName, BucketSpec, Error, ErrorKind, Result};

use crate::api::Api;
use crate::bucket::{apply, bucket_of, config, differences, info, stream_name, subjects_of};
use crate::copies::no_bucket;
use crate::error::code;
use crate::request::{Call, may_not_ask};
use crate::wire::StreamInfo;

/// Makes a bucket. One that is there with the same settings is fine.
pub(crate) async fn create(
    api: &Api,
    kind: BucketKind,
    bucket: &BucketName,
    spec: &BucketSpec,
    call: &Call,
) -> Result<StreamInfo> {
    let wanted = config(kind, bucket, spec)?;
    let refused = match api.create_stream(&wanted, call).await? {
        Ok(made) => return Ok(made),
        Err(refused) => refused,
    };
    if refused.err_code != code::STREAM_NAME_IN_USE {
        return Err(refused.into_error(call.operation).with("bucket", bucket));
    }
    let Some(present) = api.stream(&wanted.name, call).await? else {
        return Err(refused.into_error(call.operation).with("bucket", bucket));
    };
    let differing = differences(kind, &present.config, &wanted);
    if differing.is_empty() {
        return Ok(present);
    }
    Err(Error::new(ErrorKind::AlreadyExists, call.operation)
        .because("the bucket is there with other settings")
        .with("bucket", bucket)
        .with("differs", differing.join("; "))
        .hint("open it as it is, change it, or pick another name"))
}

/// Opens a bucket's stream, making it if it is missing and `spec` says how. One that is there is
/// never altered.
pub(crate) async fn ensure(
    api: &Api,
    kind: BucketKind,
    bucket: &BucketName,
    spec: Option<&BucketSpec>,
    call: &Call,
) -> Result<StreamInfo> {
    let name = stream_name(kind, bucket.as_str());
    let denial = match api.stream(&name, call).await {
        Ok(Some(present)) => return Ok(present),
        Ok(None) => None,
        // Who may not ask may still be allowed to make it.
        Err(error) if may_not_ask(&error) && spec.is_some() => Some(error),
        Err(error) => return Err(error),
    };
    let Some(spec) = spec else { return Err(no_bucket(kind, bucket, call.operation)) };
    let wanted = config(kind, bucket, spec)?;
    let refused = match api.create_stream(&wanted, call).await {
        Ok(Ok(made)) => return Ok(made),
        Ok(Err(refused)) => refused,
        Err(error) => return Err(denial.unwrap_or(error)),
    };
    if refused.err_code != code::STREAM_NAME_IN_USE {
        return Err(refused.into_error(call.operation).with("bucket", bucket));
    }
    // It is there with other settings, or somebody else was faster.
    match denial {
        Some(denial) => Err(denial),
        None => {
            api.stream(&name, call).await?.ok_or_else(|| no_bucket(kind, bucket, call.operation))
        }
    }
}

/// Changes what may be changed.
pub(crate) async fn update(
    api: &Api,
    kind: BucketKind,
    bucket: &BucketName,
    spec: &BucketSpec,
    call: &Call,
) -> Result<BucketInfo> {
    let name = stream_name(kind, bucket.as_str());
    let Some(present) = api.stream(&name, call).await? else {
        return Err(no_bucket(kind, bucket, call.operation));
    };
    let wanted = config(kind, bucket, spec)?;
    if wanted.storage != present.config.storage {
        return Err(Error::new(ErrorKind::InvalidInput, call.operation)
            .because("where a bucket is kept cannot be changed")
            .with("bucket", bucket)
            .with("storage", format!("{:?}", present.config.storage)));
    }
    let mut changed = present.config;
    apply(kind, spec, &mut changed);
    let updated = api.update_stream(&changed, call).await;
    let updated = updated.map_err(|error| error.with("bucket", bucket))?;
    Ok(info(kind, bucket.clone(), &updated))
}

/// One bucket.
pub(crate) async fn one(
    api: &Api,
    kind: BucketKind,
    bucket: &BucketName,
    call: &Call,
) -> Result<BucketInfo> {
    match api.stream(&stream_name(kind, bucket.as_str()), call).await? {
        Some(stream) => Ok(info(kind, bucket.clone(), &stream)),
        None => Err(no_bucket(kind, bucket, call.operation)),
    }
}

/// All buckets of one kind, by name.
pub(crate) async fn list(api: &Api, kind: BucketKind, call: &Call) -> Result<Vec<BucketInfo>> {
    let streams = api.streams(Some(subjects_of(kind)), call).await?;
    let mut found: Vec<BucketInfo> = streams
        .iter()
        .filter_map(|stream| Some(info(kind, bucket_of(kind, &stream.config.name)?, stream)))
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}
